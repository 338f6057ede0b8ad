/** A task's keyed store in memory, with what is needed to log its changes and to take them back. */
import { Buffer } from "node:buffer"
import { Schema } from "effect"
import type { Changes } from "../Batch.ts"
import * as JsonCodec from "../JsonCodec.ts"
import type { LoggedStore, StoreSpec } from "../Task.ts"
import { text } from "../Topic.ts"
import { Changed } from "./Changed.ts"
import { type Journal, JournaledPart } from "./Part.ts"

/** What a batch found before it changed the store. */
interface Undo<V> {
  readonly version: number
  readonly streamTime: number
  readonly journals: ReadonlyArray<Journal<V>>
}

/** Stands between the part and the key in the keys of a changelog. */
const separator = ":"

export const joinId = (part: string, key: string): string => part + separator + key

/** The part and the key that an id is made of; `undefined` where it is of none. */
export const splitId = (id: string): readonly [part: string, key: string] | undefined => {
  const at = id.indexOf(separator)
  return at === -1 ? undefined : [id.slice(0, at), id.slice(at + 1)]
}

/**
 * A store runs ahead of the commit: for every batch that is not committed yet it keeps what the batch overwrote, once
 * per key, so that `rewind` brings back exactly what the log holds.
 */
export class JournaledStore<V> implements LoggedStore<V> {
  readonly name: string
  readonly shape: string | undefined
  readonly #isParted: boolean
  readonly #parts = new Map<string, JournaledPart<V>>()
  /** What the batch at hand has changed, part by part. */
  #journals: Array<Journal<V>> = []
  /** Keys to log again, and the version whose commit does it once it was taken. */
  readonly #relogged = new Map<string, number | undefined>()
  #streamTimeBefore = -Infinity
  #undo: Array<Undo<V>> = []
  /** Of the batch at hand, and of the last one that was committed. */
  #version = 1
  #committed = 0
  streamTime = -Infinity
  /** Where its changelog began when it was restored from it. */
  logStart: number | undefined
  readonly #encode: (value: V) => unknown
  readonly #decode: (value: unknown) => V

  constructor(spec: StoreSpec<V>) {
    this.name = spec.name
    this.shape = spec.shape
    this.#isParted = spec.isParted === true
    const codec = JsonCodec.of(spec.value)
    this.#encode = Schema.encodeSync(codec)
    this.#decode = Schema.decodeUnknownSync(codec)
  }

