/** Rebalances, lost sessions and refused commits: what a program finishes, gives up, keeps and takes up again. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Admin, Guarantee, type Pipeline } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { forKey } from "../../src/kafka/Partitioner.ts"
import {
  append,
  away,
  copied,
  Copies,
  copies,
  copying,
  Dlt,
  type Reading,
  readings,
  running,
} from "../support/Readings.ts"
import { start, stop, until } from "../support/Simulation.ts"

const In = readings("in", 2)
const topics = [In, Copies, Dlt]
const group = "copying"

const test = <E>(name: string, body: Effect.Effect<void, E, Cluster | ClusterMemory.Control | Scope.Scope>) =>
  it.effect(name, () => Effect.provide(Effect.scoped(body), ClusterMemory.layer()))

/** Ends the session of the group's only member. */
const kick = Effect.gen(function* () {
  const cluster = yield* Cluster
  const control = yield* ClusterMemory.Control
  const [described] = yield* cluster.describeGroups([group])
  yield* control.kick(group, described!.members[0]!.memberId)
})

/** Exactly once, where every assignment after the first one is told something else. */
const claiming = (change: (claim: Pipeline.Claim) => Pipeline.Claim): Pipeline.Guarantee<unknown, Cluster> => {
  const guarantee = Guarantee.exactlyOnce()
  return {
    ...guarantee,
    open: (plan) =>
      Effect.map(guarantee.open(plan), (committer) => {
        let claims = 0
        return {
          ...committer,
          claim: (tasks, member) => {
            const isFirst = claims++ === 0
            return Effect.map(
              committer.claim(tasks, member),
              (claims) => isFirst ? claims : claims.map(change),
            )
          },
        }
      }),
  }
}

/** A program whose session ends once, after it has copied a record of each task: what it has read, and started. */
const throughLostSession = (guarantee: Pipeline.Guarantee<unknown, Cluster>) =>
  Effect.gen(function* () {
    yield* Admin.createTopics(topics)
    const read: Array<number> = []
    let started = 0
    const look = (rows: ReadonlyArray<Reading>) => Effect.sync(() => void read.push(...rows.map(({ id }) => id)))
    yield* running(copying(In, look, { guarantee, opened: Effect.sync(() => void started++) }))
    for (const id of [0, 1]) yield* append("in", id, [{ id, at: 1 }])
    yield* copied(0, 1)
    yield* TestClock.adjust("300 millis")
    yield* kick
    yield* TestClock.adjust("3 seconds")
    for (const id of [2, 3]) yield* append("in", id % 2, [{ id, at: 1 }])
    yield* copied(2, 3)
    return { read: read.toSorted((a, b) => a - b), started }
  })

describe("A program that is to let go", () => {
  test(
    "finishes the batch at hand and commits it, without waiting for its interval",
    Effect.gen(function* () {
      yield* Admin.createTopics(topics)
      const begun = yield* Deferred.make<void>()
      const slowly = (rows: ReadonlyArray<Reading>) =>
        rows.some(({ id }) => id === 1)
          ? Effect.andThen(Deferred.succeed(begun, undefined), Effect.sleep("2 seconds"))
          : Effect.void
      const fiber = yield* running(copying(In, slowly), { commitInterval: "1 hour" })
      yield* append("in", 0, [{ id: 0, at: 1 }])
      yield* append("in", 1, [{ id: 1, at: 1 }])
      yield* until("work", Deferred.isDone(begun))
      assert.deepStrictEqual(yield* copies, [])
      yield* stop(fiber)
      assert.deepStrictEqual((yield* copies).toSorted((a, b) => a - b), [0, 1])
    }),
  )

  test(
    "does the same in a rebalance, before others may have its tasks, and keeps those that it is given again",
    Effect.gen(function* () {
      yield* Admin.createTopics(topics)
      const seen: Array<number> = []
      const begun = yield* Deferred.make<void>()
      const slowly = (rows: ReadonlyArray<Reading>) =>
        Effect.gen(function* () {
          seen.push(...rows.map(({ id }) => id))
          if (rows.length === 0) return
          yield* Deferred.succeed(begun, undefined)
          yield* Effect.sleep("2 seconds")
        })
      yield* running(copying(In, slowly), { commitInterval: "1 hour" })
      for (const id of [0, 1]) yield* append("in", id, [{ id, at: 1 }])
      yield* until("work", Deferred.isDone(begun))
      yield* running(copying(In, slowly), { commitInterval: "1 hour" })
      yield* copied(0, 1)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(seen.toSorted((a, b) => a - b), [0, 1])
    }),
  )
})

