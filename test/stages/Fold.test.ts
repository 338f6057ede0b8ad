import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Fold } from "../../src/index.ts"
import * as HyperLogLog from "../../src/stages/folds/HyperLogLog.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"

interface Order {
  readonly id: string
  readonly n: number
}
const Order = Schema.Struct({ id: Schema.String, n: Schema.Int })

interface Law<S, B> {
  readonly fold: Fold.MergingFold<Order, S, B>
  /** What it must come to, for at least one order. */
  readonly naive: (orders: ReadonlyArray<Order>) => B
}
const law = <S, B>(of: Law<S, B>): Law<unknown, unknown> => of as unknown as Law<unknown, unknown>

const numbers = (orders: ReadonlyArray<Order>) => orders.map(({ n }) => n)
const sumOf = (orders: ReadonlyArray<Order>) => numbers(orders).reduce((a, b) => a + b, 0)
const distinct = <A>(values: ReadonlyArray<A>) => [...new Set(values)]
const byN = (a: Order, b: Order) => a.n - b.n
const ids = Fold.contramap(Fold.collect(Schema.String, { atMost: 100 }), ({ id }: Order) => id)

const laws: Readonly<Record<string, Law<unknown, unknown>>> = {
  count: law({ fold: Fold.count, naive: (orders) => orders.length }),
  sum: law({ fold: Fold.sum((order: Order) => order.n), naive: sumOf }),
  average: law({ fold: Fold.average((order: Order) => order.n), naive: (orders) => sumOf(orders) / orders.length }),
  min: law({ fold: Fold.min((order: Order) => order.n), naive: (orders) => Math.min(...numbers(orders)) }),
  max: law({ fold: Fold.max((order: Order) => order.n), naive: (orders) => Math.max(...numbers(orders)) }),
  first: law({ fold: Fold.first(Order), naive: (orders) => orders[0]! }),
  last: law({ fold: Fold.last(Order), naive: (orders) => orders.at(-1)! }),
  minBy: law({ fold: Fold.minBy(Order, byN), naive: (orders) => orders.toSorted(byN)[0]! }),
  maxBy: law({ fold: Fold.maxBy(Order, byN), naive: (orders) => orders.toSorted((a, b) => byN(b, a))[0]! }),
  collect: law({ fold: Fold.collect(Order, { atMost: 5 }), naive: (orders) => orders.slice(0, 5) }),
  "collect the last": law({
    fold: Fold.collect(Order, { atMost: 5, keep: "last" }),
    naive: (orders) => orders.slice(-5),
  }),
  top: law({
    fold: Fold.top(Order, { n: 3, by: (order) => order.n }),
    naive: (orders) => orders.toSorted((a, b) => byN(b, a)).slice(0, 3),
  }),
  distinct: law({
    fold: Fold.distinct((order: Order) => order.id),
    naive: (orders) => distinct(orders.map(({ id }) => id)).length,
  }),
  "distinct up to a bound": law({
    fold: Fold.distinct((order: Order) => order.n, { atMost: 4 }),
    naive: (orders) => Math.min(4, distinct(numbers(orders)).length),
  }),
  distinctValues: law({
    fold: Fold.distinctValues((order: Order) => order.id, { atMost: 4 }),
    naive: (orders) => distinct(orders.map(({ id }) => id)).slice(0, 4),
  }),
  approximateDistinct: law({
    fold: Fold.approximateDistinct((order: Order) => order.id),
    naive: (orders) => distinct(orders.map(({ id }) => id)).length,
  }),
  map: law({
    fold: Fold.map(Fold.average((order: Order) => order.n), (average) => `${average}`),
    naive: (orders) => `${sumOf(orders) / orders.length}`,
  }),
  contramap: law({ fold: ids, naive: (orders) => orders.map(({ id }) => id) }),
  all: law({
    fold: Fold.all({ count: Fold.count, ids, last: Fold.last(Order) }),
    naive: (orders) => ({ count: orders.length, ids: orders.map(({ id }) => id), last: orders.at(-1)! }),
  }),
  "your own": law({
    fold: Fold.make({
      state: Schema.String,
      initial: () => "",
      add: (text, { id }: Order) => text + id,
      merge: (a, b) => a + b,
    }),
    naive: (orders) => orders.map(({ id }) => id).join(""),
  }),
}

const orders = (dice: Dice, least: number): ReadonlyArray<Order> =>
  dice.list(least, 20, () => ({ id: dice.pick(["a", "b", "é", "", "c", "d"]), n: dice.int(-4, 4) }))

