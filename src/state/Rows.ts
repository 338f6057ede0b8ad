/** A table's rows in a store: the latest of every key by event time. */
import { Schema } from "effect"
import type { LoggedStore, StoreSpec } from "../Task.ts"
import { type Dated, Forgetting } from "./Forgetting.ts"

/** The last change of a key. */
export interface Latest<out A> extends Dated {
  readonly row?: A
}

export const spec = <A>(name: string, row: Schema.Codec<A, unknown>): StoreSpec<Latest<A>> => ({
  name,
  shape: "rows",
  value: Schema.Struct({
    at: Schema.Finite,
    gone: Schema.optionalKey(Schema.Literal(true)),
    row: Schema.optionalKey(row),
  }) as Schema.Codec<Latest<A>, unknown>,
})

/**
 * Of two changes of a key the one of the later event time counts; of two of one time the one that came last. A deletion is
 * remembered until stream time has passed it by `deletions`. Memory: one entry per row, and one per deletion within that
 * time.
 */
export class Rows<A> {
  readonly #entries: Forgetting<Latest<A>>

  constructor(store: LoggedStore<Latest<A>>, deletions: number) {
    this.#entries = new Forgetting(store, deletions)
  }

  get(key: string): A | undefined {
    return this.#entries.get(key)?.row
  }

  /** The event time of the last change of a key that is remembered, or -Infinity. */
  changedAt(key: string): number {
    return this.#entries.get(key)?.at ?? -Infinity
  }

  /** Takes a change; answers whether it counts. */
  put(key: string, at: number, row: A | undefined): boolean {
    if (this.changedAt(key) > at) return false
    this.#entries.set(key, row === undefined ? { at, gone: true } : { at, row })
    return true
  }

  /** Stream time has gone on to `now`. */
  advance(now: number): void {
    this.#entries.advance(now)
  }
}
