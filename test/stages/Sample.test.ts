import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Flow, Sample } from "../../src/index.ts"
import { type Given, numbers, running } from "../support/Numbers.ts"

const many = (count: number, key: (i: number) => string = () => "k"): ReadonlyArray<Given> =>
  Array.from({ length: count }, (_, i) => [i, key(i)] as const)

const byKey = { key: (_: number, { key }: { readonly key: string | null }) => key! }

describe("Sample.by", () => {
  it.effect("keeps about the share that it is told, of records and of keys", () =>
    Effect.gen(function* () {
      const count = 20_000
      for (const rate of [0.01, 0.1, 0.5, 0.9]) {
        // Six standard deviations: a test that fails by chance once in half a billion times, were there any chance in it.
        const off = 6 * Math.sqrt(count * rate * (1 - rate))
        const records = yield* running(numbers.pipe(Sample.by({ rate })), many(count))
        assert.approximately(records.values.length, count * rate, off)
        for (const key of [String, (i: number) => `user-${i}`, (i: number) => `${i}@example.com`]) {
          const keys = yield* running(numbers.pipe(Sample.by({ rate, ...byKey })), many(count, key))
          assert.approximately(keys.values.length, count * rate, off)
        }
      }
    }))

  it.effect("draws the lots of neighbours independently of each other", () =>
    Effect.gen(function* () {
      const count = 20_000
      const { rows } = yield* running(numbers.pipe(Sample.by({ rate: 0.5 })), many(count))
      const kept = new Set(rows)
      for (const step of [1, 2, 16, 256]) {
        const alike = rows.filter((row) => kept.has(row + step)).length
        assert.approximately(alike, count / 4, 6 * Math.sqrt(count * 3 / 16))
      }
    }))

  it.effect("keeps all or none of a key, and all or none that one record is made into", () =>
    Effect.gen(function* () {
      const keys = yield* running(
        numbers.pipe(Sample.by({ rate: 0.5, ...byKey })),
        many(1_000, (i) => String(i % 50)),
        [333],
      )
      const kept = new Set(keys.values.map((n) => n % 50))
      assert.isAbove(kept.size, 10)
      assert.isBelow(kept.size, 40)
      assert.strictEqual(keys.values.length, kept.size * 20)
      const made = yield* running(numbers.pipe(Flow.flatMap((n) => [n, n]), Sample.by({ rate: 0.5 })), many(1_000))
      assert.deepStrictEqual(made.values.filter((_, i) => i % 2 === 0), made.values.filter((_, i) => i % 2 === 1))
      assert.strictEqual(made.dropped.length, 2_000 - made.values.length)
      assert.match(made.dropped[0]!, /^\d+ sampled$/)
    }))

  it.effect("keeps at a higher rate all that it keeps at a lower one, and others with another salt", () =>
    Effect.gen(function* () {
      const kept = (options: Sample.Options<number>) =>
        Effect.map(running(numbers.pipe(Sample.by(options)), many(2_000)), ({ values }) => values)
      const [tenth, fifth, salted] = [
        yield* kept({ rate: 0.1 }),
        yield* kept({ rate: 0.2 }),
        yield* kept({ rate: 0.1, salt: "other" }),
      ]
      assert.deepStrictEqual(tenth.filter((n) => !fifth.includes(n)), [])
      const both = tenth.filter((n) => salted.includes(n)).length
      assert.isBelow(both, 60)
      assert.isAbove(salted.length, 100)
    }))

  it.effect("keeps none and all at its ends", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* running(numbers.pipe(Sample.by({ rate: 0 })), many(500))).values.length, 0)
      assert.strictEqual((yield* running(numbers.pipe(Sample.by({ rate: 1 })), many(500))).values.length, 500)
    }))

  it.effect("keeps the same in every version of this program: these lots are written down", () =>
    Effect.gen(function* () {
      const { values } = yield* running(numbers.pipe(Sample.by({ rate: 0.2 })), many(60))
      const keys = yield* running(numbers.pipe(Sample.by({ rate: 0.2, ...byKey })), many(60, (i) => `é${i}`))
      assert.deepStrictEqual(values, [17, 18, 29, 32, 33, 42, 51, 53, 56])
      assert.deepStrictEqual(keys.values, [2, 4, 24, 25, 34, 35, 38, 41, 42, 43, 47, 48, 59])
    }))

  it("refuses a rate that is no share", () => {
    for (const rate of [-0.1, 1.1, NaN]) assert.throws(() => Sample.by({ rate }), RangeError, "Sample.by: rate")
  })
})
