/** How many bytes records take in Kafka's record batch format, version 2, uncompressed. */
import { Buffer } from "node:buffer"
import type { Records } from "../Cluster.ts"

/** The header of a record batch. */
export const batchOverhead = 61

/** A control batch: the header, and one record with a key of 4 and a value of 6 bytes. */
export const markerSize = batchOverhead + 17

export const encodedSize = ({ keys, values, headers, timestamps }: Records): number => {
  const first = timestamps[0]!
  let total = batchOverhead
  for (let i = 0; i < keys.length; i++) {
    const body = 1 + varint(timestamps[i]! - first) + varint(i) + bytes(keys[i]!) + bytes(values[i]!) +
      ofHeaders(headers[i]!)
    total += varint(body) + body
  }
  return total
}

const ofHeaders = (headers: Records["headers"][number]): number => {
  let size = varint(headers.length)
  for (const [name, value] of headers) {
    const length = Buffer.byteLength(name)
    size += varint(length) + length + bytes(value)
  }
  return size
}

const bytes = (data: Uint8Array | null): number => data === null ? 1 : varint(data.length) + data.length

/** The length of a zigzag-encoded integer of 7 bits a byte. */
const varint = (n: number): number => {
  const zigzag = n < 0 ? -2 * n - 1 : 2 * n
  if (zigzag < 128) return 1
  if (zigzag < 16_384) return 2
  if (zigzag < 2_097_152) return 3
  if (zigzag < 268_435_456) return 4
  let size = 5
  for (let rest = zigzag / 34_359_738_368; rest >= 1; rest /= 128) size++
  return size
}
