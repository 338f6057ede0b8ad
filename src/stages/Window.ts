/** Windows over event time, and what happens to records that come after theirs has closed. */
import { isUtf8 } from "node:buffer"
import { Duration, Schema } from "effect"
import { type Batch, keyBytes } from "../Batch.ts"
import { text } from "../Topic.ts"

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
