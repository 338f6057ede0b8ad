/** Where fingerprints stand: a hash table with open addressing, in one array of integers. */
import { type Fingerprints, words } from "./Fingerprints.ts"

/** A slot holds the fingerprint's first word, the number of its chunk plus one (zero in a free slot) and its place in it. */
const slotSize = 3

/**
 * Finds fingerprints among numbered chunks of them, which stay where they are: about 20 bytes for each. The numbers of
 * chunks are below 2^31.
 */
export class FingerprintIndex {
  readonly #chunkOf: (number: number) => Fingerprints
  #slots = new Int32Array(16 * slotSize)
  #mask = 15
  #size = 0
  /** The chunk and the place that the last `find` found. */
  chunk = 0
  place = 0

  constructor(chunkOf: (number: number) => Fingerprints) {
    this.#chunkOf = chunkOf
  }

  get size(): number {
    return this.#size
  }

  /** Whether the fingerprint at `at` in `ids` is known; then `chunk` and `place` say where. */
  find(ids: Int32Array, at: number): boolean {
    const slot = this.#slotOf(ids, at)
    if (slot < 0) return false
    this.chunk = this.#slots[slot * slotSize + 1]! - 1
    this.place = this.#slots[slot * slotSize + 2]!
    return true
  }

  /** Adds the fingerprint at `place` of a chunk; it must not be known yet. */
  add(chunk: number, place: number): void {
    if ((this.#size + 1) * 4 > (this.#mask + 1) * 3) this.#grow()
    this.#put(this.#chunkOf(chunk).ids[place * words]!, chunk + 1, place)
    this.#size++
  }

  /** Forgets the fingerprint at `place` of a chunk, if it is known as that one. */
  delete(chunk: number, place: number): void {
    const slot = this.#slotOf(this.#chunkOf(chunk).ids, place * words)
    if (slot < 0) return
    if (this.#slots[slot * slotSize + 1] !== chunk + 1 || this.#slots[slot * slotSize + 2] !== place) return
    this.#size--
    this.#close(slot)
  }

  #slotOf(ids: Int32Array, at: number): number {
    const slots = this.#slots
    const first = ids[at]!
    for (let slot = first & this.#mask;; slot = (slot + 1) & this.#mask) {
      const chunk = slots[slot * slotSize + 1]!
      if (chunk === 0) return -1
      if (slots[slot * slotSize] !== first) continue
      const known = this.#chunkOf(chunk - 1).ids
      const place = slots[slot * slotSize + 2]! * words
      if (known[place + 1] === ids[at + 1] && known[place + 2] === ids[at + 2] && known[place + 3] === ids[at + 3]) {
        return slot
      }
    }
  }

  #put(first: number, chunk: number, place: number): void {
    let slot = first & this.#mask
    while (this.#slots[slot * slotSize + 1] !== 0) slot = (slot + 1) & this.#mask
    this.#slots[slot * slotSize] = first
    this.#slots[slot * slotSize + 1] = chunk
    this.#slots[slot * slotSize + 2] = place
  }

  /** Frees a slot, and moves back those behind it that a search would no longer reach. */
  #close(free: number): void {
    const slots = this.#slots
    for (let slot = (free + 1) & this.#mask; slots[slot * slotSize + 1] !== 0; slot = (slot + 1) & this.#mask) {
      const home = slots[slot * slotSize]! & this.#mask
      if (((slot - home) & this.#mask) < ((slot - free) & this.#mask)) continue
      slots.copyWithin(free * slotSize, slot * slotSize, (slot + 1) * slotSize)
      free = slot
    }
    slots[free * slotSize + 1] = 0
  }

  #grow(): void {
    const old = this.#slots
    this.#mask = this.#mask * 2 + 1
    this.#slots = new Int32Array((this.#mask + 1) * slotSize)
    for (let at = 0; at < old.length; at += slotSize) {
      if (old[at + 1] !== 0) this.#put(old[at]!, old[at + 1]!, old[at + 2]!)
    }
  }
}
