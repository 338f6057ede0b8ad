/** When the result of a window is emitted, and what must be kept for that. */
import { Duration, Schema, SchemaTransformation } from "effect"

/**
 * `updates` emits a result once per batch that changed it, and once more as final: for the updates of one key and window
 * the last one counts, so write them to a compacted topic or upsert them. `final` emits it only then.
 *
 * `every` limits the rate by stream time: whenever that passes a multiple of the duration, what has changed since the last
 * time is emitted, each result once and as it was before the record that moved time; a window that closes meanwhile
 * only as final. It depends neither on batches nor on restarts.
 */
export type Emit = "updates" | "final" | { readonly every: Duration.Input }

export interface Emission {
  readonly mode: "updates" | "final" | "periods"
  /** Of stream time, in milliseconds; `Infinity` where emission does not go by periods. */
  readonly period: number
}

export const emission = (emit: Emit): Emission => {
  if (typeof emit === "string") return { mode: emit, period: Infinity }
  const period = Duration.toMillis(emit.every)
  if (Number.isInteger(period) && period > 0) return { mode: "periods", period }
  throw new RangeError(`results are emitted every so many whole milliseconds, at least 1; it was ${period}`)
}

/**
 * Stream time as it is logged. It is not known, -Infinity, as long as an input of a merge was never heard: then null.
 */
export const StreamTime: Schema.Codec<number, number | null> = Schema.NullOr(Schema.Finite).pipe(
  Schema.decodeTo(
    Schema.Number,
    SchemaTransformation.transform({
      decode: (time) => time ?? -Infinity,
      encode: (time) => time === -Infinity ? null : time,
    }),
  ),
)

/** Which period a time is in. */
export const periodAt = (time: number, period: number): number => Math.floor(time / period)

/**
 * How a state stands in its store. Where emission goes by periods, beside the stream time of its last change: that tells
 * after a restart what is still to be emitted.
 */
export interface Keeping<S, K> {
  readonly codec: Schema.Codec<K, unknown>
  /** A state that has changed now. */
  keep(state: S, now: number): K
  state(kept: K): S
  /** Stream time of the last change, where it is kept. */
  changedAt(kept: K): number
}

export const keeping = <S>(codec: Schema.Codec<S, unknown>, { mode }: Emission): Keeping<S, unknown> =>
  (mode === "periods" ? stamped(codec) : plain(codec)) as Keeping<S, unknown>

const plain = <S>(codec: Schema.Codec<S, unknown>): Keeping<S, S> => ({
  codec,
  keep: (state) => state,
  state: (kept) => kept,
  changedAt: () => NaN,
})

const stamped = <S>(codec: Schema.Codec<S, unknown>): Keeping<S, readonly [changedAt: number, state: S]> => ({
  codec: Schema.Tuple([StreamTime, codec]),
  keep: (state, now) => [now, state],
  state: ([, state]) => state,
  changedAt: ([changedAt]) => changedAt,
})
