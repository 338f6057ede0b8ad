/**
 * Reads the record batches of a fetch's answer into columns. Keys and values point into the answer: nothing is copied
 * but what was compressed. What comes over the network is not believed: a batch is read whole and as it was written, or not
 * at all.
 */
import type { Buffer } from "node:buffer"
import type { Headers } from "../../Batch.ts"
import type { ErrorCode, FetchedBatch } from "../Cluster.ts"
import { codecByBitmask, crc32c, decompress, maxDecompressed, TooLarge } from "./Codec.ts"
import { attribute, field } from "./RecordBatch.ts"

export interface Decoded {
  readonly batches: ReadonlyArray<FetchedBatch>
  /**
   * Why the first batch cannot be read: CORRUPT_MESSAGE, MESSAGE_TOO_LARGE where it becomes too large when decompressed,
   * UNSUPPORTED_COMPRESSION_TYPE or, for the formats before Kafka 0.11, UNSUPPORTED_FOR_MESSAGE_FORMAT. A later batch that
   * cannot be read ends the answer before it, so that what stands in front of it is read first.
   */
  readonly error: ErrorCode | null
  /** What is wrong with it, and the offset that it says to begin at. */
  readonly message?: string
}

/** Why a batch cannot be read. */
interface Damage {
  readonly error: ErrorCode
  readonly problem: string
}

/**
 * The batches of an answer to a fetch from `offset` on. Brokers cut an answer where it is full, so what is left of the last
 * batch is not an error; the first one they answer whole.
 *
 * A batch's checksum covers all but where it begins and how long it is. Of those only what contradicts its neighbours or
 * the request is seen.
 */
export const decode = (bytes: Buffer, offset = 0): Decoded => {
  const batches: Array<FetchedBatch> = []
  let next = offset
  let at = 0
  while (at < bytes.length) {
    const end = endOf(bytes, at)
    if (end > bytes.length && at > 0) break
    const batch = end > bytes.length
      ? damaged(`it should be ${end} bytes long, and ${bytes.length} have come`)
      : end < at + field.records
      ? damaged(`it should be ${end - at} bytes long, and its header takes ${field.records}`)
      : decodeBatch(bytes.subarray(at, end), next)
    if ("problem" in batch) {
      if (at > 0) break
      const where = bytes.length < 8 ? "" : ` at offset ${readInt64(bytes, 0)}`
      return { batches, error: batch.error, message: `the batch${where} cannot be read: ${batch.problem}` }
    }
    batches.push(batch)
    next = batch.lastOffset + 1
    at = end
  }
  return { batches, error: null }
}

/** Where the batch at `at` says that it ends; beyond all where that has not come. */
const endOf = (bytes: Buffer, at: number): number =>
  bytes.length - at < field.leaderEpoch ? Infinity : at + field.leaderEpoch + bytes.readInt32BE(at + field.length)

const damaged = (problem: string): Damage => ({ error: "CORRUPT_MESSAGE", problem })

const decodeBatch = (batch: Buffer, from: number): FetchedBatch | Damage => {
  const magic = batch[field.magic]!
  if (magic < 2) {
    return { error: "UNSUPPORTED_FOR_MESSAGE_FORMAT", problem: `its format is ${magic}, and only 2 is read` }
  }
  if (magic !== 2) return damaged(`its format is ${magic}, and only 2 is read`)
  if (crc32c(batch.subarray(field.attributes)) !== batch.readUInt32BE(field.crc)) {
    return damaged("its checksum is not that of its bytes")
  }
  const attributes = batch.readInt16BE(field.attributes)
  const compression = attributes & attribute.compression
  const codec = codecByBitmask(compression)
  if (codec === undefined || !codec.available) {
    return {
      error: "UNSUPPORTED_COMPRESSION_TYPE",
      problem: `it is compressed by codec ${compression}, which is not known`,
    }
  }
  let written: Buffer
  try {
    written = decompress(codec, batch.subarray(field.records))
  } catch (error) {
    if (!(error instanceof TooLarge)) return damaged(`it cannot be decompressed by codec ${compression}`)
    return { error: "MESSAGE_TOO_LARGE", problem: `decompressed it is larger than ${maxDecompressed} bytes` }
  }
  const baseOffset = readInt64(batch, field.baseOffset)
  const lastOffset = baseOffset + batch.readInt32BE(field.lastOffsetDelta)
  if (!Number.isSafeInteger(lastOffset) || baseOffset < 0) return damaged("no log is so long")
  if (lastOffset < from) {
    return damaged(`it ends at offset ${lastOffset}, and was to hold ${from} or what comes after it`)
  }
  const columns = new Columns(baseOffset, readInt64(batch, field.baseTimestamp))
  const count = batch.readInt32BE(field.count)
  if (!columns.read(new Cursor(written), count, lastOffset)) return damaged(`its ${count} records are not what it says`)
  if ((attributes & attribute.logAppendTime) !== 0) columns.timestamps.fill(readInt64(batch, field.maxTimestamp))
  const control = (attributes & attribute.control) !== 0
  const { keys, values, headers, offsets, timestamps } = control ? noColumns : columns
  return {
    baseOffset,
    lastOffset,
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
  /** Whether there are `count` records and nothing else, in the order of their offsets and up to `last`. */
  read(cursor: Cursor, count: number, last: number): boolean {
    if (count < 0) return false
    let next = this.#baseOffset
    for (let i = 0; i < count; i++) {
      const end = cursor.varint() + cursor.position
      if (!(end <= cursor.bytes.length)) return false
      cursor.position++ // The record's attributes: none are in use.
      this.timestamps.push(this.#baseTimestamp + cursor.varlong())
      const offset = this.#baseOffset + cursor.varint()
      if (offset < next || offset > last) return false
      next = offset + 1
      this.offsets.push(offset)
      this.keys.push(cursor.slice())
      this.values.push(cursor.slice())
      const count = cursor.varint()
      const headers = count === 0 ? noHeaders : cursor.headers(count, end)
      if (headers === undefined || cursor.position !== end) return false
      this.headers.push(headers)
    }
    return cursor.position === cursor.bytes.length
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
  /** Nothing where there are not so many before `end`. */
  headers(count: number, end: number): Headers | undefined {
    if (count < 0) return undefined
    const headers: Array<readonly [string, Uint8Array]> = []
    for (let i = 0; i < count; i++) {
      const length = this.varint()
      const from = this.position
      if (length < 0 || from + length >= end) return undefined
      this.position += length
      headers.push([this.bytes.toString("utf8", from, this.position), this.slice() ?? noBytes])
    }
    return headers
  }
}

export const readInt64 = (bytes: Buffer, at: number): number =>
  bytes.readInt32BE(at) * 0x100000000 + bytes.readUInt32BE(at + 4)
