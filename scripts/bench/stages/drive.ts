/** Drives a flow over prepared batches, with what a task does for its commits: changes are taken, merged and encoded. */
import { Cause, Effect, Stream } from "effect"
import { type Batch, type Changes, departing, fromSource, keyBytes, type Outgoing, spent } from "../../../src/Batch.ts"
import { type Flow, fromStream } from "../../../src/Flow.ts"
import { records as logged } from "../../../src/kafka/Changelog.ts"
import { merge } from "../../../src/state/Changed.ts"
import { JournaledStore } from "../../../src/state/Store.ts"
import { unheard } from "../../../src/StreamTime.ts"
import { Logged, type PipelineError, type Raw, Task } from "../../../src/Task.ts"
import { type Any as AnyTopic, text, type Topic } from "../../../src/Topic.ts"
import * as Topology from "../../../src/Topology.ts"
import { type Lefts, type Prepared, type Reading } from "./input.ts"
import type { Stopwatch } from "./stopwatch.ts"

/** Batches of 1,000 in a commit: 100 ms at half a million records a second. */
const inCommit = 50

/** Prepared batches as a flow that reads a topic. */
export const source = (topic: typeof Lefts, batches: Generator<Prepared>): Flow<Reading> =>
  fromStream(
    Stream.fromPull(Effect.succeed(Effect.suspend(() => {
      const next = batches.next()
      return next.done ? Cause.done() : Effect.succeed([next.value] as const)
    }))) as Stream.Stream<Prepared>,
    { stage: "prepared", reads: [topic] },
  )

export interface Options {
  /** Whether changes are encoded for the changelog. */
  readonly logs: boolean
  see(value: unknown, key: Uint8Array | null): void
  send(outgoing: Outgoing): void
}

export interface Driven {
  /** Of the changelog: entries, and their bytes. */
  readonly entries: number
  readonly bytes: number
  readonly stores: ReadonlyArray<JournaledStore<unknown>>
}

export type Drivable = Flow<unknown, unknown, PipelineError, Task | Logged>

/** Flows that feed this one through topics of their own run with it, batch by batch. */
export const drive = (flow: Drivable, watch: Stopwatch, options: Options): Effect.Effect<Driven, PipelineError> =>
  Effect.suspend(() => {
    const stores = new Map<string, JournaledStore<unknown>>()
    const counted = { entries: 0, bytes: 0 }
    let finished: Array<Batch<unknown>> = []
    const commit = () => {
      const changes = mergedByStore(finished)
      finished = []
      if (options.logs) log(changes, counted)
      for (const { store, version } of changes) stores.get(store)!.committed(version)
    }
    const state = Logged.of({
      store: (spec) =>
        Effect.sync(() => {
          const store = new JournaledStore(spec)
          stores.set(spec.name, store as JournaledStore<unknown>)
          return store
        }),
    })
    const run = (flow: Drivable): Stream.Stream<Batch<unknown, unknown>, PipelineError> => {
      const { feeds } = Topology.of(flow)
      const read = <A>(topic: Topic<A>) => fetched(topic, run(feeds.get(topic.name) as Drivable))
      const task = Task.of({ partition: 0, read, clock: () => unheard, isDry: () => true })
      return Topology.running(flow).pipe(
        Stream.provideService(Task, task),
        Stream.provideService(Logged, state),
        Stream.map((batch) => {
          const sorted = { ...batch, outgoing: departing(batch.outgoing) }
          finished.push(spent({ ...sorted, failed: [] } as Batch<unknown>))
          if (finished.length === inCommit) commit()
          return sorted
        }),
      )
    }
    watch.start()
    return run(flow).pipe(
      Stream.runForEach((batch) =>
        Effect.sync(() => {
          for (let i = 0; i < batch.values.length; i++) options.see(batch.values[i], keyBytes(batch, i))
          for (let i = 0; i < batch.outgoing.length; i++) options.send(batch.outgoing[i]!)
        })
      ),
      Effect.map(() => {
        if (finished.length > 0) commit()
        watch.stop()
        return { ...counted, stores: [...stores.values()] }
      }),
    )
  })

const plan = { name: "bench", group: "bench", reset: "earliest", flows: [] } as const

const log = (changes: ReadonlyArray<Changes>, counted: { entries: number; bytes: number }): void => {
  const task = { flow: 0, partition: 0 }
  const work = { task, batches: [], from: new Map(), positions: new Map(), clocks: new Map(), changes }
  const written = logged(plan, work)
  if (written._tag === "Failure") throw written.failure
  for (const { key, value } of written.success) counted.bytes += (key?.length ?? 0) + (value?.length ?? 0)
  counted.entries += written.success.length
}

const mergedByStore = (batches: ReadonlyArray<Batch<unknown>>): ReadonlyArray<Changes> => {
  const byStore = Map.groupBy(batches.flatMap(({ changes }) => changes), ({ store }) => store)
  return Array.from(
    byStore.values(),
    (list) => ({ ...list.at(-1)!, entries: merge(list.map(({ entries }) => entries)) }),
  )
}

/** What a flow sends to a topic, as who reads the topic fetches it: without a broker between them. */
const fetched = <A>(
  topic: Topic<A>,
  feed: Stream.Stream<Batch<unknown, unknown>, PipelineError>,
): Stream.Stream<Batch<Raw<A>>, PipelineError> => {
  let next = 0
  return feed.pipe(
    Stream.map(({ outgoing, source }) => {
      const sent = outgoing.filter((out) => out.topic === topic.name)
      const bytes = sent.map(({ value }) => value)
      const fetch = {
        topic: topic as AnyTopic,
        partition: 0,
        length: sent.length,
        next: next + sent.length,
        size: source.size,
        keys: sent.map(({ key }) => key),
        bytes,
        headers: sent.map(({ headers = [] }) => headers),
        timestamps: Float64Array.from(sent, ({ row }) => source.timestamps[row]!),
        offsets: Float64Array.from(sent, (_, i) => next + i),
        upstream: 1,
      }
      next += sent.length
      return fromSource(fetch, bytes) as Batch<unknown> as Batch<Raw<A>>
    }),
    Stream.filter(({ source }) => source.length > 0),
  )
}

export const textOf = (key: Uint8Array | null): string => key === null ? "" : text(key)
