/** Effects per value and per many: which run at the same time, how often they start, and what becomes of their failures. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Deferred, Duration, Effect, Fiber, Metric, Result, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Batch, Flow, Task } from "../src/index.ts"
import { type Given, numbers, running } from "./support/Numbers.ts"
import { forSeeds } from "./support/Seeds.ts"

class Odd extends Schema.TaggedError<Odd>()("Odd", { message: Schema.String }) {}
class Down extends Schema.TaggedError<Down>()("Down", { message: Schema.String }) {}

const odd = new Odd({ message: "odd" })

/** Effects that take as many turns as they are told to, and what went on at the same time. */
class Watched {
  readonly started: Array<number> = []
  readonly together: Array<ReadonlyArray<string | null>> = []
  #going: Array<string | null> = []

  readonly call = <A>(values: ReadonlyArray<number>, keys: ReadonlyArray<string | null>, answer: A): Effect.Effect<A> =>
    Effect.suspend(() => {
      this.started.push(...values)
      this.#going = [...this.#going, ...keys]
      this.together.push(this.#going)
      const turns = Array.from({ length: values[0]! % 10 })
      return Effect.forEach(turns, () => Effect.yieldNow).pipe(
        Effect.andThen(Effect.sync(() => {
          for (const key of keys) this.#going = this.#going.toSpliced(this.#going.indexOf(key), 1)
          return answer
        })),
      )
    })

  get most(): number {
    return Math.max(0, ...this.together.map((keys) => keys.length))
  }

  /** Whether two values of one key went on at the same time. */
  get twice(): boolean {
    return this.together.some((keys) => {
      const known = keys.filter((key) => key !== null)
      return new Set(known).size < known.length
    })
  }
}

const given = (keys: ReadonlyArray<string | null>): ReadonlyArray<Given> => keys.map((key, i) => [i * 10 + 9 - i, key])

describe("Flow.effect", () => {
  it.effect("runs values of one key one after the other, in order, and others beside them", () =>
    forSeeds(100, (dice) =>
      Effect.gen(function* () {
        const watched = new Watched()
        const concurrency = dice.int(1, 4)
        const records = dice.list(
          1,
          30,
          (i): readonly [number, string | null] => [i * 10 + dice.int(0, 9), dice.pick(["a", "b", "c", "d", null])],
        )
        const flow = numbers.pipe(Flow.effect((n, { key }) => watched.call([n], [key], n), { concurrency }))
        const { values } = yield* running(flow, records, dice.list(0, 3, () => dice.int(0, 30)))
        assert.deepStrictEqual(values, records.map(([n]) => n))
        assert.isAtMost(watched.most, concurrency)
        assert.isFalse(watched.twice)
        for (const key of ["a", "b", "c", "d"]) {
          const own = new Set(
            records.filter(([, own]) => own === key).map(([n]) => n),
          )
          assert.deepStrictEqual(watched.started.filter((n) => own.has(n)), [...own], "started in order")
        }
      })))

  it.effect("keeps as many effects going as it may", () =>
    Effect.gen(function* () {
      const watched = new Watched()
      const flow = numbers.pipe(Flow.effect((n, { key }) => watched.call([n], [key], n), { concurrency: 3 }))
      yield* running(flow, given(["a", "a", "b", "c", "d", "a"]))
      assert.strictEqual(watched.most, 3)
    }))

  it.effect("runs values of one key beside each other where told so, and those without a key", () =>
    Effect.gen(function* () {
      const watched = new Watched()
      const call = (n: number, { key }: Batch.RecordContext) => watched.call([n], [key], n)
      yield* running(numbers.pipe(Flow.effect(call, { concurrency: 3, order: "none" })), given(["a", "a", "a"]))
      assert.isTrue(watched.twice)
      const keyless = new Watched()
      yield* running(
        numbers.pipe(Flow.effect((n) => keyless.call([n], [null], n), { concurrency: "unbounded" })),
        given([null, null, null, null]),
      )
      assert.strictEqual(keyless.most, 4)
    }))

  it.effect("fails a record whose effect takes too long, and goes on with the others", () =>
    Effect.gen(function* () {
      const interrupted = yield* Deferred.make<void>()
      const slow = Effect.onInterrupt(Effect.sleep("2 seconds"), () => Deferred.succeed(interrupted, undefined))
      const flow = numbers.pipe(
        Flow.effect((n) => n === 2 ? Effect.as(slow, n) : Effect.succeed(n), { timeout: "1 second" }),
      )
      const fiber = yield* Effect.forkChild(running(flow, [1, 2, 3]))
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const { values, batches } = yield* Fiber.join(fiber)
      assert.deepStrictEqual(values, [1, 3])
      const [failed] = batches[0]!.failed
      assert.strictEqual(failed!.row, 1)
      assert.deepInclude(failed!.reason, { _tag: "TimedOut", message: "no answer within 1s", after: 1_000 })
      assert.isTrue(yield* Deferred.isDone(interrupted))
    }))

  it.effect("names the record of a defect, also beside a time-out", () =>
    Effect.gen(function* () {
      const wrong = (n: number): Effect.Effect<number> => {
        if (n === 2) throw new TypeError("no such thing")
        return n === 3 ? Effect.die(new TypeError("nor this")) : Effect.succeed(n)
      }
      for (const [records, message] of [[[1, 2], "no such thing"], [[1, 3], "nor this"]] as const) {
        for (const options of [{}, { timeout: "1 second", concurrency: 2 }] as const) {
          const exit = yield* Effect.exit(running(numbers.pipe(Flow.effect(wrong, options)), records))
          assert(exit._tag === "Failure")
          const defect = Cause.squash(exit.cause)
          assert.instanceOf(defect, Batch.RecordDefect)
          assert.include(String(defect), "topic numbers partition 0 offset 1")
          assert.include(String(defect), message)
        }
      }
    }))

  it.effect("starts no more effects than its rate allows, over batches, and lets the task go while none runs", () =>
    Effect.gen(function* () {
      const starts: Array<readonly [n: number, at: number]> = []
      const log: Array<string> = []
      const flow = numbers.pipe(
        Flow.effect((n) =>
          Effect.gen(function* () {
            starts.push([n, yield* Clock.currentTimeMillis])
            log.push(`call ${n}`)
            return n
          }), { rate: { perSecond: 2, burst: 3 } }),
      )
      const holding = { hold: () => log.push("hold"), release: () => log.push("release"), gate: Effect.void }
      const watched = Flow.fromStream(
        Stream.provideService(flow, Task.HoldingBack, holding),
        flow.node,
      )
      const fiber = yield* Effect.forkChild(running(watched, [1, 2, 3, 4, 5], [2]))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual((yield* Fiber.join(fiber)).values, [1, 2, 3, 4, 5])
      assert.deepStrictEqual(starts, [[1, 0], [2, 0], [3, 0], [4, 500], [5, 1_000]])
      const waits = ["hold", "release"]
      assert.deepStrictEqual(log, ["call 1", "call 2", "call 3", ...waits, "call 4", ...waits, "call 5"])
    }))

  it.effect("does not let the task go while another effect of the batch runs", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const flow = numbers.pipe(
        Flow.effect((n) => Effect.delay(Effect.sync(() => log.push(`end ${n}`)), "700 millis"), {
          rate: { perSecond: 2, burst: 1 },
          concurrency: 2,
          order: "none",
        }),
      )
      const holding = { hold: () => log.push("hold"), release: () => log.push("release"), gate: Effect.void }
      const watched = Flow.fromStream(
        Stream.provideService(flow, Task.HoldingBack, holding),
        flow.node,
      )
      const fiber = yield* Effect.forkChild(running(watched, [1, 2]))
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(log, ["end 1", "end 2"])
    }))

