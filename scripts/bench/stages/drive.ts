/** Drives a flow over prepared batches, with what a task does for its commits: changes are taken, merged and encoded. */
import { Effect, Pull, Stream } from "effect"
import type { Batch, Changes } from "../../../src/Batch.ts"
import { departing, spent } from "../../../src/Batch.ts"
import { type Flow, fromStream } from "../../../src/Flow.ts"
import { records as logged } from "../../../src/kafka/Changelog.ts"
import { JournaledStore, merge } from "../../../src/state/Store.ts"
import { unheard } from "../../../src/StreamTime.ts"
import { Logged, Task } from "../../../src/Task.ts"
import * as Topology from "../../../src/Topology.ts"
import { Cause } from "effect"
import type { Lefts, Prepared } from "./input.ts"

/** Seconds of CPU that this process has used while the watch ran, on all its threads: garbage is collected on others. */
export class Stopwatch {
  #used = 0
  #since: number | undefined

  get seconds(): number {
    return this.#used / 1e6
  }

  start(): void {
    this.#since = now()
  }

  stop(): void {
    if (this.#since === undefined) return
    this.#used += now() - this.#since
    this.#since = undefined
  }

  /** Does something that does not count. */
  without<A>(f: () => A): A {
    const ran = this.#since !== undefined
    this.stop()
    const made = f()
    if (ran) this.start()
    return made
  }
}

const now = (): number => {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** So many batches are prepared at a time, and so many are in a commit: at half a million records a second, 100 ms. */
export const atATime = 50

/** Batches as they come, prepared while the watch does not run. */
export function* pieces(all: Generator<Prepared>, watch: Stopwatch): Generator<Prepared> {
  for (;;) {
    const piece = watch.without(() => {
      const piece: Array<Prepared> = []
      for (let next = all.next(); !next.done; next = all.next()) if (piece.push(next.value) === atATime) break
      return piece
    })
    if (piece.length === 0) return
    yield* piece
  }
}

/** Prepared batches as a flow that reads a topic. */
export const source = (topic: typeof Lefts, batches: Generator<Prepared>): Flow<Prepared["values"][number]> =>
  fromStream(
    Stream.fromPull(Effect.succeed(Effect.suspend(() => {
      const next = batches.next()
      return next.done ? Cause.done() : Effect.succeed([next.value] as const)
    }))) as Stream.Stream<Prepared>,
    { stage: "prepared", reads: [topic] },
  )

export interface Driven {
  /** Values that came out, and records that were to be produced. */
  readonly results: number
  readonly outgoing: number
  /** Of the changelog: entries and their bytes. */
  readonly entries: number
  readonly bytes: number
  readonly stores: ReadonlyMap<string, JournaledStore<unknown>>
}

export const drive = <F, E>(
  flow: Flow<unknown, F, E, Task | Logged>,
  watch: Stopwatch,
  { logs }: { readonly logs: boolean },
): Effect.Effect<Driven, E> =>
  Effect.suspend(() => {
    const stores = new Map<string, JournaledStore<unknown>>()
    const task = Task.of({ partition: 0, read: () => Stream.empty, clock: () => unheard, isDry: () => true })
    const state = Logged.of({
      store: (spec) =>
        Effect.sync(() => {
          const store = new JournaledStore(spec)
          stores.set(spec.name, store as JournaledStore<unknown>)
          return store
        }),
    })
    const counted = { results: 0, outgoing: 0, entries: 0, bytes: 0 }
    let finished: Array<Batch<unknown>> = []
    const commit = () => {
      const changes = mergedByStore(finished)
      finished = []
      if (logs) {
        const work = {
          task: { flow: 0, partition: 0 },
          batches: [],
          from: new Map(),
          positions: new Map(),
          clocks: new Map(),
          changes,
        }
        const written = logged({ name: "bench", group: "bench", reset: "earliest", flows: [] }, work)
        if (written._tag === "Failure") throw written.failure
        for (const { key, value } of written.success) counted.bytes += (key?.length ?? 0) + (value?.length ?? 0)
        counted.entries += written.success.length
      }
      for (const { store, version } of changes) stores.get(store)!.committed(version)
    }
    watch.start()
    return Topology.running(flow).pipe(
      Stream.provideService(Task, task),
      Stream.provideService(Logged, state),
      Stream.runForEach((batch) =>
        Effect.sync(() => {
          counted.results += batch.values.length
          counted.outgoing += batch.outgoing.length
          finished.push(spent({ ...batch, failed: [], outgoing: departing(batch.outgoing) } as Batch<unknown>))
          if (finished.length === atATime) commit()
        })
      ),
      Effect.map(() => {
        if (finished.length > 0) commit()
        watch.stop()
        return { ...counted, stores }
      }),
    )
  })

const mergedByStore = (batches: ReadonlyArray<Batch<unknown>>): ReadonlyArray<Changes> => {
  const byStore = Map.groupBy(batches.flatMap(({ changes }) => changes), ({ store }) => store)
  return Array.from(
    byStore.values(),
    (list) => ({ ...list.at(-1)!, entries: merge(list.map(({ entries }) => entries)) }),
  )
}
