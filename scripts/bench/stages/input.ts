/** Prepared batches of 1,000 records, as a fetch and `Decode` leave them: made outside the time that is measured. */
import { Schema } from "effect"
import { Buffer } from "node:buffer"
import { type Batch, fromSource, type Source } from "../../../src/Batch.ts"
import { Topic } from "../../../src/index.ts"
import { Dice } from "../../../src/testing/index.ts"
import type { Stopwatch } from "./stopwatch.ts"

/** One in ten has the id of a record before it, and is its repeat. */
export const Reading = Schema.Struct({
  id: Schema.String,
  user: Schema.String,
  kind: Schema.Literals(["odd", "even"]),
  n: Schema.Int,
  at: Schema.Int,
})
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
}

/** From the first record to the last, in milliseconds of event time: three windows of a minute. */
export const span = 180_000
const start = 1_767_225_600_000
const batchSize = 1_000

/** How many batches are prepared at a time: few, so that they die as young as what a fetch has brought. */
const inPiece = 4

/** The batches of one side. */
function* batches(
  topic: typeof Lefts,
  { records, keys }: Shape,
  inRuns: number,
  seed: number,
): Generator<Prepared> {
  const dice = new Dice(seed)
  const texts = Array.from({ length: keys }, (_, key) => `user-${key}`)
  for (let first = 0; first < records; first += batchSize) {
    const length = Math.min(batchSize, records - first)
    const users = Array.from({ length }, () => texts[dice.int(0, keys - 1)]!)
    // As a fetch answers them: views of one piece of memory.
    const bytes = Buffer.from(users.join(""))
    let end = 0
    const keysOf = users.map((user) => bytes.subarray(end, end += user.length))
    const timeOf = (n: number) => start + Math.floor((n - n % inRuns) / records * span)
    const timestamps = Float64Array.from({ length }, (_, i) => timeOf(first + i))
    const source: Source = {
      topic,
      partition: 0,
      length,
      next: first + length,
      size: bytes.length + 100 * length,
      keys: keysOf,
      bytes: keysOf,
      headers: keysOf.map(() => noHeaders),
      timestamps,
      offsets: Float64Array.from({ length }, (_, i) => first + i),
      upstream: undefined,
    }
    const values = users.map((user, i): Reading => ({
      id: `id-${first + i - (i % 10 === 9 ? 7 : 0)}`,
      user,
      kind: i % 2 === 0 ? "even" : "odd",
      n: i % 10,
      at: timestamps[i]!,
    }))
    const time = { timestamps, clock: timestamps, rowClock: timestamps, now: timestamps[length - 1]! }
    yield { ...fromSource(source, values), time }
  }
}

const noHeaders: ReadonlyArray<never> = []

/** The records of a batch as they stand in their topic: JSON. */
const undecoded = (batch: Prepared): Prepared => {
  const bytes = batch.values.map((value) => Buffer.from(JSON.stringify(value)))
  return fromSource({ ...batch.source, bytes }, bytes) as unknown as Prepared
}

export interface Fed {
  /** For two sides: of how many records one is of the right one. */
  readonly rightOneIn?: number
  /** So many records of a side have one time: two sides change places no more often. */
  readonly inRuns?: number
  /** Values come as they stand in their topic, and not decoded. */
  readonly isRaw?: true
}

/** Both sides, prepared in pieces while the watch stands still. */
export const sides = ({ rightOneIn, inRuns = 1, isRaw }: Fed, shape: Shape, watch: Stopwatch) => {
  const rights = rightOneIn === undefined ? 0 : shape.records / rightOneIn
  const side = (topic: typeof Lefts, records: number, seed: number) =>
    pieces(batches(topic, { ...shape, records }, inRuns, seed), isRaw === true ? undecoded : (batch) => batch, watch)
  return { left: side(Lefts, shape.records - rights, 1), right: side(Rights, rights, 2) }
}

function* pieces(
  all: Generator<Prepared>,
  as: (batch: Prepared) => Prepared,
  watch: Stopwatch,
): Generator<Prepared> {
  for (;;) {
    const piece = watch.without(() => {
      const piece: Array<Prepared> = []
      for (let next = all.next(); !next.done; next = all.next()) if (piece.push(as(next.value)) === inPiece) break
      return piece
    })
    if (piece.length === 0) return
    // One by one let go, so that none is kept by where it came from.
    for (let next = piece.shift(); next !== undefined; next = piece.shift()) yield next
  }
}
