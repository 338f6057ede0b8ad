/** Prepared batches of 1,000 records, as a fetch and `Decode` leave them: made outside the time that is measured. */
import { Schema } from "effect"
import { Buffer } from "node:buffer"
import { type Batch, fromSource, type Source } from "../../../src/Batch.ts"
import { Topic } from "../../../src/index.ts"
import { Dice } from "../../../src/testing/index.ts"

export const batchSize = 1_000

export const Reading = Schema.Struct({ id: Schema.String, n: Schema.Int, at: Schema.Int })
export type Reading = typeof Reading.Type
export type Prepared = Batch<Reading>

const common = { description: "Benchmark", owner: "bench", partitions: 1 }
const topic = (name: string) =>
  Topic.make({ ...common, name, schema: Reading, eventTime: (reading: Reading) => reading.at })
export const Lefts = topic("lefts")
export const Rights = topic("rights")

/** What is fed: so many records of so many keys, whose event times are spread over a while. */
export interface Shape {
  readonly records: number
  readonly keys: number
  /** Milliseconds of event time from the first record to the last. */
  readonly span: number
  /** Of how many records one is of the right side; none where there is one side. */
  readonly rightOneIn?: number
}

export const span = 180_000
export const start = 1_767_225_600_000

export const keyText = (key: number): string => `user-${key}`

/** The batches of one side, each of the records that fall into it. */
export function* batches(topic: typeof Lefts, { records, keys, span }: Shape, seed: number): Generator<Prepared> {
  const dice = new Dice(seed)
  const texts = Array.from({ length: keys }, (_, key) => Buffer.from(keyText(key)))
  for (let first = 0; first < records; first += batchSize) {
    const length = Math.min(batchSize, records - first)
    const chosen = Array.from({ length }, () => dice.int(0, keys - 1))
    // As a fetch answers them: views of one piece of memory.
    const bytes = Buffer.allocUnsafeSlow(chosen.reduce((sum, key) => sum + texts[key]!.length, 0))
    let at = 0
    const keysOf = chosen.map((key) => {
      const end = at + texts[key]!.copy(bytes, at)
      const view = bytes.subarray(at, end)
      at = end
      return view
    })
    const timestamps = Float64Array.from({ length }, (_, i) => start + Math.floor((first + i) / records * span))
    const source: Source = {
      topic,
      partition: 0,
      length,
      next: first + length,
      size: bytes.length + 100 * length,
      keys: keysOf,
      bytes: keysOf,
      headers: keysOf.map(() => []),
      timestamps,
      offsets: Float64Array.from({ length }, (_, i) => first + i),
      upstream: undefined,
    }
    const values = Array.from({ length }, (_, i): Reading => ({
      id: `id-${first + i}`,
      n: (first + i) % 10,
      at: timestamps[i]!,
    }))
    yield {
      ...fromSource(source, values),
      time: { timestamps, clock: timestamps, rowClock: timestamps, now: timestamps[length - 1]! },
    }
  }
}

/** The records of a batch as they stand in its topic: JSON. */
export const undecoded = (batch: Prepared): Prepared => {
  const bytes = batch.values.map((value) => Buffer.from(JSON.stringify(value)))
  const source = { ...batch.source, bytes }
  return fromSource(source, bytes) as unknown as Prepared
}
