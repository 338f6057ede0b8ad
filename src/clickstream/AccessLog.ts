/** Web servers' access logs in the combined format of Apache and nginx. */
import { Buffer } from "node:buffer"
import { createHash, createHmac } from "node:crypto"
import { Redacted, Result, Schema } from "effect"
import type { RawClick } from "../../schemas/RawClicks.ts"
import { shortened } from "./collector/Client.ts"

/** One request as the log tells it; `-` is null. */
export interface Entry {
  /** The client's address or host name. */
  readonly client: string
  readonly user: string | null
  /** Milliseconds since 1970. */
  readonly time: number
  readonly method: string
  readonly target: string
  readonly status: number
  readonly bytes: number | null
  readonly referrer: string | null
  readonly userAgent: string | null
}

/** A line that is not in the combined format. */
export class MalformedLine extends Schema.TaggedError<MalformedLine>()("MalformedLine", {
  field: Schema.String,
  message: Schema.String,
}) {}

/** Lines that are longer are not looked at. */
export const longestLine = 64 * 1024

const quoted = String.raw`"((?:[^"\\]|\\.)*)"`
const fields: ReadonlyArray<readonly [name: string, pattern: RegExp]> = [
  ["client", /(\S+) /y],
  ["identity", /(\S+) /y],
  ["user", /(\S+(?: \S+)*?) (?=\[)/y],
  ["time", /\[(\d{2}\/[A-Z][a-z]{2}\/\d{4}(?::\d{2}){3} [+-]\d{4})\] /y],
  ["request", new RegExp(`${quoted} `, "y")],
  ["status", /(\d{3}) /y],
  ["bytes", /(\d+|-) /y],
  ["referrer", new RegExp(`${quoted} `, "y")],
  ["user agent", new RegExp(quoted, "y")],
]

/** Reads one line. The failure names the first field that is not what it should be, and never repeats the line. */
export const parse = (line: string): Result.Result<Entry, MalformedLine> => {
  if (line.length > longestLine) return malformed("line", `is longer than ${longestLine} characters`)
  const texts: Array<string> = []
  let at = 0
  for (const [name, pattern] of fields) {
    pattern.lastIndex = at
    const match = pattern.exec(line)
    if (match === null) return malformed(name, `is not where it should be, after ${at} characters`)
    texts.push(match[1]!)
    at = pattern.lastIndex
  }
  if (line.slice(at).trim() !== "") return malformed("line", `goes on after the user agent, after ${at} characters`)
  const [client, , user, time, request, status, bytes, referrer, userAgent] = texts as [
    ...[string, string, string, string, string, string, string, string, string],
  ]
  const millis = timeOf(time)
  if (Number.isNaN(millis)) return malformed("time", "is not a time")
  const [method, target] = unescaped(request).split(" ")
  if (target === undefined || !/^[A-Z]+$/.test(method!)) return malformed("request", "is not a method and a target")
  return Result.succeed({
    client,
    user: given(user),
    time: millis,
    method: method!,
    target,
    status: Number(status),
    bytes: bytes === "-" ? null : Number(bytes),
    referrer: given(unescaped(referrer)),
    userAgent: given(unescaped(userAgent)),
  })
}

export interface MessageOptions {
  readonly eventId: string
  /** The name under which the log's clicks are counted. */
  readonly source: string
  readonly hashKey: Redacted.Redacted<string>
  /** Milliseconds since 1970. */
  readonly receivedAt: number
  /** When it happened, where that is not what the log says. */
  readonly time?: number
}

/**
 * The request as a tracker's `page` message. The visitor is a keyed hash of the client's full address; the address itself
 * is kept only shortened.
 */
export const toMessage = (entry: Entry, options: MessageOptions): RawClick => {
  const ip = shortened(entry.client)
  const isPage = /^(\/|https?:\/\/)/i.test(entry.target)
  return {
    type: "page",
    messageId: options.eventId,
    anonymousId: visitor(entry.client, options.hashKey),
    timestamp: new Date(options.time ?? entry.time).toISOString(),
    receivedAt: new Date(options.receivedAt).toISOString(),
    source: options.source,
    properties: { method: entry.method, status: entry.status },
    context: {
      ...ip === undefined ? {} : { ip },
      ...entry.userAgent === null ? {} : { userAgent: entry.userAgent },
      page: {
        ...isPage ? { url: entry.target } : {},
        ...entry.referrer === null ? {} : { referrer: entry.referrer },
      },
    },
  }
}

/** A visitor's id: the same address gives the same one under one key, and nobody without the key can tell which. */
export const visitor = (client: string, key: Redacted.Redacted<string>): string =>
  createHmac("sha256", Redacted.value(key)).update(client).digest("base64url").slice(0, 22)

/** The event id of a line: the same in every import of the same log. */
export const eventId = (lineNumber: number, line: Uint8Array): string =>
  createHash("sha256").update(`${lineNumber}:`).update(line).digest("base64url").slice(0, 22)

const malformed = (field: string, problem: string): Result.Result<never, MalformedLine> =>
  Result.fail(new MalformedLine({ field, message: `the ${field} ${problem}` }))

const given = (text: string): string | null => text === "-" || text === "" ? null : text

/** Servers write quotes, backslashes and bytes beyond ASCII with a backslash. */
const unescaped = (text: string): string =>
  text.includes("\\")
    ? text.replaceAll(
      /(?:\\x[0-9a-f]{2})+|\\./gi,
      (escape) =>
        /^\\x[0-9a-f]/i.test(escape)
          ? Buffer.from(escape.replaceAll("\\x", "").replaceAll("\\X", ""), "hex").toString("utf8")
          : escape.slice(1),
    )
    : text

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

/** Of a time such as 17/May/2015:10:05:03 +0000. */
const timeOf = (text: string): number => {
  const month = months.indexOf(text.slice(3, 6)) + 1
  if (month === 0) return NaN
  const clock = text.slice(12, 20)
  const zone = `${text.slice(21, 24)}:${text.slice(24)}`
  return Date.parse(`${text.slice(7, 11)}-${String(month).padStart(2, "0")}-${text.slice(0, 2)}T${clock}${zone}`)
}
