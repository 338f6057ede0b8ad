/**
 * Reads the record batches of a fetch's answer into columns. Keys and values point into the answer: nothing is copied
 * but what was compressed.
 */
import type { Buffer } from "node:buffer"
import type { Headers } from "../../Batch.ts"
import type { ErrorCode, FetchedBatch } from "../Cluster.ts"
import { type Codec, codecByBitmask, crc32c } from "./Codec.ts"
import { attribute, field } from "./RecordBatch.ts"

export interface Decoded {
  readonly batches: ReadonlyArray<FetchedBatch>
  /**
   * Why the first batch cannot be read: CORRUPT_MESSAGE, UNSUPPORTED_COMPRESSION_TYPE or, for the formats before
   * Kafka 0.11, UNSUPPORTED_FOR_MESSAGE_FORMAT. A later batch that cannot be read ends the answer before it, so that
   * what stands in front of it is read first.
   */
  readonly error: ErrorCode | null
}

/** Brokers cut an answer where it is full, so what is left of the last batch is not an error. */
export const decode = (bytes: Buffer): Decoded => {
  const batches: Array<FetchedBatch> = []
  let at = 0
  while (bytes.length - at >= field.records) {
    const end = at + field.leaderEpoch + bytes.readInt32BE(at + field.length)
    if (end > bytes.length) break
    const batch = end < at + field.records ? "CORRUPT_MESSAGE" : decodeBatch(bytes.subarray(at, end))
    if (typeof batch === "string") return { batches, error: at === 0 ? batch : null }
    batches.push(batch)
    at = end
  }
  return { batches, error: null }
}

const decodeBatch = (batch: Buffer): FetchedBatch | ErrorCode => {
  const magic = batch[field.magic]!
  if (magic !== 2) return magic < 2 ? "UNSUPPORTED_FOR_MESSAGE_FORMAT" : "CORRUPT_MESSAGE"
  if (crc32c(batch.subarray(field.attributes)) !== batch.readUInt32BE(field.crc)) return "CORRUPT_MESSAGE"
  const attributes = batch.readInt16BE(field.attributes)
  const codec = codecByBitmask(attributes & attribute.compression)
  if (codec === undefined || !codec.available) return "UNSUPPORTED_COMPRESSION_TYPE"
  const written = decompress(codec, batch.subarray(field.records))
  if (written === undefined) return "CORRUPT_MESSAGE"
  const baseOffset = readInt64(batch, field.baseOffset)
  const columns = new Columns(baseOffset, readInt64(batch, field.baseTimestamp))
  if (!columns.read(new Cursor(written), batch.readInt32BE(field.count))) return "CORRUPT_MESSAGE"
  if ((attributes & attribute.logAppendTime) !== 0) columns.timestamps.fill(readInt64(batch, field.maxTimestamp))
  const control = (attributes & attribute.control) !== 0
  const { keys, values, headers, offsets, timestamps } = control ? noColumns : columns
  return {
    baseOffset,
    lastOffset: baseOffset + batch.readInt32BE(field.lastOffsetDelta),
    producerId: readInt64(batch, field.producerId),
    transactional: (attributes & attribute.transactional) !== 0,
    control: control ? markerOf(columns.keys[0]) : null,
    keys,
    values,
    headers,
    offsets,
    timestamps,
  }
}

const decompress = (codec: Codec, bytes: Buffer): Buffer | undefined => {
  if (codec.bitmask === 0) return bytes
  try {
    return codec.decompressSync(bytes)
  } catch {
    return undefined
  }
}

/** The key of a control record: its version and type, 16 bits each. Type 0 aborts, 1 commits. */
const markerOf = (key: Uint8Array | null | undefined): "commit" | "abort" => key?.[3] === 0 ? "abort" : "commit"

class Columns {
  readonly keys: Array<Uint8Array | null> = []
  readonly values: Array<Uint8Array | null> = []
  readonly headers: Array<Headers> = []
  readonly offsets: Array<number> = []
  readonly timestamps: Array<number> = []
  readonly #baseOffset: number
  readonly #baseTimestamp: number
  constructor(baseOffset: number, baseTimestamp: number) {
    this.#baseOffset = baseOffset
    this.#baseTimestamp = baseTimestamp
  }
  /** Whether `count` records could be read. */
  read(cursor: Cursor, count: number): boolean {
    for (let i = 0; i < count; i++) {
      const end = cursor.varint() + cursor.position
      if (!(end <= cursor.bytes.length)) return false
      cursor.position++ // The record's attributes: none are in use.
      this.timestamps.push(this.#baseTimestamp + cursor.varlong())
      this.offsets.push(this.#baseOffset + cursor.varint())
      this.keys.push(cursor.slice())
      this.values.push(cursor.slice())
      const headers = cursor.varint()
      this.headers.push(headers === 0 ? noHeaders : cursor.headers(headers))
      if (cursor.position !== end) return false
    }
    return true
  }
}

const noHeaders: Headers = []
const noColumns = new Columns(0, 0)
const noBytes = new Uint8Array(0)

class Cursor {
  readonly bytes: Buffer
  position = 0
  constructor(bytes: Buffer) {
    this.bytes = bytes
  }
  varint(): number {
    let byte = this.bytes[this.position++]!
    if (byte < 0x80) return (byte >>> 1) ^ -(byte & 1)
    let zigzag = byte & 0x7f
    let shift = 7
    do {
      byte = this.bytes[this.position++]!
      zigzag |= (byte & 0x7f) << shift
      shift += 7
    } while (byte >= 0x80)
    return (zigzag >>> 1) ^ -(zigzag & 1)
  }
  /** Exact up to 2^52, either side of zero. */
  varlong(): number {
    let byte = this.bytes[this.position++]!
    if (byte < 0x80) return (byte >>> 1) ^ -(byte & 1)
    let zigzag = byte & 0x7f
    let scale = 0x80
    do {
      byte = this.bytes[this.position++]!
      zigzag += (byte & 0x7f) * scale
      scale *= 0x80
    } while (byte >= 0x80)
    return zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2
  }
  slice(): Buffer | null {
    const length = this.varint()
    if (length < 0) return null
    const from = this.position
    this.position += length
    return this.bytes.subarray(from, this.position)
  }
  headers(count: number): Headers {
    const headers: Array<readonly [string, Uint8Array]> = []
    for (let i = 0; i < count && this.position < this.bytes.length; i++) {
      const length = this.varint()
      const from = this.position
      this.position += length
      headers.push([this.bytes.toString("utf8", from, this.position), this.slice() ?? noBytes])
    }
    return headers
  }
}

export const readInt64 = (bytes: Buffer, at: number): number =>
  bytes.readInt32BE(at) * 0x100000000 + bytes.readUInt32BE(at + 4)