  it("refuses options that make no sense", () => {
    const stage = (options: Flow.EffectOptions) => () => Flow.effect(() => Effect.void, options)
    assert.throws(stage({ concurrency: 0 }), RangeError, "concurrency")
    assert.throws(stage({ concurrency: 1.5 }), RangeError, "concurrency")
    assert.throws(stage({ concurrency: NaN }), RangeError, "concurrency")
    assert.throws(stage({ timeout: 0 }), RangeError, "timeout")
    assert.throws(stage({ timeout: Duration.infinity }), RangeError, "timeout")
    assert.throws(stage({ rate: { perSecond: 0 } }), RangeError, "perSecond")
    assert.throws(stage({ rate: { perSecond: 1, burst: 0.5 } }), RangeError, "burst")
  })
})

describe("Flow.effectAll", () => {
  const answered = (values: ReadonlyArray<number>) =>
    values.map((n) => n % 2 === 1 ? Result.fail(odd) : Result.succeed(n * 2))

  it.effect("gives an effect up to so many values of a batch, and settles each", () =>
    Effect.gen(function* () {
      const calls: Array<ReadonlyArray<number>> = []
      const flow = numbers.pipe(Flow.effectAll((values, records) => {
        assert.deepStrictEqual(records.map(({ offset }) => offset + 1), [...values])
        calls.push(values)
        return Effect.succeed(answered(values))
      }, { size: 3 }))
      const { values, failed } = yield* running(flow, [1, 2, 3, 4, 5, 6, 7, 8], [4])
      assert.deepStrictEqual(calls, [[1, 2, 3], [4], [5, 6, 7], [8]])
      assert.deepStrictEqual(values, [4, 8, 12, 16])
      assert.deepStrictEqual(failed, ["0 Odd", "2 Odd", "4 Odd", "6 Odd"])
    }))

  it.effect("fails all values of an effect that fails, or takes too long", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        Flow.effectAll(
          (values) =>
            values[0] === 3
              ? Effect.fail(new Down({ message: "down" }))
              : values[0] === 5
              ? Effect.never
              : Effect.succeed(answered(values)),
          { size: 2, timeout: "1 second" },
        ),
      )
      const fiber = yield* Effect.forkChild(running(flow, [1, 2, 3, 4, 5, 6, 7, 8]))
      yield* TestClock.adjust("1 second")
      const { values, failed } = yield* Fiber.join(fiber)
      assert.deepStrictEqual(values, [4, 16])
      assert.deepStrictEqual(failed, ["0 Odd", "2 Down", "3 Down", "4 TimedOut", "5 TimedOut", "6 Odd"])
    }))

  it.effect("has the values of one key in one effect at a time, in order, with others beside them", () =>
    forSeeds(100, (dice) =>
      Effect.gen(function* () {
        const watched = new Watched()
        const [size, concurrency] = [dice.int(1, 4), dice.int(1, 4)]
        const records = dice.list(
          1,
          30,
          (i): readonly [number, string | null] => [i * 10 + dice.int(0, 9), dice.pick(["a", "b", "c", null])],
        )
        const flow = numbers.pipe(
          Flow.effectAll((values, records) => {
            assert.isAtMost(values.length, size)
            // Within one effect a key counts once.
            const keys = [...new Set(records.map(({ key }) => key))]
            return watched.call(values, keys, values.map((n) => Result.succeed(n)))
          }, { size, concurrency }),
        )
        const { values } = yield* running(flow, records, dice.list(0, 3, () => dice.int(0, 30)))
        assert.deepStrictEqual(values, records.map(([n]) => n))
        assert.isFalse(watched.twice)
        for (const key of ["a", "b", "c"]) {
          const own = new Set(
            records.filter(([, own]) => own === key).map(([n]) => n),
          )
          assert.deepStrictEqual(watched.started.filter((n) => own.has(n)), [...own], "in order")
        }
      })))

  it.effect("runs as many effects at the same time as it may", () =>
    Effect.gen(function* () {
      let going = 0
      let most = 0
      const flow = (order: "key" | "none") =>
        numbers.pipe(
          Flow.effectAll((values) =>
            Effect.gen(function* () {
              most = Math.max(most, ++going)
              yield* Effect.yieldNow
              going--
              return answered(values)
            }), { size: 2, concurrency: 3, order }),
        )
      yield* running(flow("key"), given(["a", "b", "c", "d", "e", "f", "g", "h"]))
      assert.strictEqual(most, 3)
      most = 0
      yield* running(flow("key"), given(["a", "a", "a", "a", "a", "a"]))
      assert.strictEqual(most, 1)
      yield* running(flow("none"), given(["a", "a", "a", "a", "a", "a"]))
      assert.strictEqual(most, 3)
    }))

  it.effect("takes an answer of another length for a defect", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Flow.effectAll((values) => Effect.succeed(answered(values).slice(1)), { size: 2 }))
      const exit = yield* Effect.exit(running(flow, [2, 4, 6]))
      assert(exit._tag === "Failure")
      const message = String(Cause.squash(exit.cause))
      assert.include(message, "offset 0")
      assert.include(message, "answered 1 results for 2 values")
    }))

  it.effect("is not called without values", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Flow.filter(() => false), Flow.effectAll(() => Effect.die("called"), { size: 2 }))
      assert.deepStrictEqual((yield* running(flow, [1])).values, [])
    }))

  it("refuses a size that makes no sense", () => {
    for (const size of [0, 1.5, NaN]) {
      assert.throws(() => Flow.effectAll(() => Effect.succeed([]), { size }), RangeError, "size")
    }
  })
})