  get size(): number {
    let size = 0
    for (const part of this.#parts.values()) size += part.slots.size
    return size
  }

  get(id: string): V | undefined {
    const [part, key] = this.#split(id)
    return this.#parts.get(part)?.slots.get(key)?.value
  }

  set(id: string, value: V): void {
    const [name, key] = this.#split(id)
    const part = this.part(name)
    const slot = part.slots.get(key)
    if (slot === undefined) part.add(key, value)
    else part.write(slot, value)
  }

  delete(id: string): void {
    const [name, key] = this.#split(id)
    const part = this.#parts.get(name)
    const slot = part?.slots.get(key)
    if (slot !== undefined) part!.remove(slot)
  }

  *entries(): IterableIterator<[string, V]> {
    for (const { prefix, slots } of this.#parts.values()) {
      for (const slot of slots) yield [prefix + slot.key, slot.value!]
    }
  }

  part(name: string): JournaledPart<V> {
    let part = this.#parts.get(name)
    if (part === undefined) {
      part = new JournaledPart(name, this.#isParted ? joinId(name, "") : name, this)
      this.#parts.set(name, part)
    }
    return part
  }

  *parts(): IterableIterator<JournaledPart<V>> {
    for (const part of this.#parts.values()) if (part.slots.size > 0) yield part
  }

  /** A part is changed for the first time in the batch at hand: answers where it is to say what it found. */
  journal(part: JournaledPart<V>): Journal<V> {
    this.#parts.set(part.name, part)
    const journal = { part, version: this.#version, slots: [], before: [] }
    this.#journals.push(journal)
    return journal
  }

  /** The value of a key as of the last commit, whatever batches have done since. */
  committedValue(id: string): V | undefined {
    const [name, key] = this.#split(id)
    const slot = this.#parts.get(name)?.slots.get(key)
    if (slot !== undefined && slot.version <= this.#committed) return slot.value
    for (const { part, slots, before } of this.#ahead()) {
      if (part.name !== name) continue
      for (let i = 0; i < slots.length; i++) if (slots[i]!.key === key) return before[i]
    }
    return slot?.value
  }

  /** All entries as of the last commit, in no particular order. The store must not change while they are gone through. */
  *committedEntries(): Generator<readonly [key: string, value: V]> {
    const before = this.#overwritten()
    for (const entry of this.entries()) if (!before.has(entry[0])) yield entry
    for (const [id, value] of before) if (value !== undefined) yield [id, value]
  }

  /** How many entries there are as of the last commit. */
  get committedSize(): number {
    let { size } = this
    for (const [id, value] of this.#overwritten()) {
      size += Number(value !== undefined) - Number(this.get(id) !== undefined)
    }
    return size
  }

  /** The names of all parts that may have held something at the last commit. */
  committedParts(): IterableIterator<string> {
    return this.#parts.keys()
  }

  get committedStreamTime(): number {
    return this.#undo[0]?.streamTime ?? this.#streamTimeBefore
  }

  /** What batches have done since the last commit, the first one first. */
  #ahead(): ReadonlyArray<Journal<V>> {
    if (this.#undo.length === 0) return this.#journals
    return [...this.#undo.flatMap(({ journals }) => journals), ...this.#journals]
  }

  /** By key: what was there at the last commit and was changed since. */
  #overwritten(): ReadonlyMap<string, V | undefined> {
    const found = new Map<string, V | undefined>()
    for (const { part: { prefix }, slots, before } of this.#ahead()) {
      for (let i = 0; i < slots.length; i++) {
        const id = prefix + slots[i]!.key
        if (!found.has(id)) found.set(id, before[i])
      }
    }
    return found
  }

  takeChanges(): Changes | undefined {
    const relogs = this.#relogs()
    if (this.#journals.length === 0 && relogs.length === 0 && this.streamTime === this.#streamTimeBefore) {
      return undefined
    }
    const version = this.#version++
    for (const key of relogs) this.#relogged.set(key, version)
    const journals = this.#journals
    this.#undo.push({ version, streamTime: this.#streamTimeBefore, journals })
    for (const { part } of journals) part.journal = undefined
    this.#journals = []
    this.#streamTimeBefore = this.streamTime
    const entries = new Changed(journals, relogs.map((key) => [key, this.get(key)]))
    const { name, shape, streamTime, encode } = this
    return { store: name, version, streamTime, entries, shape, encode }
  }

  /** The changes up to this version are in the log now. */
  committed(version: number): void {
    this.#committed = version
    const kept = this.#undo.findIndex((undo) => undo.version > version)
    const done = kept === -1 ? this.#undo : this.#undo.slice(0, kept)
    this.#undo = kept === -1 ? [] : this.#undo.slice(kept)
    for (const { journals } of done) for (const { part } of journals) this.#letGo(part)
    for (const [key, taken] of this.#relogged) if (taken !== undefined && taken <= version) this.#relogged.delete(key)
  }

  /** Takes back every change that was not committed. */
  rewind(): void {
    for (const journals of [...this.#undo.map((undo) => undo.journals), this.#journals].reverse()) {
      for (const journal of journals.toReversed()) journal.part.revert(journal)
    }
    for (const [name, { slots }] of this.#parts) if (slots.size === 0) this.#parts.delete(name)
    this.streamTime = this.#undo[0]?.streamTime ?? this.#streamTimeBefore
    this.#streamTimeBefore = this.streamTime
    this.#journals = []
    this.#undo = []
    this.#version++
    for (const key of this.#relogged.keys()) this.#relogged.set(key, undefined)
  }

  /** Puts an entry of the log back, outside any batch. A value that the schema refuses throws. */
  restore(id: string, bytes: Uint8Array | null): void {
    const [name, key] = this.#split(id)
    if (bytes !== null) return this.part(name).restore(key, this.#decode(JSON.parse(text(bytes))))
    const part = this.#parts.get(name)
    part?.slots.delete(key)
    if (part?.slots.size === 0) this.#parts.delete(name)
  }

  /** Logs an entry again with the next batch that is committed, although nothing changes. */
  relog(key: string): void {
    this.#relogged.set(key, undefined)
  }

  restoreStreamTime(at: number): void {
    this.streamTime = at
    this.#streamTimeBefore = at
  }

  readonly encode = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(this.#encode(value as V)))

  #split(id: string): readonly [part: string, key: string] {
    if (!this.#isParted) return ["", id]
    const parts = splitId(id)
    if (parts === undefined) throw new RangeError(`store ${this.name} is in parts: its keys are part, colon, key`)
    return parts
  }

  #relogs(): ReadonlyArray<string> {
    if (this.#relogged.size === 0) return none
    return Array.from(this.#relogged).filter(([, taken]) => taken === undefined).map(([key]) => key)
  }

  /** Forgets a part that is empty, unless a batch that is not committed has still to say so. */
  #letGo(part: JournaledPart<V>): void {
    if (part.slots.size > 0 || part.journal !== undefined) return
    const isPending = this.#undo.some(({ journals }) => journals.some((journal) => journal.part === part))
    if (!isPending) this.#parts.delete(part.name)
  }
}

const none: ReadonlyArray<never> = []
