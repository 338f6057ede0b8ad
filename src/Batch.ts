/**
 * A batch points into what one fetch returned for one partition. Stages change its values and never its positions,
 * so a record that is filtered, failed or folded away still advances the position that is committed.
 */
import { Buffer } from "node:buffer"
import type { Clock } from "./StreamTime.ts"
import type { Any as AnyTopic } from "./Topic.ts"
import { text } from "./Topic.ts"

export type Headers = ReadonlyArray<readonly [name: string, value: Uint8Array]>

/** What one fetch returned for one partition, as columns. Never copied, never changed. */
export interface Source {
  readonly topic: AnyTopic
  readonly partition: number
  /** How many records. Zero for a tick of the wall clock, which passes through every stage like any other batch. */
  readonly length: number
  /** Of a tick: for how long its topic has been silent, since the last record or the last tick. Milliseconds. */
  readonly silence?: number
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
  /** For a repartition topic: how many tasks write it. */
  readonly upstream: number | undefined
  /** In a replay: records below this offset were processed before, and are processed again. */
  readonly replayedBelow?: number
}

/**
 * Event time per value, and stream time (the highest event time so far) as it stood after each value's record: lateness
 * depends neither on where batches are cut nor on which rows were dropped.
 */
export interface Time {
  readonly timestamps: Float64Array
  readonly clock: Float64Array
  /** Stream time after each source row, also where a row has no value. */
  readonly rowClock: Float64Array
  /** Stream time of the task after the whole batch. */
  readonly now: number
}

/** What every failure of a record must be: routed by its tag, described by its message, placed by its field. */
export interface Failure {
  readonly _tag: string
  /** Says what is wrong, without personal data: it goes into dead letters' headers. */
  readonly message: string
  readonly field?: string
}

/**
 * A row that failed, and why; its original bytes are the source's. `kept` where nothing else that the row has caused is
 * taken back, as for a late one.
 */
export interface Failed<out F> {
  readonly row: number
  readonly reason: F
  readonly kept?: true
  /** For a value made of many records, by a fold: what fails with it, and what it was. */
  readonly unit?: number
  readonly record?: { readonly key: Uint8Array | null; readonly value: Uint8Array | null }
}

/** A row dropped on purpose, counted by reason. */
export interface Dropped {
  readonly row: number
  readonly reason: string
}

/** How many values a stage folded into its state. */
export interface Folded {
  readonly stage: string
  readonly count: number
}

/** A record that is produced when this batch commits, caused by `row`. */
export interface Outgoing {
  readonly topic: string
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers?: Headers
  readonly partition?: number
  readonly row: number
  /** What it fails with, where that is not its row. */
  readonly unit?: number
  /** The tag of the failure that a route sent here. */
  readonly failure?: string
  /** Written only if no later one of its batch has its topic and key. */
  readonly latest?: true
}

/** New values by key; `undefined` where the key was deleted. Of a key that is named twice the last value counts. */
export interface Entries extends Iterable<readonly [key: string, value: unknown]> {
  readonly size: number
}

/** What one batch changed in one keyed store: logged when the batch commits. */
export interface Changes {
  readonly store: string
  /** Counts the batches that changed the store, so that a commit can tell which of them it contains. */
  readonly version: number
  /** The store's stream time after the batch. */
  readonly streamTime: number
  readonly entries: Entries
  /** What the store's entries are (see `StoreSpec`). */
  readonly shape?: string | undefined
  /** Where the changelog began when the store was restored from it. */
  readonly logStart?: number | undefined
  /** The bytes the changelog gets for a value: made at the commit, once for the last change of a key. */
  encode(value: unknown): Uint8Array
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
  /** What fails together, per value: the values of one row, or after a fold each of its results by itself (see `units`). */
  readonly units: Float64Array | undefined
  readonly time: Time | undefined
  /** The input's own clock after that many source rows: what is committed with the position there. */
  readonly clockAfter: ((rows: number) => Clock) | undefined
  readonly failed: ReadonlyArray<Failed<F>>
  readonly dropped: ReadonlyArray<Dropped>
  /** Values that were folded into state instead of going on. */
  readonly folded: ReadonlyArray<Folded>
  readonly outgoing: ReadonlyArray<Outgoing>
  readonly changes: ReadonlyArray<Changes>
}

const none: ReadonlyArray<never> = []
const noTimes = new Float64Array(0)

/** The batch that a fetch starts as: its values are the records' own. */
export const fromSource = <A>(source: Source, values: ReadonlyArray<A>): Batch<A> => ({
  source,
  values,
  rows: undefined,
  keys: undefined,
  units: undefined,
  time: undefined,
  clockAfter: undefined,
  failed: none,
  dropped: none,
  folded: none,
  outgoing: none,
  changes: none,
})

