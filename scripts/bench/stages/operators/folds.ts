/** Folds, each per key and tumbling minute, emitted when the minute is over: some 17 values of a key at 10,000 keys. */
import { Schema } from "effect"
import { Aggregate, Fold, Window } from "../../../../src/index.ts"
import { estimate } from "../../../../src/stages/folds/HyperLogLog.ts"
import { hashWith } from "../../../../src/state/KeyHash.ts"
import { AlignedWindows } from "../hand/aligned.ts"
import { count, type Fold as HandFold, windowed } from "../hand/windows.ts"
import { Reading } from "../input.ts"
import type { Operator } from "../operator.ts"

const minute = 60_000

const folded = <S, H>(name: string, fold: Fold.Fold<Reading, S, unknown>, hand: HandFold<H>): Operator => ({
  name: `fold: ${name}`,
  compared: "unordered",
  flow: (left) =>
    left.pipe(
      Aggregate.windowed({ name: "folded", window: Window.tumbling({ size: minute }), fold, emit: "final" }),
    ),
  loop: () => windowed("final", new AlignedWindows({ size: minute, every: minute, mode: "final", fold: hand })),
})

const n = (reading: Reading) => reading.n

/** The greatest three, of equal ones the first. */
const three: HandFold<Array<Reading>> = {
  initial: () => [],
  add: (top, value) => {
    let at = top.length
    while (at > 0 && top[at - 1]!.n < value.n) at--
    if (at === 3) return top
    top.splice(at, 0, value)
    if (top.length > 3) top.pop()
    return top
  },
  result: (top) => top,
}

const Spread = Schema.Struct({ least: Schema.Int, most: Schema.Int })

const ids: HandFold<Set<string>> = {
  initial: () => new Set(),
  add: (seen, { id }) => seen.add(id),
  result: ({ size }) => size,
}

const precision = 10

/** HyperLogLog as the library has it (the same hashes and the same estimate), in registers that are changed in place. */
const registers: HandFold<Uint8Array> = {
  initial: () => new Uint8Array(2 ** precision),
  add: (registers, { id }) => {
    const high = hashWith(id, 0x6d696c6c, 0x72616365)
    const left = high << precision
    const rank = left !== 0 ? Math.clz32(left) + 1 : 33 - precision + Math.clz32(hashWith(id, 0x68797065, 0x72006c6f))
    const at = high >>> 32 - precision
    if (registers[at]! < rank) registers[at] = rank
    return registers
  },
  result: (registers) => Math.round(estimate(registers, precision)),
}

export const folds: ReadonlyArray<Operator> = [
  folded("count", Fold.count, count),
  folded("sum", Fold.sum(n), { initial: () => 0, add: (sum, { n }) => sum + n, result: (sum) => sum }),
  folded("average", Fold.average(n), {
    initial: () => ({ sum: 0, count: 0 }),
    add: (state, { n }) => {
      state.sum += n
      state.count++
      return state
    },
    result: ({ sum, count }) => sum / count,
  }),
  folded("min", Fold.min(n), { initial: () => Infinity, add: (least, { n }) => Math.min(least, n), result: (n) => n }),
  folded("max", Fold.max(n), { initial: () => -Infinity, add: (most, { n }) => Math.max(most, n), result: (n) => n }),
  folded("distinct, exact", Fold.distinct(({ id }: Reading) => id), ids),
  folded("distinct, HyperLogLog", Fold.approximateDistinct(({ id }: Reading) => id, { precision }), registers),
  folded("top 3", Fold.top(Reading, { n: 3, by: n }), three),
  folded("all of count, sum and max", Fold.all({ count: Fold.count, sum: Fold.sum(n), max: Fold.max(n) }), {
    initial: () => ({ count: 0, sum: 0, max: -Infinity }),
    add: (state, { n }) => {
      state.count++
      state.sum += n
      state.max = Math.max(state.max, n)
      return state
    },
    result: (state) => ({ ...state }),
  }),
  folded(
    "one of your own",
    Fold.make({
      state: Spread,
      initial: () => ({ least: 9, most: 0 }),
      add: ({ least, most }: typeof Spread.Type, { n }: Reading) => ({
        least: Math.min(least, n),
        most: Math.max(most, n),
      }),
    }),
    {
      initial: () => ({ least: 9, most: 0 }),
      add: (state, { n }) => {
        state.least = Math.min(state.least, n)
        state.most = Math.max(state.most, n)
        return state
      },
      result: (state) => ({ ...state }),
    },
  ),
]
