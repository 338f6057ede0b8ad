import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Metric, Random, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Aggregate, CircuitBreaker, Flow, Task, Window } from "../../src/index.ts"
import { withLot } from "../support/Lots.ts"
import { type Given, numbers, running } from "../support/Numbers.ts"

class Down extends Schema.TaggedError<Down>()("Down", { message: Schema.String }) {}
class Refused extends Schema.TaggedError<Refused>()("Refused", { message: Schema.String }) {}

const policy = { name: "prices", failures: 3, within: "10 seconds", wait: "5 seconds" } as const

/** Something that is called: it is away from one time to another, refuses multiples of ten, and takes a second to answer. */
const dependency = (away: readonly [from: number, to: number], takes = 1_000) => {
  const calls: Array<readonly [at: number, n: number]> = []
  const call = (n: number): Effect.Effect<string, Down | Refused> =>
    Effect.gen(function* () {
      const at = yield* Clock.currentTimeMillis
      calls.push([at, n])
      yield* Effect.sleep(takes)
      if (at >= away[0] && at < away[1]) return yield* new Down({ message: "down" })
      if (n % 10 === 0) return yield* new Refused({ message: "refused" })
      return `answer ${n}`
    })
  return { calls, call }
}

const upTo = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, i) => i + 1)

/** What a flow makes of numbers while the test clock runs. No circuit stays open longer than it must. */
const passing = <A, F>(
  flow: Flow.Flow<A, F, Task.PipelineError, Task.Task | Task.Logged>,
  given: ReadonlyArray<Given>,
  cuts: ReadonlyArray<number> = [],
) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(running(flow, given, cuts))
    yield* TestClock.adjust("10 minutes")
    return yield* Fiber.join(fiber)
  }).pipe(withLot(0))