/** Whether a batch has neither records nor anything that a tick has caused: only positions and clocks have moved. */
export const isEmpty = ({ source, values, outgoing, changes, failed }: Batch<unknown, unknown>): boolean =>
  source.length === 0 && values.length === 0 && outgoing.length === 0 && failed.length === 0 &&
  changes.every(({ entries }) => entries.size === 0)

/** The source row that value `i` came from. */
export const row = (batch: Batch<unknown, unknown>, i: number): number => batch.rows === undefined ? i : batch.rows[i]!

let lastUnit = 2 ** 32

/** Units of their own for so many results of a fold: never equal to each other, nor to a row. */
export const units = (count: number): Float64Array => {
  const made = new Float64Array(count)
  for (let i = 0; i < count; i++) made[i] = ++lastUnit
  return made
}

/** What value `i` fails with: its row, or its own unit. */
export const unitOf = (batch: Batch<unknown, unknown>, i: number): number => batch.units?.[i] ?? row(batch, i)

/** The failure of value `i`: of its record, or of the value itself where a fold made it of many records. */
export const failing = <G>(batch: Batch<unknown, unknown>, i: number, reason: G): Failed<G> =>
  unitOf(batch, i) === row(batch, i) ? { row: row(batch, i), reason } : {
    row: row(batch, i),
    reason,
    unit: unitOf(batch, i),
    record: { key: keyBytes(batch, i), value: described(batch.values[i]) },
  }

/** A value as JSON, as far as it can be written so. */
const described = (value: unknown): Uint8Array | null => {
  try {
    return Buffer.from(JSON.stringify(value))
  } catch {
    return null
  }
}

/** The only place that rewrites columns: `values[k]` was made from value `from[k]` of `batch`. */
export const gather = <A, B, F>(batch: Batch<A, F>, values: ReadonlyArray<B>, from: Uint32Array): Batch<B, F> => {
  const { rows, keys, units, time } = batch
  return {
    ...batch,
    values,
    rows: rows === undefined ? from : rowsAt(rows, from),
    keys: keys && keysAt(keys, from),
    units: units && numbersAt(units, from),
    time: time && { ...time, timestamps: numbersAt(time.timestamps, from), clock: numbersAt(time.clock, from) },
  }
}

// One function for each kind of column: one for all is slower by far.
const rowsAt = (column: Uint32Array, from: Uint32Array): Uint32Array => {
  const picked = new Uint32Array(from.length)
  for (let k = 0; k < from.length; k++) picked[k] = column[from[k]!]!
  return picked
}

const keysAt = (column: ReadonlyArray<Uint8Array | null>, from: Uint32Array): ReadonlyArray<Uint8Array | null> => {
  const picked = new Array<Uint8Array | null>(from.length)
  for (let k = 0; k < from.length; k++) picked[k] = column[from[k]!]!
  return picked
}

const numbersAt = (column: Float64Array, from: Uint32Array): Float64Array => {
  const picked = new Float64Array(from.length)
  for (let k = 0; k < from.length; k++) picked[k] = column[from[k]!]!
  return picked
}

/**
 * Marks rows (or units) as failed: each loses its values and its outgoing records, and keeps the first failure it had.
 * State changes that it already caused stay.
 */
export const fail = <A, F, G>(batch: Batch<A, F>, failures: ReadonlyArray<Failed<G>>): Batch<A, F | G> => {
  if (failures.length === 0) return batch
  const gone = new Map<number, Failed<G>>()
  for (const failure of failures) if (!gone.has(whatFails(failure))) gone.set(whatFails(failure), failure)
  return {
    ...withoutValues(batch, failures),
    failed: [...batch.failed, ...gone.values()],
    outgoing: withoutRows(batch.outgoing, failures),
  }
}

/** Adds a failure, unless what fails has done so just before: the values of a row stand together, and it fails once. */
export const addFailed = <G>(failures: Array<Failed<G>>, failed: Failed<G>): void => {
  const last = failures.at(-1)
  if (last === undefined || whatFails(last) !== whatFails(failed)) failures.push(failed)
}

/** A batch without the values of what has failed. */
export const withoutValues = <A, F>(batch: Batch<A, F>, failures: ReadonlyArray<Failed<unknown>>): Batch<A, F> => {
  if (failures.length === 0) return batch
  const gone = new Set(failures.map(whatFails))
  return keep(batch, (i) => !gone.has(unitOf(batch, i)))
}

interface Caused {
  readonly row: number
  readonly unit?: number
}

const whatFails = ({ row, unit }: Caused): number => unit ?? row

/** What rows have caused, without what the failed ones have. */
export const withoutRows = <T extends Caused>(
  caused: ReadonlyArray<T>,
  failures: ReadonlyArray<Failed<unknown>>,
): ReadonlyArray<T> => {
  if (caused.length === 0 || failures.length === 0) return caused
  const gone = new Set(failures.map(whatFails))
  return caused.filter((one) => !gone.has(whatFails(one)))
}

