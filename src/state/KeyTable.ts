/** Finds the slot of a key by the key's bytes or its text: a hash table with open addressing, in one array of integers. */
import { hashOfText, isKey } from "./KeyHash.ts"

/** Where the value of one key is. */
export class Slot<V> {
  readonly key: string
  value: V | undefined
  /** Of the batch that changed it last. */
  version: number
  mark = 0
  /** The last merge of changes that has met it. */
  merge = 0

  constructor(key: string, value: V | undefined, version: number) {
    this.key = key
    this.value = value
    this.version = version
  }
}

/** The smallest table, in places: a power of two. */
const least = 8

/**
 * Slots in the order they came. Beside the slot itself a key takes 11 to 21 bytes for its place in the table and 8 to 16 for
 * its place in the order.
 */
export class KeyTable<V> {
  /** For each place the hash of a key, and the number of its slot plus one (zero where it is free). */
  #places = new Int32Array(least * 2)
  #mask = least - 1
  /** By number; empty where one was removed. */
  #slots: Array<Slot<V> | undefined> = []
  /** What was asked for last: values are mostly read and then written. */
  #last: Slot<V> | undefined
  size = 0

  find(bytes: Uint8Array, hash: number): Slot<V> | undefined {
    const places = this.#places
    for (let place = hash & this.#mask;; place = (place + 1) & this.#mask) {
      const number = places[place * 2 + 1]!
      if (number === 0) return undefined
      if (places[place * 2] !== hash) continue
      const slot = this.#slots[number - 1]!
      if (isKey(bytes, slot.key)) return slot
    }
  }

  get(key: string): Slot<V> | undefined {
    if (this.size === 0) return undefined
    if (this.#last?.key === key) return this.#last
    const place = this.#placeOf(key, hashOfText(key))
    return this.#last = place === -1 ? undefined : this.#slots[this.#places[place * 2 + 1]! - 1]
  }

  /** Adds a slot whose key is not there. */
  add(slot: Slot<V>): void {
    if ((this.#slots.length + 1) * 4 > (this.#mask + 1) * 3) this.#rebuild()
    this.#slots.push(slot)
    this.#put(hashOfText(slot.key), this.#slots.length)
    this.size++
  }

  /** Removes the slot of a key, if it is there. */
  delete(key: string): void {
    const place = this.#placeOf(key, hashOfText(key))
    if (place === -1) return
    this.#last = undefined
    this.#slots[this.#places[place * 2 + 1]! - 1] = undefined
    this.size--
    this.#close(place)
  }

  clear(): void {
    this.#places = new Int32Array(least * 2)
    this.#mask = least - 1
    this.#slots = []
    this.#last = undefined
    this.size = 0
  }

  *[Symbol.iterator](): IterableIterator<Slot<V>> {
    for (const slot of this.#slots) if (slot !== undefined) yield slot
  }

  #placeOf(key: string, hash: number): number {
    const places = this.#places
    for (let place = hash & this.#mask;; place = (place + 1) & this.#mask) {
      const number = places[place * 2 + 1]!
      if (number === 0) return -1
      if (places[place * 2] === hash && this.#slots[number - 1]!.key === key) return place
    }
  }

  #put(hash: number, number: number): void {
    const places = this.#places
    let place = hash & this.#mask
    while (places[place * 2 + 1] !== 0) place = (place + 1) & this.#mask
    places[place * 2] = hash
    places[place * 2 + 1] = number
  }

  /** Frees a place, and moves back those behind it that a search would no longer reach. */
  #close(free: number): void {
    const places = this.#places
    for (let place = (free + 1) & this.#mask; places[place * 2 + 1] !== 0; place = (place + 1) & this.#mask) {
      const home = places[place * 2]! & this.#mask
      if (((place - home) & this.#mask) < ((place - free) & this.#mask)) continue
      places[free * 2] = places[place * 2]!
      places[free * 2 + 1] = places[place * 2 + 1]!
      free = place
    }
    places[free * 2 + 1] = 0
  }

  /** Makes room, and gives slots new numbers, without those that were removed. */
  #rebuild(): void {
    const hashes = new Int32Array(this.#slots.length)
    const old = this.#places
    for (let at = 0; at < old.length; at += 2) if (old[at + 1] !== 0) hashes[old[at + 1]! - 1] = old[at]!
    const slots: Array<Slot<V> | undefined> = []
    let places = least
    while ((this.size + 1) * 2 > places) places *= 2
    this.#places = new Int32Array(places * 2)
    this.#mask = places - 1
    for (let number = 0; number < hashes.length; number++) {
      const slot = this.#slots[number]
      if (slot === undefined) continue
      slots.push(slot)
      this.#put(hashes[number]!, slots.length)
    }
    this.#slots = slots
  }
}
