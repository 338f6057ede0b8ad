/** When the result of a window is emitted, and what must be kept for that. */
import { Duration, Schema } from "effect"

/**
 * `updates` emits a result once per batch that changed it, and once more as final: for the updates of one key and window
 * the last one counts, so write them to a compacted topic or upsert them. `final` emits it only then.
 *
 * `every` limits the rate by stream time: whenever that passes a multiple of the duration, what has changed since the last
 * time is emitted, each result once and as it was before the record that moved time; a window that closes meanwhile
 * only as final. It does not depend on batches, nor on restarts.
 */
export type Emit = "updates" | "final" | { readonly every: Duration.Input }

/** The length of a period of stream time, where emission goes by periods. */
export const periodOf = (emit: Emit): number | undefined => {
  if (typeof emit === "string") return undefined
  const every = Duration.toMillis(emit.every)
  if (Number.isInteger(every) && every > 0) return every
  throw new RangeError(`results are emitted every so many whole milliseconds, at least 1; it was ${every}`)
}

/**
 * How a state stands in its store. Where emission goes by periods, beside the stream time of its last change: that tells
 * after a restart what is still to be emitted.
 */
export interface Keeping<S, K> {
  readonly codec: Schema.Codec<K, unknown>
  keep(state: S, now: number): K
  state(kept: K): S
  /** Whether the last change was in the period of `now`. */
  isFresh(kept: K, now: number): boolean
}

export const plainly = <S>(codec: Schema.Codec<S, unknown>): Keeping<S, S> => ({
  codec,
  keep: (state) => state,
  state: (kept) => kept,
  isFresh: () => false,
})

export type Stamped<S> = readonly [changedAt: number, state: S]

export const stamped = <S>(codec: Schema.Codec<S, unknown>, period: number): Keeping<S, Stamped<S>> => ({
  codec: Schema.Tuple([Schema.Finite, codec]),
  keep: (state, now) => [now, state],
  state: ([, state]) => state,
  isFresh: ([changedAt], now) => periodAt(changedAt, period) === periodAt(now, period),
})

export const keeping = <S>(codec: Schema.Codec<S, unknown>, period: number | undefined): Keeping<S, unknown> =>
  (period === undefined ? plainly(codec) : stamped(codec, period)) as Keeping<S, unknown>

/** Which period a time is in. */
export const periodAt = (time: number, period: number): number => Math.floor(time / period)
