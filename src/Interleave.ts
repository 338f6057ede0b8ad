/** Putting together again what two branches have made of one batch. */
import type { Batch, Failed } from "./Batch.ts"
import { keyBytes, row, unitOf, withoutRows, withoutValues } from "./Batch.ts"

/**
 * Two batches made from one batch, as one: values in the order of rows, then of stream time, those of `a` first where both
 * are equal, and whatever both inherited counted once. A row that failed on one side loses what it has on the other.
 */
export const interleave = <A, B, F, G>(a: Batch<A, F>, b: Batch<B, G>): Batch<A | B, F | G> =>
  underOneClock(weave(a, b))

/**
 * The same, with each value still under the clock of its own branch: where there are more branches, by which the values of
 * a row are put in order. When all are together they come `underOneClock`.
 */
export const weave = <A, B, F, G>(a: Batch<A, F>, b: Batch<B, G>): Batch<A | B, F | G> => {
  const inherited = new Set<unknown>(a.failed)
  const ofB = b.failed.filter((failure) => !inherited.has(failure))
  const common = new Set<unknown>(b.failed)
  const undoneByA = a.failed.filter((failure) => !common.has(failure) && !failure.kept)
  const undoneByB = ofB.filter((failure) => !failure.kept)
  return {
    ...a,
    ...woven(withoutValues(a, undoneByB), withoutValues(b, undoneByA)),
    failed: union<Failed<F | G>>(a.failed, [
      ...ofB.filter((failure) => failure.kept),
      ...withoutRows(undoneByB, undoneByA),
    ]),
    dropped: union(a.dropped, b.dropped),
    folded: union(a.folded, b.folded),
    outgoing: union(withoutRows(a.outgoing, undoneByB), withoutRows(b.outgoing, undoneByA)),
    changes: union(a.changes, b.changes),
  }
}

/** No value is under a later clock than its row, or the tick that caused it: that of the branch that is behind. */
export const underOneClock = <A, F>(batch: Batch<A, F>): Batch<A, F> => {
  const { time } = batch
  if (time === undefined) return batch
  const clock = time.clock.map((at, i) => Math.min(at, time.rowClock[row(batch, i)] ?? time.now))
  return { ...batch, time: { ...time, clock } }
}

/** The columns of two batches in row order. */
const woven = <A, B, F, G>(
  a: Batch<A, F>,
  b: Batch<B, G>,
): Pick<Batch<A | B, never>, "values" | "rows" | "keys" | "units" | "time"> => {
  const length = a.values.length + b.values.length
  const values: Array<A | B> = []
  const rows = new Uint32Array(length)
  const keys = a.keys === undefined && b.keys === undefined ? undefined : new Array<Uint8Array | null>(length)
  const units = a.units === undefined && b.units === undefined ? undefined : new Float64Array(length)
  const timestamps = new Float64Array(length)
  const clock = new Float64Array(length)
  const rowClock = a.time && b.time && lower(a.time.rowClock, b.time.rowClock)
  let i = 0
  let j = 0
  for (let k = 0; k < length; k++) {
    const fromA = j === b.values.length || (i < a.values.length && comesFirst(a, i, b, j))
    const side: Batch<A | B, F | G> = fromA ? a : b
    const at = fromA ? i++ : j++
    values.push(side.values[at]!)
    rows[k] = row(side, at)
    if (keys !== undefined) keys[k] = keyBytes(side, at)
    if (units !== undefined) units[k] = unitOf(side, at)
    timestamps[k] = side.time?.timestamps[at] ?? side.source.timestamps[rows[k]!]!
    clock[k] = side.time?.clock[at] ?? -Infinity
  }
  const time = a.time && b.time && rowClock &&
    { timestamps, clock, rowClock, now: Math.min(a.time.now, b.time.now) }
  return { values, rows, keys, units, time }
}

/** What one row has caused stands in the order of stream time: a fold may have emitted it at different ones. */
const comesFirst = (a: Batch<unknown, unknown>, i: number, b: Batch<unknown, unknown>, j: number): boolean => {
  const [left, right] = [row(a, i), row(b, j)]
  return left < right || left === right && !((a.time?.clock[i] ?? 0) > (b.time?.clock[j] ?? 0))
}

/** Stream time of two branches together: a fold in one of them has a time of its own, behind that of what it folds. */
const lower = (a: Float64Array, b: Float64Array): Float64Array => a === b ? a : a.map((at, i) => Math.min(at, b[i]!))

const union = <T>(a: ReadonlyArray<T>, b: ReadonlyArray<T>): ReadonlyArray<T> =>
  b.length === 0 || a === b ? a : a.length === 0 ? b : [...new Set([...a, ...b])]
