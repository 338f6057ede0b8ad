/** Runs a flow over given records in one task, without brokers: for the laws that a single task must obey. */
import { Effect, Stream } from "effect"
import { Buffer } from "node:buffer"
import type { Batch, Source } from "../../src/Batch.ts"
import { fromSource } from "../../src/Batch.ts"
import type { Flow } from "../../src/Flow.ts"
import { JournaledStore } from "../../src/state/Store.ts"
import { Logged, type Raw, Task } from "../../src/Task.ts"
import type { Any as AnyTopic, Topic } from "../../src/Topic.ts"
import * as Topology from "../../src/Topology.ts"

export interface Rec {
  readonly key: string | null
  readonly value: string | null
  readonly timestamp: number
}

/** Records of one partition as a fetch answers them, cut before each of the given indexes. */
export const sources = (topic: AnyTopic, records: ReadonlyArray<Rec>, cuts: ReadonlyArray<number>): Array<Source> => {
  const bounds = [0, ...new Set(cuts.filter((cut) => cut > 0 && cut < records.length)), records.length]
    .sort((a, b) => a - b)
  return bounds.slice(1).map((end, i) => source(topic, records, bounds[i]!, end))
}

const source = (topic: AnyTopic, records: ReadonlyArray<Rec>, from: number, to: number): Source => {
  const part = records.slice(from, to)
  return {
    topic,
    partition: 0,
    length: part.length,
    next: to,
    size: 0,
    keys: part.map((record) => record.key === null ? null : Buffer.from(record.key)),
    bytes: part.map((record) => record.value === null ? null : Buffer.from(record.value)),
    headers: part.map(() => []),
    timestamps: Float64Array.from(part, (record) => record.timestamp),
    offsets: Float64Array.from(part, (_, i) => from + i),
    upstream: undefined,
  }
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
  flow: Flow<A, F, E, Task | Logged>,
  inputs: ReadonlyMap<AnyTopic, ReadonlyArray<Source>>,
  restored?: Stores,
): Effect.Effect<Run<A, F>, E> =>
  Effect.suspend(() => {
    const stores = new Map<string, JournaledStore<unknown>>()
    const task = Task.of({
      partition: 0,
      read: <V>(topic: Topic<V>) =>
        Stream.fromIterable(inputs.get(topic) ?? []).pipe(
          Stream.map((source) => fromSource(source, source.bytes as ReadonlyArray<unknown> as ReadonlyArray<Raw<V>>)),
          Stream.rechunk(1),
        ),
    })
    const logged = Logged.of({
      store: (spec) =>
        Effect.sync(() => {
          const store = new JournaledStore(spec)
          for (const [key, value] of restored?.get(spec.name) ?? []) store.restore(key, store.encode(value))
          stores.set(spec.name, store as JournaledStore<unknown>)
          return store
        }),
    })
    return Topology.running(flow).pipe(
      Stream.provideService(Task, task),
      Stream.provideService(Logged, logged),
      Stream.runCollect,
      Effect.map((batches) => ({
        inputs: [...inputs.values()].flat(),
        batches,
        stores: new Map(Array.from(stores, ([name, store]) => [name, new Map(store.entries())])),
      })),
    )
  })
