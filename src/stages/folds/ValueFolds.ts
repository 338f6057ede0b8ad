/** Folds that keep values themselves, and therefore need their schema. All of them can be merged. */
import { Schema } from "effect"
import type { MergingFold } from "./Folding.ts"
import { rank } from "./NumberFolds.ts"

type Values<A> = ReadonlyArray<A>

/**
 * The value that came first. Order is that of the records; where windows are merged, the values of the earlier one stand
 * before those of the later one.
 */
export const first = <A>(value: Schema.Codec<A, unknown>): MergingFold<A, Values<A>, A> => one(value, (known) => known)

/** The value that came last, in the same order. */
export const last = <A>(value: Schema.Codec<A, unknown>): MergingFold<A, Values<A>, A> =>
  one(value, (_, other) => other)

/** The least value by a comparison (negative where the first is less), of equal ones the first. */
export const minBy = <A>(
  value: Schema.Codec<A, unknown>,
  compare: (a: A, b: A) => number,
): MergingFold<A, Values<A>, A> => one(value, (known, other) => compare(other, known) < 0 ? other : known)

/** The greatest value by a comparison (negative where the first is less), of equal ones the first. */
export const maxBy = <A>(
  value: Schema.Codec<A, unknown>,
  compare: (a: A, b: A) => number,
): MergingFold<A, Values<A>, A> => one(value, (known, other) => compare(other, known) > 0 ? other : known)

/** Keeps one value: none yet, or the one that `choose` prefers. */
const one = <A>(
  value: Schema.Codec<A, unknown>,
  choose: (known: A, other: A) => A,
): MergingFold<A, Values<A>, A> => {
  const chosen = (known: Values<A>, other: A): Values<A> => {
    if (known.length === 0) return [other]
    const better = choose(known[0]!, other)
    return better === known[0] ? known : [better]
  }
  return {
    state: Schema.Array(value),
    initial: () => [],
    add: chosen,
    merge: (earlier, later) => later.length === 0 ? earlier : chosen(earlier, later[0]!),
    result: (known) => known[0]!,
  }
}

/** The first so many values, or the last, in their order: at most `atMost` are kept. */
export const collect = <A>(
  value: Schema.Codec<A, unknown>,
  options: { readonly atMost: number; readonly keep?: "first" | "last" },
): MergingFold<A, Values<A>> => {
  const { atMost, keep = "first" } = options
  whole("collect", "atMost", atMost)
  const bounded = (values: Values<A>) =>
    values.length <= atMost ? values : keep === "first" ? values.slice(0, atMost) : values.slice(-atMost)
  return {
    state: Schema.Array(value),
    initial: () => [],
    add: (values, value) => keep === "first" && values.length === atMost ? values : bounded([...values, value]),
    merge: (earlier, later) => bounded([...earlier, ...later]),
    result: (values) => values,
  }
}

/**
 * The `n` values with the greatest numbers, greatest first, of equal ones those that came first. Every value counts for
 * itself: to rank what many records add up to (pages by their clicks), aggregate them first, and take the top of the
 * results. A throw where `by` answers NaN or an infinite number.
 */
export const top = <A>(
  value: Schema.Codec<A, unknown>,
  options: { readonly n: number; readonly by: (value: A) => number },
): MergingFold<A, Values<A>> => {
  const { n, by } = options
  whole("top", "n", n)
  const add = (values: Values<A>, value: A): Values<A> => {
    const number = rank("top", by(value))
    let at = values.length
    while (at > 0 && by(values[at - 1]!) < number) at--
    return at === n ? values : [...values.slice(0, at), value, ...values.slice(at, n - 1)]
  }
  return {
    state: Schema.Array(value),
    initial: () => [],
    add,
    merge: (earlier, later) => later.reduce(add, earlier),
    result: (values) => values,
  }
}

export const whole = (fold: string, name: string, value: number): void => {
  if (!(Number.isInteger(value) && value >= 1)) {
    throw new RangeError(`Fold.${fold}: ${name} is a whole number of at least 1; it was ${value}`)
  }
}