/** In the order of their rows, those of one row as they are: the same wherever batches are cut. */
export const byRow = <T extends { readonly row: number }>(of: ReadonlyArray<T>): ReadonlyArray<T> => {
  for (let i = 1; i < of.length; i++) if (of[i]!.row < of[i - 1]!.row) return of.toSorted((a, b) => a.row - b.row)
  return of
}

/** What a batch has to produce once it is through its stages: in the order of rows, and of what is `latest` the last. */
export const departing = (outgoing: ReadonlyArray<Outgoing>): ReadonlyArray<Outgoing> => {
  const inOrder = byRow(outgoing)
  if (!inOrder.some(({ latest }) => latest)) return inOrder
  const last = new Map<string, Outgoing>()
  const name = ({ topic, key }: Outgoing) => `${topic}/${Buffer.from(key!).toString("latin1")}`
  for (const out of inOrder) if (out.latest && out.key !== null) last.set(name(out), out)
  return inOrder.filter((out) => !out.latest || out.key === null || last.get(name(out)) === out)
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

/** Drops the values at the given places, which rise, and counts them under `reason`. */
export const drop = <A, F>(batch: Batch<A, F>, gone: ReadonlyArray<number>, reason: string): Batch<A, F> => {
  if (gone.length === 0) return batch
  let next = 0
  const kept = keep(batch, (i) => {
    if (gone[next] !== i) return true
    next++
    return false
  })
  return { ...kept, dropped: [...batch.dropped, ...gone.map((i) => ({ row: row(batch, i), reason }))] }
}

/** A batch that is through its stages, without its records and values: what a commit to Kafka needs of it. */
export const spent = <A>(batch: Batch<A>): Batch<A> => ({
  ...batch,
  source: { ...batch.source, keys: none, bytes: none, headers: none, timestamps: noTimes, offsets: noTimes },
  values: none,
  rows: undefined,
  keys: undefined,
  units: undefined,
  time: undefined,
})

/** The offset of a row; of what a tick has caused, the one that the next record will have. */
export const offsetOf = ({ offsets, next }: Placed["source"], row: number): number => offsets[row] ?? next

/**
 * A number that tells what rows have caused from what others have, in the order of the log: the row's offset; of what a tick
 * has caused, half before the one that the next record will have, for it is not that record.
 */
export const placeOf = ({ offsets, next }: Placed["source"], row: number): number => offsets[row] ?? next - 0.5

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
    return offsetOf(this.#batch.source, row(this.#batch, this.#index))
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
  /** The Kafka timestamp: when the record was written. Milliseconds since 1970; that of what a tick has caused is its time. */
  get arrival(): number {
    return this.#batch.source.timestamps[row(this.#batch, this.#index)] ?? this.timestamp
  }
  get headers(): Headers {
    return this.#batch.source.headers[row(this.#batch, this.#index)] ?? none
  }
  /** Whether the record was processed before, and is processed again by a replay. */
  get isReplayed(): boolean {
    return isReplayed(this.#batch, this.#index)
  }
}

/** Whether value `i` comes of a record that a replay processes again. */
export const isReplayed = ({ source, rows }: Batch<unknown, unknown>, i: number): boolean =>
  source.replayedBelow !== undefined && offsetOf(source, rows === undefined ? i : rows[i]!) < source.replayedBelow

export const keyBytes = (batch: Batch<unknown, unknown>, i: number): Uint8Array | null =>
  batch.keys === undefined ? batch.source.keys[row(batch, i)]! : batch.keys[i]!

/** Calls a user's function for value `i`; a throw becomes a defect that names the record. */
export const ask = <A, B>(f: (value: A, record: RecordContext) => B, batch: Batch<A, unknown>, i: number): B => {
  try {
    return f(batch.values[i]!, new RecordContext(batch, i))
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
}

/** Where records stand: a batch, or what is left of one. */
export interface Placed {
  readonly source: {
    readonly topic: { readonly name: string }
    readonly partition: number
    readonly offsets: ArrayLike<number>
    readonly next: number
  }
  readonly rows: Uint32Array | undefined
}

/** A user's function threw: a defect that stops the task, and says at which record. */
export class RecordDefect extends Error {
  override readonly name = "RecordDefect"
  constructor({ source, rows }: Placed, i: number, cause: unknown) {
    super(
      `a stage's function threw at topic ${source.topic.name} partition ${source.partition} offset ` +
        `${offsetOf(source, rows === undefined ? i : rows[i]!)}: ${
          cause instanceof Error ? `${cause.name}: ${cause.message}` : "not an Error"
        }`,
      { cause },
    )
  }
}
