/**
 * What the members of a consumer group tell each other, in the bytes of Kafka's own consumer protocol (version 0 of
 * `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`), so that other tools can read who owns what.
 */
import { Buffer } from "node:buffer"
import type { TopicPartition } from "./Cluster.ts"

export interface Subscription {
  readonly topics: ReadonlyArray<string>
  readonly userData: Uint8Array
}

export interface Assignment {
  readonly partitions: ReadonlyArray<TopicPartition>
  readonly userData: Uint8Array
}

export const encodeSubscription = ({ topics, userData }: Subscription): Uint8Array =>
  Buffer.concat([int16(0), int32(topics.length), ...topics.map(string), bytes(userData)])

export const decodeSubscription = (from: Uint8Array): Subscription => {
  const reader = new Reader(from)
  reader.int16()
  return { topics: reader.array(() => reader.string()), userData: reader.bytes() }
}

export const encodeAssignment = ({ partitions, userData }: Assignment): Uint8Array => {
  const byTopic = Map.groupBy(partitions, ({ topic }) => topic)
  const topics = Array.from(
    byTopic,
    ([topic, owned]) =>
      Buffer.concat([string(topic), int32(owned.length), ...owned.map(({ partition }) => int32(partition))]),
  )
  return Buffer.concat([int16(0), int32(byTopic.size), ...topics, bytes(userData)])
}

/** An empty answer is an empty assignment: that is what a member without work gets. */
export const decodeAssignment = (from: Uint8Array): Assignment => {
  if (from.length === 0) return { partitions: [], userData: new Uint8Array() }
  const reader = new Reader(from)
  reader.int16()
  const partitions = reader.array(() => {
    const topic = reader.string()
    return reader.array(() => ({ topic, partition: reader.int32() }))
  })
  return { partitions: partitions.flat(), userData: reader.bytes() }
}

const int16 = (n: number): Buffer => {
  const buffer = Buffer.alloc(2)
  buffer.writeInt16BE(n)
  return buffer
}

const int32 = (n: number): Buffer => {
  const buffer = Buffer.alloc(4)
  buffer.writeInt32BE(n)
  return buffer
}

const string = (text: string): Buffer => {
  const encoded = Buffer.from(text)
  return Buffer.concat([int16(encoded.length), encoded])
}

const bytes = (data: Uint8Array): Buffer => Buffer.concat([int32(data.length), data])

class Reader {
  readonly #view: DataView
  readonly #from: Uint8Array
  #at = 0
  constructor(from: Uint8Array) {
    this.#from = from
    this.#view = new DataView(from.buffer, from.byteOffset, from.byteLength)
  }
  int16(): number {
    this.#at += 2
    return this.#view.getInt16(this.#at - 2)
  }
  int32(): number {
    this.#at += 4
    return this.#view.getInt32(this.#at - 4)
  }
  string(): string {
    return new TextDecoder().decode(this.#take(this.int16()))
  }
  /** Null bytes, of length -1, are read as none. */
  bytes(): Uint8Array {
    return this.#at === this.#from.length ? new Uint8Array() : this.#take(Math.max(0, this.int32()))
  }
  array<A>(read: () => A): Array<A> {
    return Array.from({ length: Math.max(0, this.int32()) }, read)
  }
  #take(length: number): Uint8Array {
    this.#at += length
    return this.#from.subarray(this.#at - length, this.#at)
  }
}
