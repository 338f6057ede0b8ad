/** What folds make of a list of values: computed from the whole list. */
import type { Value } from "./Stream.ts"

type Values = ReadonlyArray<Value>
export type Fold = (values: Values) => unknown

const numbers = (values: Values) => values.map(({ n }) => n)

export const count: Fold = (values) => values.length
export const sum: Fold = (values) => numbers(values).reduce((a, b) => a + b, 0)
export const average: Fold = (values) => numbers(values).reduce((a, b) => a + b, 0) / values.length
export const least: Fold = (values) => Math.min(...numbers(values))
export const greatest: Fold = (values) => Math.max(...numbers(values))
export const first: Fold = (values) => values[0]!.id
export const last: Fold = (values) => values.at(-1)!.id
export const distinct: Fold = (values) => new Set(values.map(({ id }) => id)).size
export const top: Fold = (values) => values.toSorted((a, b) => b.n - a.n).slice(0, 2).map(({ id }) => id)
export const newest: Fold = (values) => values.slice(-3).map(({ id }) => id)
/** Each number once where it came several times in a row. */
export const way: Fold = (values) => numbers(values).filter((n, i, all) => n !== all[i - 1]).join(">")
export const several: Fold = (values) => ({ n: values.length, sum: sum(values) })
