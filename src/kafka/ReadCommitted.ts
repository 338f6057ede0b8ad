/**
 * What a reader may see of a fetch: the records of committed transactions and of no transaction, from its position on.
 *
 * The rule is Kafka's own (KIP-98): a producer's transactional batches are skipped from the first offset of its aborted
 * transaction until the abort marker; control batches are never data; nothing at or above the last stable offset counts.
 */
import type { Headers } from "../Batch.ts"
import type { FetchedBatch, FetchedPartition } from "./Cluster.ts"

/** Readable records as columns, and the position after them. */
export interface Readable {
  readonly length: number
  readonly next: number
  /** Bytes of keys and values. */
  readonly size: number
  readonly keys: ReadonlyArray<Uint8Array | null>
  readonly bytes: ReadonlyArray<Uint8Array | null>
  readonly headers: ReadonlyArray<Headers>
  readonly timestamps: Float64Array
  readonly offsets: Float64Array
}

/**
 * The records of `fetched` from `position` on. Markers, aborted records and records that compaction removed are gaps:
 * the next position is after them.
 */
export const readable = (fetched: FetchedPartition, position: number): Readable => {
  const committed: Array<FetchedBatch> = []
  const aborting = new Set<number>()
  const aborted = fetched.aborted.toSorted((a, b) => a.firstOffset - b.firstOffset)
  let started = 0
  let next = position
  for (const batch of fetched.batches) {
    if (batch.baseOffset >= fetched.lastStableOffset) break
    for (; started < aborted.length && aborted[started]!.firstOffset <= batch.lastOffset; started++) {
      aborting.add(aborted[started]!.producerId)
    }
    if (batch.control === "abort") aborting.delete(batch.producerId)
    const visible = batch.control === null && !(batch.transactional && aborting.has(batch.producerId))
    if (visible && batch.lastOffset >= position) committed.push(batch)
    next = Math.max(next, batch.lastOffset + 1)
  }
  return columns(committed, position, next)
}

const columns = (batches: ReadonlyArray<FetchedBatch>, position: number, next: number): Readable => {
  const keys: Array<Uint8Array | null> = []
  const bytes: Array<Uint8Array | null> = []
  const headers: Array<Headers> = []
  const timestamps: Array<number> = []
  const offsets: Array<number> = []
  let size = 0
  for (const batch of batches) {
    for (let i = 0; i < batch.offsets.length; i++) {
      if (batch.offsets[i]! < position) continue
      const key = batch.keys[i]!
      const value = batch.values[i]!
      size += (key?.length ?? 0) + (value?.length ?? 0)
      keys.push(key)
      bytes.push(value)
      headers.push(batch.headers[i]!)
      timestamps.push(batch.timestamps[i]!)
      offsets.push(batch.offsets[i]!)
    }
  }
  return {
    length: keys.length,
    next,
    size,
    keys,
    bytes,
    headers,
    timestamps: Float64Array.from(timestamps),
    offsets: Float64Array.from(offsets),
  }
}
