/** From the messages of trackers, which differ, to the canonical forms, which do not. */
import { createHash } from "node:crypto"
import { Result, Schema } from "effect"
import type { Click } from "../../schemas/EnrichedClicks.ts"
import { corrected } from "../../schemas/EventTime.ts"
import { millisOf } from "../../schemas/Fields.ts"
import type { Identity } from "../../schemas/Identities.ts"
import type { Click as RawClick, Identity as RawIdentity } from "../../schemas/RawClicks.ts"
import * as Device from "./Device.ts"
import * as PageAddress from "./PageAddress.ts"

/** A message that decodes, but cannot be counted as a click. */
export class InvalidClick extends Schema.TaggedError<InvalidClick>()("InvalidClick", {
  field: Schema.String,
  message: Schema.String,
}) {}

type Fields = Readonly<Record<string, unknown>>

/**
 * The canonical form of a message that counts as a click. Event time is the corrected one, and the rule that found it is
 * named.
 *
 * What page it was on is told by the context, and for a `page`, whose properties are the page's, by those first; the
 * properties of others can mean anything. Of the addresses given the first counts that is one of the web, or a path.
 * A page elsewhere (`file:`, `about:`, an app's own scheme) has no address. Fails with `InvalidClick` where addresses are
 * given and none of them is any.
 */
export const toClick = (raw: RawClick): Result.Result<Click, InvalidClick> => clickOf(raw, deviceOf)

/** The same without a look at the user agent, which takes longer than all the rest: the click says that it was skipped. */
export const toBareClick = (raw: RawClick): Result.Result<Click, InvalidClick> => clickOf(raw, noDevice)

const noDevice = () => ({ ...Device.of(null), skipped: "device" }) as const

const clickOf = (
  raw: RawClick,
  deviceOf: (context: Fields) => Pick<Click, "browser" | "os" | "device" | "bot" | "skipped">,
): Result.Result<Click, InvalidClick> => {
  const context = raw.context ?? nothing
  const properties = raw.properties ?? nothing
  const own = raw.type === "page" ? properties : nothing
  const page = fields(context["page"])
  const address = addressOf(own, page)
  if (Result.isFailure(address)) return Result.fail(address.failure)
  const { url, path, campaign } = address.success
  const userId = raw.userId ?? null
  const anonymousId = raw.anonymousId ?? null
  const { time, rule } = corrected(raw)
  return Result.succeed({
    eventId: raw.messageId,
    kind: raw.type,
    name: raw.type === "track" ? raw.event : raw.name ?? text(properties["name"]),
    user: (userId ?? anonymousId)!,
    userId,
    anonymousId,
    eventTime: time,
    timeRule: rule,
    receivedAt: millisOf(raw.receivedAt),
    url,
    path,
    title: text(own["title"]) ?? text(page["title"]),
    referrerHost: PageAddress.hostOf(text(own["referrer"]) ?? text(page["referrer"])),
    campaign: campaignOf(fields(context["campaign"])) ?? campaign,
    ...deviceOf(context),
    source: raw.source,
  })
}

const addressOf = (own: Fields, page: Fields): Result.Result<PageAddress.PageAddress, InvalidClick> => {
  const given: ReadonlyArray<readonly [field: string, address: unknown]> = [
    ["properties.url", own["url"]],
    ["context.page.url", page["url"]],
    ["properties.path", own["path"]],
    ["context.page.path", page["path"]],
  ]
  let wrong: string | undefined
  let elsewhere = false
  for (const [field, value] of given) {
    const address = text(value)
    if (address === null) continue
    const parsed = PageAddress.parse(address)
    if (parsed.path !== null) return Result.succeed(parsed)
    if (PageAddress.isElsewhere(address)) elsewhere = true
    else wrong ??= field
  }
  if (wrong === undefined || elsewhere) return Result.succeed(PageAddress.none)
  const message = "the page's address is neither scheme://... nor a path that begins with /"
  return Result.fail(new InvalidClick({ field: wrong, message }))
}

/** Trackers in apps have no user agent, but say what it would. */
const deviceOf = (context: Fields): Device.Device => {
  const device = Device.of(text(context["userAgent"]))
  if (device.os !== null || device.bot) return device
  const type = text(fields(context["device"])["type"])
  return {
    ...device,
    os: text(fields(context["os"])["name"]),
    device: type === null ? null : /^(ios|android)$/i.test(type) ? "mobile" : type.toLowerCase(),
  }
}

const campaignOf = (campaign: Fields): PageAddress.Campaign | null => {
  const found: PageAddress.Campaign = {
    source: text(campaign["source"]),
    medium: text(campaign["medium"]),
    name: text(campaign["name"]),
    term: text(campaign["term"]),
    content: text(campaign["content"]),
  }
  return Object.values(found).every((value) => value === null) ? null : found
}

/** What an identify, group or alias message says, under a key by which later ones replace it. */
export const toIdentity = (raw: RawIdentity): Identity => {
  const userId = raw.userId ?? null
  const anonymousId = raw.anonymousId ?? null
  const who = (userId ?? anonymousId)!
  const common = { eventId: raw.messageId, userId, anonymousId, at: corrected(raw).time }
  switch (raw.type) {
    case "identify":
      return {
        ...common,
        id: identity("identify", who),
        kind: "identify",
        previousId: null,
        groupId: null,
        traits: raw.traits ?? nothing,
      }
    case "group":
      return {
        ...common,
        id: identity("group", who, raw.groupId),
        kind: "group",
        previousId: null,
        groupId: raw.groupId,
        traits: raw.traits ?? nothing,
      }
    case "alias":
      return {
        ...common,
        id: identity("alias", raw.previousId, raw.userId),
        kind: "alias",
        previousId: raw.previousId,
        groupId: null,
        traits: nothing,
      }
  }
}

/** Ids that are together too long for a key are hashed. */
const identity = (kind: string, ...ids: ReadonlyArray<string>): string => {
  const id = [kind, ...ids.map((part) => encodeURIComponent(part.toWellFormed()))].join("/")
  return id.length <= 512 ? id : `${kind}/${createHash("sha256").update(id).digest("base64url")}`
}

const nothing: Fields = {}

const longest = 1024

const text = (value: unknown): string | null =>
  typeof value === "string" && value !== "" ? value.length > longest ? value.slice(0, longest) : value : null

const fields = (value: unknown): Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? value as Fields : nothing
