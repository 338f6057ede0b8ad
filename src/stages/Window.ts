/** Windows over event time, and what happens to records that come after theirs has closed. */
import { Duration, Schema } from "effect"

/** `[start, start + size)`, aligned to 1970: every record is in exactly one. Milliseconds. */
export interface Tumbling {
  readonly size: number
  readonly grace: number
}

/**
 * Windows of one size, one after the other. A window stays open until stream time has passed its end by `grace` (none by
 * default); after that its records are `Late`.
 */
export const tumbling = (options: { readonly size: Duration.Input; readonly grace?: Duration.Input }): Tumbling => {
  const size = Duration.toMillis(options.size)
  const grace = Duration.toMillis(options.grace ?? 0)
  if (!(size >= 1 && Number.isInteger(size))) {
    throw new RangeError("a window's size is a whole number of milliseconds, at least 1")
  }
  if (!(grace >= 0 && grace < Infinity)) throw new RangeError("a window's grace is zero or a finite time")
  return { size, grace }
}

/**
 * A record came after its window had closed: it is not in any result. The record itself goes on to be routed; nothing
 * else that it caused is undone.
 */
export class Late extends Schema.TaggedError<Late>()("Late", {
  message: Schema.String,
  /** The end of the window that the record missed, exclusive; milliseconds since 1970. */
  windowEnd: Schema.Number,
}) {}

/** A stage that groups by key met a record that has none. */
export class Keyless extends Schema.TaggedError<Keyless>()("Keyless", {
  field: Schema.String,
  message: Schema.String,
}) {}

/** The failure of a record without a key in the stage `stage`. */
export const keyless = (stage: string): Keyless =>
  new Keyless({ field: "key", message: `${stage} groups by the record's key, and this record has none` })
