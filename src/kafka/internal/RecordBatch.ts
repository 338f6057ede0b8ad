/**
 * Writes record batches of version 2, the only one that brokers of version 4 take.
 *
 * The format: https://kafka.apache.org/documentation/#recordbatch
 */
import { Buffer } from "node:buffer"
import type { Headers } from "../../Batch.ts"
import type { Compression, ProduceBatch, Records } from "../Cluster.ts"
import { codecOf, crc32c } from "./Codec.ts"

/** Where the fields of a batch begin, in bytes from its start. */
export const field = {
  baseOffset: 0,
  length: 8,
  leaderEpoch: 12,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  baseTimestamp: 27,
  maxTimestamp: 35,
  producerId: 43,
  producerEpoch: 51,
  baseSequence: 53,
  count: 57,
  records: 61,
} as const

/** Bits of a batch's attributes. */
export const attribute = { compression: 0b111, logAppendTime: 1 << 3, transactional: 1 << 4, control: 1 << 5 } as const

/** What a batch is written with, besides its records. */
export interface Writing {
  readonly compression: Compression
  readonly transactional: boolean
  readonly producer?: ProduceBatch["producer"]
}

/** One batch, ready to be sent. */
export const encode = (records: Records, { compression, transactional, producer }: Writing): Buffer => {
  const { keys, timestamps } = records
  let batch = Buffer.allocUnsafe(field.records + boundOf(records))
  const cursor = new Cursor(batch, field.records)
  writeRecords(cursor, records)
  batch = batch.subarray(0, cursor.position)
  let attributes = transactional ? attribute.transactional : 0
  if (compression !== "none") {
    const codec = codecOf(compression)
    attributes |= codec.bitmask
    batch = Buffer.concat([batch.subarray(0, field.records), codec.compressSync(batch.subarray(field.records))])
  }
  let maxTimestamp = timestamps[0]!
  for (let i = 1; i < timestamps.length; i++) if (timestamps[i]! > maxTimestamp) maxTimestamp = timestamps[i]!
  writeInt64(batch, 0, field.baseOffset)
  batch.writeInt32BE(batch.length - field.leaderEpoch, field.length)
  batch.writeInt32BE(-1, field.leaderEpoch)
  batch[field.magic] = 2
  batch.writeInt16BE(attributes, field.attributes)
  batch.writeInt32BE(keys.length - 1, field.lastOffsetDelta)
  writeInt64(batch, timestamps[0]!, field.baseTimestamp)
  writeInt64(batch, maxTimestamp, field.maxTimestamp)
  writeInt64(batch, producer?.producerId ?? -1, field.producerId)
  batch.writeInt16BE(producer?.producerEpoch ?? -1, field.producerEpoch)
  batch.writeInt32BE(producer?.baseSequence ?? -1, field.baseSequence)
  batch.writeInt32BE(keys.length, field.count)
  batch.writeUInt32BE(crc32c(batch.subarray(field.attributes)), field.crc)
  return batch
}

/** The most bytes that a record's length, attributes, deltas and lengths of key and value and count of headers take. */
const overhead = 5 + 1 + 10 + 5 + 5 + 5 + 5

const boundOf = ({ keys, values, headers }: Records): number => {
  let bound = keys.length * overhead
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!
    const value = values[i]!
    if (key !== null) bound += key.length
    if (value !== null) bound += value.length
    const own = headers[i]!
    // A UTF-16 code unit takes at most three bytes in UTF-8.
    for (let h = 0; h < own.length; h++) bound += 10 + own[h]![0].length * 3 + own[h]![1].length
  }
  return bound
}

const writeRecords = (cursor: Cursor, { keys, values, headers, timestamps }: Records): void => {
  const base = timestamps[0]!
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!
    const value = values[i]!
    const own = headers[i]!
    const delta = timestamps[i]! - base
    cursor.varint(
      1 + sizeOfVarlong(delta) + sizeOfVarint(i) + sizeOfBytes(key) + sizeOfBytes(value) +
        (own.length === 0 ? 1 : sizeOfHeaders(own)),
    )
    cursor.byte(0)
    cursor.varlong(delta)
    cursor.varint(i)
    cursor.bytes(key)
    cursor.bytes(value)
    cursor.varint(own.length)
    for (let h = 0; h < own.length; h++) {
      cursor.text(own[h]![0])
      cursor.bytes(own[h]![1])
    }
  }
}

const sizeOfBytes = (bytes: Uint8Array | null): number => bytes === null ? 1 : sizeOfVarint(bytes.length) + bytes.length

const sizeOfHeaders = (headers: Headers): number => {
  let size = sizeOfVarint(headers.length)
  for (let h = 0; h < headers.length; h++) {
    const name = Buffer.byteLength(headers[h]![0])
    size += sizeOfVarint(name) + name + sizeOfBytes(headers[h]![1])
  }
  return size
}

const sizeOfVarint = (n: number): number => {
  const zigzag = ((n << 1) ^ (n >> 31)) >>> 0
  return zigzag < 0x80 ? 1 : zigzag < 0x4000 ? 2 : zigzag < 0x200000 ? 3 : zigzag < 0x10000000 ? 4 : 5
}

const sizeOfVarlong = (n: number): number => {
  if (n >= -0x40000000 && n < 0x40000000) return sizeOfVarint(n)
  let size = 1
  for (let zigzag = zigzagOf(n); zigzag >= 0x80; zigzag = Math.floor(zigzag / 0x80)) size++
  return size
}

/** Exact while it is below 2^53: for differences of times of up to 142,000 years. */
const zigzagOf = (n: number): number => n < 0 ? -n * 2 - 1 : n * 2

export const writeInt64 = (target: Buffer, n: number, at: number): void => {
  target.writeInt32BE(Math.floor(n / 0x100000000), at)
  target.writeUInt32BE(n >>> 0, at + 4)
}

class Cursor {
  position: number
  readonly #target: Buffer
  constructor(target: Buffer, position: number) {
    this.#target = target
    this.position = position
  }
  byte(n: number): void {
    this.#target[this.position++] = n
  }
  varint(n: number): void {
    let zigzag = ((n << 1) ^ (n >> 31)) >>> 0
    while (zigzag >= 0x80) {
      this.#target[this.position++] = (zigzag & 0x7f) | 0x80
      zigzag >>>= 7
    }
    this.#target[this.position++] = zigzag
  }
  varlong(n: number): void {
    if (n >= -0x40000000 && n < 0x40000000) return this.varint(n)
    let zigzag = zigzagOf(n)
    while (zigzag >= 0x80) {
      this.#target[this.position++] = zigzag % 0x80 | 0x80
      zigzag = Math.floor(zigzag / 0x80)
    }
    this.#target[this.position++] = zigzag
  }
  bytes(bytes: Uint8Array | null): void {
    if (bytes === null) return this.varint(-1)
    const { length } = bytes
    this.varint(length)
    if (length < 24) { for (let i = 0; i < length; i++) this.#target[this.position + i] = bytes[i]! }
    else this.#target.set(bytes, this.position)
    this.position += length
  }
  text(text: string): void {
    const length = Buffer.byteLength(text)
    this.varint(length)
    this.#target.write(text, this.position)
    this.position += length
  }
}
