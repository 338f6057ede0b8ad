/** Where a record stood first. Of one that came back from a retry topic that is not where it was read. */
import { Buffer } from "node:buffer"
import { type Headers, offsetOf, type Source } from "../../Batch.ts"
import { isRetryTopic, keyHeader, stageHeader } from "./RetryTopic.ts"

export interface Origin {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  /** The record's own headers. */
  readonly headers: Headers
  /** Where it stood, under the names and in the form that Spring Kafka's dead-letter recoverer uses. */
  readonly place: Headers
}

const placeNames = [
  "kafka_dlt-original-topic",
  "kafka_dlt-original-partition",
  "kafka_dlt-original-offset",
  "kafka_dlt-original-timestamp",
] as const

/** The record of a row; of a row that a tick has caused, the record to come. `at` is now. */
export const of = (source: Source, row: number, at: number): Origin => {
  const headers = source.headers[row] ?? []
  const key = source.keys[row] ?? null
  const value = source.bytes[row] ?? null
  const first = isRetryTopic(source.topic) ? headers.findLastIndex(([name]) => name === stageHeader) : -1
  const added = new Map(first === -1 ? [] : headers.slice(first))
  const place = placeNames.flatMap((name) => added.has(name) ? [[name, added.get(name)!] as const] : [])
  if (place.length < placeNames.length) {
    return {
      key,
      value,
      headers,
      place: [
        [placeNames[0], Buffer.from(source.topic.name)],
        [placeNames[1], int32(source.partition)],
        [placeNames[2], int64(offsetOf(source, row))],
        [placeNames[3], int64(source.timestamps[row] ?? at)],
      ],
    }
  }
  const original = added.get(keyHeader)
  return {
    key: original === undefined ? key : original.length === 0 ? null : original,
    value,
    headers: headers.slice(0, first),
    place,
  }
}

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
