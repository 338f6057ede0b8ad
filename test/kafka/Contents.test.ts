import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schema, Stream } from "effect"
import { Admin, Contents, Topic } from "../../src/index.ts"
import type { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { feed, pass, until } from "../support/Simulation.ts"

const Numbers = Topic.make({
  name: "numbers",
  description: "Test",
  owner: "tests",
  schema: Schema.Int,
  partitions: 3,
})

const record = (partition: number, key: string | null, value: string | null) => (
  { topic: Numbers.name, partition, key, value }
)

/** Lets the clock run until an effect has ended. */
const finished = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkChild(effect)
  yield* until("an end", Effect.sync(() => fiber.pollUnsafe() !== undefined))
  return yield* Fiber.join(fiber)
})

const withTopic = <A, E>(body: Effect.Effect<A, E, ClusterMemory.Control | Cluster>) =>
  Effect.andThen(Admin.createTopics([Numbers]), body).pipe(Effect.provide(ClusterMemory.layer()))

describe("Contents", () => {
  it.effect("reads all partitions to the end, each in order", () =>
    withTopic(Effect.gen(function* () {
      assert.deepStrictEqual(yield* finished(Stream.runCollect(Contents.read(Numbers))), [])
      yield* feed(Array.from({ length: 300 }, (_, i) => record(i % 3, `k${i % 5}`, String(i))))
      const read = yield* finished(Stream.runCollect(Contents.read(Numbers)))
      assert.strictEqual(read.length, 300)
      for (const partition of [0, 1, 2]) {
        const own = read.filter((one) => one.partition === partition)
        assert.deepStrictEqual(own.map(({ value }) => value), Array.from({ length: 100 }, (_, i) => i * 3 + partition))
        assert.deepStrictEqual(own.map(({ offset }) => offset), Array.from({ length: 100 }, (_, i) => i))
      }
      assert.deepInclude(read.find(({ value }) => value === 7), { key: "k2", partition: 1, timestamp: 0 })
    })))

  it.effect("ends where the topic ended when reading began", () =>
    withTopic(Effect.gen(function* () {
      yield* feed([1, 2, 3, 4].map((n) => record(0, "k", String(n))))
      let appended = false
      const values = yield* finished(Stream.runCollect(
        Contents.read(Numbers).pipe(
          Stream.mapEffect(({ value }) => {
            if (appended) return Effect.succeed(value)
            appended = true
            return Effect.as(feed([record(0, "k", "5"), record(1, "k", "6")]), value)
          }),
        ),
      ))
      assert.deepStrictEqual(values, [1, 2, 3, 4])
    })))

  it.effect("follows what comes", () =>
    withTopic(Effect.gen(function* () {
      yield* feed([record(0, "a", "1"), record(2, null, "2")])
      const seen: Array<number | null> = []
      const fiber = yield* Effect.forkChild(
        Stream.runForEach(Contents.follow(Numbers), ({ value }) => Effect.sync(() => seen.push(value))),
      )
      yield* pass(1_000)
      yield* feed([record(1, "b", "3"), record(0, "a", null)])
      yield* pass(1_000)
      assert.sameMembers(seen, [1, 2, 3, null])
      yield* Fiber.interrupt(fiber)
    })))

  it.effect("knows the last value of each key, without what was deleted", () =>
    withTopic(Effect.gen(function* () {
      yield* feed([
        record(0, "a", "1"),
        record(0, "b", "2"),
        record(0, "a", "3"),
        record(0, "b", null),
        record(1, "c", "4"),
        record(1, null, "5"),
      ])
      const latest = yield* finished(Contents.latest(Numbers))
      assert.deepStrictEqual(latest, new Map([["a", 3], ["c", 4]]))
    })))

  it.effect("says which record the contract does not describe, and which topic is not there", () =>
    withTopic(Effect.gen(function* () {
      yield* feed([record(1, "a", "1"), record(1, "a", "one")])
      const exit = yield* finished(Effect.exit(Contents.latest(Numbers)))
      assert.include(String(exit), "topic numbers partition 1 offset 1: the value is not JSON")
      const missing = yield* finished(Effect.exit(Contents.latest({ ...Numbers, name: "nowhere" })))
      assert.isTrue(Exit.isFailure(missing))
      assert.include(String(missing), "topic nowhere does not exist")
    })))
})
