import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Effect, Fiber, Latch, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Admin, Deliver, Failures, Flow, Guarantee, Pipeline, Task, Throttle, Topic } from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { type Given, Numbers, numbers, running } from "../support/Numbers.ts"
import * as Simulation from "../support/Simulation.ts"

type NumbersFlow<F> = Flow.Flow<number, F, Task.PipelineError, Task.Task>

/** When batches come through, by the test clock, which runs for a minute. */
const times = <F>(flow: NumbersFlow<F>, given: ReadonlyArray<Given>, cuts: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const passed: Array<readonly [at: number, values: ReadonlyArray<number>]> = []
    const seen = Flow.fromStream(
      Stream.tap(flow, ({ values }) => Effect.map(Clock.currentTimeMillis, (at) => passed.push([at, values]))),
      flow.node,
    )
    const fiber = yield* Effect.forkChild(running(seen, given, cuts))
    yield* TestClock.adjust("1 minute")
    yield* Fiber.join(fiber)
    return passed
  })

const keyed = { key: (_: number, { key }: { readonly key: string | null }) => key! }

describe("Throttle.by", () => {
  it.effect("holds a batch back until the last of its values may go", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Throttle.by({ perSecond: 2, burst: 3 }))
      assert.deepStrictEqual(yield* times(flow, [1, 2, 3, 4, 5, 6, 7, 8], [2, 4, 5]), [
        [0, [1, 2]],
        [500, [3, 4]],
        [1_000, [5]],
        [2_500, [6, 7, 8]],
      ])
    }))

  it.effect("counts values, not records: what was dropped before costs nothing", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Flow.filter((n) => n > 4), Throttle.by({ perSecond: 1 }))
      assert.deepStrictEqual(yield* times(flow, [1, 2, 3, 4, 5, 6], [2, 5]), [[0, []], [0, [5]], [1_000, [6]]])
    }))

  it.effect("gives back what a rest was long enough for, and no more than a burst", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        Throttle.by({ perSecond: 1, burst: 2 }),
        Flow.effect((n) => n === 2 ? Effect.delay(Effect.succeed(n), "30 seconds") : Effect.succeed(n)),
      )
      assert.deepStrictEqual(yield* times(flow, [1, 2, 3, 4, 5], [2, 4]), [
        [30_000, [1, 2]],
        [30_000, [3, 4]],
        [31_000, [5]],
      ])
    }))

  it.effect("has a rate for each key, and delays all that stand in a batch with one that is beyond its own", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Throttle.by({ perSecond: 1, burst: 1, ...keyed }))
      const given: ReadonlyArray<Given> = [[1, "a"], [2, "b"], [3, "a"], [4, "c"], [5, "d"]]
      assert.deepStrictEqual(yield* times(flow, given, [2, 4]), [[0, [1, 2]], [1_000, [3, 4]], [1_000, [5]]])
    }))

  it.effect("drops and counts what is beyond the rate of its key, which takes nothing from others", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Throttle.by({ perSecond: 1, burst: 2, excess: "drop", ...keyed }))
      const { values, dropped } = yield* running(flow, [[1, "a"], [2, "a"], [3, "a"], [4, "b"], [5, "a"], [6, "b"]], [
        3,
      ])
      assert.deepStrictEqual(values, [1, 2, 4, 6])
      assert.deepStrictEqual(dropped, ["2 throttled", "4 throttled"])
    }))

  it.effect("does not let what it dropped count against its key", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        Throttle.by({ perSecond: 1, burst: 1, excess: "drop" }),
        Flow.effect((n) => Effect.delay(Effect.succeed(n), "1 second")),
      )
      assert.deepStrictEqual(yield* times(flow, [1, 2, 3, 4], [3]), [[1_000, [1]], [2_000, [4]]])
    }))

  it.effect("fails what is beyond the rate, without a word of whose it is", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Deliver.to(Numbers), Throttle.by({ perSecond: 1, excess: "fail", ...keyed }))
      const { values, failed, batches, outgoing } = yield* running(flow, [[1, "ann"], [2, "ann"], [3, "ben"]])
      assert.deepStrictEqual(values, [1, 3])
      assert.deepStrictEqual(failed, ["1 Throttled"])
      assert.deepStrictEqual(outgoing, ["numbers ann=1", "numbers ben=3"])
      const { message } = batches[0]!.failed[0]!.reason as { readonly message: string }
      assert.strictEqual(message, "faster than 1 a second for its key")
    }))

  it.effect("forgets the keys that came least recently beyond so many", () =>
    Effect.gen(function* () {
      const kept = (atMostKeys: number) =>
        Effect.map(
          running(
            numbers.pipe(Throttle.by({ perSecond: 1, excess: "drop", atMostKeys, ...keyed })),
            [[1, "a"], [2, "b"], [3, "a"], [4, "c"], [5, "b"], [6, "a"]],
          ),
          ({ values }) => values,
        )
      assert.deepStrictEqual(yield* kept(3), [1, 2, 4])
      // c drives out b, which came before a's second; b drives out a.
      assert.deepStrictEqual(yield* kept(2), [1, 2, 4, 5, 6])
    }))

  it.effect("names the record at which the key's function throws", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Throttle.by({
        perSecond: 1,
        key: () => {
          throw new Error("keyless")
        },
      }))
      const exit = yield* Effect.exit(running(flow, [1]))
      assert(exit._tag === "Failure")
      assert.include(String(Cause.squash(exit.cause)), "offset 0: Error: keyless")
    }))

  it("refuses options that make no sense", () => {
    assert.throws(() => Throttle.by({ perSecond: -1 }), RangeError, "Throttle.by: perSecond")
    assert.throws(() => Throttle.by({ perSecond: Infinity }), RangeError, "perSecond")
    assert.throws(() => Throttle.by({ perSecond: NaN }), RangeError, "perSecond")
    assert.throws(() => Throttle.by({ perSecond: 1, burst: 0 }), RangeError, "burst")
    assert.throws(() => Throttle.by({ perSecond: 1, atMostKeys: 0 }), RangeError, "atMostKeys")
  })

  it.effect("begins nothing that it has held back while the task is to let go", () =>
    Effect.gen(function* () {
      const gate = yield* Latch.make(true)
      const log: Array<string> = []
      const flow = numbers.pipe(Throttle.by({ perSecond: 1, burst: 1 }), Flow.tap((n) => void log.push(String(n))))
      const watched = Flow.fromStream(
        Stream.provideService(flow, Task.HoldingBack, {
          hold: () => void log.push("hold"),
          release: () => void log.push("release"),
          gate: Effect.asVoid(gate.await),
        }),
        flow.node,
      )
      const fiber = yield* Effect.forkChild(running(watched, [1, 2], [1]))
      yield* TestClock.adjust("500 millis")
      yield* gate.close
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(log, ["1", "hold"])
      yield* gate.open
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(log, ["1", "hold", "release", "2"])
    }))

  it.effect("lets a task go that waits, and the next one does its work once", () =>
    Effect.gen(function* () {
      const Out = Topic.make({
        name: "out",
        description: "Test",
        owner: "tests",
        schema: Numbers.schema as typeof Numbers.schema,
        partitions: 1,
      })
      const pipeline = (perSecond: number) =>
        Pipeline.make(
          "throttled",
          numbers.pipe(Throttle.by({ perSecond, burst: 1 }), Deliver.to(Out), Failures.routeAll(Failures.stop)),
          Guarantee.exactlyOnce(),
        )
      yield* Admin.createTopics([Numbers, Out])
      const { records } = yield* ClusterMemory.Control
      const feed = (from: number, to: number) =>
        Simulation.feed(
          Array.from({ length: to - from }, (_, i) => ({
            topic: "numbers",
            partition: 0,
            key: "k",
            value: String(from + i),
          })),
        )
      yield* feed(0, 1)
      const first = yield* Simulation.start(pipeline(1 / 600), Faults.none)
      yield* Simulation.pass(3_000)
      assert.strictEqual((yield* records("out")).length, 1)
      // Ten minutes for each of these.
      yield* feed(1, 7)
      yield* Simulation.pass(3_000)
      const from = yield* Clock.currentTimeMillis
      yield* Simulation.stop(first.fiber)
      assert.isBelow((yield* Clock.currentTimeMillis) - from, 1_000)
      assert.strictEqual((yield* records("out")).length, 1)
      yield* Simulation.start(pipeline(1_000), Faults.none)
      yield* Simulation.pass(10_000)
      const written = (yield* records("out")).map(({ value }) => String(value && Buffer.from(value)))
      assert.deepStrictEqual(written, ["0", "1", "2", "3", "4", "5", "6"])
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer({}))))
})