describe("Flow.tap", () => {
  it.effect("sees every value and its record, and changes nothing", () =>
    Effect.gen(function* () {
      const seen: Array<readonly [number, number]> = []
      const flow = numbers.pipe(Flow.tap((n, { offset }) => void seen.push([n, offset])))
      assert.deepStrictEqual((yield* running(flow, [5, 6, 7], [1])).values, [5, 6, 7])
      assert.deepStrictEqual(seen, [[5, 0], [6, 1], [7, 2]])
    }))

  it.effect("takes a throw for a defect that names the record", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Flow.tap((n) => {
        if (n === 6) throw new Error("cannot look")
      }))
      const exit = yield* Effect.exit(running(flow, [5, 6]))
      assert(exit._tag === "Failure")
      assert.include(String(Cause.squash(exit.cause)), "offset 1: Error: cannot look")
    }))
})

describe("Flow.tapEffect", () => {
  const refuses = (n: number) => n % 2 === 1 ? Effect.fail(odd) : n === 4 ? Effect.never : Effect.void

  it.effect("counts failures and time-outs, and lets their values go on", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Flow.tapEffect(refuses, { timeout: "1 second", concurrency: 2 }))
      const fiber = yield* Effect.forkChild(running(flow, [1, 2, 3, 4]))
      yield* TestClock.adjust("1 second")
      const { values, failed, dropped } = yield* Fiber.join(fiber)
      assert.deepStrictEqual([values, failed, dropped], [[1, 2, 3, 4], [], []])
      const count = (reason: string) => Metric.value(Metric.withAttributes(Flow.tapFailures, { reason }))
      assert.strictEqual(Number((yield* count("Odd")).count), 2)
      assert.strictEqual(Number((yield* count("TimedOut")).count), 1)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("fails records where told so", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Flow.tapEffect(refuses, { failures: "fail" }))
      const { values, failed } = yield* running(flow, [1, 2, 3, 6])
      assert.deepStrictEqual([values, failed], [[2, 6], ["0 Odd", "2 Odd"]])
    }))

  it.effect("takes a defect for one also where failures are only counted", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(running(numbers.pipe(Flow.tapEffect(() => Effect.die("broken"))), [1]))
      assert(exit._tag === "Failure")
      assert.include(String(Cause.squash(exit.cause)), "offset 0")
    }))
})
