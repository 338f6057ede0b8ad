/** Lists that mostly hold one tuple, which is then kept without the list. */
import { Schema } from "effect"

/** A tuple that begins with a number, which tells it from a list of such. */
type Tuple = readonly [number, ...ReadonlyArray<unknown>]

export type OneOrMany<T extends Tuple> = T | ReadonlyArray<T>

export const codec = <T extends Tuple>(tuple: Schema.Codec<T, unknown>): Schema.Codec<OneOrMany<T>, unknown> =>
  Schema.Union([tuple, Schema.Array(tuple)])

export const listed = <T extends Tuple>(kept: OneOrMany<T>): ReadonlyArray<T> =>
  typeof kept[0] === "number" ? [kept as T] : kept as ReadonlyArray<T>

/** A list in as little room as it needs: one that has grown keeps some for more. */
export const compact = <T extends Tuple>(list: ReadonlyArray<T>): OneOrMany<T> =>
  list.length === 1 ? list[0]! : list.slice()
