/**
 * A record batch as the log keeps it: all keys and values in one buffer of its own, so that a batch holds no memory but
 * its bytes and costs the garbage collector a handful of objects.
 */
import { Buffer } from "node:buffer"
import type { Headers } from "../../Batch.ts"
import type { FetchedBatch, Records } from "../Cluster.ts"
import { markerSize } from "./RecordSize.ts"

/** Who wrote a batch. */
export interface Writer {
  readonly producerId: number
  readonly producerEpoch: number
  /** -1 for a marker, and without an idempotent producer. */
  readonly baseSequence: number
  readonly transactional: boolean
}

export const nobody: Writer = { producerId: -1, producerEpoch: -1, baseSequence: -1, transactional: false }

export type Control = "commit" | "abort"

export class RecordBatch {
  /** Given by the log. */
  baseOffset = 0
  lastOffset = 0
  readonly count: number
  /** Bytes in Kafka's format, uncompressed. */
  readonly size: number
  readonly minTimestamp: number
  readonly maxTimestamp: number
  readonly writer: Writer
  readonly control: Control | null
  /** Keys and values in turn, and the length of each; -1 for null. */
  readonly #data: Buffer
  readonly #lengths: Int32Array
  readonly #timestamps: ReadonlyArray<number>
  /** Absent when no record has any. */
  readonly #headers: ReadonlyArray<Headers> | undefined
  /** Absent when they are consecutive. */
  readonly #offsets: ReadonlyArray<number> | undefined

  constructor(
    records: Records,
    size: number,
    writer: Writer,
    control: Control | null = null,
    offsets?: ReadonlyArray<number>,
  ) {
    const { keys, values, timestamps } = records
    this.count = keys.length
    this.size = size
    this.writer = writer
    this.control = control
    this.#lengths = new Int32Array(2 * keys.length)
    this.#timestamps = timestamps.slice()
    this.#headers = ownHeaders(records.headers)
    this.#offsets = offsets
    if (offsets !== undefined) {
      this.baseOffset = offsets[0]!
      this.lastOffset = offsets[offsets.length - 1]!
    }
    let bytes = 0
    let min = Infinity
    let max = -Infinity
    for (let i = 0; i < keys.length; i++) {
      const keyLength = keys[i] === null ? -1 : keys[i]!.length
      const valueLength = values[i] === null ? -1 : values[i]!.length
      this.#lengths[2 * i] = keyLength
      this.#lengths[2 * i + 1] = valueLength
      bytes += Math.max(0, keyLength) + Math.max(0, valueLength)
      const timestamp = timestamps[i]!
      if (timestamp < min) min = timestamp
      if (timestamp > max) max = timestamp
    }
    this.minTimestamp = min
    this.maxTimestamp = max
    this.#data = Buffer.allocUnsafeSlow(bytes)
    let at = 0
    for (let i = 0; i < keys.length; i++) {
      at = copy(keys[i]!, this.#data, at)
      at = copy(values[i]!, this.#data, at)
    }
  }

  place(baseOffset: number): void {
    this.baseOffset = baseOffset
    this.lastOffset = baseOffset + this.count - 1
  }

  /** The offset of the first record with at least this timestamp. */
  offsetAt(timestamp: number): number | undefined {
    const i = this.#timestamps.findIndex((at) => at >= timestamp)
    return i < 0 ? undefined : this.#offsets?.[i] ?? this.baseOffset + i
  }

  /** The batch as a fetch answers it. Keys and values are views of this batch's bytes. */
  fetched(): FetchedBatch {
    const { producerId, transactional } = this.writer
    const { baseOffset, lastOffset, control } = this
    if (control !== null) {
      return { baseOffset, lastOffset, producerId, transactional, control, ...noRecords, offsets: [] }
    }
    const { count } = this
    const keys: Array<Uint8Array | null> = new Array(count)
    const values: Array<Uint8Array | null> = new Array(count)
    const lengths = this.#lengths
    const buffer = this.#data.buffer
    let at = this.#data.byteOffset
    for (let i = 0; i < count; i++) {
      const keyLength = lengths[2 * i]!
      keys[i] = keyLength < 0 ? null : Buffer.from(buffer, at, keyLength)
      if (keyLength > 0) at += keyLength
      const valueLength = lengths[2 * i + 1]!
      values[i] = valueLength < 0 ? null : Buffer.from(buffer, at, valueLength)
      if (valueLength > 0) at += valueLength
    }
    return {
      baseOffset,
      lastOffset,
      producerId,
      transactional,
      control,
      keys,
      values,
      headers: this.#headers ?? new Array<Headers>(count).fill(noHeaders),
      offsets: this.#offsets ?? consecutive(baseOffset, count),
      timestamps: this.#timestamps,
    }
  }
}

/** A transaction marker: it takes one offset. */
export const marker = (writer: Writer, control: Control, now: number): RecordBatch =>
  new RecordBatch(
    { keys: [null], values: [null], headers: [noHeaders], timestamps: [now] },
    markerSize,
    writer,
    control,
  )

const noHeaders: Headers = []

const noRecords: Records = { keys: [], values: [], headers: [], timestamps: [] }

const consecutive = (from: number, count: number): ReadonlyArray<number> => {
  const offsets: Array<number> = new Array(count)
  for (let i = 0; i < count; i++) offsets[i] = from + i
  return offsets
}

const copy = (from: Uint8Array | null, to: Buffer, at: number): number => {
  if (from === null) return at
  const { length } = from
  // Below this a loop beats the call.
  if (length < 24) { for (let i = 0; i < length; i++) to[at + i] = from[i]! }
  else to.set(from, at)
  return at + length
}

/** Neighbours often share their headers: what is shared is copied once. */
const ownHeaders = (all: ReadonlyArray<Headers>): ReadonlyArray<Headers> | undefined => {
  if (all.every((headers) => headers.length === 0)) return undefined
  let last = noHeaders
  let own = noHeaders
  return all.map((headers) => {
    if (headers !== last) {
      last = headers
      own = headers.map(([name, value]) => [name, new Uint8Array(value)] as const)
    }
    return own
  })
}
