/**
 * A batch points into what one fetch returned for one partition. Stages change its values and never its positions,
 * so a record that is filtered, failed or folded away still advances the position that is committed.
 */
import type { Any as AnyTopic } from "./Topic.ts"
import { text } from "./Topic.ts"

export type Headers = ReadonlyArray<readonly [name: string, value: Uint8Array]>

/** What one fetch returned for one partition, as columns. Never copied, never changed. */
export interface Source {
  readonly topic: AnyTopic
  readonly partition: number
  /** How many records. Zero for a tick of the wall clock, which passes through every stage like any other batch. */
  readonly length: number
  /** The position after this fetch: gaps left by transaction markers and compaction are already skipped. */
  readonly next: number
  /** Bytes of keys and values, for bounding what is in flight. */
  readonly size: number
  readonly keys: ReadonlyArray<Uint8Array | null>
  readonly bytes: ReadonlyArray<Uint8Array | null>
  readonly headers: ReadonlyArray<Headers>
  /** Kafka timestamps: milliseconds since 1970. */
  readonly timestamps: Float64Array
  /** Offsets, exact up to 2^53. */
  readonly offsets: Float64Array
}

/** Event time per value, and stream time (the highest event time so far) as it stood after each value's record. */
export interface Time {
  readonly timestamps: Float64Array
  readonly clock: Float64Array
  /** Stream time after the whole batch, rows that were dropped included. */
  readonly now: number
}

/** What every failure of a record must be: routed by its tag, described by its message. */
export interface Failure {
  readonly _tag: string
  readonly message: string
}

/** A row that failed, and why; its original bytes are the source's. `kept` when the row goes on, as a late one does. */
export interface Failed<out F> {
  readonly row: number
  readonly reason: F
  readonly kept?: true
}

/** A row dropped on purpose, counted by reason. */
export interface Dropped {
  readonly row: number
  readonly reason: string
}

/** A record that is produced when this batch commits, caused by `row`. */
export interface Outgoing {
  readonly topic: string
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers?: Headers
  readonly partition?: number
  readonly row: number
}

/** A change of a keyed store that is logged when this batch commits. `undefined` deletes. */
export interface Change {
  readonly store: string
  readonly key: string
  readonly value: unknown
  /** The bytes the changelog gets: made at the commit, once for the last change of a key. */
  encode(): Uint8Array | null
}

/**
 * `values[i]` came from source row `rows[i]` (`rows` absent: row `i`). Rows never decrease, so filter and flatMap
 * rewrite two columns and map one.
 */
export interface Batch<out A, out F = never> {
  readonly source: Source
  readonly values: ReadonlyArray<A>
  readonly rows: Uint32Array | undefined
  /** Only after a change of key. */
  readonly keys: ReadonlyArray<Uint8Array | null> | undefined
  readonly time: Time | undefined
  readonly failed: ReadonlyArray<Failed<F>>
  readonly dropped: ReadonlyArray<Dropped>
  /** How many values were folded into state instead of going on. */
  readonly folded: number
  readonly outgoing: ReadonlyArray<Outgoing>
  readonly changes: ReadonlyArray<Change>
}

const none: ReadonlyArray<never> = []

/** The batch that a fetch starts as: its values are the records' own. */
export const fromSource = <A>(source: Source, values: ReadonlyArray<A>): Batch<A> => ({
  source,
  values,
  rows: undefined,
  keys: undefined,
  time: undefined,
  failed: none,
  dropped: none,
  folded: 0,
  outgoing: none,
  changes: none,
})

/** The source row that value `i` came from. */
export const row = (batch: Batch<unknown, unknown>, i: number): number => batch.rows === undefined ? i : batch.rows[i]!

/** The only place that rewrites columns: `values[k]` was made from value `from[k]` of `batch`. */
export const gather = <A, B, F>(batch: Batch<A, F>, values: ReadonlyArray<B>, from: Uint32Array): Batch<B, F> => {
  const { rows, keys, time } = batch
  return {
    ...batch,
    values,
    rows: rows === undefined ? from : from.map((i) => rows[i]!),
    keys: keys && Array.from(from, (i) => keys[i]!),
    time: time && { timestamps: pick(time.timestamps, from), clock: pick(time.clock, from), now: time.now },
  }
}

const pick = (column: Float64Array, from: Uint32Array): Float64Array => {
  const picked = new Float64Array(from.length)
  for (let k = 0; k < from.length; k++) picked[k] = column[from[k]!]!
  return picked
}

/**
 * Marks rows as failed: each loses its values and its outgoing records, and keeps the first failure it had.
 * State changes that the row already caused stay.
 */
export const fail = <A, F, G>(batch: Batch<A, F>, failures: ReadonlyArray<Failed<G>>): Batch<A, F | G> => {
  if (failures.length === 0) return batch
  const gone = new Map<number, Failed<G>>()
  for (const failure of failures) if (!gone.has(failure.row)) gone.set(failure.row, failure)
  return {
    ...keep(batch, (i) => !gone.has(row(batch, i))),
    failed: [...batch.failed, ...gone.values()],
    outgoing: batch.outgoing.length === 0 ? none : batch.outgoing.filter((o) => !gone.has(o.row)),
  }
}

/** Keeps the values for which `is` holds. */
export const keep = <A, F>(batch: Batch<A, F>, is: (i: number) => boolean): Batch<A, F> => {
  const values: Array<A> = []
  const from = new Uint32Array(batch.values.length)
  for (let i = 0; i < batch.values.length; i++) {
    if (!is(i)) continue
    from[values.length] = i
    values.push(batch.values[i]!)
  }
  return values.length === batch.values.length ? batch : gather(batch, values, from.subarray(0, values.length))
}

/** What a user's function gets beside the value: a view of the record it came from, safe to keep. */
export class RecordContext {
  readonly #batch: Batch<unknown, unknown>
  readonly #index: number
  constructor(batch: Batch<unknown, unknown>, index: number) {
    this.#batch = batch
    this.#index = index
  }
  get topic(): string {
    return this.#batch.source.topic.name
  }
  get partition(): number {
    return this.#batch.source.partition
  }
  get offset(): number {
    return this.#batch.source.offsets[row(this.#batch, this.#index)]!
  }
  get key(): string | null {
    const key = keyBytes(this.#batch, this.#index)
    return key === null ? null : text(key)
  }
  /** Event time once the value is decoded, the Kafka timestamp before; milliseconds since 1970. */
  get timestamp(): number {
    const { source, time } = this.#batch
    return time === undefined ? source.timestamps[row(this.#batch, this.#index)]! : time.timestamps[this.#index]!
  }
  /** The Kafka timestamp: when the record was written. Milliseconds since 1970. */
  get arrival(): number {
    return this.#batch.source.timestamps[row(this.#batch, this.#index)]!
  }
  get headers(): Headers {
    return this.#batch.source.headers[row(this.#batch, this.#index)]!
  }
}

export const keyBytes = (batch: Batch<unknown, unknown>, i: number): Uint8Array | null =>
  batch.keys === undefined ? batch.source.keys[row(batch, i)]! : batch.keys[i]!

/** A user's function threw: a defect that stops the task, and says at which record. */
export class RecordDefect extends Error {
  override readonly name = "RecordDefect"
  constructor(batch: Batch<unknown, unknown>, i: number, cause: unknown) {
    const { source } = batch
    super(
      `a stage's function threw at topic ${source.topic.name} partition ${source.partition} offset ` +
        `${source.offsets[row(batch, i)]}: ${cause instanceof Error ? `${cause.name}: ${cause.message}` : "not an Error"}`,
      { cause },
    )
  }
}
