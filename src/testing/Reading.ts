/** What stands in topics, read by their contracts. */
import { Buffer } from "node:buffer"
import { Effect, Result } from "effect"
import type { Headers } from "../Batch.ts"
import type { TopicRecord } from "../kafka/ClusterMemory.ts"
import { text, type Topic } from "../Topic.ts"
import { DriverError } from "./DriverError.ts"

/** A committed record, decoded by its topic's contract; the value of a tombstone is null. */
export interface Read<out A> {
  readonly partition: number
  readonly offset: number
  readonly key: string | null
  readonly value: A | null
  /** The Kafka timestamp, milliseconds since 1970. */
  readonly timestamp: number
  /** Values are Buffers: `String` makes text of them. */
  readonly headers: ReadonlyArray<readonly [name: string, value: Buffer]>
}

/** A committed record as its bytes. */
export interface ReadBytes {
  readonly partition: number
  readonly offset: number
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly timestamp: number
  readonly headers: ReadonlyArray<readonly [name: string, value: Buffer]>
}

/** A dead letter, with what its headers say. */
export interface Letter {
  readonly reason: string
  readonly message: string
  readonly field: string
  /** Where the record stood that failed. */
  readonly topic: string
  readonly partition: number
  readonly offset: number
  /** The original record. */
  readonly key: string | null
  readonly value: string | null
}

export const toBytes = ({ partition, offset, key, value, timestamp, headers }: TopicRecord): ReadBytes => ({
  partition,
  offset,
  key: key && buffer(key),
  value: value && buffer(value),
  timestamp,
  headers: buffers(headers),
})

const buffers = (headers: Headers) => headers.map(([name, bytes]) => [name, buffer(bytes)] as const)

const buffer = ({ buffer, byteOffset, length }: Uint8Array): Buffer => Buffer.from(buffer, byteOffset, length)

export const decoded = <A>(topic: Topic<A>, record: TopicRecord): Effect.Effect<Read<A>, DriverError> => {
  const { partition, offset, key, value, timestamp, headers } = record
  const read = { partition, offset, key: key && text(key), timestamp, headers: buffers(headers) }
  const result = value === null ? Result.succeed(null) : topic.decode(value)
  if (Result.isSuccess(result)) return Effect.succeed({ ...read, value: result.success })
  const { field, message } = result.failure
  return Effect.fail(undecodable(topic.name, record, field, message))
}

export const undecodable = (
  topic: string,
  { partition, offset }: Pick<TopicRecord, "partition" | "offset">,
  field: string,
  problem: string,
): DriverError =>
  new DriverError({
    reason: "Undecodable",
    topic,
    partition,
    offset,
    field,
    message: `topic ${topic} partition ${partition} offset ${offset}${field === "" ? "" : ` at ${field}`}: ${problem}`,
  })

/** The last value of every key, in the order of those last records; a tombstone takes its key away. */
export const latest = Effect.fnUntraced(function* <A>(topic: Topic<A>, records: ReadonlyArray<TopicRecord>) {
  const last = new Map<string, A>()
  for (const record of records) {
    const { key, value } = yield* decoded(topic, record)
    if (key === null) {
      return yield* undecodable(topic.name, record, "key", "it has none, so it is not the latest of any")
    }
    last.delete(key)
    if (value !== null) last.set(key, value)
  }
  return last as ReadonlyMap<string, A>
})

/** Reads what `DeadLetter.to` has written. */
export const letter = (topic: string, record: TopicRecord): Effect.Effect<Letter, DriverError> => {
  const headers = new Map(record.headers)
  const said = (name: string) => {
    const bytes = headers.get(name)
    return bytes === undefined ? undefined : text(bytes)
  }
  const reason = said("millrace-reason")
  const number = (name: string) => Number(`0x${Buffer.from(headers.get(name) ?? []).toString("hex")}`)
  if (reason === undefined) {
    return Effect.fail(
      undecodable(topic, record, "headers", "it is not a dead letter: header millrace-reason is missing"),
    )
  }
  return Effect.succeed({
    reason,
    message: said("millrace-message") ?? "",
    field: said("millrace-field") ?? "",
    topic: said("kafka_dlt-original-topic") ?? "",
    partition: number("kafka_dlt-original-partition"),
    offset: number("kafka_dlt-original-offset"),
    key: record.key && text(record.key),
    value: record.value && text(record.value),
  })
}
