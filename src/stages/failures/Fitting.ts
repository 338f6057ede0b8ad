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

/** Room for what is said of things that were cut. */
const aboutCuts = 512

/** A record whose own headers stand before others that describe it. */
export interface Described {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly own: Headers
  readonly about: Headers
}

/**
 * A record as it fits into a topic, whatever it is: first the value is cut, to `most` bytes at the most, then its own headers
 * that do not fit are left out, then the key is cut. Headers say what was cut.
 */
export const fitted = (topic: Topic<unknown>, { key, value, own, about }: Described, most = Infinity) => {
  const free = room(topic, null, about) - aboutCuts
  const cuts: Array<readonly [string, Uint8Array]> = []
  let kept = key
  if (key !== null && key.length > free) {
    kept = key.subarray(0, Math.max(0, free))
    cuts.push(["millrace-truncated-key-length", Buffer.from(String(key.length))])
  }
  const before = withinBytes(own, free - (kept?.length ?? 0))
  if (before.length < own.length) {
    cuts.push(["millrace-truncated-headers", Buffer.from(String(own.length - before.length))])
  }
  const headers = [...before, ...about, ...cuts]
  return { key: kept, ...truncated(value, headers, Math.min(most, room(topic, kept, headers))) }
}

/** Headers in their order, without those for which no bytes are left. */
const withinBytes = (headers: Headers, bytes: number): Headers => {
  if (headersSize(headers) <= bytes) return headers
  let left = bytes
  return headers.filter((header) => {
    const size = headersSize([header])
    if (size > left) return false
    left -= size
    return true
  })
}

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
