/** Checksums and compression: as the client has them, and bounded where a damaged or hostile batch could take all memory. */
import {
  compressionsAlgorithms,
  compressionsAlgorithmsByBitmask,
  crc32c as checksum,
  Writer,
} from "@platformatic/kafka"
import type { Buffer } from "node:buffer"
import { gunzipSync, zstdDecompressSync } from "node:zlib"
import type { Compression } from "../Cluster.ts"

/** CRC-32C. Through a dynamic buffer, because the client copies plain ones first. */
export const crc32c = (bytes: Buffer): number => checksum(Writer.create().append(bytes).dynamicBuffer)

export interface Codec {
  /** The number in a batch's attributes that stands for it. */
  readonly bitmask: number
  /** Whether this runtime has it. */
  readonly available: boolean
  compressSync(bytes: Buffer): Buffer
  decompressSync(bytes: Buffer): Buffer
}

export const codecOf = (compression: Compression): Codec => compressionsAlgorithms[compression]

/** The codec that a batch's attributes name; nothing for a number that no version of the protocol has given out. */
export const codecByBitmask = (bitmask: number): Codec | undefined => compressionsAlgorithmsByBitmask[bitmask]

/** What one batch may become when it is decompressed, in bytes. */
export const maxDecompressed = 128 * 1024 * 1024

/** A batch that would become larger than `maxDecompressed`. */
export class TooLarge extends Error {}

/** Throws `TooLarge`, and anything else where the bytes are not what the codec writes. */
export const decompress = (codec: Codec, bytes: Buffer): Buffer => {
  switch (codec.bitmask) {
    case 0:
      return bytes
    case 1:
      return bounded(() => gunzipSync(bytes, { maxOutputLength: maxDecompressed }))
    case 4:
      return bounded(() => zstdDecompressSync(bytes, { maxOutputLength: maxDecompressed }))
    default: {
      const size = codec.bitmask === 2 ? snappySize(bytes) : lz4Bound(bytes)
      if (size > maxDecompressed) throw new TooLarge()
      return codec.decompressSync(bytes)
    }
  }
}

const bounded = (decompress: () => Buffer): Buffer => {
  try {
    return decompress()
  } catch (error) {
    throw (error as { readonly code?: unknown }).code === "ERR_BUFFER_TOO_LARGE" ? new TooLarge() : error
  }
}

/** Java frames snappy in chunks, each after its length, behind this and two version numbers. */
const xerial = [0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]
const xerialHeader = 16

/** What snappy says that it has compressed: the decoder reserves that much before it looks further. */
const snappySize = (bytes: Buffer): number => {
  if (!xerial.every((byte, i) => bytes[i] === byte)) return snappyChunk(bytes, 0, bytes.length)
  let size = 0
  for (let at = xerialHeader; at + 4 <= bytes.length;) {
    const length = bytes.readUInt32BE(at)
    at += 4
    size += snappyChunk(bytes, at, Math.min(bytes.length, at + length))
    at += length
  }
  return size
}

/** No element of snappy makes more than 64 bytes of its own two. */
const mostOfSnappy = 32

const snappyChunk = (bytes: Buffer, from: number, to: number): number => {
  let size = 0
  let at = from
  for (let scale = 1; at < to && scale < 2 ** 35; scale *= 0x80) {
    const byte = bytes[at++]!
    size += (byte & 0x7f) * scale
    if (byte < 0x80) break
  }
  if (size > (to - at) * mostOfSnappy) throw new RangeError("snappy says that it holds more than it can")
  return size
}

/** No byte of LZ4 makes more than 255, and no block more than its frame allows: 64 KiB to 4 MiB. */
const mostOfLz4 = 255

/**
 * The most that an LZ4 frame can become.
 *
 * The format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md
 */
const lz4Bound = (bytes: Buffer): number => {
  const flags = bytes[4]!
  const largest = 1 << (8 + 2 * ((bytes[5]! >> 4) & 7))
  const hasSize = (flags & 0x08) !== 0
  const hasDictionary = (flags & 0x01) !== 0
  const checksum = (flags & 0x10) !== 0 ? 4 : 0
  let size = 0
  for (let at = 7 + (hasSize ? 8 : 0) + (hasDictionary ? 4 : 0); at + 4 <= bytes.length;) {
    const length = bytes.readUInt32LE(at) & 0x7fffffff
    if (length === 0) break
    size += Math.min(largest, length * mostOfLz4)
    at += 4 + length + checksum
  }
  return size
}
