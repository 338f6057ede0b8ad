/** Folds to numbers. All of them can be merged. */
import { Schema } from "effect"
import type { MergingFold } from "./Folding.ts"

/** How many values there are. */
export const count: MergingFold<unknown, number> = {
  state: Schema.Int,
  initial: () => 0,
  add: (n) => n + 1,
  merge: (earlier, later) => earlier + later,
  result: (n) => n,
}

/**
 * The sum of what `of` makes of each value. Exact for whole numbers up to 2^53; of others the last digits depend on the order
 * in which they are added, which is that of the records, and merges where windows are merged.
 *
 * A throw where `of` answers NaN or an infinite number, and where the sum leaves the range of numbers: check what values
 * may be before they are folded.
 */
export const sum = <A>(of: (value: A) => number): MergingFold<A, number> => ({
  state: Schema.Finite,
  initial: () => 0,
  add: (sum, value) => finite("sum", sum, of(value)),
  merge: (earlier, later) => finite("sum", earlier, later),
  result: (sum) => sum,
})

/** The arithmetic mean of what `of` makes of each value: its sum, as above, over the number of values. */
export const average = <A>(
  of: (value: A) => number,
): MergingFold<A, readonly [sum: number, count: number], number> => ({
  state: Schema.Tuple([Schema.Finite, Schema.Int]),
  initial: () => [0, 0],
  add: ([sum, count], value) => [finite("average", sum, of(value)), count + 1],
  merge: (earlier, later) => [finite("average", earlier[0], later[0]), earlier[1] + later[1]],
  result: ([sum, count]) => sum / count,
})

/** The least of what `of` makes of each value. A throw where that is NaN or infinite. */
export const min = <A>(of: (value: A) => number): MergingFold<A, number | null, number> =>
  extreme("min", of, (a, b) => b < a)

/** The greatest of what `of` makes of each value. A throw where that is NaN or infinite. */
export const max = <A>(of: (value: A) => number): MergingFold<A, number | null, number> =>
  extreme("max", of, (a, b) => b > a)

const extreme = <A>(
  name: string,
  of: (value: A) => number,
  isBetter: (known: number, other: number) => boolean,
): MergingFold<A, number | null, number> => {
  const better = (known: number | null, other: number | null) =>
    known === null || other !== null && isBetter(known, other) ? other : known
  return {
    state: Schema.NullOr(Schema.Finite),
    initial: () => null,
    add: (known, value) => better(known, finite(name, 0, of(value))),
    merge: better,
    result: (known) => known!,
  }
}

/** `sum + more`, which JSON can hold and a later value cannot turn into something else. */
const finite = (name: string, sum: number, more: number): number => {
  const total = sum + more
  if (Number.isFinite(total)) return total
  throw new RangeError(
    Number.isFinite(more)
      ? `Fold.${name}: the sum is beyond what a number can hold`
      : `Fold.${name}: a value's number is ${more}: check values before they are folded`,
  )
}

/** The number by which a fold orders values. */
export const rank = (name: string, number: number): number => finite(name, 0, number)
