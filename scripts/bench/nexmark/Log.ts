/** A topic in memory, as one partition. */
import type { Headers, Outgoing, Source } from "../../../src/Batch.ts"
import type { Any as AnyTopic } from "../../../src/Topic.ts"

const none: Headers = []

export class Log {
  readonly keys: Array<Uint8Array | null> = []
  readonly values: Array<Uint8Array | null> = []
  readonly headers: Array<Headers> = []
  readonly timestamps: Array<number> = []

  get length(): number {
    return this.values.length
  }

  append({ key, value, headers = none }: Pick<Outgoing, "key" | "value" | "headers">, timestamp: number): void {
    this.keys.push(key)
    this.values.push(value)
    this.headers.push(headers)
    this.timestamps.push(timestamp)
  }

  /** The records from one offset to another as a fetch answers them. */
  fetch(topic: AnyTopic, from: number, to: number): Source {
    const [keys, bytes] = [this.keys.slice(from, to), this.values.slice(from, to)]
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
      headers: this.headers.slice(from, to),
      timestamps: Float64Array.from(this.timestamps.slice(from, to)),
      offsets: Float64Array.from(bytes, (_, i) => from + i),
      upstream: 1,
    }
  }
}
