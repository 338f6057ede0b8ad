/** One message of a tracker: from whatever JSON it came as to what the raw topic holds. */
import { Redacted, Result } from "effect"
import { createHmac } from "node:crypto"
import { millisOf } from "../../../schemas/Fields.ts"
import type { RawClick } from "../../../schemas/RawClicks.ts"
import type { Topic } from "../../index.ts"

/** Why a message cannot be taken; neither field nor message repeats anything of it. */
export interface Refusal {
  readonly _tag: "InvalidMessage" | "TooLarge"
  readonly field: string
  readonly message: string
}

/** What the request says of all its messages. */
export interface Envelope {
  /** From the endpoint; absent for a batch, whose messages say it themselves. */
  readonly type: RawClick["type"] | undefined
  readonly sentAt: unknown
  /** Milliseconds since 1970. */
  readonly receivedAt: number
  readonly source: string
  /** Shortened; absent where it is not kept. */
  readonly ip: string | undefined
  readonly userAgent: string | undefined
  /** Makes the id of a message that has none. */
  makeId(): string
  /** Present where the sender asked not to be tracked, and such messages are kept without what singles a person out. */
  readonly anonymise: Redacted.Redacted<string> | undefined
}

const kinds: ReadonlySet<unknown> = new Set(["track", "page", "screen", "identify", "group", "alias"])

const ids = ["messageId", "userId", "anonymousId", "groupId", "previousId"] as const

const deepest = 50

/** Room for key and record batch around a message. */
const overhead = 1_024

/** The message as bytes for the raw topic, with its key; the failure says what is wrong with it. */
export const toRecord = (
  item: unknown,
  envelope: Envelope,
  raw: Topic.Topic<RawClick>,
): Result.Result<{ readonly key: string; readonly value: Uint8Array }, Refusal> => {
  if (!isFields(item)) return refuse("", "a message must be a JSON object")
  if (isDeeper(item, deepest)) return refuse("", `a message must not be nested deeper than ${deepest} levels`)
  if (envelope.type === undefined && !kinds.has(item["type"])) {
    return refuse("type", `must be one of ${[...kinds].join(", ")}`)
  }
  const inexact = ids.find((name) => typeof item[name] === "number" && Math.abs(item[name]) > Number.MAX_SAFE_INTEGER)
  if (inexact !== undefined) return refuse(inexact, "a number beyond 2^53 is not read exactly: send it as text")
  const message = canonical(item, envelope)
  const encoded = raw.encode(message as RawClick)
  if (Result.isFailure(encoded)) return refuse(encoded.failure.field, encoded.failure.message)
  const value = encoded.success
  if (value.length + overhead > raw.maxMessageBytes) {
    const text = `${value.length} bytes are more than a record of ${raw.name} can hold`
    return Result.fail({ _tag: "TooLarge", field: "", message: text })
  }
  return Result.succeed({ key: raw.keyOf(message as RawClick)!, value })
}

/** A message that was refused, as it is kept: with the address that messages are stored with, if any, in place of its own. */
export const refused = (item: unknown, { ip }: Envelope): unknown => {
  if (!isFields(item) || !isFields(item["context"])) return item
  const { ip: own, ...context } = item["context"]
  return own === undefined ? item : { ...item, context: { ...context, ...ip === undefined ? {} : { ip } } }
}

/** Ids of any kind as text, times where they can be read, the rest as it came. The contract decides what is valid. */
const canonical = (item: Fields, envelope: Envelope): Fields => {
  const type = envelope.type ?? item["type"]
  const sentAt = timeOf(item["sentAt"]) ?? timeOf(envelope.sentAt)
  const timestamp = item["timestamp"] ?? item["originalTimestamp"]
  const message = {
    type,
    messageId: idOf(item["messageId"]) ?? envelope.makeId(),
    userId: idOf(item["userId"]),
    anonymousId: idOf(item["anonymousId"]),
    timestamp: timeOf(timestamp) ?? timestamp ?? null,
    sentAt: sentAt !== undefined && Number.isNaN(millisOf(sentAt)) ? null : sentAt ?? null,
    receivedAt: new Date(envelope.receivedAt).toISOString(),
    source: envelope.source,
    context: contextOf(item["context"], envelope),
    ...of(item, "properties", "traits", "event", "name", "category"),
    groupId: idOf(item["groupId"]),
    previousId: idOf(item["previousId"]),
  }
  return envelope.anonymise === undefined ? message : anonymised(message, envelope.anonymise, envelope.receivedAt)
}

const contextOf = (given: unknown, { ip, userAgent }: Envelope): Fields => {
  const { ip: _, ...context } = isFields(given) ? given : {}
  return {
    ...context,
    ...ip === undefined ? {} : { ip },
    ...userAgent === undefined || typeof context["userAgent"] === "string" ? {} : { userAgent },
  }
}

const day = 86_400_000

/** Who it was becomes a keyed hash that is another one every day; of the context, page and campaign stay. */
const anonymised = (message: Fields, key: Redacted.Redacted<string>, now: number): Fields => {
  const who = message["anonymousId"] ?? message["userId"]
  const hash = (id: unknown) =>
    createHmac("sha256", Redacted.value(key)).update(`${Math.floor(now / day)}:${id}`).digest("base64url").slice(0, 22)
  return {
    ...message,
    userId: null,
    anonymousId: who == null ? null : hash(who),
    context: of(isFields(message["context"]) ? message["context"] : {}, "page", "campaign"),
  }
}

type Fields = Readonly<Record<string, unknown>>

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const of = (fields: Fields, ...names: ReadonlyArray<string>): Fields =>
  Object.fromEntries(names.flatMap((name) => fields[name] == null ? [] : [[name, fields[name]]]))

const idOf = (value: unknown): string | null => {
  if (typeof value === "number") return String(value)
  if (typeof value !== "string") return null
  const trimmed = value.trim()
  return trimmed === "" ? null : trimmed
}

/**
 * Trackers write ISO 8601; some write milliseconds since 1970. A number below 10^11 would be a time before March 1973: it
 * is seconds, or something else, and no time here.
 */
const timeOf = (value: unknown): string | undefined => {
  if (typeof value === "string") return value
  return typeof value === "number" && value >= 1e11 && value < 253_402_300_800_000
    ? new Date(value).toISOString()
    : undefined
}

/** Without recursion, for depth is what it is about. */
const isDeeper = (value: unknown, levels: number): boolean => {
  let level: Array<unknown> = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > levels) return true
    const next: Array<unknown> = []
    for (const one of level) {
      if (typeof one !== "object" || one === null) continue
      for (const inner of Object.values(one)) if (typeof inner === "object" && inner !== null) next.push(inner)
    }
    level = next
  }
  return false
}

const refuse = (field: string, message: string): Result.Result<never, Refusal> =>
  Result.fail({ _tag: "InvalidMessage", field, message })
