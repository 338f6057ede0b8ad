/** Ranges of a batch's source rows, each as a batch of its own. */
import type { Batch, Source, Time } from "./Batch.ts"
import { byRow, row } from "./Batch.ts"

/**
 * Cuts a batch from its first row to its last: whatever a row has caused is in the slice of that row, also where the row
 * itself was dropped. A slice's position is the offset of the row after it; what the batch folded goes with its last row.
 *
 * A batch that changed state cannot be cut, because the changes are those of all its rows together.
 */
export class Slices<A, F> {
  readonly #batch: Batch<A, F>
  readonly #failed: Rows<Batch<A, F>["failed"][number]>
  readonly #dropped: Rows<Batch<A, F>["dropped"][number]>
  readonly #outgoing: Rows<Batch<A, F>["outgoing"][number]>
  #from = 0
  #value = 0

  constructor(batch: Batch<A, F>) {
    if (batch.changes.length > 0) throw new Error("a batch that changed state cannot be cut")
    this.#batch = batch
    this.#failed = new Rows(batch.failed)
    this.#dropped = new Rows(batch.dropped)
    this.#outgoing = new Rows(batch.outgoing)
  }

  /** The source rows from where the last slice ended up to `end`. */
  take(end: number): Batch<A, F> {
    const { values, rows, keys, units, time, clockAfter, source, folded } = this.#batch
    const from = this.#from
    const first = this.#value
    while (this.#value < values.length && row(this.#batch, this.#value) < end) this.#value++
    const last = this.#value
    this.#from = end
    return {
      source: sourceOf(source, from, end),
      values: values.slice(first, last),
      rows: rows?.subarray(first, last).map((row) => row - from),
      keys: keys?.slice(first, last),
      units: units?.subarray(first, last),
      time: time && timeOf(time, from, end, first, last),
      clockAfter: clockAfter && ((rows) => clockAfter(from + rows)),
      failed: this.#failed.take(from, end),
      dropped: this.#dropped.take(from, end),
      folded: end === source.length ? folded : [],
      outgoing: this.#outgoing.take(from, end),
      changes: [],
    }
  }
}

/** What rows have caused, taken range by range. */
class Rows<T extends { readonly row: number }> {
  readonly #all: ReadonlyArray<T>
  #next = 0

  constructor(all: ReadonlyArray<T>) {
    this.#all = byRow(all)
  }

  take(from: number, end: number): ReadonlyArray<T> {
    const taken: Array<T> = []
    for (; this.#next < this.#all.length && this.#all[this.#next]!.row < end; this.#next++) {
      const one = this.#all[this.#next]!
      taken.push({ ...one, row: one.row - from })
    }
    return taken
  }
}

const sourceOf = (source: Source, from: number, end: number): Source => {
  const keys = source.keys.slice(from, end)
  const bytes = source.bytes.slice(from, end)
  let size = 0
  for (let i = 0; i < keys.length; i++) size += (keys[i]?.length ?? 0) + (bytes[i]?.length ?? 0)
  return {
    ...source,
    length: end - from,
    next: end === source.length ? source.next : source.offsets[end]!,
    size,
    keys,
    bytes,
    headers: source.headers.slice(from, end),
    timestamps: source.timestamps.subarray(from, end),
    offsets: source.offsets.subarray(from, end),
  }
}

const timeOf = (time: Time, from: number, end: number, first: number, last: number): Time => ({
  timestamps: time.timestamps.subarray(first, last),
  clock: time.clock.subarray(first, last),
  rowClock: time.rowClock.subarray(from, end),
  now: end === time.rowClock.length ? time.now : time.rowClock[end - 1]!,
})
