/** What trackers send, one message per record, as the collector has taken it. */
import { Schema } from "effect"
import { Topic } from "../src/index.ts"
import { corrected } from "./EventTime.ts"
import { Id, Open, optional, personal, Time } from "./Fields.ts"
import { named, type Naming, owner } from "./Naming.ts"

/** Common to all messages of the Segment tracking protocol. */
const common = {
  messageId: Id.annotate({ description: "The event id: the same when a message is sent again" }),
  userId: optional(personal(Id, "Who it was, once known")),
  anonymousId: optional(personal(Id, "The visitor, as the tracker tells them apart")),
  timestamp: optional(Time).annotate({ description: "When it happened, by the sender's clock" }),
  sentAt: optional(Time).annotate({ description: "When it was sent, by the sender's clock" }),
  receivedAt: Time.annotate({ description: "When the collector took it" }),
  source: Id.annotate({ description: "The name of the write key it came with" }),
  context: personal(optional(Open), "What the tracker knows of page, device and campaign"),
}

export const Track = Schema.Struct({
  ...common,
  type: Schema.Literal("track"),
  event: Id,
  properties: optional(Open),
})
export const Page = Schema.Struct({
  ...common,
  type: Schema.Literal("page"),
  name: optional(Schema.String),
  category: optional(Schema.String),
  properties: optional(Open),
})
export const Screen = Schema.Struct({
  ...common,
  type: Schema.Literal("screen"),
  name: optional(Schema.String),
  category: optional(Schema.String),
  properties: optional(Open),
})
export const Identify = Schema.Struct({
  ...common,
  type: Schema.Literal("identify"),
  traits: optional(Open),
})
export const Group = Schema.Struct({
  ...common,
  type: Schema.Literal("group"),
  groupId: Id,
  traits: optional(Open),
})
export const Alias = Schema.Struct({
  ...common,
  type: Schema.Literal("alias"),
  userId: personal(Id, "Who it is from now on"),
  previousId: personal(Id, "Who it was taken for before"),
})

/** A message that counts as a click. */
export const Click = Schema.Union([Track, Page, Screen])
export type Click = typeof Click.Type

/** A message that says who somebody is. */
export const Identity = Schema.Union([Identify, Group, Alias])
export type Identity = typeof Identity.Type

const hasSomebody = Schema.makeFilter(
  (message: Click | Identity) =>
    (message.userId ?? message.anonymousId) != null ||
    { path: ["userId"], issue: "userId or anonymousId must say whose message this is" },
)

export const RawClick = Schema.Union([Track, Page, Screen, Identify, Group, Alias]).check(hasSomebody)
export type RawClick = typeof RawClick.Type

/** The key of a message, in topics that are keyed as `naming` says. */
export const keyOf = ({ userId, anonymousId }: RawClick, { keyBy }: Pick<Naming, "keyBy">): string =>
  (keyBy === "user" ? userId ?? anonymousId : anonymousId ?? userId)!

export const rawClicks = (naming: Naming): Topic.Topic<RawClick> =>
  Topic.make({
    name: named(naming, "user.clicks.raw"),
    description: "Messages of trackers as the collector took them, repeats included",
    owner,
    schema: RawClick,
    key: [
      naming.keyBy === "user" ? "userId, or anonymousId before a login" : "anonymousId, or userId without one",
      (message) => keyOf(message, naming),
    ],
    eventTime: (message) => corrected(message).time,
    partitions: 12,
    retention: "3 days",
  })
