/** Windows, and what happens to records that come after theirs has closed. */
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

/** Made by records, both ends included; milliseconds. */
export interface Sliding {
  readonly _tag: "Sliding"
  readonly difference: number
  readonly grace: number
}

/** Records with no silence of more than `gap` between them; milliseconds. */
export interface Session {
  readonly _tag: "Session"
  readonly gap: number
  readonly grace: number
}

/** So many records of a key, in the order they come. */
export interface Count {
  readonly _tag: "Count"
  readonly size: number
  readonly every: number
  /** Milliseconds of stream time; `undefined` where windows wait for ever. */
  readonly timeout: number | undefined
}

export type Any = Aligned | Sliding | Session | Count

/**
 * Windows of one size, one after the other: every record is in exactly one. A window stays open until stream time has
 * passed its end by `grace` (none by default); after that its records are `Late`.
 */
export const tumbling = (options: { readonly size: Duration.Input; readonly grace?: Duration.Input }): Aligned =>
  hopping({ ...options, every: options.size })

/** In more windows than this no record can be counted in time: a step is meant that is longer. */
const mostPerRecord = 10_000

/**
 * Windows of one size that begin `every` so often and overlap: every record is in `size / every` of them, rounded up or
 * down, and at most 10,000. A record may be late for some and not for others: it counts in those that are open.
 */
export const hopping = (
  options: { readonly size: Duration.Input; readonly every: Duration.Input; readonly grace?: Duration.Input },
): Aligned => {
  const size = millis("size", options.size, 1)
  const every = millis("every", options.every, 1)
  if (every > size) {
    throw new RangeError("windows that begin less often than they are long leave records out: every <= size")
  }
  if (size / every > mostPerRecord) {
    throw new RangeError(
      `windows of ${size} ms that begin every ${every} ms: each record would be in ${
        Math.ceil(size / every)
      } of them, ` +
        `and ${mostPerRecord} are taken; let them begin less often, or take sliding windows`,
    )
  }
  return { _tag: "Aligned", size, every, grace: millis("grace", options.grace ?? 0, 0) }
}

/**
 * For every record of a key the window that ends with it, `[time - difference, time]`; and where others follow within
 * the difference, the one that begins after it, `[time + 1, time + 1 + difference]`. Together these are all windows of
 * that length that differ in what they hold, as KIP-450 has them for Kafka Streams.
 *
 * A window stays open until stream time is later than its end by more than `grace` (none by default).
 */
export const sliding = (
  options: { readonly difference: Duration.Input; readonly grace?: Duration.Input },
): Sliding => ({
  _tag: "Sliding",
  difference: millis("difference", options.difference, 1),
  grace: millis("grace", options.grace ?? 0, 0),
})

/**
 * From the first to the last record of a key between which there is no silence of more than `gap`: records that are exactly
 * one gap apart are in one session. Sessions between which a record comes late grow together.
 *
 * A session stays open until stream time is later than its last record by more than gap and `grace` (none by default). A
 * record from before that time is late, unless it falls between the first and the last record of an open session: a
 * session does not begin, nor begin earlier than it did, where others have closed.
 */
export const session = (options: { readonly gap: Duration.Input; readonly grace?: Duration.Input }): Session => ({
  _tag: "Session",
  gap: millis("gap", options.gap, 1),
  grace: millis("grace", options.grace ?? 0, 0),
})

/**
 * Windows of `size` records of a key, whatever their time, in the order they come. A new one begins with every `every`th
 * record: one after the other by default, overlapping where that is less than the size; a record is in at most 10,000.
 *
 * Without `timeout` a key's windows wait for ever to be full, and memory grows with the number of keys. With it, windows
 * close as they are once stream time has gone on by that much since the last record of their key, and the key is
 * forgotten.
 */
export const count = (
  options: { readonly size: number; readonly every?: number; readonly timeout?: Duration.Input },
): Count => {
  const { size, every = size } = options
  if (!(Number.isInteger(size) && size >= 1 && Number.isInteger(every) && every >= 1 && every <= size)) {
    throw new RangeError(`a window of records has a whole number of them, and 1 <= every <= size: ${every}, ${size}`)
  }
  if (size / every > mostPerRecord) {
    throw new RangeError(
      `windows of ${size} records that begin every ${every}: each record would be in more than ${mostPerRecord} of them`,
    )
  }
  const timeout = options.timeout === undefined ? undefined : millis("timeout", options.timeout, 1)
  return { _tag: "Count", size, every, timeout }
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
  /** Milliseconds since 1970, and the first of the window; of a sliding window it may be negative. */
  readonly start: number
  /** The first millisecond after a tumbling or hopping window; the last one of any other. */
  readonly end: number
  readonly value: V
  readonly final: boolean
}

/**
 * The result of a session: `start` and `end` are the times of its first and its last record.
 *
 * An earlier start than before makes it another session for those who know it by key and start: the result that they may
 * have is `retracted`, with what it last was. So are those of sessions that have grown into one that began earlier.
 * Results that are only emitted as final are never retracted.
 */
export interface SessionResult<out V> extends Windowed<V> {
  readonly retracted: boolean
}

/** The result of a count window: `start` and `end` are the times of its earliest and its latest record. */
export interface Counted<out V> extends Windowed<V> {
  /** Which of the key's windows it is: the first is 0, and again the first after a timeout. */
  readonly number: number
  /** How many records it holds; as many as its size when it closes, unless by a timeout. */
  readonly count: number
}

/** What is emitted for a kind of window. */
export type Result<W, V> = W extends Session ? SessionResult<V> : W extends Count ? Counted<V> : Windowed<V>

/** What a record may fail with, by the kind of window. */
export type Failure<W> = W extends Count ? Keyless : Late | Keyless

/**
 * A record came after its window had closed: it is not in that window's result. The record itself goes on to be routed;
 * nothing else that it caused is undone.
 */
export class Late extends Schema.TaggedError<Late>()("Late", {
  message: Schema.String,
  /** The end of the last window that the record missed, as results have it; milliseconds since 1970. */
  windowEnd: Schema.Number,
  /** Set where the record still counted in later windows. */
  partly: Schema.optionalKey(Schema.Literal(true)),
}) {}

export const late = (windowEnd: number, timestamp: number, partly?: true): Late =>
  new Late({
    message: `the window that ends at ${windowEnd} closed before this record of ${timestamp} came`,
    windowEnd,
    ...partly && { partly },
  })

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
