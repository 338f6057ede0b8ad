import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { Deliver, Shed } from "../../src/index.ts"
import { type Given, Numbers, numbers, running } from "../support/Numbers.ts"

const now = 1_000_000

/** Numbers that are so many milliseconds behind. */
const behind = (...ages: ReadonlyArray<number>): ReadonlyArray<Given> => ages.map((age, i) => [i, "k", now - age])

const kept = (options: Shed.Options<number, "drop">, given: ReadonlyArray<Given>, cuts: ReadonlyArray<number> = []) =>
  Effect.andThen(TestClock.setTime(now), running(numbers.pipe(Shed.by(options)), given, cuts))

describe("Shed.by", () => {
  it.effect("begins above its bound, and ends below the other", () =>
    Effect.gen(function* () {
      const options = { above: 1_000, below: 400 }
      const ages = [0, 999, 1_000, 1_001, 999, 400, 401, 399, 999, 1_000, 5_000, 400, 0]
      const { values, dropped } = yield* kept(options, behind(...ages), [2, 5, 11])
      assert.deepStrictEqual(values, [0, 1, 2, 7, 8, 9, 12])
      assert.deepStrictEqual(dropped, ["3 shed", "4 shed", "5 shed", "6 shed", "10 shed", "11 shed"])
    }))

  it.effect("ends below half its bound unless told otherwise, and never at records from the future", () =>
    Effect.gen(function* () {
      const { values } = yield* kept({ above: "1 second" }, behind(-5_000, 1_001, 500, 499, -1))
      assert.deepStrictEqual(values, [0, 3, 4])
    }))

  it.effect("lets through what must be kept, and a share of the rest", () =>
    Effect.gen(function* () {
      const ages = Array.from({ length: 4_000 }, () => 2_000)
      const important = (n: number) => n % 10 === 0
      const { values } = yield* kept({ above: 1_000, keep: important, rate: 0.25 }, behind(...ages))
      assert.strictEqual(values.filter(important).length, 400)
      const others = values.length - 400
      assert.approximately(others, 900, 6 * Math.sqrt(3_600 * 3 / 16))
      const byKey = yield* kept({ above: 1_000, rate: 0.5, key: (n) => String(n % 4) }, behind(...ages))
      const keys = new Set(byKey.values.map((n) => n % 4))
      assert.strictEqual(byKey.values.length, keys.size * 1_000)
    }))

  it.effect("goes by the clock, not by what came before: it begins anew after a restart", () =>
    Effect.gen(function* () {
      const options = { above: 1_000, below: 400 }
      const first = yield* kept(options, behind(2_000, 700), [1])
      assert.deepStrictEqual(first.values, [])
      assert.deepStrictEqual((yield* kept(options, behind(700))).values, [0])
      yield* TestClock.adjust(301)
      assert.deepStrictEqual((yield* running(numbers.pipe(Shed.by(options)), behind(700))).values, [])
    }))

  it.effect("fails what is left out where it is to be routed", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(now)
      const flow = numbers.pipe(Deliver.to(Numbers), Shed.by({ above: 1_000, excess: "fail" }))
      const { values, failed, dropped, outgoing } = yield* running(flow, behind(0, 2_000))
      assert.deepStrictEqual([values, failed, dropped], [[0], ["1 Shed"], []])
      assert.deepStrictEqual(outgoing, ["numbers k=0"])
    }))

  it("refuses options that make no sense", () => {
    assert.throws(() => Shed.by({ above: 0 }), RangeError, "Shed.by: above")
    assert.throws(() => Shed.by({ above: 10, below: 11 }), RangeError, "below")
    assert.throws(() => Shed.by({ above: 10, below: 0 }), RangeError, "below")
    assert.throws(() => Shed.by({ above: 10, rate: 2 }), RangeError, "Shed.by: rate")
  })
})
