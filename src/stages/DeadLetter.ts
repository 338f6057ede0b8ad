/** Dead letters: the original record in a topic of its own, with headers that say what was wrong and where it stood. */
import { Buffer } from "node:buffer"
import type { Failure, Headers } from "../Batch.ts"
import type { Rejected, Route, Stage } from "../Failures.ts"
import type { Topic } from "../Topic.ts"
import { fitted, room } from "./failures/Fitting.ts"
import { madeHeaders } from "./failures/Letters.ts"
import * as Origin from "./failures/Origin.ts"

/**
 * Sends the original key, value and headers of a failed record to `to`, with these headers added: why it failed
 * (`millrace-reason`, `-message`, `-field`), who says so and when (`millrace-program`, `-version`, `-failed-at`), and
 * where it stood, under the names and in the binary form that Spring Kafka's dead-letter recoverer uses
 * (`kafka_dlt-original-topic`, `-partition` int32, `-offset` and `-timestamp` int64, big endian).
 *
 * Of a record that was tried several times by a stage with a name: which stage that was, how often and since when
 * (`millrace-stage`, `-attempts`, `-first-failed-at`), and what it was given as JSON (`millrace-stage-input`), as far as
 * that fits. Where that stage has retry topics, also what the way back to it takes: the first of them, event times, and the
 * stage's key where that is another (`millrace-stage-topic`, `-event-times`, `-key`). Where it stood is where it was read
 * first, not the retry topic that it came back from.
 *
 * Of a value that a fold made of many records, the letter holds the value itself as JSON under its key (`millrace-made`), and
 * where it stood is the record that caused it to be emitted: the one to come where that was the wall clock.
 *
 * A value too large for `to` is cut, with its length and SHA-256 in `millrace-truncated-length` and `-sha256`. Where not even
 * the rest fits, those of the record's own headers that find no room are left out (`-headers` has their number), and its key
 * is cut (`-key-length`): no record is too large to be told about.
 */
export const to = (topic: Topic<Uint8Array | null>): Route => ({
  writes: [topic],
  send: (rejected) => {
    const { source, failed, stage, at } = rejected
    const origin = Origin.of(source, failed.row, at)
    const { key, value } = failed.record ?? origin
    const own = failed.record === undefined ? origin.headers : []
    const described = [
      ...origin.place,
      ...reasonHeaders(rejected),
      ...failed.record === undefined ? [] : madeHeaders,
      ...stage === undefined ? [] : stageHeaders(stage),
    ]
    const whole = stage?.input === undefined
      ? described
      : [...described, ["millrace-stage-input", stage.input] as const, ...stage.back ?? []]
    const about = room(topic, key, [...own, ...whole]) >= (value?.length ?? 0) ? whole : described
    return {
      _tag: "Outgoing",
      outgoing: { topic: topic.name, row: failed.row, ...fitted(topic, { key, value, own, about }) },
    }
  },
})

/** Something that was refused before it became a record. */
export interface Refused {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  /** Where it came from, in headers of the caller's own. */
  readonly headers: Headers
  readonly reason: Failure
  readonly program: Rejected<Failure>["program"]
  /** Milliseconds since 1970. */
  readonly at: number
  /** Of the value no more bytes than this are kept; a longer one is cut as one that is too large for the topic. */
  readonly most?: number
}

/** A dead letter for what never was a record, to be sent by a producer: reason headers and truncation as in `to`. */
export const of = (topic: Topic<Uint8Array | null>, refused: Refused) => {
  const { key, value, headers: own, most } = refused
  const about = reasonHeaders({ failed: refused, ...refused })
  return { topic: topic.name, ...fitted(topic, { key, value, own, about }, most) }
}

const stageHeaders = ({ name, attempts, firstFailedAt }: Stage): Headers => [
  ["millrace-stage", Buffer.from(name)],
  ["millrace-attempts", Buffer.from(String(attempts))],
  ["millrace-first-failed-at", Buffer.from(new Date(firstFailedAt).toISOString())],
]

/** Of a message and of a field's path no more characters are kept: they can repeat names that a record has made up. */
const longest = 4_096

const reasonHeaders = (
  { failed: { reason }, program, at }: Pick<Rejected<Failure>, "program" | "at"> & {
    readonly failed: { readonly reason: Failure }
  },
): Headers => [
  ["millrace-reason", Buffer.from(reason._tag)],
  ["millrace-message", Buffer.from(reason.message.slice(0, longest))],
  ["millrace-field", Buffer.from((reason.field ?? "").slice(0, longest))],
  ["millrace-program", Buffer.from(program.name)],
  ["millrace-version", Buffer.from(program.version)],
  ["millrace-failed-at", Buffer.from(new Date(at).toISOString())],
]
