/** Hashes of keys for tables in memory. */
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"

/**
 * Secret, for keys may come from strangers: without it nobody can choose keys that all fall into one place. Nothing that
 * is emitted, logged or counted depends on it.
 */
const secret = new Int32Array(Uint8Array.from(randomBytes(8)).buffer)
const secret0 = secret[0]!
const secret1 = secret[1]!

/** HalfSipHash-1-3 (Aumasson and Bernstein; as in the Linux kernel's siphash.c) of the first `length` bytes: 32 bits. */
export const halfSipHash = (bytes: Uint8Array, length: number, k0: number, k1: number): number => {
  let v0 = k0
  let v1 = k1
  let v2 = k0 ^ 0x6c796765
  let v3 = k1 ^ 0x74656462
  const whole = length & ~3
  const words = whole / 4 + 1
  for (let round = 0; round < words + 3; round++) {
    let m = 0
    const i = round * 4
    if (i < whole) m = bytes[i]! | bytes[i + 1]! << 8 | bytes[i + 2]! << 16 | bytes[i + 3]! << 24
    else if (i === whole) {
      m = length << 24
      for (let k = whole; k < length; k++) m |= bytes[k]! << (k - whole) * 8
    } else if (round === words) v2 ^= 0xff
    v3 ^= m
    v0 = v0 + v1 | 0
    v1 = (v1 << 5 | v1 >>> 27) ^ v0
    v0 = v0 << 16 | v0 >>> 16
    v2 = v2 + v3 | 0
    v3 = (v3 << 8 | v3 >>> 24) ^ v2
    v0 = v0 + v3 | 0
    v3 = (v3 << 7 | v3 >>> 25) ^ v0
    v2 = v2 + v1 | 0
    v1 = (v1 << 13 | v1 >>> 19) ^ v2
    v2 = v2 << 16 | v2 >>> 16
    v0 ^= m
  }
  return v1 ^ v3
}

export const hashOfBytes = (bytes: Uint8Array): number => halfSipHash(bytes, bytes.length, secret0, secret1)

let scratch = Buffer.allocUnsafeSlow(256)

/** The same hash of a key that is text: that of its UTF-8 bytes. */
export const hashOfText = (key: string): number => hashWith(key, secret0, secret1)

/** The hash of a text's UTF-8 bytes with keys that are given: the same on every machine. */
export const hashWith = (text: string, k0: number, k1: number): number => {
  const { length } = text
  if (length * 3 > scratch.length) scratch = Buffer.allocUnsafeSlow(length * 6)
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i)
    if (code > 127) return halfSipHash(scratch, scratch.write(text), k0, k1)
    scratch[i] = code
  }
  return halfSipHash(scratch, length, k0, k1)
}

/** Whether bytes are the UTF-8 of a key. */
export const isKey = (bytes: Uint8Array, key: string): boolean => {
  const { length } = bytes
  if (key.length < length) return key.length * 3 >= length && Buffer.from(key).equals(bytes)
  // As many characters as bytes: they are the same only if all of them are ASCII.
  if (key.length > length) return false
  for (let i = 0; i < length; i++) if (bytes[i]! > 127 || key.charCodeAt(i) !== bytes[i]) return false
  return true
}
