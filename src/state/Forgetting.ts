/** A store that remembers for a time what was deleted, so that an older change that comes after a deletion loses. */
import type { LoggedStore } from "../Task.ts"
import { Heap } from "./Heap.ts"

/** What is kept of a key: from which event time on, and whether it is only the memory of a deletion. */
export interface Dated {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly gone?: true
}

interface Gone {
  readonly key: string
  readonly at: number
}

/** Entries that are gone are forgotten when stream time has passed them by `deletions`. */
export class Forgetting<V extends Dated> {
  readonly #store: LoggedStore<V>
  readonly #deletions: number
  /** The oldest first; some are not what is kept of their key any more. */
  readonly #gone = new Heap<Gone>((a, b) => a.at < b.at)

  constructor(store: LoggedStore<V>, deletions: number) {
    this.#store = store
    this.#deletions = deletions
    for (const [key, { at, gone }] of store.entries()) if (gone) this.#gone.push({ key, at })
  }

  get(key: string): V | undefined {
    return this.#store.get(key)
  }

  set(key: string, value: V): void {
    if (value.gone && this.#isForgotten(value.at)) return this.#store.delete(key)
    const known = this.#store.get(key)
    this.#store.set(key, value)
    if (value.gone && !(known?.gone && known.at === value.at)) this.#gone.push({ key, at: value.at })
  }

  /** Stream time has gone on to `now`. */
  advance(now: number): void {
    if (now > this.#store.streamTime) this.#store.streamTime = now
    let next = this.#gone.peek()
    while (next !== undefined && this.#isForgotten(next.at)) {
      this.#gone.pop()
      const known = this.#store.get(next.key)
      if (known?.gone && known.at === next.at) this.#store.delete(next.key)
      next = this.#gone.peek()
    }
  }

  #isForgotten(at: number): boolean {
    return at + this.#deletions <= this.#store.streamTime
  }
}
