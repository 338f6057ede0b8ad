/** Many ids in little memory: what stands for each is 16 bytes, whatever its length. */
import { Buffer } from "node:buffer"
import { hash } from "node:crypto"
import { Schema, SchemaTransformation } from "effect"

/** 32-bit words of a fingerprint. */
export const words = 4

/**
 * Writes the first 128 bits of an id's SHA-256 to `into`: among a billion ids the chance that any two are taken for one
 * is below 10^-20.
 */
export const write = (id: string, into: Int32Array): void => {
  const digest = hash("sha256", id, "latin1") // A Buffer would cost four times as much.
  for (let word = 0; word < words; word++) {
    const at = word * 4
    into[word] = digest.charCodeAt(at) | digest.charCodeAt(at + 1) << 8 | digest.charCodeAt(at + 2) << 16 |
      digest.charCodeAt(at + 3) << 24
  }
}

/** Fingerprints in the order they came, each with a number: 24 bytes an id. */
export class Fingerprints {
  ids: Int32Array
  numbers: Float64Array
  length: number

  constructor(ids = new Int32Array(0), numbers = new Float64Array(0)) {
    this.ids = ids
    this.numbers = numbers
    this.length = numbers.length
  }

  push(fingerprint: Int32Array, number: number): void {
    if (this.length === this.numbers.length) this.#resize(Math.max(8, this.length * 2))
    this.ids.set(fingerprint, this.length * words)
    this.numbers[this.length++] = number
  }

  copy(): Fingerprints {
    return new Fingerprints(this.ids.slice(0, this.length * words), this.numbers.slice(0, this.length))
  }

  /** Gives back the memory that growing has kept in reserve. */
  trim(): void {
    if (this.length < this.numbers.length) this.#resize(this.length)
  }

  #resize(capacity: number): void {
    const { ids, numbers } = this
    this.ids = new Int32Array(capacity * words)
    this.ids.set(ids.subarray(0, this.length * words))
    this.numbers = new Float64Array(capacity)
    this.numbers.set(numbers.subarray(0, this.length))
  }
}

/** Base64 of the fingerprints, then of the numbers as 64-bit floats; both little endian. */
export const codec: Schema.Codec<Fingerprints, string> = Schema.String.pipe(Schema.decodeTo(
  Schema.instanceOf(Fingerprints),
  SchemaTransformation.transform({
    decode: (text) => {
      const bytes = Uint8Array.from(Buffer.from(text, "base64")).buffer
      const length = bytes.byteLength / bytesEach
      return new Fingerprints(new Int32Array(bytes, 0, length * words), new Float64Array(bytes, length * words * 4))
    },
    encode: ({ ids, numbers, length }) =>
      Buffer.concat([
        new Uint8Array(ids.buffer, ids.byteOffset, length * words * 4),
        new Uint8Array(numbers.buffer, numbers.byteOffset, length * 8),
      ]).toString("base64"),
  }),
))

const bytesEach = words * 4 + 8
