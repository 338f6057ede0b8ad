/** A map of bounded size that forgets what was used least recently. */

/** What an entry must have: its key, and its neighbours in the order of use. */
export interface Linked {
  readonly key: string
  /** The next one that was used more recently, and less. */
  newer: this | undefined
  older: this | undefined
}

/** Keeps at most `most` entries. A hit costs one look-up in a hash table and a few assignments. */
export class LruMap<E extends Linked> {
  readonly #most: number
  readonly #entries = new Map<string, E>()
  #newest: E | undefined
  #oldest: E | undefined

  constructor(most: number) {
    this.#most = most
  }

  get size(): number {
    return this.#entries.size
  }

  /** An entry, which is then the one used most recently. */
  get(key: string): E | undefined {
    const entry = this.#entries.get(key)
    if (entry !== undefined && entry !== this.#newest) {
      this.#unlink(entry)
      this.#link(entry)
    }
    return entry
  }

  /** An entry as it stands, without using it. */
  peek(key: string): E | undefined {
    return this.#entries.get(key)
  }

  /** Adds an entry whose key is not there yet, and answers how many were forgotten for it: itself where none may be kept. */
  add(entry: E): number {
    this.#entries.set(entry.key, entry)
    this.#link(entry)
    let forgotten = 0
    for (; this.#entries.size > this.#most; forgotten++) this.delete(this.#oldest!.key)
    return forgotten
  }

  delete(key: string): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#entries.delete(key)
    this.#unlink(entry)
  }

  /** Keys, least recently used first. */
  keys(): Array<string> {
    const keys: Array<string> = []
    for (let entry = this.#oldest; entry !== undefined; entry = entry.newer) keys.push(entry.key)
    return keys
  }

  #link(entry: E): void {
    entry.older = this.#newest
    entry.newer = undefined
    if (this.#newest === undefined) this.#oldest = entry
    else this.#newest.newer = entry
    this.#newest = entry
  }

  #unlink(entry: E): void {
    if (entry.older === undefined) this.#oldest = entry.newer
    else entry.older.newer = entry.newer
    if (entry.newer === undefined) this.#newest = entry.older
    else entry.newer.older = entry.older
    entry.older = undefined
    entry.newer = undefined
  }
}