const folded = <A, S>(fold: Fold.Fold<A, S, unknown>, values: ReadonlyArray<A>, from = fold.initial()): S =>
  values.reduce((state, value) => fold.add(state, value), from)

const logged = <S>(fold: Fold.Fold<never, S, unknown>, state: S): string =>
  JSON.stringify(Schema.encodeSync(fold.state)(state))

const restored = <S>(fold: Fold.Fold<never, S, unknown>, log: string): S =>
  Schema.decodeUnknownSync(fold.state)(JSON.parse(log))

describe.each(Object.entries(laws))("%s", (_, { fold, naive }) => {
  it.effect("comes to what a naive computation says", () =>
    forSeeds(100, (dice) =>
      Effect.sync(() => {
        const values = orders(dice, 1)
        assert.deepStrictEqual(fold.result(folded(fold, values)), naive(values))
      })))

  it.effect("comes to the same when the states of two parts are merged", () =>
    forSeeds(100, (dice) =>
      Effect.sync(() => {
        const earlier = orders(dice, 0)
        const later = orders(dice, 0)
        const merged = fold.merge(folded(fold, earlier), folded(fold, later))
        assert.deepStrictEqual(merged, folded(fold, [...earlier, ...later]))
      })))

  it.effect("goes on from what was logged, and from older states, as if nothing had been", () =>
    forSeeds(100, (dice) =>
      Effect.sync(() => {
        const values = orders(dice, 2)
        const cut = dice.int(1, values.length - 1)
        const state = folded(fold, values.slice(0, cut))
        const log = logged(fold, state)
        const whole = folded(fold, values)
        const back = restored(fold, log)
        assert.deepStrictEqual(back, state)
        folded(fold, values.slice(cut), state)
        assert.strictEqual(logged(fold, state), log)
        assert.deepStrictEqual(folded(fold, values.slice(cut), state), whole)
        assert.deepStrictEqual(folded(fold, values.slice(cut), back), whole)
      })))
})

describe("Fold", () => {
  it("keeps a state that does not change", () => {
    const fold = Fold.all({
      top: Fold.top(Order, { n: 1, by: ({ n }) => n }),
      ids: Fold.distinct(({ id }: Order) => id),
    })
    const state = folded(fold, [{ id: "a", n: 3 }])
    assert.strictEqual(fold.add(state, { id: "a", n: 2 }), state)
    assert.notStrictEqual(fold.add(state, { id: "b", n: 2 }), state)
  })

  it("can be merged only where all that stand side by side can", () => {
    const { merge: _, ...plain } = Fold.count
    assert.notProperty(Fold.all({ plain: Fold.make(plain), count: Fold.count }), "merge")
    assert.property(Fold.all({ count: Fold.count }), "merge")
  })

  it("logs states that are short", () => {
    const all = [{ id: "a", n: 3 }, { id: "b", n: -1 }]
    assert.strictEqual(
      logged(Fold.average(({ n }: Order) => n), folded(Fold.average(({ n }: Order) => n), all)),
      "[2,2]",
    )
    assert.strictEqual(logged(Fold.min(({ n }: Order) => n), folded(Fold.min(({ n }: Order) => n), all)), "-1")
    const ids = Fold.distinct(({ id }: Order) => id)
    assert.strictEqual(logged(ids, folded(ids, all)), '["a","b"]')
  })

  for (const number of [NaN, Infinity, -Infinity]) {
    const of = () => number
    const folds = { sum: Fold.sum(of), average: Fold.average(of), min: Fold.min(of), max: Fold.max(of) }
    for (const [name, fold] of Object.entries(folds)) {
      it(`refuses ${number} in ${name}`, () => {
        assert.throws(
          () => folded(fold as Fold.Fold<number, unknown, unknown>, [1]),
          `Fold.${name}: a value's number is ${number}`,
        )
      })
    }
    it(`refuses ${number} as a rank`, () => {
      assert.throws(
        () => folded(Fold.top(Schema.Int, { n: 2, by: of }), [1]),
        `Fold.top: a value's number is ${number}`,
      )
    })
  }

  it("refuses sums that no number can hold, also where they come about by a merge", () => {
    const fold = Fold.sum((n: number) => n)
    assert.throws(() => folded(fold, [1e308, 1e308]), "Fold.sum: the sum is beyond")
    assert.throws(() => fold.merge(1e308, 1e308), "Fold.sum: the sum is beyond")
    assert.throws(() => folded(Fold.average((n: number) => n), [-1e308, -1e308]), "Fold.average: the sum is beyond")
  })

  it("refuses options that make no sense", () => {
    for (const atMost of [0, -1, 1.5, NaN, Infinity]) {
      assert.throws(() => Fold.collect(Order, { atMost }), RangeError, "atMost")
      assert.throws(() => Fold.distinct(({ id }: Order) => id, { atMost }), RangeError, "atMost")
      assert.throws(() => Fold.top(Order, { n: atMost, by: ({ n }) => n }), RangeError, "n is")
    }
    for (const precision of [3, 17, 4.5]) {
      assert.throws(() => Fold.approximateDistinct(({ id }: Order) => id, { precision }), RangeError, "precision")
    }
  })

  it("takes 1 and '1' for two", () => {
    const fold = Fold.distinctValues((value: number | string) => value)
    assert.deepStrictEqual(folded(fold, [1, "1", 1]), [1, "1"])
  })

  it("counts many distinct values in reasonable time", () => {
    const fold = Fold.distinct((n: number) => n)
    assert.strictEqual(fold.result(folded(fold, Array.from({ length: 20_000 }, (_, i) => i))), 10_000)
  })
})

