/** Ways to make one value of many: what aggregates are made of. */
import { Schema } from "effect"
import { type Batch, RecordDefect } from "../Batch.ts"

/**
 * How the values of a key become one. `state` is what is kept and logged, `result` what is emitted of it. States are
 * immutable: `add` and `merge` answer a new one.
 */
export interface Fold<in A, in out S, out B = S> {
  readonly state: Schema.Codec<S, unknown>
  initial(): S
  add(state: S, value: A): S
  result(state: S): B
}

/** A fold whose states can be put together: for windows that grow into each other. */
export interface MergingFold<in A, in out S, out B = S> extends Fold<A, S, B> {
  /** Of two states of values that came one after the other, as far as that matters. */
  merge(earlier: S, later: S): S
}

/** A fold of your own; its result is the state unless told. */
export function make<A, S, B>(fold: MergingFold<A, S, B>): MergingFold<A, S, B>
export function make<A, S>(fold: Omit<MergingFold<A, S>, "result">): MergingFold<A, S>
export function make<A, S, B>(fold: Fold<A, S, B>): Fold<A, S, B>
export function make<A, S>(fold: Omit<Fold<A, S>, "result">): Fold<A, S>
export function make<A, S>(fold: Omit<Fold<A, S>, "result">): Fold<A, S> {
  return { result: (state) => state, ...fold }
}

/** How many values there are. */
export const count: MergingFold<unknown, number> = make({
  state: Schema.Int,
  initial: () => 0,
  add: (n: number) => n + 1,
  merge: (a, b) => a + b,
})

/** The state with value `i` of a batch in it; a throw in the fold's functions names the record. */
export const added = <A, S>(
  fold: Fold<A, S, unknown>,
  state: S | undefined,
  batch: Batch<A, unknown>,
  i: number,
): S => {
  try {
    return fold.add(state === undefined ? fold.initial() : state, batch.values[i]!)
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
}
