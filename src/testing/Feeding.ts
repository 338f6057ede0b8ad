/** What a test feeds into topics. */
import { Buffer } from "node:buffer"
import type { Headers } from "../Batch.ts"
import { forKey } from "../kafka/Partitioner.ts"
import type { Any as AnyTopic } from "../Topic.ts"

/** What is fed with a value; where it is left out, the topic's contract decides. */
export interface Fed<out A> {
  readonly value: A
  readonly key?: string | null
  /** The Kafka timestamp, in milliseconds since 1970; what the clock says unless given. */
  readonly timestamp?: number
  /** The key's unless given, as Java's producer chooses it; without a key one after the other. */
  readonly partition?: number
  readonly headers?: Headers
}

/** A value with more than the value: told from a bare one by its class. */
export class Record<out A> {
  readonly fed: Fed<A>
  constructor(fed: Fed<A>) {
    this.fed = fed
  }
}

/** A record as bytes, or as text that stands for its UTF-8 bytes. */
export interface Bytes extends Omit<Fed<unknown>, "value" | "key"> {
  readonly key: string | Uint8Array | null
  readonly value: string | Uint8Array | null
}

export const bytesOf = (given: string | Uint8Array | null): Uint8Array | null =>
  typeof given === "string" ? Buffer.from(given) : given

/** Records by partition; `before` counts those that came earlier, for those that have no key. */
export const partitioned = (
  topic: AnyTopic,
  records: ReadonlyArray<Bytes>,
  before: number,
): ReadonlyMap<number, ReadonlyArray<Bytes>> => {
  let next = before
  return Map.groupBy(records, ({ key, partition }) => {
    if (partition !== undefined) return partition
    const bytes = bytesOf(key)
    return bytes === null ? next++ % topic.partitions : forKey(bytes, topic.partitions)
  })
}
