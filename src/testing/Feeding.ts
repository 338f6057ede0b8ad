/** Records on their way into a topic: made from values by the contract, or from bytes as they are. */
import { Buffer } from "node:buffer"
import { Result } from "effect"
import type { Headers } from "../Batch.ts"
import type { Records, TopicPartition } from "../kafka/Cluster.ts"
import { forKey } from "../kafka/Partitioner.ts"
import type { Any as AnyTopic, Topic } from "../Topic.ts"
import { DriverError } from "./DriverError.ts"

/** Where a record goes, and what stands beside its value. */
export interface Placed {
  /** What the contract says unless given; `null` for none. */
  readonly key?: string | Uint8Array | null
  /** The Kafka timestamp, milliseconds since 1970: the test clock's now unless given. */
  readonly timestamp?: number
  /** That of the key, as Java's producer chooses it, unless given. */
  readonly partition?: number
  readonly headers?: Headers | Readonly<Record<string, string | Uint8Array>>
}

/** A value with what stands beside it. */
export class Fed<out A> {
  readonly value: A
  readonly placed: Placed
  constructor({ value, ...placed }: Placed & { readonly value: A }) {
    this.value = value
    this.placed = placed
  }
}

/** Bytes, or text as UTF-8, or `null`, a tombstone; alone or with what stands beside them. */
export type Bytes = string | Uint8Array | null | Placed & { readonly value: string | Uint8Array | null }

/** A record as it will be appended. */
export interface Appended {
  readonly partition: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: Headers
  readonly timestamp: number | undefined
}

/** `keyless` numbers the records without a key: they go to the partitions in turn. */
export const fromValue = <A>(
  topic: Topic<A>,
  one: A | Fed<A>,
  i: number,
  keyless: () => number,
): Result.Result<Appended, DriverError> => {
  const [value, placed] = one instanceof Fed ? [one.value, one.placed] : [one, {}]
  const encoded = topic.encode(value)
  if (Result.isFailure(encoded)) {
    const { field, message } = encoded.failure
    const at = field === "" ? "" : ` at ${field}`
    return Result.fail(
      new DriverError({
        reason: "Invalid",
        topic: topic.name,
        field,
        message: `value ${i} for topic ${topic.name}${at}: ${message}. feedBytes takes what no contract allows`,
      }),
    )
  }
  const key = placed.key === undefined ? topic.keyOf(value) : placed.key
  return place(topic, { ...placed, key }, encoded.success, keyless)
}

export const fromBytes = (topic: AnyTopic, one: Bytes, keyless: () => number): Result.Result<Appended, DriverError> => {
  const placed = one === null || typeof one === "string" || one instanceof Uint8Array ? { value: one } : one
  return place(topic, placed, bytesOf(placed.value), keyless)
}

const place = (
  topic: AnyTopic,
  placed: Placed,
  value: Uint8Array | null,
  keyless: () => number,
): Result.Result<Appended, DriverError> => {
  const key = bytesOf(placed.key ?? null)
  const partition = placed.partition ?? (key === null ? keyless() % topic.partitions : forKey(key, topic.partitions))
  if (!(Number.isInteger(partition) && partition >= 0 && partition < topic.partitions)) {
    const message = `topic ${topic.name} has no partition ${partition}: it has 0 to ${topic.partitions - 1}`
    return Result.fail(new DriverError({ reason: "Unknown", topic: topic.name, message }))
  }
  return Result.succeed({ partition, key, value, headers: headersOf(placed.headers), timestamp: placed.timestamp })
}

/** Record batches in order, of one partition each, and small enough for the topic where their records are. */
export const batches = function* (
  topic: AnyTopic,
  made: ReadonlyArray<Appended>,
  now: number,
): Generator<readonly [TopicPartition, Records]> {
  for (const [partition, all] of Map.groupBy(made, ({ partition }) => partition)) {
    let some: Array<Appended> = []
    let size = 0
    for (const [i, one] of all.entries()) {
      some.push(one)
      size += sizeOf(one)
      const next = all[i + 1]
      if (next !== undefined && size + sizeOf(next) <= topic.maxMessageBytes / 2) continue
      yield [{ topic: topic.name, partition }, {
        keys: some.map(({ key }) => key),
        values: some.map(({ value }) => value),
        headers: some.map(({ headers }) => headers),
        timestamps: some.map(({ timestamp }) => timestamp ?? now),
      }]
      some = []
      size = 0
    }
  }
}

const sizeOf = ({ key, value, headers }: Appended): number =>
  headers.reduce(
    (size, [name, bytes]) => size + name.length + bytes.length,
    (key?.length ?? 0) + (value?.length ?? 0) + 50,
  )

const headersOf = (headers: Placed["headers"]): Headers =>
  headers === undefined
    ? []
    : isList(headers)
    ? headers
    : Object.entries(headers).map(([name, value]) => [name, bytesOf(value)] as const)

const isList = (headers: NonNullable<Placed["headers"]>): headers is Headers => Array.isArray(headers)

const bytesOf: {
  (from: string | Uint8Array): Uint8Array
  (from: string | Uint8Array | null): Uint8Array | null
} = (from: string | Uint8Array | null): Uint8Array => typeof from === "string" ? Buffer.from(from) : from!
