/** Windows over event time, and what happens to records that come after theirs has closed. */
import { isUtf8 } from "node:buffer"
import { Duration, Schema } from "effect"
import { type Batch, keyBytes } from "../Batch.ts"
import { text } from "../Topic.ts"

/**
 * `[start, start + size)`, beginning at every multiple of `every` since 1970. Milliseconds; `every` is at most `size`.
 */
export interface Aligned {
  readonly _tag: "Aligned"
  readonly size: number
  readonly every: number
  readonly grace: number
}

/**
 * Windows of one size, one after the other: every record is in exactly one. A window stays open until stream time has
 * passed its end by `grace` (none by default); after that its records are `Late`.
 */
export const tumbling = (options: { readonly size: Duration.Input; readonly grace?: Duration.Input }): Aligned =>
  hopping({ ...options, every: options.size })

/**
 * Windows of one size that begin `every` so often and overlap: every record is in `size / every` of them, rounded up or
 * down. A record may be late for some and not for others: it counts in those that are open.
 */
export const hopping = (
  options: { readonly size: Duration.Input; readonly every: Duration.Input; readonly grace?: Duration.Input },
): Aligned => {
  const size = millis("size", options.size, 1)
  const every = millis("every", options.every, 1)
  if (every > size) {
    throw new RangeError("windows that begin less often than they are long leave records out: every <= size")
  }
  return { _tag: "Aligned", size, every, grace: millis("grace", options.grace ?? 0, 0) }
}

/** A whole number of milliseconds, at least `least`. */
const millis = (name: string, of: Duration.Input, least: number): number => {
  const millis = Duration.toMillis(of)
  if (Number.isInteger(millis) && millis >= least) return millis
  throw new RangeError(`a window's ${name} is a whole number of milliseconds, at least ${least}; it was ${millis}`)
}

/** The result of one key in one window. `final` once the window has closed: nothing is added to it any more. */
export interface Windowed<out V> {
  readonly key: string
  /** Milliseconds since 1970; the window is `[start, end)`. */
  readonly start: number
  readonly end: number
  readonly value: V
  readonly final: boolean
}

/**
 * A record came after its window had closed: it is not in that window's result. The record itself goes on to be routed;
 * nothing else that it caused is undone.
 */
export class Late extends Schema.TaggedError<Late>()("Late", {
  message: Schema.String,
  /** The end of the last window that the record missed, exclusive; milliseconds since 1970. */
  windowEnd: Schema.Number,
  /** Set where the record still counted in later windows. */
  partly: Schema.optionalKey(Schema.Literal(true)),
}) {}

/** A stage that groups by key met a record that has none, or one that is not text. */
export class Keyless extends Schema.TaggedError<Keyless>()("Keyless", {
  field: Schema.String,
  message: Schema.String,
}) {}

/** The key of value `i` as text, which must be UTF-8 so that no two keys become one; or why there is none. */
export const groupKey = (batch: Batch<unknown, unknown>, i: number, stage: string): string | Keyless => {
  const bytes = keyBytes(batch, i)
  if (bytes === null) return keyless(stage, "has none")
  const key = text(bytes)
  return key.includes("\ufffd") && !isUtf8(bytes) ? keyless(stage, "has one that is not UTF-8 text") : key
}

const keyless = (stage: string, problem: string): Keyless =>
  new Keyless({ field: "key", message: `${stage} groups by the record's key, and this record ${problem}` })
