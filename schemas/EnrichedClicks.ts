/** Clicks in their canonical form, each once, each in its session. */
import { Schema } from "effect"
import { Topic } from "../src/index.ts"
import { rules } from "./EventTime.ts"
import { Id, Millis, personal } from "./Fields.ts"
import { named, type Naming, owner } from "./Naming.ts"

const Text = Schema.NullOr(Schema.String)

export const Campaign = Schema.Struct({ source: Text, medium: Text, name: Text, term: Text, content: Text })
export type Campaign = typeof Campaign.Type

/** A click as it is before its session is known. */
export const clickFields = {
  eventId: Id,
  kind: Schema.Literals(["track", "page", "screen"]),
  name: Text.annotate({ description: "The event of a track, the name of a page or screen" }),
  user: personal(Id, "Whose click it counts as: userId, or anonymousId before a login"),
  userId: Schema.NullOr(personal(Id, "Who it was, once known")),
  anonymousId: Schema.NullOr(personal(Id, "The visitor, as the tracker tells them apart")),
  eventTime: Millis.annotate({ description: "When it happened, in milliseconds since 1970" }),
  timeRule: Schema.Literals(rules).annotate({ description: "How event time was found" }),
  receivedAt: Millis.annotate({ description: "When the collector took it, in milliseconds since 1970" }),
  url: Text,
  path: Text,
  title: Text,
  referrerHost: Text,
  campaign: Schema.NullOr(Campaign),
  browser: Text,
  os: Text,
  device: Text,
  bot: Schema.Boolean,
  source: Id,
  skipped: Schema.optionalKey(
    Schema.Literal("device").annotate({
      description: "What was left out because there was too much to do: browser, os, device and bot are then not known",
    }),
  ),
}

export const Click = Schema.Struct(clickFields)
export type Click = typeof Click.Type

export const EnrichedClick = Schema.Struct({
  ...clickFields,
  session: Schema.Struct({
    id: Id,
    number: Schema.Int.annotate({ description: "The click's number in its session, from 1, in order of processing" }),
    firstPage: Text.annotate({ description: "The path of the session's earliest click so far" }),
  }),
})
export type EnrichedClick = typeof EnrichedClick.Type

const contract = (naming: Naming, name: string, description: string): Topic.Topic<EnrichedClick> =>
  Topic.make({
    name: named(naming, name),
    description,
    owner,
    schema: EnrichedClick,
    key: ["userId, or anonymousId before a login", (click) => click.user],
    eventTime: (click) => click.eventTime,
    partitions: 12,
    retention: "7 days",
  })

export const enrichedClicks = (naming: Naming): Topic.Topic<EnrichedClick> =>
  contract(naming, "user.clicks.enriched", "Valid clicks, each once, normalised and with their session")

/** Only in use where raw is keyed by visitor. */
export const clicksByUser = (naming: Naming): Topic.Topic<EnrichedClick> =>
  contract(naming, "user.clicks.by-user", "Enriched clicks on their way from a visitor's partition to a user's")