describe("HyperLogLog", () => {
  const texts = (count: number, seed: string) => Array.from({ length: count }, (_, i) => `${seed}-${i}`)
  const sketch = (of: ReadonlyArray<string>, precision: number) =>
    of.reduce<HyperLogLog.Sketch>((state, text) => HyperLogLog.add(state, text, precision), HyperLogLog.empty)

  // Over many sets the relative errors have to have the deviation that is promised, and no bias beside it.
  for (
    const [precision, count, sets] of [[6, 10, 200], [6, 100, 200], [6, 2_000, 100], [10, 3_000, 60], [12, 20_000, 12]]
  ) {
    it(`has the error it promises, at precision ${precision} for ${count}`, () => {
      const promised = 1.04 / Math.sqrt(2 ** precision!)
      const errors = Array.from(
        { length: sets! },
        (_, set) => HyperLogLog.estimate(sketch(texts(count!, `set ${set}`), precision!), precision!) / count! - 1,
      )
      const mean = errors.reduce((a, b) => a + b, 0) / sets!
      const deviation = Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / sets!)
      assert.isBelow(Math.abs(mean), 4 * promised / Math.sqrt(sets!))
      assert.isBelow(deviation, promised * 1.25)
    })
  }

  it("is the same whichever way it came about, as a list and as registers", () => {
    for (const [a, b] of [[0, 5], [5, 5], [3, 200], [400, 1], [300, 300]] as const) {
      const [as, bs] = [texts(a, "a"), texts(b, "b")]
      const both = sketch([...as, ...bs], 8)
      assert.deepStrictEqual(HyperLogLog.merge(sketch(as, 8), sketch(bs, 8), 8), both)
      assert.deepStrictEqual(sketch([...bs, ...as, ...bs], 8), both)
    }
  })

  it("never takes more than a byte for each register, and a character in the log", () => {
    const codec = HyperLogLog.codec(8)
    const log = (sketch: HyperLogLog.Sketch) => JSON.stringify(Schema.encodeSync(codec)(sketch))
    assert.strictEqual(log(HyperLogLog.empty), "[]")
    const full = sketch(texts(10_000, "x"), 8)
    assert.instanceOf(full, Uint8Array)
    assert.strictEqual(log(full).length, 258)
    assert.deepStrictEqual(Schema.decodeUnknownSync(codec)(JSON.parse(log(full))), full)
    assert.isBelow(log(sketch(texts(32, "x"), 8)).length, 258)
  })

  it("stays readable: what was logged once means the same for ever", () => {
    const codec = HyperLogLog.codec(4)
    assert.deepStrictEqual(Schema.encodeSync(codec)(sketch(["a", "b"], 4)), [321, 833])
    assert.strictEqual(Schema.encodeSync(codec)(sketch(texts(1_000, "x"), 4)), "7766576A787B8667")
  })

  it("does not take a log that is none of its own", () => {
    const decode = Schema.decodeUnknownSync(HyperLogLog.codec(4))
    for (
      const log of ["", "000000000000000!", "0".repeat(17), "_".repeat(16), [0], [16 * 64 + 1], [65, 65], [130, 65], [
        64,
      ], 5]
    ) {
      assert.throws(() => decode(log), undefined, undefined, JSON.stringify(log))
    }
  })
})
