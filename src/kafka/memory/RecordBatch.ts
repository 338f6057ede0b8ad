/**
 * A record batch as the log keeps it: all keys and values in one buffer of its own, so that a batch holds no memory but
 * its bytes and costs the garbage collector a handful of objects.
 */
import { Buffer } from "node:buffer"
import type { Headers } from "../../Batch.ts"
import type { FetchedBatch, Records } from "../Cluster.ts"

/** Who wrote a batch. */
export interface Writer {
  readonly producerId: number
  readonly producerEpoch: number
  readonly transactional: boolean
}

export const nobody: Writer = { producerId: -1, producerEpoch: -1, transactional: false }

/** Columns to pack; without offsets they are consecutive. */
export interface Columns extends Records {
  readonly offsets?: ReadonlyArray<number>
}

export class RecordBatch {
  /** Given by the log. */
  baseOffset = 0
  lastOffset = 0
  readonly count: number
  /** Bytes on a broker's disk, uncompressed. */
  readonly size: number
  readonly minTimestamp: number
  readonly maxTimestamp: number
  readonly writer: Writer
  readonly control: "commit" | "abort" | null
  /** Keys and values in turn. */
  readonly #data: Buffer
  /** Length of each key and value; -1 for null. */
  readonly #lengths: Int32Array
  /** Absent when no record has any. */
  readonly #headers: ReadonlyArray<Headers> | undefined
  readonly #timestamps: ReadonlyArray<number>
  readonly #offsets: ReadonlyArray<number> | undefined

  constructor(columns: Columns, size: number, writer: Writer, control: "commit" | "abort" | null = null) {
    const { keys, values, timestamps, offsets } = columns
    this.count = keys.length
    this.size = size
    this.writer = writer
    this.control = control
    this.#lengths = new Int32Array(2 * keys.length)
    this.#timestamps = timestamps.slice()
    this.#offsets = offsets
    let bytes = 0
    let min = Infinity
    let max = -Infinity
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]!
      const value = values[i]!
      this.#lengths[2 * i] = key === null ? -1 : key.length
      this.#lengths[2 * i + 1] = value === null ? -1 : value.length
      bytes += (key === null ? 0 : key.length) + (value === null ? 0 : value.length)
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
    this.#headers = ownHeaders(columns.headers)
    if (offsets !== undefined) {
      this.baseOffset = offsets[0]!
      this.lastOffset = offsets[offsets.length - 1]!
    }
  }

  /** The offset of the first record with at least this timestamp. */
  offsetAt(timestamp: number): number | undefined {
    const i = this.#timestamps.findIndex((at) => at >= timestamp)
    return i < 0 ? undefined : this.#offsets?.[i] ?? this.baseOffset + i
  }

  /** The batch as a fetch answers it. Keys and values are views of this batch's bytes. */
  fetched(): FetchedBatch {
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
    const isData = this.control === null
    return {
      baseOffset: this.baseOffset,
      lastOffset: this.lastOffset,
      producerId: this.writer.producerId,
      transactional: this.writer.transactional,
      control: this.control,
      keys,
      values,
      headers: this.#headers ?? new Array<Headers>(count).fill(noHeaders),
      offsets: isData ? this.#offsets ?? consecutive(this.baseOffset, count) : [],
      timestamps: isData ? this.#timestamps : [],
    }
  }
}

const noHeaders: Headers = []
const noRecords: Records = { keys: [], values: [], headers: [], timestamps: [] }

/** A transaction marker: one offset, no records. */
export class Marker extends RecordBatch {
  constructor(writer: Writer, control: "commit" | "abort", now: number) {
    super({ ...noRecords, timestamps: [now] }, markerSize, writer, control)
  }
}
