/** Ways to make one value of many: what aggregates are made of. */
import { Schema } from "effect"
import type { Fold, MergingFold } from "./folds/Folding.ts"

export type { Fold, MergingFold }
export { average, count, max, min, sum } from "./folds/NumberFolds.ts"
export { collect, first, last, maxBy, minBy, top } from "./folds/ValueFolds.ts"
export { approximateDistinct, distinct, distinctValues } from "./folds/DistinctFolds.ts"

/** A fold of your own; its result is the state unless told. */
export function make<A, S, B>(fold: MergingFold<A, S, B>): MergingFold<A, S, B>
export function make<A, S>(fold: Omit<MergingFold<A, S>, "result">): MergingFold<A, S>
export function make<A, S, B>(fold: Fold<A, S, B>): Fold<A, S, B>
export function make<A, S>(fold: Omit<Fold<A, S>, "result">): Fold<A, S>
export function make<A, S>(fold: Omit<Fold<A, S>, "result">): Fold<A, S> {
  return { result: (state) => state, ...fold }
}

/** The same fold with another result. */
export function map<A, S, B, C>(fold: MergingFold<A, S, B>, f: (result: B) => C): MergingFold<A, S, C>
export function map<A, S, B, C>(fold: Fold<A, S, B>, f: (result: B) => C): Fold<A, S, C>
export function map<A, S, B, C>(fold: Fold<A, S, B>, f: (result: B) => C): Fold<A, S, C> {
  return { ...fold, result: (state) => f(fold.result(state)) }
}

/** The same fold over what `of` makes of each value. */
export function contramap<A, C, S, B>(fold: MergingFold<C, S, B>, of: (value: A) => C): MergingFold<A, S, B>
export function contramap<A, C, S, B>(fold: Fold<C, S, B>, of: (value: A) => C): Fold<A, S, B>
export function contramap<A, C, S, B>(fold: Fold<C, S, B>, of: (value: A) => C): Fold<A, S, B> {
  return { ...fold, add: (state, value) => fold.add(state, of(value)) }
}

// deno-lint-ignore no-explicit-any -- States differ from fold to fold, and nothing is done with them here.
type Any<A> = Fold<A, any, unknown>
// deno-lint-ignore no-explicit-any
type AnyMerging<A> = MergingFold<A, any, unknown>
type Folds<F> = { readonly [name: string]: F }

type Input<F> = F extends Any<infer A> ? A : never
type Inputs<M> = { readonly [K in keyof M]: (value: Input<M[K]>) => void }[keyof M] extends (value: infer A) => void ? A
  : never
// deno-lint-ignore no-explicit-any
type States<M> = { readonly [K in keyof M]: M[K] extends Fold<never, infer S, any> ? S : never }
// deno-lint-ignore no-explicit-any
type Results<M> = { readonly [K in keyof M]: M[K] extends Fold<never, any, infer B> ? B : never }

/** Several folds of the same values side by side; the result has each of theirs under its name. */
export const all: {
  <A, M extends Folds<AnyMerging<A>>>(folds: M): MergingFold<A & Inputs<M>, States<M>, Results<M>>
  <M extends Folds<AnyMerging<never>>>(folds: M): MergingFold<Inputs<M>, States<M>, Results<M>>
  <A, M extends Folds<Any<A>>>(folds: M): Fold<A & Inputs<M>, States<M>, Results<M>>
  <M extends Folds<Any<never>>>(folds: M): Fold<Inputs<M>, States<M>, Results<M>>
} = (folds: Folds<Any<unknown>>): never => sideBySide(folds) as unknown as never

type Named = { readonly [name: string]: unknown }

const sideBySide = (folds: Folds<Any<unknown>>): Fold<unknown, Named, Named> => {
  const names = Object.keys(folds)
  const each = (f: (fold: AnyMerging<unknown>, name: string) => unknown): Named => {
    const made: Record<string, unknown> = {}
    for (const name of names) made[name] = f(folds[name] as AnyMerging<unknown>, name)
    return made
  }
  const fold: Fold<unknown, Named, Named> = {
    state: Schema.Struct(each((fold) => fold.state) as Record<string, Schema.Codec<unknown, unknown>>),
    initial: () => each((fold) => fold.initial()),
    add: (state, value) => {
      const added = each((fold, name) => fold.add(state[name], value))
      return names.every((name) => added[name] === state[name]) ? state : added
    },
    result: (state) => each((fold, name) => fold.result(state[name])),
  }
  if (!names.every((name) => "merge" in folds[name]!)) return fold
  const merge = (earlier: Named, later: Named) => each((fold, name) => fold.merge(earlier[name], later[name]))
  return { ...fold, merge } as Fold<unknown, Named, Named>
}
