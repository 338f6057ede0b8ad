/** How many different values there are: exactly, up to a bound, or by an estimate of fixed size. */
import { Schema } from "effect"
import type { MergingFold } from "./Folding.ts"
import * as HyperLogLog from "./HyperLogLog.ts"
import { whole } from "./ValueFolds.ts"

/** What is counted: compared as JavaScript does, so that 1 and "1" are two. */
type Value = string | number

type Values<V> = ReadonlyArray<V>

export interface DistinctOptions {
  /** The most that are kept, 10,000 by default; further ones are not counted. */
  readonly atMost?: number
}

/**
 * The number of different values that `of` makes, exact up to `atMost`, where it stops. All of them are kept and logged
 * whenever there is a new one: for more than some thousands a key take `approximateDistinct`.
 */
export const distinct = <A>(
  of: (value: A) => Value,
  options?: DistinctOptions,
): MergingFold<A, Values<Value>, number> => ({
  ...distinctValues(of, options),
  result: (values) => values.length,
})

/** The different values that `of` makes, in the order they came, up to `atMost`. */
export const distinctValues = <A, V extends Value>(
  of: (value: A) => V,
  options?: DistinctOptions,
): MergingFold<A, Values<V>> => {
  const atMost = options?.atMost ?? 10_000
  whole("distinct", "atMost", atMost)
  const add = (values: Values<V>, value: V): Values<V> => {
    if (values.length === atMost) return values
    const known = membersOf(values)
    if (known.has(value)) return values
    const added = [...values, value]
    known.add(value)
    members.set(added, known)
    members.delete(values)
    return added
  }
  return {
    state: Schema.Array(Schema.Union([Schema.String, Schema.Finite])) as unknown as Schema.Codec<Values<V>, unknown>,
    initial: () => [],
    add: (values, value) => add(values, of(value)),
    merge: (earlier, later) => later.reduce(add, earlier),
    result: (values) => values,
  }
}

/** The values of the latest state again, to look them up in: each set belongs to one array and passes on to its successor. */
const members = new WeakMap<Values<Value>, Set<Value>>()

const membersOf = (values: Values<Value>): Set<Value> => {
  let known = members.get(values)
  if (known === undefined) members.set(values, known = new Set(values))
  return known
}

/**
 * About how many different texts `of` makes, by HyperLogLog: `2^precision` registers, so that a state never takes more than
 * that many bytes, and few while there are few. The standard error is `1.04 / sqrt(2^precision)`: 1.6 % at 12, which is the
 * default; 4 to 16 can be had. Who can choose the texts can also make the estimate wrong.
 */
export const approximateDistinct = <A>(
  of: (value: A) => string,
  options?: { readonly precision?: number },
): MergingFold<A, HyperLogLog.Sketch, number> => {
  const precision = options?.precision ?? 12
  if (!(Number.isInteger(precision) && precision >= 4 && precision <= 16)) {
    throw new RangeError(`Fold.approximateDistinct: precision is a whole number from 4 to 16; it was ${precision}`)
  }
  return {
    state: HyperLogLog.codec(precision),
    initial: () => HyperLogLog.empty,
    add: (sketch, value) => HyperLogLog.add(sketch, of(value), precision),
    merge: (earlier, later) => HyperLogLog.merge(earlier, later, precision),
    result: (sketch) => Math.round(HyperLogLog.estimate(sketch, precision)),
  }
}
