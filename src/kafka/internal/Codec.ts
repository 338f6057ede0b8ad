/** Checksums and compression, as the client has them. */
import {
  compressionsAlgorithms,
  compressionsAlgorithmsByBitmask,
  crc32c as checksum,
  Writer,
} from "@platformatic/kafka"
import type { Buffer } from "node:buffer"
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
