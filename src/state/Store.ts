/** A task's keyed store in memory, with what is needed to log its changes and to take them back. */
import { Buffer } from "node:buffer"
import { Schema } from "effect"
import type { Changes } from "../Batch.ts"
import type { LoggedStore, StoreSpec } from "../Task.ts"
import { text } from "../Topic.ts"

/** What a batch found before it changed the store. */
interface Undo<V> {
  readonly version: number
  readonly streamTime: number
  readonly entries: Map<string, V | undefined>
}

/**
 * A store runs ahead of the commit: for every batch that is not committed yet it keeps what the batch overwrote, once
 * per key, so that `rewind` brings back exactly what the log holds.
 */
export class JournaledStore<V> implements LoggedStore<V> {
  readonly name: string
  readonly #entries = new Map<string, V>()
  #changed = new Map<string, V | undefined>()
  /** Keys to log again, and the version whose commit does it once it was taken. */
  readonly #relogged = new Map<string, number | undefined>()
  #streamTimeBefore = -Infinity
  #undo: Array<Undo<V>> = []
  #version = 0
  streamTime = -Infinity
  readonly #encode: (value: V) => unknown
  readonly #decode: (value: unknown) => V

  constructor(spec: StoreSpec<V>) {
    this.name = spec.name
    this.#encode = Schema.encodeSync(spec.value)
    this.#decode = Schema.decodeUnknownSync(spec.value)
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: string): V | undefined {
    return this.#entries.get(key)
  }

  set(key: string, value: V): void {
    if (!this.#changed.has(key)) this.#changed.set(key, this.#entries.get(key))
    this.#entries.set(key, value)
  }

  delete(key: string): void {
    const before = this.#entries.get(key)
    if (before === undefined) return
    if (!this.#changed.has(key)) this.#changed.set(key, before)
    this.#entries.delete(key)
  }

  entries(): IterableIterator<[string, V]> {
    return this.#entries.entries()
  }

  takeChanges(): Changes | undefined {
    const relogs = Array.from(this.#relogged.values()).includes(undefined)
    if (this.#changed.size === 0 && !relogs && this.streamTime === this.#streamTimeBefore) {
      return undefined
    }
    const version = ++this.#version
    const entries = new Map<string, V | undefined>()
    for (const key of this.#changed.keys()) entries.set(key, this.#entries.get(key))
    for (const [key, taken] of this.#relogged) {
      if (taken !== undefined) continue
      entries.set(key, this.#entries.get(key))
      this.#relogged.set(key, version)
    }
    this.#undo.push({ version, streamTime: this.#streamTimeBefore, entries: this.#changed })
    this.#changed = new Map()
    this.#streamTimeBefore = this.streamTime
    return { store: this.name, version, streamTime: this.streamTime, entries, encode: this.encode }
  }

  /** The changes up to this version are in the log now. */
  committed(version: number): void {
    const kept = this.#undo.findIndex((undo) => undo.version > version)
    this.#undo = kept === -1 ? [] : this.#undo.slice(kept)
    for (const [key, taken] of this.#relogged) if (taken !== undefined && taken <= version) this.#relogged.delete(key)
  }

  /** Takes back every change that was not committed. */
  rewind(): void {
    this.#revert(this.#changed)
    this.#changed = new Map()
    this.streamTime = this.#streamTimeBefore
    for (const undo of this.#undo.toReversed()) {
      this.#revert(undo.entries)
      this.streamTime = undo.streamTime
    }
    this.#streamTimeBefore = this.streamTime
    this.#undo = []
    for (const key of this.#relogged.keys()) this.#relogged.set(key, undefined)
  }

  /** Puts an entry of the log back, outside any batch. A value that the schema refuses throws. */
  restore(key: string, bytes: Uint8Array | null): void {
    if (bytes === null) this.#entries.delete(key)
    else this.#entries.set(key, this.#decode(JSON.parse(text(bytes))))
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

  #revert(before: ReadonlyMap<string, V | undefined>): void {
    for (const [key, value] of before) {
      if (value === undefined) this.#entries.delete(key)
      else this.#entries.set(key, value)
    }
  }
}
