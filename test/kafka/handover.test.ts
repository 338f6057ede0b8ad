/** Rebalances, lost sessions and refused commits: what a program finishes, gives up, keeps and takes up again. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Admin, Guarantee, Pipeline, Task } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { append, away, copied, Copies, copies, copying, Dlt, type Reading, readings, running } from "../support/Readings.ts"
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
  const [{ members }] = (yield* cluster.describeGroups([group])) as [{ members: ReadonlyArray<{ memberId: string }> }]
  yield* control.kick(group, members[0]!.memberId)
})

/** Whether there is one member, in at least this generation, that has its tasks. */
const isIn = (generation: number) =>
  Effect.gen(function* () {
    const cluster = yield* Cluster
    const [described] = yield* cluster.describeGroups([group])
    return described!.state === "Stable" && described!.members.length === 1 && generation > 0
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

/** A program whose session ends once, after it has copied a record of each task; answers which rows it has seen. */
const throughLostSession = (guarantee: Pipeline.Guarantee<unknown, Cluster>) =>
  Effect.gen(function* () {
    yield* Admin.createTopics(topics)
    const seen: Array<number> = []
    const look = (rows: ReadonlyArray<Reading>) => Effect.sync(() => void seen.push(...rows.map(({ id }) => id)))
    yield* running(copying(In, look, guarantee))
    for (const id of [0, 1]) yield* append("in", id, [{ id, at: 1 }])
    yield* copied(0, 1)
    yield* TestClock.adjust("300 millis")
    yield* kick
    yield* TestClock.adjust("3 seconds")
    for (const id of [2, 3]) yield* append("in", id % 2, [{ id, at: 1 }])
    yield* copied(2, 3)
    return seen.toSorted((a, b) => a - b)
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
      assert.deepStrictEqual(yield* throughLostSession(Guarantee.exactlyOnce()), [0, 1, 2, 3])
      assert.deepStrictEqual((yield* copies).toSorted((a, b) => a - b), [0, 1, 2, 3])
    }),
  )
})
