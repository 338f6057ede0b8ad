/** A versioned table in a store: the rows of every key as they were at any time of a history. */
import { Schema } from "effect"
import type { LoggedStore, StoreSpec } from "../Task.ts"
import { Heap } from "./Heap.ts"

/** A row from a time on, until the next version of its key; without a row from a deletion on. */
export interface Version<out A> {
  /** Event time, in milliseconds since 1970. */
  readonly at: number
  readonly row?: A
}

/** One entry per version, so that a change of a key with many versions logs one. */
export const spec = <A>(name: string, row: Schema.Codec<A, unknown>): StoreSpec<Version<A>> => ({
  name,
  shape: "versions of rows",
  value: Schema.Struct({ at: Schema.Finite, row: Schema.optionalKey(row) }) as Schema.Codec<Version<A>, unknown>,
})

const idOf = (key: string, at: number): string => `${at}:${key}`

const keyOf = (id: string): string => id.slice(id.indexOf(":") + 1)

/** When the oldest version of a key is not needed any more. */
interface Expiry {
  readonly key: string
  readonly at: number
}

/**
 * Answers the version of a key that is valid at a time: the last one that is not later. Right for times at most `history`
 * behind stream time. Changes go to their place by event time, also where they come out of order; of two of one time the
 * one that came last counts. A key whose last change is a deletion is forgotten when stream time has passed that by
 * `deletions`: an older change that comes then brings the row back. Memory: per key the versions of the last `history` of
 * stream time and the one before them, and one per deletion of the last `deletions`.
 */
export class Versions<A> {
  readonly #store: LoggedStore<Version<A>>
  readonly history: number
  /** How much longer than the history a deletion is remembered. */
  readonly #longer: number
  /** By key, the oldest first. */
  readonly #byKey = new Map<string, Array<Version<A>>>()
  readonly #expiries = new Heap<Expiry>((a, b) => a.at < b.at)

  constructor(store: LoggedStore<Version<A>>, history: number, deletions: number) {
    this.#store = store
    this.history = history
    this.#longer = Math.max(0, deletions - history)
    for (const [id, version] of store.entries()) {
      const key = keyOf(id)
      const versions = this.#byKey.get(key)
      if (versions === undefined) this.#byKey.set(key, [version])
      else versions.push(version)
    }
    for (const [key, versions] of this.#byKey) {
      versions.sort((a, b) => a.at - b.at)
      this.#expectExpiry(key, versions)
    }
  }

  /** The earliest time that can be asked for. */
  get horizon(): number {
    return this.#store.streamTime - this.history
  }

  /** The row that was valid at a time. */
  at(key: string, time: number): A | undefined {
    const versions = this.#byKey.get(key)
    return versions === undefined ? undefined : versions[after(versions, time) - 1]?.row
  }

  /** Takes a change; answers whether anything can still be asked for that it is the answer to. */
  put(key: string, at: number, row: A | undefined): boolean {
    const known = this.#byKey.get(key)
    const versions = known ?? []
    const place = after(versions, at)
    const next = versions[place]
    if (next !== undefined && next.at <= this.horizon) return false
    const expected = this.#expiry(versions)
    const version = row === undefined ? { at } : { at, row }
    if (versions[place - 1]?.at === at) versions[place - 1] = version
    else versions.splice(place, 0, version)
    if (known === undefined) this.#byKey.set(key, versions)
    this.#store.set(idOf(key, at), version)
    this.#trim(key, versions)
    if (this.#expiry(versions) !== expected) this.#expectExpiry(key, versions)
    return true
  }

  /** Stream time has gone on to `now`: what nobody can ask for any more is forgotten. */
  advance(now: number): void {
    if (now > this.#store.streamTime) this.#store.streamTime = now
    let next = this.#expiries.peek()
    while (next !== undefined && next.at <= this.horizon) {
      this.#expiries.pop()
      const versions = this.#byKey.get(next.key)
      if (versions !== undefined && this.#expiry(versions) === next.at) {
        this.#trim(next.key, versions)
        this.#expectExpiry(next.key, versions)
      }
      next = this.#expiries.peek()
    }
  }

  #trim(key: string, versions: Array<Version<A>>): void {
    let gone = 0
    while (gone + 1 < versions.length && versions[gone + 1]!.at <= this.horizon) gone++
    const { at, row } = versions[gone]!
    if (gone + 1 === versions.length && row === undefined && at + this.#longer <= this.horizon) gone++
    if (gone === 0) return
    for (const { at } of versions.splice(0, gone)) this.#store.delete(idOf(key, at))
    if (versions.length === 0) this.#byKey.delete(key)
  }

  #expectExpiry(key: string, versions: ReadonlyArray<Version<A>>): void {
    const at = this.#expiry(versions)
    if (at !== undefined) this.#expiries.push({ key, at })
  }

  /** When the horizon makes the oldest version superfluous; `undefined` where it stays for as long as nothing comes. */
  #expiry(versions: ReadonlyArray<Version<A>>): number | undefined {
    if (versions.length > 1) return versions[1]!.at
    const [only] = versions
    return only !== undefined && only.row === undefined ? only.at + this.#longer : undefined
  }
}

/** How many versions are not later than a time. */
const after = (versions: ReadonlyArray<Version<unknown>>, time: number): number => {
  let low = 0
  let high = versions.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (versions[middle]!.at <= time) low = middle + 1
    else high = middle
  }
  return low
}
