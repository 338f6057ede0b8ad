/** Records that must fit into a topic, and what is left of a value that does not. */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import type { Headers } from "../../Batch.ts"
import type { Topic } from "../../Topic.ts"

/** A bound on what a record batch of one record adds around keys, values and headers. */
const recordOverhead = 256

/** How many bytes of a value a topic takes beside a key and headers: below zero where not even these fit. */
export const room = (topic: Topic<unknown>, key: Uint8Array | null, headers: Headers): number =>
  topic.maxMessageBytes - recordOverhead - (key?.length ?? 0) - headersSize(headers)

/** The value, or as much of it as `most` bytes hold together with the headers that describe the rest. */
export const truncated = (
  value: Uint8Array | null,
  headers: Headers,
  most: number,
): { readonly value: Uint8Array | null; readonly headers: Headers } => {
  if (value === null || value.length <= most) return { value, headers }
  const about: Headers = [
    ["millrace-truncated-length", Buffer.from(String(value.length))],
    ["millrace-truncated-sha256", Buffer.from(createHash("sha256").update(value).digest("hex"))],
  ]
  return { value: value.subarray(0, Math.max(0, most - headersSize(about))), headers: [...headers, ...about] }
}

export const headersSize = (headers: Headers): number =>
  headers.reduce((size, [name, value]) => size + Buffer.byteLength(name) + value.length + 10, 0)
