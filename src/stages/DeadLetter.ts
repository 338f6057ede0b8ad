/** Dead letters: the original record in a topic of its own, with headers that say what was wrong and where it stood. */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { type Failure, type Headers, offsetOf } from "../Batch.ts"
import type { Rejected, Route } from "../Failures.ts"
import type { Topic } from "../Topic.ts"

/**
 * Sends the original key, value and headers of a failed record to `to`, with these headers added: why it failed
 * (`millrace-reason`, `-message`, `-field`), who says so and when (`millrace-program`, `-version`, `-failed-at`), and
 * where it stood, under the names and in the binary form that Spring Kafka's dead-letter recoverer uses
 * (`kafka_dlt-original-topic`, `-partition` int32, `-offset` and `-timestamp` int64, big endian).
 *
 * Of a value that a fold made of many records, the letter holds the value itself as JSON under its key, and where it
 * stood is the record that caused it to be emitted: the one to come where that was the wall clock.
 *
 * A value too large for `to` is cut, with its length and SHA-256 in `millrace-truncated-length` and `-sha256`.
 */
export const to = (topic: Topic<Uint8Array | null>): Route => ({
  writes: [topic],
  send: (rejected) => {
    const { source, failed } = rejected
    const { key, value } = failed.record ?? { key: source.keys[failed.row]!, value: source.bytes[failed.row]! }
    const own = failed.record === undefined ? source.headers[failed.row]! : []
    const headers = [...own, ...originHeaders(rejected), ...reasonHeaders(rejected)]
    return {
      _tag: "Outgoing",
      outgoing: { topic: topic.name, key, row: failed.row, ...fitted(topic, key, value, headers) },
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
  const headers = [...refused.headers, ...reasonHeaders({ failed: refused, ...refused })]
  return { topic: topic.name, key: refused.key, ...fitted(topic, refused.key, refused.value, headers, refused.most) }
}

const fitted = (
  topic: Topic<unknown>,
  key: Uint8Array | null,
  value: Uint8Array | null,
  headers: Headers,
  most = Infinity,
) =>
  truncated(
    value,
    headers,
    Math.min(most, topic.maxMessageBytes - recordOverhead - (key?.length ?? 0) - headersSize(headers)),
  )

/** A bound on what a record batch of one record adds around keys, values and headers. */
const recordOverhead = 256

const originHeaders = ({ source, failed, at }: Rejected<Failure>): Headers => [
  ["kafka_dlt-original-topic", Buffer.from(source.topic.name)],
  ["kafka_dlt-original-partition", int32(source.partition)],
  ["kafka_dlt-original-offset", int64(offsetOf(source, failed.row))],
  ["kafka_dlt-original-timestamp", int64(source.timestamps[failed.row] ?? at)],
]

const reasonHeaders = (
  { failed: { reason }, program, at }: Pick<Rejected<Failure>, "program" | "at"> & {
    readonly failed: { readonly reason: Failure }
  },
): Headers => [
  ["millrace-reason", Buffer.from(reason._tag)],
  ["millrace-message", Buffer.from(reason.message)],
  ["millrace-field", Buffer.from(reason.field ?? "")],
  ["millrace-program", Buffer.from(program.name)],
  ["millrace-version", Buffer.from(program.version)],
  ["millrace-failed-at", Buffer.from(new Date(at).toISOString())],
]

/** The value, or as much of it as `room` bytes hold together with the headers that describe the rest. */
export const truncated = (
  value: Uint8Array | null,
  headers: Headers,
  room: number,
): { readonly value: Uint8Array | null; readonly headers: Headers } => {
  if (value === null || value.length <= room) return { value, headers }
  const about: Headers = [
    ["millrace-truncated-length", Buffer.from(String(value.length))],
    ["millrace-truncated-sha256", Buffer.from(createHash("sha256").update(value).digest("hex"))],
  ]
  return { value: value.subarray(0, Math.max(0, room - headersSize(about))), headers: [...headers, ...about] }
}

const headersSize = (headers: Headers): number =>
  headers.reduce((size, [name, value]) => size + Buffer.byteLength(name) + value.length + 10, 0)

const int32 = (n: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(n)
  return bytes
}

const int64 = (n: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(BigInt(n))
  return bytes
}
