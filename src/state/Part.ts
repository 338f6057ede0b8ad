/** A part of a store: the keys of one window, or all keys of a store that is not in parts. */
import { hashOfBytes } from "./KeyHash.ts"
import { KeyTable, Slot } from "./KeyTable.ts"

/** What one batch has changed in a part, and what it found there. */
export interface Journal<V> {
  readonly part: JournaledPart<V>
  readonly version: number
  readonly slots: Array<Slot<V>>
  readonly before: Array<V | undefined>
}

/** What a part asks of its store. */
interface Owner<V> {
  journal(part: JournaledPart<V>): Journal<V>
}

export class JournaledPart<V> {
  readonly name: string
  /** Stands before its keys in the log. */
  readonly prefix: string
  readonly slots = new KeyTable<V>()
  /** Of the batch at hand, once it has changed something. */
  journal: Journal<V> | undefined
  readonly #owner: Owner<V>

  constructor(name: string, prefix: string, owner: Owner<V>) {
    this.name = name
    this.prefix = prefix
    this.#owner = owner
  }

  find(bytes: Uint8Array, hash = hashOfBytes(bytes)): Slot<V> | undefined {
    return this.slots.find(bytes, hash)
  }

  add(key: string, value: V): Slot<V> {
    const { version, slots, before } = this.journal ??= this.#owner.journal(this)
    const slot = new Slot<V>(key, value, version)
    this.slots.add(slot)
    slots.push(slot)
    before.push(undefined)
    return slot
  }

  write(slot: Slot<V>, value: V): void {
    this.#note(slot)
    slot.value = value
  }

  remove(slot: Slot<V>): void {
    this.#note(slot)
    slot.value = undefined
    this.slots.delete(slot.key)
  }

  clear(): void {
    for (const slot of this.slots) {
      this.#note(slot)
      slot.value = undefined
    }
    this.slots.clear()
  }

  /** Puts back what the log holds, outside any batch. */
  restore(key: string, value: V): void {
    const slot = this.slots.get(key)
    if (slot === undefined) this.slots.add(new Slot<V>(key, value, 0))
    else slot.value = value
  }

  /** Takes back what a batch has changed, the last one first. */
  revert({ slots, before }: Journal<V>): void {
    for (let i = slots.length - 1; i >= 0; i--) {
      const slot = slots[i]!
      const isThere = slot.value !== undefined
      slot.value = before[i]
      if (before[i] === undefined) this.slots.delete(slot.key)
      else if (!isThere) this.slots.add(slot)
    }
    this.journal = undefined
  }

  #note(slot: Slot<V>): void {
    const journal = this.journal ??= this.#owner.journal(this)
    if (slot.version === journal.version) return
    slot.version = journal.version
    journal.slots.push(slot)
    journal.before.push(slot.value)
  }
}
