/** What a stage costs in memory alone: batches of 1,000 records, without a broker, with what commits do to its stores. */
import { Effect, Stream } from "effect"
import { Buffer } from "node:buffer"
import type { Batch, Changes } from "../../../src/Batch.ts"
import { fromSource } from "../../../src/Batch.ts"
import { type Flow, fromStream } from "../../../src/Flow.ts"
import { JournaledStore, merge } from "../../../src/state/Store.ts"
import { Logged } from "../../../src/Task.ts"
import type { Any as AnyTopic } from "../../../src/Topic.ts"

const batchSize = 1_000
/** A commit after so many batches: 100 ms at 500,000 records a second. */
const commitEvery = 50

export interface Input {
  readonly records: number
  readonly keys: number
  /** Stream time from the first record to the last, in milliseconds. */
  readonly span: number
}

/** The same numbers in every run (mulberry32). */
const generator = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

const start = Date.parse("2026-01-01T00:00:00Z")

/** Values from 0 to 99 under random keys, in the order of their times; the keys of a batch lie in one buffer, as fetches have them. */
export const batches = ({ records, keys, span }: Input): ReadonlyArray<Batch<number>> => {
  const random = generator(1)
  return Array.from({ length: records / batchSize }, (_, n) => {
    const names = Array.from({ length: batchSize }, () => `user-${Math.floor(random() * keys)}`)
    const bytes = Buffer.from(names.join(""))
    let at = 0
    const timestamps = Float64Array.from(names, (_, i) => start + Math.floor((n * batchSize + i) / records * span))
    const source = {
      topic: { name: "input" } as AnyTopic,
      partition: 0,
      length: batchSize,
      next: (n + 1) * batchSize,
      size: bytes.length,
      keys: names.map((name) => bytes.subarray(at, at += name.length)),
      bytes: [],
      headers: [],
      timestamps,
      offsets: Float64Array.from(names, (_, i) => n * batchSize + i),
      upstream: undefined,
    }
    const time = { timestamps, clock: timestamps, rowClock: timestamps, now: timestamps.at(-1)! }
    return { ...fromSource(source, names.map((_, i) => i % 100)), time }
  })
}

export interface Measured {
  /** Records a second of one core: of all that the process has used of its cores, garbage collection included. */
  readonly perSecond: number
  /** Kept at the end, by what the store counts, with what the stage keeps beside it. */
  readonly entries: number
  readonly bytesPerEntry: number
  readonly results: number
}

type Stage<B> = (flow: Flow<number, never, never, never>) => Flow<B, unknown, unknown, Logged>

/** Runs a stage over an input, in a process that was started with `--expose-gc`. */
export const measure = async <B>(stage: Stage<B>, input: Input): Promise<Measured> => {
  await run(stage, batches({ ...input, records: 200_000 }))
  return run(stage, batches(input))
}

const used = (): number => {
  globalThis.gc!()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

const run = async <B>(stage: Stage<B>, all: ReadonlyArray<Batch<number>>): Promise<Measured> => {
  let store!: JournaledStore<unknown>
  let pending: Array<Changes> = []
  let results = 0
  let passed = 0
  let logged = 0
  const commit = () => {
    const [last] = pending.slice(-1)
    if (last === undefined) return
    for (const [key, value] of merge(pending.map(({ entries }) => entries))) {
      logged += Buffer.from(key).length + (value === undefined ? 0 : last.encode(value).length)
    }
    store.committed(last.version)
    pending = []
  }
  let ended = { cpu: 0, bytes: 0 }
  const before = used()
  const began = process.cpuUsage()
  const flow = stage(fromStream(Stream.fromIterable(all).pipe(Stream.rechunk(1)), { stage: "input" }))
  const program = Stream.runForEach(flow, ({ values, changes }) =>
    Effect.sync(() => {
      results += values.length
      pending.push(...changes)
      passed++
      if (passed % commitEvery === 0 || passed === all.length) commit()
      if (passed < all.length) return
      const { user, system } = process.cpuUsage(began)
      // The stage is still at work, with all that it keeps.
      ended = { cpu: (user + system) / 1e6, bytes: used() - before }
    }))
  const logs = Logged.of({
    store: (spec) =>
      Effect.sync(() => {
        const opened = new JournaledStore(spec)
        store = opened as JournaledStore<unknown>
        return opened
      }),
  })
  await Effect.runPromise(Effect.provideService(program, Logged, logs) as Effect.Effect<void>)
  if (logged < 0) throw new Error("nothing was logged")
  return {
    perSecond: all.length * batchSize / ended.cpu,
    entries: store.size,
    bytesPerEntry: ended.bytes / store.size,
    results,
  }
}