describe("A program whose session has ended", () => {
  test(
    "keeps its tasks where nobody else had them",
    Effect.gen(function* () {
      const { read, started } = yield* throughLostSession(Guarantee.exactlyOnce())
      assert.deepStrictEqual(read, [0, 1, 2, 3])
      assert.strictEqual(started, 2)
    }),
  )

  test(
    "starts them again where another commit was the last one",
    Effect.gen(function* () {
      const { read, started } = yield* throughLostSession(claiming((claim) => ({ ...claim, commit: "another's" })))
      assert.deepStrictEqual(read, [0, 1, 2, 3])
      assert.strictEqual(started, 4)
    }),
  )

  test(
    "starts them again where they stand somewhere else",
    Effect.gen(function* () {
      const back = (claim: Pipeline.Claim) => ({
        ...claim,
        positions: new Map(Array.from(claim.positions, ([topic]) => [topic, 0])),
      })
      const { read } = yield* throughLostSession(claiming(back))
      assert.deepStrictEqual(read, [0, 0, 1, 1, 2, 3])
    }),
  )

  test(
    "starts them again where they had stopped",
    Effect.gen(function* () {
      yield* Admin.createTopics(topics)
      let tries = 0
      const refusing = (rows: ReadonlyArray<Reading>) =>
        rows.some(({ id }) => id === 0) && tries++ === 0 ? Effect.die(new TypeError("not this one")) : Effect.void
      yield* running(copying(In, refusing))
      for (const id of [0, 1]) yield* append("in", id, [{ id, at: 1 }])
      yield* copied(1)
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* copies, [1])
      yield* kick
      yield* copied(0)
    }),
  )

  test(
    "neither works nor commits until it is in the group again",
    Effect.gen(function* () {
      yield* Admin.createTopics(topics)
      const read: Array<number> = []
      const look = (rows: ReadonlyArray<Reading>) => Effect.sync(() => void read.push(...rows.map(({ id }) => id)))
      const program = yield* start(copying(In, look), Faults.none)
      yield* append("in", 0, [{ id: 0, at: 1 }])
      yield* copied(0)
      yield* program.use(Faults.every(({ operation }) => operation === "JoinGroup", Faults.refuse("NOT_COORDINATOR")))
      yield* kick
      yield* TestClock.adjust("2 seconds")
      yield* append("in", 0, [{ id: 1, at: 1 }])
      yield* append("in", 1, [{ id: 2, at: 1 }])
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(read, [0])
      yield* program.use(Faults.none)
      yield* copied(1, 2)
      assert.deepStrictEqual((yield* copies).toSorted((a, b) => a - b), [0, 1, 2])
    }),
  )

  test(
    "and that does not know it yet, is told by a commit, and commits nothing more as who it was",
    Effect.gen(function* () {
      yield* Admin.createTopics(topics)
      const program = yield* start(copying(In), Faults.none, { heartbeatInterval: "5 seconds" })
      yield* append("in", 0, [{ id: 0, at: 1 }])
      yield* copied(0)
      yield* TestClock.adjust("5 seconds")
      yield* program.use(Faults.none)
      yield* kick
      yield* append("in", 0, [{ id: 1, at: 1 }])
      for (let i = 0; i < 40; i++) yield* TestClock.adjust("100 millis")
      const commits = (yield* program.calls).filter(({ operation }) => operation === "TxnOffsetCommit")
      assert.strictEqual(commits.length, 1)
      yield* copied(1)
      assert.deepStrictEqual(yield* copies, [0, 1])
    }),
  )
})

describe("A program with a task whose records are refused", () => {
  test(
    "commits what the others have done, and goes on with them",
    Effect.gen(function* () {
      const Wide = { ...Copies, partitions: 2 }
      yield* Admin.createTopics([In, Wide, Dlt])
      const keys = ["a", "b", "c", "d", "e", "f"]
      const keyOf = (partition: number) => keys.find((key) => forKey(Buffer.from(key), 2) === partition)!
      // Long enough for one commit to hold the work of both.
      const program = yield* start(copying(In), Faults.none, { commitInterval: "1 second" })
      yield* program.use(Faults.every(
        ({ operation }) => operation === "Produce",
        Faults.refusePartitions(
          "TOPIC_AUTHORIZATION_FAILED",
          ({ topic, partition }) => topic === "copies" && partition === 1,
        ),
      ))
      yield* append("in", 0, [{ id: 0, at: 1 }], keyOf(0))
      yield* append("in", 1, [{ id: 1, at: 1 }], keyOf(1))
      yield* copied(0)
      yield* TestClock.adjust("3 seconds")
      yield* append("in", 0, [{ id: 2, at: 1 }], keyOf(0))
      yield* copied(2)
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* copies, [0, 2])
      assert.isUndefined(program.fiber.pollUnsafe())
      yield* stop(program.fiber)
      const exit = yield* Fiber.await(program.fiber)
      assert.match(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", /copying task 0-1 stopped: Produce/)
    }),
  )
})

describe("A program", () => {
  test(
    "reads a long input with few bytes in flight",
    Effect.gen(function* () {
      const pad = "x".repeat(2_000)
      yield* Admin.createTopics(topics)
      for (let i = 0; i < 30; i++) {
        yield* append("in", i % 2, Array.from({ length: 10 }, (_, n) => ({ id: i * 10 + n, at: 1, pad })))
      }
      yield* running(copying(In), { maxBytesPerTask: 50_000, maxBytes: 50_000 })
      yield* until("all", Effect.map(copies, (copies) => copies.length === 300))
    }),
  )

  test(
    "repeats nothing when it tries again while finished work waits for its commit",
    Effect.gen(function* () {
      yield* Admin.createTopics(topics)
      const read = yield* Deferred.make<void>()
      let fails = 1
      const flaky = (rows: ReadonlyArray<Reading>) =>
        rows.some(({ id }) => id === 1) && fails-- > 0 ? away : Deferred.succeed(read, undefined)
      yield* running(copying(In, flaky), { commitInterval: "5 seconds" })
      yield* append("in", 0, [{ id: 0, at: 1 }])
      yield* until("the first", Deferred.isDone(read))
      yield* append("in", 0, [{ id: 1, at: 1 }])
      yield* copied(0, 1)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* copies, [0, 1])
    }),
  )
})
