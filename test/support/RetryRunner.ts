/** A flow in one task that reads what it writes, without brokers: every batch is committed at once, or lost in a crash. */
import { Cause, Clock, Deferred, Effect, Exit, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import { type Batch, departing, fromSource } from "../../src/Batch.ts"
import type { Flow } from "../../src/Flow.ts"
import { JournaledStore } from "../../src/state/Store.ts"
import { unheard } from "../../src/StreamTime.ts"
import { Logged, type Raw, Task } from "../../src/Task.ts"
import { type Any as AnyTopic, text, type Topic } from "../../src/Topic.ts"
import * as Topology from "../../src/Topology.ts"
import { committed, type Rec, sources } from "./FlowRunner.ts"
import type { Dice } from "./Seeds.ts"

export interface Drained<A, F> {
  /** What was committed, in order. */
  readonly batches: ReadonlyArray<Batch<A, F>>
  /** What the stores hold in the end, by store. */
  readonly stores: ReadonlyMap<string, ReadonlyMap<string, Uint8Array>>
  /** What stands in topics in the end, by name. */
  readonly log: (topic: string) => ReadonlyArray<Rec>
}

/**
 * Runs until everything that stands in the flow's topics is through, letting the test clock run. With dice, fetches end
 * anywhere, the input comes bit by bit, and, with `crashes`, the task dies at any batch and starts from what is committed.
 */
export const drain = <A, F, E>(
  flow: Flow<A, F, E, Task | Logged>,
  given: ReadonlyMap<AnyTopic, ReadonlyArray<Rec>>,
  dice?: Dice,
  crashes = dice !== undefined,
): Effect.Effect<Drained<A, F>, E> =>
  Effect.gen(function* () {
    const { reads } = Topology.of(flow)
    const coming = reads.flatMap((topic) => (given.get(topic) ?? []).map((record) => ({ topic: topic.name, record })))
    const logs = new Map<string, Array<Rec>>()
    const log = (topic: string): Array<Rec> => {
      let known = logs.get(topic)
      if (known === undefined) logs.set(topic, known = [])
      return known
    }
    let fed = Deferred.makeUnsafe<void>()
    const wake = () => {
      const waiting = fed
      fed = Deferred.makeUnsafe()
      Deferred.doneUnsafe(waiting, Exit.void)
    }
    const feed = (most: number) => {
      for (const { topic, record } of coming.splice(0, most)) log(topic).push(record)
      wake()
    }
    feed(dice?.int(0, coming.length) ?? coming.length)
    const all: Array<Batch<A, F>> = []
    const stands = () => {
      const { positions } = committed(all)
      return coming.length === 0 && reads.every((topic) => (positions.get(topic) ?? 0) === log(topic.name).length)
    }

    const commit = Effect.fnUntraced(function* (batch: Batch<A, F>) {
      if (crashes && dice!.int(0, 11) === 0) return yield* Effect.interrupt
      const sorted = { ...batch, outgoing: departing(batch.outgoing) }
      all.push(sorted)
      const now = yield* Clock.currentTimeMillis
      for (const { topic, key, value, headers = [] } of sorted.outgoing) {
        log(topic).push({ key: key && text(key), value: value && text(value), headers, timestamp: now })
      }
      wake()
      if (dice?.int(0, 2) === 0) feed(dice.int(1, 5))
    })

    const read = <V>(topic: Topic<V>): Stream.Stream<Batch<Raw<V>>> =>
      Stream.suspend(() => {
        let position = committed(all).positions.get(topic) ?? 0
        const next = Effect.gen(function* () {
          while (log(topic.name).length === position) yield* Deferred.await(fed)
          const end = dice === undefined ? log(topic.name).length : dice.int(position + 1, log(topic.name).length)
          const [source] = sources(topic, log(topic.name).slice(0, end), [], { position })
          position = end
          return fromSource(source!, source!.bytes as ReadonlyArray<unknown> as ReadonlyArray<Raw<V>>)
        })
        return Stream.rechunk(Stream.fromEffectRepeat(next), 1)
      })

    for (;;) {
      const start = committed(all)
      const task = Task.of({
        partition: 0,
        read,
        clock: (topic) => start.clocks.get(topic) ?? unheard,
        isDry: () => false,
      })
      const logged = Logged.of({
        store: (spec) =>
          Effect.sync(() => {
            const store = new JournaledStore(spec)
            const { streamTime, entries } = start.stores.get(spec.name) ?? { streamTime: -Infinity, entries: [] }
            for (const [key, bytes] of entries) store.restore(key, bytes)
            store.restoreStreamTime(streamTime)
            return store
          }),
      })
      const running = Topology.running(flow).pipe(
        Stream.provideService(Task, task),
        Stream.provideService(Logged, logged),
        Stream.runForEach(commit),
      )
      const fiber = yield* Effect.forkChild(running)
      for (let i = 0; fiber.pollUnsafe() === undefined && !stands(); i++) {
        if (i > 20_000) return yield* Effect.die(new Error("it does not end"))
        if (i % 50 === 49) feed(1)
        yield* TestClock.adjust(i % 10 === 0 ? 30_000 : 50)
      }
      const exit = fiber.pollUnsafe()
      if (exit !== undefined && Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
        return yield* Effect.failCause(exit.cause)
      }
      yield* Fiber.interrupt(fiber)
      if (stands()) break
    }
    const { stores } = committed(all)
    return {
      batches: all,
      stores: new Map(Array.from(stores, ([name, { entries }]) => [name, entries])),
      log,
    }
  })
