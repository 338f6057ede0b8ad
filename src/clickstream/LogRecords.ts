/** Lines of an access log as records for the topics. */
import { Buffer } from "node:buffer"
import type { Redacted } from "effect"
import { Result } from "effect"
import type { Topics } from "../../schemas/index.ts"
import { DeadLetter, type Producer } from "../index.ts"
import * as AccessLog from "./AccessLog.ts"
import type { Line } from "./Lines.ts"

export interface Options {
  readonly to: Topics
  /** The file's name, for dead letters. */
  readonly file: string
  readonly hashKey: Redacted.Redacted<string>
  readonly program: { readonly name: string; readonly version: string }
}

/** What one line becomes at `now`, in milliseconds since 1970; `live` stamps it with that time and names the loop in its id. */
export const recordOf = (
  { to, file, hashKey, program }: Options,
  line: Line,
  now: number,
  live?: { readonly loop: string },
): Producer.ProducerRecord => {
  const dead = (reason: { readonly _tag: string; readonly field: string; readonly message: string }) => {
    const headers = [
      ["millrace-file", Buffer.from(file)],
      ["millrace-line", Buffer.from(String(line.number))],
    ] as const
    return DeadLetter.of(to.dlt, { key: null, value: line.bytes, headers, reason, program, at: now })
  }
  const parsed = AccessLog.parse(line.bytes.toString("utf8"))
  if (Result.isFailure(parsed)) return dead(parsed.failure)
  const eventId = AccessLog.eventId(line.number, line.bytes)
  const message = AccessLog.toMessage(parsed.success, {
    eventId: live === undefined ? eventId : `${live.loop}-${eventId}`,
    source: live === undefined ? "access-log" : "sample",
    hashKey,
    receivedAt: now,
    ...live === undefined ? {} : { time: now },
  })
  const encoded = to.raw.encode(message)
  if (Result.isFailure(encoded)) {
    const { field, message } = encoded.failure
    return dead({ _tag: "DecodeError", field, message })
  }
  return { topic: to.raw.name, key: Buffer.from(to.raw.keyOf(message)!), value: encoded.success }
}
