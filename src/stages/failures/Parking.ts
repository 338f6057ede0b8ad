/** Keys of which a record waits to be tried again, and what has come behind it. */
import { Buffer } from "node:buffer"
import { Schema } from "effect"
import type { LoggedStore } from "../../Task.ts"
import { defaultMaxMessageBytes } from "../../Topic.ts"
import { sizeOf, type Written } from "./RetryRecord.ts"
import { sequenceHeader } from "./RetryTopic.ts"

/** The most bytes of an entry's key and value in the log: the brokers' default, without what is around them. */
const largestEntry = defaultMaxMessageBytes - 1_024

/** How many bytes one byte of a record is in the log at most: of a header's name, where it is escaped. */
const growth = 6

/** A key of which something waits: its records are numbered from the one that failed. */
const Key = Schema.Struct({
  /** The first number that is not through, and the next one to be given. */
  first: Schema.Int,
  next: Schema.Int,
  /** The retry topic that the first one waits in; null where it is its turn. */
  topic: Schema.NullOr(Schema.String),
  /** Bytes of the records that are on their way through the topic of those whose turn it is. */
  bytes: Schema.Int,
})
type Key = typeof Key.Type

/** A record that waits behind the first one of its key. */
const Follower = Schema.Struct({
  key: Schema.Uint8ArrayFromBase64,
  value: Schema.NullOr(Schema.Uint8ArrayFromBase64),
  headers: Schema.Array(Schema.Tuple([Schema.String, Schema.Uint8ArrayFromBase64])),
})
type Follower = typeof Follower.Type
const encodeFollower = Schema.encodeSync(Follower)

export type Entry = Key | Follower
export const Entry: Schema.Codec<Entry, unknown> = Schema.Union([Key, Follower])

/**
 * The keys of one task that wait, in a logged store. While the first record of a key waits in a retry topic, those behind
 * it are kept here. Once it is through they are on their way through the topic of those whose turn it is, and what comes
 * meanwhile goes there too; what arrives there too early, because one before it has failed again, is kept here again. A key
 * is forgotten as soon as nothing of it waits.
 *
 * Memory is bounded by `bytes`, which whoever adds records must watch.
 */
export class Parking {
  readonly #store: LoggedStore<Entry>
  /** By key, the bytes of each record that is here, by its number. */
  readonly #followers = new Map<string, Map<number, number>>()
  /** By topic, the keys whose first record must stand in it: as they were restored, until the topic was read to its end. */
  readonly #expected = new Map<string, Map<string, Key>>()
  /** How many records wait, here and in topics. */
  records = 0
  /** Bytes of the records that wait behind others, here or on their way. */
  bytes = 0

