/** A topic in memory, as one partition: records lie in large buffers, as on a broker and in what it answers. */
import { Buffer } from "node:buffer"
import type { Headers, Outgoing, Source } from "../../../src/Batch.ts"
import type { Any as AnyTopic } from "../../../src/Topic.ts"

const none: Headers = []

const chunkSize = 4 * 1024 * 1024

/** Pieces of bytes, one after the other; `null` is a piece too. */
class Pieces {
  readonly #chunks: Array<Buffer> = []
  readonly #ends: Array<number> = []
  readonly #sizes: Array<number> = []
  #end = chunkSize

  push(bytes: Uint8Array | null): void {
    const size = bytes?.length ?? 0
    if (this.#end + size > chunkSize) {
      this.#chunks.push(Buffer.allocUnsafeSlow(Math.max(size, chunkSize)))
      this.#end = 0
    }
    if (bytes !== null) this.#chunks.at(-1)!.set(bytes, this.#end)
    this.#end += size
    this.#ends.push((this.#chunks.length - 1) * chunkSize + this.#end)
    this.#sizes.push(bytes === null ? -1 : size)
  }

  slice(from: number, to: number): ReadonlyArray<Uint8Array | null> {
    const pieces = new Array<Uint8Array | null>(to - from)
    for (let i = from; i < to; i++) {
      const size = this.#sizes[i]!
      const start = this.#ends[i]! - Math.max(size, 0)
      const chunk = this.#chunks[Math.floor(start / chunkSize)]
      pieces[i - from] = size < 0 ? null : chunk!.subarray(start % chunkSize, start % chunkSize + size)
    }
    return pieces
  }
}

export class Log {
  readonly #keys = new Pieces()
  readonly #values = new Pieces()
  readonly #headers: Array<Headers> = []
  readonly #timestamps: Array<number> = []

  get length(): number {
    return this.#timestamps.length
  }

  append({ key, value, headers = none }: Pick<Outgoing, "key" | "value" | "headers">, timestamp: number): void {
    this.#keys.push(key)
    this.#values.push(value)
    this.#headers.push(headers)
    this.#timestamps.push(timestamp)
  }

  /** The records from one offset to another as a fetch answers them. */
  fetch(topic: AnyTopic, from: number, to: number): Source {
    const [keys, bytes] = [this.#keys.slice(from, to), this.#values.slice(from, to)]
    let size = 0
    for (let i = 0; i < bytes.length; i++) size += (keys[i]?.length ?? 0) + (bytes[i]?.length ?? 0)
    return {
      topic,
      partition: 0,
      length: bytes.length,
      next: to,
      size,
      keys,
      bytes,
      headers: this.#headers.slice(from, to),
      timestamps: Float64Array.from(this.#timestamps.slice(from, to)),
      offsets: Float64Array.from(bytes, (_, i) => from + i),
      upstream: 1,
    }
  }
}