describe("CircuitBreaker.effect", () => {
  it.effect("calls nothing while its circuit is open, and fails what comes meanwhile", () =>
    Effect.gen(function* () {
      const { call, calls } = dependency([2_000, 7_500])
      const flow = numbers.pipe(
        CircuitBreaker.effect(call, { ...policy, whileOpen: "fail" }),
        // Time passes for those that fail at once.
        Flow.map((answer) => answer),
      )
      const slowly = Flow.fromStream(
        Stream.mapEffect(flow, (batch) => Effect.delay(Effect.succeed(batch), "1 second")),
        flow.node,
      )
      const { values, failed, batches } = yield* passing(slowly, upTo(12), upTo(11))
      // A record a batch, and each takes two seconds, or one where it is not called. Open from 7 s to 12 s.
      assert.deepStrictEqual(calls, [
        [0, 1],
        [2_000, 2],
        [4_000, 3],
        [6_000, 4],
        [12_000, 9],
        [14_000, 10],
        [16_000, 11],
        [18_000, 12],
      ])
      const open = ["4 CircuitOpen", "5 CircuitOpen", "6 CircuitOpen", "7 CircuitOpen"]
      assert.deepStrictEqual(failed, ["1 Down", "2 Down", "3 Down", ...open, "9 Refused"])
      assert.deepStrictEqual(values, ["answer 1", "answer 9", "answer 11", "answer 12"])
      assert.deepInclude(batches[4]!.failed[0]!.reason, {
        circuit: "prices",
        message: "circuit prices is open: what is behind it does not answer",
      })
    }))

  it.effect("puts another value in the place of what comes while it is open", () =>
    Effect.gen(function* () {
      const { call, calls } = dependency([0, Infinity])
      const flow = numbers.pipe(
        CircuitBreaker.effect(call, { ...policy, whileOpen: { fallback: (n, { offset }) => `${n} of ${offset}` } }),
      )
      const { values, failed } = yield* passing(flow, upTo(5))
      assert.deepStrictEqual(calls.map(([, n]) => n), [1, 2, 3])
      assert.deepStrictEqual(failed, ["0 Down", "1 Down", "2 Down"])
      assert.deepStrictEqual(values, ["4 of 3", "5 of 4"])
    }))

  it.effect("with hold fails no record in an outage, calls nothing while it is open, and keeps the order", () =>
    Effect.gen(function* () {
      const { call, calls } = dependency([2_000, 20_000])
      const flow = numbers.pipe(CircuitBreaker.effect(call, { ...policy, counts: ["Down"], whileOpen: "hold" }))
      const { values, failed } = yield* passing(flow, [1, 2, 3, 10, 4], [2])
      assert.deepStrictEqual(values, ["answer 1", "answer 2", "answer 3", "answer 4"])
      assert.deepStrictEqual(failed, ["3 Refused"])
      assert.deepStrictEqual(calls, [
        [0, 1],
        [1_000, 2],
        // Three times at once, then once after every wait.
        [2_000, 3],
        [3_000, 3],
        [4_000, 3],
        [10_000, 3],
        [16_000, 3],
        [22_000, 3],
        [23_000, 10],
        [24_000, 4],
      ])
    }))

  it.effect("lets one call at a time find out whether it may close, and then all that wait", () =>
    Effect.gen(function* () {
      const { call, calls } = dependency([0, 7_000])
      const flow = numbers.pipe(
        CircuitBreaker.effect(call, { ...policy, whileOpen: "hold", concurrency: 4, order: "none", counts: ["Down"] }),
      )
      const { values } = yield* passing(flow, [1, 2, 3, 4, 5])
      assert.deepStrictEqual(values, ["answer 1", "answer 2", "answer 3", "answer 4", "answer 5"])
      const times = calls.map(([at]) => at)
      // Four, of which the first two try again before the third opens it; one at 6 s, which fails, one at 12 s, then all.
      assert.deepStrictEqual(times, [0, 0, 0, 0, 1_000, 1_000, 6_000, 12_000, 13_000, 13_000, 13_000, 13_000])
      assert.strictEqual(new Set(calls.slice(7).map(([, n]) => n)).size, 5)
    }))

  it.effect("keeps the values of a key in order over an outage", () =>
    Effect.gen(function* () {
      const { call } = dependency([1_000, 9_000])
      const ended: Array<number> = []
      const flow = numbers.pipe(
        CircuitBreaker.effect((n) => Effect.tap(call(n), () => Effect.sync(() => ended.push(n))), {
          ...policy,
          whileOpen: "hold",
          concurrency: 3,
        }),
      )
      yield* passing(flow, [[1, "a"], [2, "a"], [3, "b"], [4, "b"], [5, "a"], [6, "c"]])
      assert.deepStrictEqual(ended.filter((n) => [1, 2, 5].includes(n)), [1, 2, 5])
      assert.deepStrictEqual(ended.filter((n) => [3, 4].includes(n)), [3, 4])
    }))

  it.effect("does not count failures that are answers, nor lets them keep it open", () =>
    Effect.gen(function* () {
      const options = { ...policy, counts: ["Down"], whileOpen: "fail" } as const
      const { call, calls } = dependency([0, 0])
      const refused = yield* passing(numbers.pipe(CircuitBreaker.effect(call, options)), [10, 20, 30, 40, 50])
      assert.strictEqual(calls.length, 5)
      assert.deepStrictEqual(refused.failed.at(-1), "4 Refused")
      const { call: later, calls: made } = dependency([600_000, 603_000])
      const held = yield* passing(
        numbers.pipe(CircuitBreaker.effect(later, { ...options, whileOpen: "hold" })),
        [10, 20],
      )
      assert.deepStrictEqual(made.map(([, n]) => n), [10, 10, 10, 10, 20])
      assert.deepStrictEqual(held.failed, ["0 Refused", "1 Refused"])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("counts calls that take too long", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        CircuitBreaker.effect((n) => n < 4 ? Effect.never : Effect.succeed(n), {
          ...policy,
          timeout: "1 second",
          counts: ["TimedOut"],
          whileOpen: "fail",
        }),
      )
      const { failed } = yield* passing(flow, [1, 2, 3, 4])
      assert.deepStrictEqual(failed, ["0 TimedOut", "1 TimedOut", "2 TimedOut", "3 CircuitOpen"])
    }))

  it.effect("shows its state, and counts how often it has opened", () =>
    Effect.gen(function* () {
      const { call } = dependency([0, 9_000])
      const level = Effect.map(
        Metric.value(Metric.withAttributes(CircuitBreaker.state, { circuit: "prices", partition: "0" })),
        ({ value }) => Number(value),
      )
      const openings = Effect.map(
        Metric.value(Metric.withAttributes(CircuitBreaker.opened, { circuit: "prices" })),
        ({ count }) => Number(count),
      )
      const flow = numbers.pipe(CircuitBreaker.effect(call, { ...policy, whileOpen: "hold" }))
      const fiber = yield* Effect.forkChild(withLot(0)(running(flow, [1, 2, 3, 4, 5, 6, 7, 8])))
      const seen: Array<readonly [at: number, state: number, openings: number]> = []
      for (let at = 1_500; at < 16_000; at += 1_000) {
        yield* TestClock.setTime(at)
        const now = [at, yield* level, yield* openings] as const
        if (seen.at(-1)?.[1] !== now[1]) seen.push(now)
      }
      assert.deepStrictEqual(seen, [[1_500, 0, 0], [3_500, 1, 1], [8_500, 0.5, 1], [9_500, 1, 2], [14_500, 0.5, 2], [
        15_500,
        0,
        2,
      ]])
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(fiber)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("lets the task go while it only waits", () =>
    Effect.gen(function* () {
      const { call, calls } = dependency([0, 5_500])
      const log: Array<readonly [number, string]> = []
      const note = (what: string) => () => void log.push([calls.length, what])
      const flow = numbers.pipe(CircuitBreaker.effect(call, { ...policy, whileOpen: "hold", concurrency: 2 }))
      const watched = Flow.fromStream(
        Stream.provideService(flow, Task.HoldingBack, {
          hold: note("hold"),
          release: note("release"),
          gate: Effect.void,
        }),
        flow.node,
      )
      yield* passing(watched, [[1, "a"], [2, "b"]])
      // Both fail twice, which opens it at the third failure; then one tries, and the other waits beside it for the answer.
      assert.deepStrictEqual(log, [[4, "hold"], [4, "release"], [5, "hold"], [5, "release"]])
    }))

  it("refuses a policy that makes no sense", () => {
    assert.throws(
      () => CircuitBreaker.effect(() => Effect.void, { ...policy, failures: 0, whileOpen: "fail" }),
      RangeError,
      "CircuitBreaker.effect: failures",
    )
    assert.throws(
      () => CircuitBreaker.effect(() => Effect.void, { ...policy, concurrency: 0, whileOpen: "fail" }),
      RangeError,
      "concurrency",
    )
  })
})

describe("The circuits of many tasks", () => {
  it.effect("that opened at one moment are not tried again at one moment, and each by one call", () =>
    Effect.gen(function* () {
      const { call, calls } = dependency([0, 2_000], 0)
      const flow = numbers.pipe(CircuitBreaker.effect(call, { ...policy, concurrency: 8, whileOpen: "hold" }))
      const tasks = 50
      const fibers = yield* Effect.forEach(
        Array.from({ length: tasks }),
        () => Effect.forkChild(running(flow, upTo(8).map((n) => [n, `k${n}`] as const))),
      ).pipe(Random.withSeed("circuits"))
      yield* TestClock.adjust("4999 millis")
      const before = calls.length
      for (let at = 5_000; at < 6_100; at += 10) yield* TestClock.adjust("10 millis")
      yield* Effect.forEach(fibers, Fiber.join)
      const tried = Map.groupBy(calls.slice(before), ([at]) => Math.floor(at / 100))
      // Eight values of each task go through once one of them has been answered.
      assert.strictEqual(calls.length - before, 8 * tasks)
      assert.isAtLeast(tried.size, 9)
      for (const some of tried.values()) assert.isAtMost(some.length, 8 * tasks / 4)
    }))
})

describe("CircuitBreaker.around", () => {
  it.effect("leaves a part of the flow out while it fails", () =>
    Effect.gen(function* () {
      const { call, calls } = dependency([0, 3_500])
      const flow = numbers.pipe(
        CircuitBreaker.around((flow) => flow.pipe(Flow.map((n) => n * 10 + 1), Flow.effect(call)), {
          ...policy,
          counts: ["Down"],
          whileOpen: "fail",
        }),
      )
      const slowly = Flow.fromStream(
        Stream.mapEffect(flow, (batch) => Effect.delay(Effect.succeed(batch), "3 seconds")),
        flow.node,
      )
      const { values, failed } = yield* passing(slowly, upTo(8), [3, 4, 5, 6])
      // Three fail within one batch; then it is open for five seconds.
      assert.deepStrictEqual(failed, ["0 Down", "1 Down", "2 Down", "3 CircuitOpen"])
      assert.deepStrictEqual(calls.map(([, n]) => n), [11, 21, 31, 51, 61, 71, 81])
      assert.deepStrictEqual(values, ["answer 51", "answer 61", "answer 71", "answer 81"])
    }))

  it.effect("puts another value in the place of those that come while it is open", () =>
    Effect.gen(function* () {
      const { call } = dependency([0, Infinity])
      const flow = numbers.pipe(
        CircuitBreaker.around((flow) => flow.pipe(Flow.effect(call)), {
          ...policy,
          counts: ["Down"],
          whileOpen: { fallback: (n) => n },
        }),
      )
      const { values, failed } = yield* passing(flow, upTo(6), [2, 4])
      assert.deepStrictEqual(failed, ["0 Down", "1 Down", "2 Down", "3 Down"])
      assert.deepStrictEqual(values, [5, 6])
    }))

  it.effect("with hold holds back the batches behind those that have failed", () =>
    Effect.gen(function* () {
      const { call, calls } = dependency([0, 9_000])
      const flow = numbers.pipe(
        CircuitBreaker.around((flow) => flow.pipe(Flow.effect(call)), {
          ...policy,
          counts: ["Down"],
          whileOpen: "hold",
        }),
      )
      const { values, failed } = yield* passing(flow, upTo(6), [3, 4])
      // The fourth, alone in its batch, tries again at 8 s and fails; the others wait for the next time.
      assert.deepStrictEqual(failed, ["0 Down", "1 Down", "2 Down", "3 Down"])
      assert.deepStrictEqual(values, ["answer 5", "answer 6"])
      assert.deepStrictEqual(calls.map(([at]) => at), [0, 1_000, 2_000, 8_000, 14_000, 15_000])
    }))

  it.effect("lets time go on in the part that it leaves out", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        CircuitBreaker.around((flow) =>
          flow.pipe(
            Flow.effect((n) => n < 0 ? Effect.fail(new Down({ message: "down" })) : Effect.succeed(n)),
            Aggregate.count({ name: "counts", window: Window.tumbling({ size: 10 }), emit: "final" }),
            Flow.map(({ start, value }) => `${start}: ${value}`),
          ), { ...policy, counts: ["Down"], whileOpen: { fallback: String } }),
      )
      const given: ReadonlyArray<Given> = [[1, "k", 1], [2, "k", 5], [-1, "k", 6], [-2, "k", 7], [-3, "k", 8], [
        3,
        "k",
        25,
      ]]
      const { values, rows } = yield* passing(flow, given, [5])
      // The window closes at a record that does not come to it.
      assert.deepStrictEqual(values, ["0: 2", "3"])
      assert.deepStrictEqual(rows, [5, 5])
    }))

  it.effect("takes batches without values for no answer", () =>
    Effect.gen(function* () {
      const { call, calls } = dependency([0, 9_000], 0)
      const flow = numbers.pipe(
        Flow.filter((n) => n > 0),
        CircuitBreaker.around((flow) => flow.pipe(Flow.effect(call)), {
          ...policy,
          counts: ["Down"],
          whileOpen: "hold",
        }),
      )
      const { failed } = yield* passing(flow, [1, 2, 3, -1, -2, 4], [3, 4, 5])
      assert.deepStrictEqual(calls.map(([at]) => at), [0, 0, 0, 5_000])
      assert.deepStrictEqual(failed.length, 4)
    }))
})