  /** `turn` is the topic of those whose turn it is. */
  constructor(store: LoggedStore<Entry>, turn: string) {
    this.#store = store
    const keys: Array<string> = []
    for (const [name, entry] of store.entries()) {
      if ("next" in entry) keys.push(ofKey(name))
      else {
        const colon = name.indexOf(":")
        this.#keep(name.slice(colon + 1), Number(name.slice(0, colon)), sizeOf(entry))
      }
    }
    for (const key of this.#followers.keys()) this.#mend(key)
    for (const key of keys) {
      if (!this.#followers.has(key)) this.#mend(key)
      const known = this.#get(key)!
      this.records += known.next - known.first
      this.bytes += known.bytes
      const topic = known.topic ?? turn
      const expected = this.#expected.get(topic)
      if (expected === undefined) this.#expected.set(topic, new Map([[key, known]]))
      else expected.set(key, known)
    }
  }

  isParked(key: string): boolean {
    return this.#get(key) !== undefined
  }

  /** Whether the log can say of a key that it waits, and can hold a record that waits behind others of it. */
  fits(key: string, record?: Written): boolean {
    const name = Buffer.byteLength(key) + 64
    if (record === undefined || (name + sizeOf(record)) * growth <= largestEntry) return name <= largestEntry
    return name + Buffer.byteLength(JSON.stringify(encodeFollower(asFollower(record)))) <= largestEntry
  }

  /** The number that the key's next record will have. */
  next(key: string): number {
    return this.#get(key)?.next ?? 0
  }

  /** Whether this is the record of the key that waits in that retry topic. */
  isFirst(key: string, sequence: number | undefined, topic: string): boolean {
    const known = this.#get(key)
    return known !== undefined && known.topic === topic && known.first === sequence
  }

  /** The record with this number, the first one of its key, waits in a retry topic now. */
  wait(key: string, sequence: number, topic: string): void {
    const known = this.#get(key)
    if (known === undefined) this.records++
    this.#set(key, known === undefined ? { first: sequence, next: sequence + 1, topic, bytes: 0 } : { ...known, topic })
  }

  /** Puts a record behind all others of its key. Answers whether it is kept here; otherwise it goes to those in turn. */
  follow(key: string, record: Written): boolean {
    const known = this.#get(key)!
    const size = sizeOf(record)
    this.records++
    const stays = known.topic !== null
    if (stays) this.#put(key, known.next, record, size)
    else this.bytes += size
    this.#set(key, { ...known, next: known.next + 1, bytes: known.bytes + (stays ? 0 : size) })
    return stays
  }

  /**
   * A record has come from the topic of those whose turn it is. `next` where it is to be tried now; `early` where it is kept
   * here until those before it are through; `unknown` where it is none of those that are on their way.
   */
  arrive(key: string, sequence: number | undefined, record: Written): "next" | "early" | "unknown" {
    const known = this.#get(key)
    if (known === undefined || sequence === undefined) return "unknown"
    const from = known.topic === null ? known.first : known.first + 1
    if (sequence < from || sequence >= known.next || this.#followers.get(key)?.has(sequence)) return "unknown"
    const size = Math.min(sizeOf(record), known.bytes)
    this.bytes -= size
    this.#set(key, { ...known, bytes: known.bytes - size })
    if (known.topic === null && sequence === known.first) return "next"
    this.#put(key, sequence, record, sizeOf(record))
    return "early"
  }

  /** The key's first record is through. Answers those kept here that follow it: it is their turn. */
  pass(key: string): ReadonlyArray<Written> {
    const known = this.#get(key)
    if (known === undefined) return []
    this.records--
    const first = known.first + 1
    if (first === known.next) {
      this.#store.delete(keyName(key))
      return []
    }
    const sizes = this.#followers.get(key)
    const released: Array<Written> = []
    let bytes = known.bytes
    for (let sequence = first; sizes?.has(sequence); sequence++) {
      const name = followerName(key, sequence)
      released.push(this.#store.get(name) as Follower)
      this.#store.delete(name)
      bytes += sizes.get(sequence)!
      sizes.delete(sequence)
    }
    if (sizes?.size === 0) this.#followers.delete(key)
    this.#set(key, { first, next: known.next, topic: null, bytes })
    return released
  }

  /** The topics that are to be read to their ends before all that waits is known to be there. */
  get unread(): Iterable<string> {
    return this.#expected.keys()
  }

  /**
   * A topic was read to its end. Records of it that did not come are gone: deleted while nobody has read it. Answers how
   * many, and those kept here that are next now.
   */
  missed(topic: string): { readonly gone: number; readonly released: ReadonlyArray<Written> } {
    const expected = this.#expected.get(topic)
    this.#expected.delete(topic)
    const released: Array<Written> = []
    let gone = 0
    for (const [key, restored] of expected ?? []) {
      const known = this.#get(key)
      if (known === undefined || known.first !== restored.first || known.topic !== restored.topic) continue
      // The last one that is gone: of those on their way all up to the first that is kept here, or has been sent since.
      let last = known.first
      if (known.topic === null) {
        while (last + 1 < restored.next && !this.#followers.get(key)?.has(last + 1)) last++
        this.bytes -= known.bytes
        this.#set(key, { ...known, first: last, bytes: 0 })
        this.records -= last - known.first
      }
      gone += 1 + last - known.first
      released.push(...this.pass(key))
    }
    return { gone, released }
  }

  /**
   * Makes sense of a key that was written in part, which happens without transactions. What is not behind the key's first
   * record goes: it was sent before, or is read again and follows anew. So does a gap behind a first one that waits while
   * nothing is on its way: what it was for is read again too.
   */
  #mend(key: string): void {
    const known = this.#get(key)
    const sizes = this.#followers.get(key) ?? new Map<number, number>()
    const { first, next, topic, bytes } = known ?? { first: 0, next: 0, topic: null, bytes: 0 }
    for (const sequence of sizes.keys()) if (sequence <= first || sequence >= next) this.#drop(key, sequence)
    if (topic === null || bytes > 0) return
    let end = first + 1
    for (const sequence of [...sizes.keys()].sort((a, b) => a - b)) {
      if (sequence !== end) {
        const record = numbered(this.#store.get(followerName(key, sequence)) as Follower, end)
        this.#drop(key, sequence)
        this.#put(key, end, record, sizeOf(record))
      }
      end++
    }
    if (end !== next) this.#set(key, { ...known!, next: end })
  }

  #drop(key: string, sequence: number): void {
    const sizes = this.#followers.get(key)!
    this.bytes -= sizes.get(sequence)!
    sizes.delete(sequence)
    if (sizes.size === 0) this.#followers.delete(key)
    this.#store.delete(followerName(key, sequence))
  }

  #get(key: string): Key | undefined {
    return this.#store.get(keyName(key)) as Key | undefined
  }

  #set(key: string, entry: Key): void {
    this.#store.set(keyName(key), entry)
  }

  #put(key: string, sequence: number, record: Written, size: number): void {
    this.#store.set(followerName(key, sequence), asFollower(record))
    this.#keep(key, sequence, size)
  }

  #keep(key: string, sequence: number, size: number): void {
    this.bytes += size
    const sizes = this.#followers.get(key)
    if (sizes === undefined) this.#followers.set(key, new Map([[sequence, size]]))
    else sizes.set(sequence, size)
  }
}

/** A record that says so at another number. */
const numbered = ({ headers, ...record }: Follower, sequence: number): Follower => {
  const at = headers.findLastIndex(([name]) => name === sequenceHeader)
  return at === -1 ? { headers, ...record } : {
    ...record,
    headers: headers.with(at, [sequenceHeader, Buffer.from(String(sequence))]),
  }
}

const asFollower = ({ key, value, headers }: Written): Follower => ({
  key: copy(key!),
  value: value && copy(value),
  headers: headers.map(([name, value]) => [name, copy(value)]),
})

/** What is kept must not keep the whole fetch that it came with. */
const copy = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes)

const keyName = (key: string): string => `key:${key}`

const ofKey = (name: string): string => name.slice(keyName("").length)

const followerName = (key: string, sequence: number): string => `${sequence}:${key}`

/** A key as text, different for different bytes. */
export const keyText = (key: Uint8Array): string => Buffer.from(key).toString("latin1")
