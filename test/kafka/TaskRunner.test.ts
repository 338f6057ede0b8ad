/** Tasks of one pipeline: what keeps them apart, and what they do when one of them cannot go on. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Effect, Exit, Fiber, Metric, type Scope } from "effect"
import { TestClock } from "effect/testing"
import {
  Admin,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Guarantee,
  Ingest,
  merge,
  Pipeline,
  Runner,
} from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import {
  aborted,
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
import { stop, until } from "../support/Simulation.ts"

const [Left, Right] = [readings("left", 2), readings("right", 2)]

/** Waits for either topic when it has records of the other. */
const merging = Pipeline.make(
  "merging",
  Ingest.topic(Left).pipe(
    Decode.schema,
    merge(Ingest.topic(Right).pipe(Decode.schema), { idle: "1 hour" }),
    Deliver.to(Copies),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Guarantee.exactlyOnce(),
)

const test = <E>(name: string, body: Effect.Effect<void, E, Cluster | ClusterMemory.Control | Scope.Scope>) =>
  it.effect(name, () => Effect.provide(Effect.scoped(body), ClusterMemory.layer()))

describe("Tasks", () => {
  test(
    "read on while others wait with all the bytes that there may be",
    Effect.gen(function* () {
      const In = readings("in", 10)
      yield* Admin.createTopics([In, Copies, Dlt])
      const pad = "x".repeat(2_000)
      for (let partition = 0; partition < 9; partition++) {
        for (let i = 0; i < 5; i++) {
          yield* append("in", partition, Array.from({ length: 40 }, () => ({ id: 0, at: 1, pad })))
        }
      }
      yield* running(
        copying(In, (rows) => rows.some(({ id }) => id === 0) ? Effect.never : Effect.void),
        { maxBytes: 1_000_000 },
      )
      yield* TestClock.adjust("3 seconds")
      for (let id = 1; id < 5; id++) {
        yield* append("in", 9, [{ id, at: 1 }])
        yield* copied(id)
      }
    }),
  )

  test(
    "are tried again also when all that they have finished are gaps",
    Effect.gen(function* () {
      const In = readings("in", 1)
      yield* Admin.createTopics([In, Copies, Dlt])
      let fails = 0
      yield* running(copying(In, (rows) => rows.length > 0 && fails-- > 0 ? away : Effect.void))
      yield* append("in", 0, [{ id: 0, at: 1 }])
      yield* copied(0)
      yield* aborted("in")
      yield* TestClock.adjust("500 millis")
      fails = 1
      yield* append("in", 0, [{ id: 1, at: 2 }])
      yield* copied(1)
      assert.deepStrictEqual(yield* copies, [0, 1])
    }),
  )

  test(
    "commit where they stand within seconds also when nothing but gaps has come",
    Effect.gen(function* () {
      const In = readings("in", 1)
      yield* Admin.createTopics([In, Copies, Dlt])
      yield* running(copying(In))
      yield* append("in", 0, [{ id: 0, at: 1 }])
      yield* copied(0)
      yield* aborted("in")
      yield* TestClock.adjust("1 second")
      const lag = Effect.map(Admin.lag(["copying"]), ([lag]) => lag!.records)
      assert.isAbove(yield* lag, 0)
      yield* until("no lag", Effect.map(lag, (lag) => lag === 0), 8_000)
    }),
  )

  test(
    "let go at once of what a merge holds back until its other input has more, and lose nothing of it",
    Effect.gen(function* () {
      yield* Admin.createTopics([Left, Right, Copies, Dlt])
      const first = yield* running(merging)
      for (const partition of [0, 1]) {
        yield* append("left", partition, [{ id: partition, at: 1_000 }])
        yield* append("right", partition, [{ id: 10 + partition, at: 500 }])
      }
      yield* copied(10, 11)
      const second = yield* running(merging)
      const members = Effect.flatMap(
        Cluster,
        (cluster) =>
          Effect.map(
            cluster.describeGroups(["merging"]),
            ([group]) => group!.state === "Stable" ? group!.members.length : 0,
          ),
      )
      const from = yield* Clock.currentTimeMillis
      yield* until("both in the group", Effect.map(members, (members) => members === 2))
      yield* stop(first)
      assert.isBelow((yield* Clock.currentTimeMillis) - from, 4_000)
      for (const partition of [0, 1]) yield* append("right", partition, [{ id: 20 + partition, at: 2_000 }])
      yield* copied(0, 1)
      yield* stop(second)
      const ids = yield* copies
      assert.strictEqual(new Set(ids).size, ids.length)
    }),
  )

  test(
    "that have stopped for good are counted, and a pipeline without any other fails",
    Effect.gen(function* () {
      const In = readings("in", 2)
      yield* Admin.createTopics([In, Copies, Dlt])
      const stopping = (rows: ReadonlyArray<Reading>) =>
        rows.some(({ id }) => id < 0) ? Effect.die(new TypeError("not this one")) : Effect.void
      const fiber = yield* running(copying(In, stopping))
      const gauge = (of: typeof Runner.stoppedTasks) =>
        Effect.map(Metric.value(Metric.withAttributes(of, { pipeline: "copying" })), ({ value }) => value)
      yield* append("in", 1, [{ id: 0, at: 1 }])
      yield* copied(0)
      assert.strictEqual(yield* gauge(Runner.assignedTasks), 2)
      assert.strictEqual(yield* gauge(Runner.stoppedTasks), 0)
      yield* append("in", 0, [{ id: -1, at: 1 }])
      yield* until("one has stopped", Effect.map(gauge(Runner.stoppedTasks), (stopped) => stopped === 1))
      yield* append("in", 1, [{ id: 1, at: 1 }])
      yield* copied(1)
      assert.isUndefined(fiber.pollUnsafe())
      yield* append("in", 1, [{ id: -2, at: 1 }])
      yield* until("the end", Effect.sync(() => fiber.pollUnsafe() !== undefined))
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.strictEqual(error.reason, "Stopped")
      assert.strictEqual(error.message, "copying task 0-0 stopped: not this one")
      assert.strictEqual(yield* gauge(Runner.stoppedTasks), 0)
    }),
  )

  test(
    "read all that their topics hold before they stop, where they are told to, or say that they did not",
    Effect.gen(function* () {
      const In = readings("in", 2)
      yield* Admin.createTopics([In, Copies, Dlt])
      const slow = (rows: ReadonlyArray<Reading>) => rows.length === 0 ? Effect.void : Effect.sleep("100 millis")
      const bounds = { maxBytesPerTask: 1, maxBytes: 1, drain: true }
      const lags = Effect.map(Admin.lag(["copying"]), (lags) => lags.map(({ records }) => records))
      const first = yield* running(copying(In, slow), bounds)
      for (const id of [0, 1]) yield* append("in", id, [{ id, at: 1 }])
      yield* copied(0, 1)
      yield* aborted("in")
      yield* TestClock.adjust("500 millis")
      const from = yield* Clock.currentTimeMillis
      yield* stop(first)
      assert.isBelow((yield* Clock.currentTimeMillis) - from, 2_000)
      assert.deepStrictEqual(yield* lags, [0, 0])
      const second = yield* running(copying(In, slow), bounds)
      yield* TestClock.adjust("1 second")
      for (let id = 2; id < 40; id++) yield* append("in", id % 2, [{ id, at: 1 }])
      yield* stop(second)
      assert.deepStrictEqual(
        (yield* copies).toSorted((a, b) => a - b),
        Array.from({ length: 40 }, (_, id) => id),
      )
      assert.deepStrictEqual(yield* lags, [0, 0])
      yield* Admin.createTopics([Left, Right])
      const third = yield* running(merging, { drain: true })
      yield* append("left", 0, [{ id: 40, at: 1 }])
      yield* TestClock.adjust("1 second")
      yield* stop(third)
      const exit = yield* Fiber.await(third)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasFails(exit.cause))
    }),
  )
})
