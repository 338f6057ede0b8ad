/** Runs a flow over given records in one task, without brokers: for the laws that a single task must obey. */
import { Effect, Stream } from "effect"
import { Buffer } from "node:buffer"
import type { Batch, Headers, Source } from "../../src/Batch.ts"
import { departing, fromSource } from "../../src/Batch.ts"
import type { Flow } from "../../src/Flow.ts"
import { JournaledStore } from "../../src/state/Store.ts"
import { type Clock, decodeClock, encodeClock, unheard } from "../../src/StreamTime.ts"
import { Logged as LoggedState, type Raw, Task } from "../../src/Task.ts"
import { isRetryTopic } from "../../src/stages/failures/RetryTopic.ts"
import type { Any as AnyTopic, Topic } from "../../src/Topic.ts"
import * as Topology from "../../src/Topology.ts"

export interface Rec {
  readonly key: string | null
  readonly value: string | null
  readonly timestamp: number
  readonly headers?: Headers
}

export interface SourceOptions {
  /** Where reading begins; the first record otherwise. */
  readonly position?: number
  /** How many tasks write the topic, where that is a repartition topic. */
  readonly upstream?: number | undefined
  /** Ticks of the wall clock: before which record, and after how long a silence. In order. */
  readonly ticks?: ReadonlyArray<Tick> | undefined
}

export interface Tick {
  readonly before: number
  readonly silence: number
}

/** Records of one partition as fetches answer them, cut before each of the given indexes. */
export const sources = (
  topic: AnyTopic,
  records: ReadonlyArray<Rec>,
  cuts: ReadonlyArray<number>,
  { position = 0, upstream, ticks = [] }: SourceOptions = {},
): Array<Source> => {
  const within = [...cuts, ...ticks.map(({ before }) => before)].filter((cut) => cut > position && cut < records.length)
  const bounds = [position, ...new Set(within), records.length].sort((a, b) => a - b)
  const ticksAt = (position: number) =>
    ticks.filter(({ before }) => before === position)
      .map(({ silence }) => ({ ...source(topic, records, position, position, upstream), silence }))
  return [
    ...ticksAt(position),
    ...bounds.slice(1).flatMap((end, i) => [
      source(topic, records, bounds[i]!, end, upstream),
      ...end > position ? ticksAt(end) : [],
    ]),
  ]
}

const source = (
  topic: AnyTopic,
  records: ReadonlyArray<Rec>,
  from: number,
  to: number,
  upstream: number | undefined,
): Source => {
  const part = records.slice(from, to)
  return {
    topic,
    partition: 0,
    length: part.length,
    next: to,
    size: part.reduce((sum, { key, value }) => sum + (key?.length ?? 0) + (value?.length ?? 0), 0),
    keys: part.map((record) => record.key === null ? null : Buffer.from(record.key)),
    bytes: part.map((record) => record.value === null ? null : Buffer.from(record.value)),
    headers: part.map((record) => record.headers ?? []),
    timestamps: Float64Array.from(part, (record) => record.timestamp),
    offsets: Float64Array.from(part, (_, i) => from + i),
    upstream,
  }
}

/** What a task starts from: by topic the next offset and the clock there, and its stores. */
export interface Start {
  readonly positions: ReadonlyMap<AnyTopic, number>
  readonly clocks: ReadonlyMap<AnyTopic, Clock>
  readonly stores: ReadonlyMap<string, Logged>
  /** 0 unless given. */
  readonly partition?: number
}

/** A store as its changelog has it. */
interface Logged {
  readonly streamTime: number
  readonly entries: ReadonlyMap<string, Uint8Array>
}

/** What stands in the log when these batches have committed. */
export const committed = (batches: ReadonlyArray<Batch<unknown, unknown>>): Start => {
  const positions = new Map<AnyTopic, number>()
  const clocks = new Map<AnyTopic, Clock>()
  const stores = new Map<string, { streamTime: number; entries: Map<string, Uint8Array> }>()
  for (const { source, clockAfter, changes } of batches) {
    positions.set(source.topic, source.next)
    if (clockAfter !== undefined) clocks.set(source.topic, decodeClock(encodeClock(clockAfter(source.length), 3_000)))
    for (const { store, streamTime, entries, encode } of changes) {
      const logged = stores.get(store) ?? { streamTime, entries: new Map() }
      stores.set(store, logged)
      logged.streamTime = streamTime
      for (const [key, value] of entries) {
        if (value === undefined) logged.entries.delete(key)
        else logged.entries.set(key, encode(value))
      }
    }
  }
  return { positions, clocks, stores }
}

export interface Run<A, F> {
  readonly inputs: ReadonlyArray<Source>
  readonly batches: ReadonlyArray<Batch<A, F>>
  /** What the stores held at the end, by store. */
  readonly stores: Stores
}

export type Stores = ReadonlyMap<string, ReadonlyMap<string, unknown>>

/** Runs a flow over the records of each topic that it reads, with its stores as another run has left them. */
export const run = <A, F, E>(
  flow: Flow<A, F, E, Task | LoggedState>,
  inputs: ReadonlyMap<AnyTopic, ReadonlyArray<Source>>,
  start: Start = committed([]),
): Effect.Effect<Run<A, F>, E> =>
  Effect.suspend(() => {
    const stores = new Map<string, JournaledStore<unknown>>()
    const task = Task.of({
      partition: start.partition ?? 0,
      read: <V>(topic: Topic<V>) =>
        Stream.fromIterable(inputs.get(topic) ?? []).pipe(
          Stream.map((source) => fromSource(source, source.bytes as ReadonlyArray<unknown> as ReadonlyArray<Raw<V>>)),
          Stream.rechunk(1),
        ),
      clock: (topic) => start.clocks.get(topic) ?? unheard,
      isDry: (topic) => !isRetryTopic(topic),
    })
    const logged = LoggedState.of({
      store: (spec) =>
        Effect.sync(() => {
          const store = new JournaledStore(spec)
          const { streamTime, entries } = start.stores.get(spec.name) ?? { streamTime: -Infinity, entries: [] }
          for (const [key, bytes] of entries) store.restore(key, bytes)
          store.restoreStreamTime(streamTime)
          stores.set(spec.name, store as JournaledStore<unknown>)
          return store
        }),
    })
    return Topology.running(flow).pipe(
      Stream.provideService(Task, task),
      Stream.provideService(LoggedState, logged),
      Stream.runCollect,
      Effect.map((batches) => ({
        inputs: [...inputs.values()].flat(),
        batches: batches.map((batch) => ({ ...batch, outgoing: departing(batch.outgoing) })),
        stores: new Map(Array.from(stores, ([name, store]) => [name, new Map(store.entries())])),
      })),
    )
  })
