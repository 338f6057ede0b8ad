/** What a fold is. */
import type { Schema } from "effect"

/**
 * How the values of a key become one. `state` is what is kept and logged, `result` what is emitted of it: it is asked only
 * of states that hold a value. States are immutable: `add` and `merge` answer a new one, or the same where nothing changes.
 *
 * A throw in one of these functions stops the task at the record at hand, uncommitted.
 */
export interface Fold<in A, in out S, out B = S> {
  readonly state: Schema.Codec<S, unknown>
  initial(): S
  add(state: S, value: A): S
  result(state: S): B
}

/**
 * A fold whose states can be put together: for windows that grow into each other. The merge of the states of two lists of
 * values must be the state of both lists one after the other.
 */
export interface MergingFold<in A, in out S, out B = S> extends Fold<A, S, B> {
  /** Of two states, the one of earlier values first. */
  merge(earlier: S, later: S): S
}
