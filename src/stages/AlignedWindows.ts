/** Windows that begin at multiples of their step, the same for every key: tumbling and hopping ones. */
import { Buffer } from "node:buffer"
import type { Batch } from "../Batch.ts"
import type { LoggedStore } from "../Task.ts"
import { added, type Fold } from "./Fold.ts"
import type { Step, Timed } from "./Timed.ts"
import { type Aligned, groupKey, type Keyless, Late, type Windowed } from "./Window.ts"

export interface Options<in A, in out S, out B> {
  readonly name: string
  readonly window: Aligned
  readonly fold: Fold<A, S, B>
  readonly emit: "updates" | "final"
}

/** Where a window's state is kept: by its start, then its key. */
const idOf = (start: number, key: string): string => `${start}:${key}`

export const parseId = (id: string): { readonly start: number; readonly key: string } => {
  const separator = id.indexOf(":")
  return { start: Number(id.slice(0, separator)), key: id.slice(separator + 1) }
}

/** What has changed in a batch and is not emitted yet. */
interface Touched {
  readonly key: string
  readonly start: number
  readonly row: number
  readonly clock: number
}

export class AlignedWindows<A, S, B> implements Timed<A, Windowed<B>, Late | Keyless> {
  readonly #store: LoggedStore<S>
  readonly #options: Options<A, S, B>
  /** The keys of every open window, and the start of the oldest. */
  readonly #open = new Map<number, Set<string>>()
  #oldest = Infinity
  #touched = new Map<string, Touched>()

  constructor(store: LoggedStore<S>, options: Options<A, S, B>) {
    this.#store = store
    this.#options = options
    for (const [id] of store.entries()) {
      const { start, key } = parseId(id)
      this.#keysOf(start).add(key)
    }
  }

  /** The start of the latest window that has closed: no window that starts earlier is emitted any more. */
  get clock(): number {
    const { size, every, grace } = this.#options.window
    return Math.floor((this.#store.streamTime - grace - size) / every) * every
  }

  /** Closes the windows that stream time has passed by their grace, oldest first. */
  advance(now: number, step: Step<Windowed<B>, Late | Keyless>): void {
    const { size, grace } = this.#options.window
    while (this.#oldest + size <= now - grace) {
      const start = this.#oldest
      for (const key of this.#open.get(start)!) {
        const id = idOf(start, key)
        step.emit(this.#windowed(key, start, this.#store.get(id)!, true), Buffer.from(key), start, start)
        this.#touched.delete(id)
        this.#store.delete(id)
      }
      this.#open.delete(start)
      this.#oldest = Infinity
      for (const other of this.#open.keys()) if (other < this.#oldest) this.#oldest = other
    }
  }

  add(
    _: A,
    timestamp: number,
    i: number,
    batch: Batch<A, unknown>,
    step: Step<Windowed<B>, Late | Keyless>,
  ): void {
    const { window: { size, every, grace }, name, fold, emit } = this.#options
    const newest = timestamp - timestamp % every
    const closed = this.#store.streamTime - grace
    if (newest + size <= closed) return step.isLate(batch, i, late(newest + size, timestamp))
    const key = groupKey(batch, i, name)
    if (typeof key !== "string") return step.fail(batch, i, key)
    let start = newest
    for (; start > timestamp - size && start + size > closed; start -= every) {
      const id = idOf(start, key)
      const state = this.#store.get(id)
      if (state === undefined) this.#keysOf(start).add(key)
      this.#store.set(id, added(fold, state, batch, i))
      if (emit === "final") continue
      this.#touched.delete(id)
      this.#touched.set(id, { key, start, row: step.row, clock: this.clock })
    }
    if (start > timestamp - size) step.isLate(batch, i, late(start + size, timestamp, true))
    step.folded++
  }

  end(step: Step<Windowed<B>, Late | Keyless>): void {
    for (const [id, { key, start, row, clock }] of this.#touched) {
      const value = this.#windowed(key, start, this.#store.get(id)!, false)
      step.emit(value, Buffer.from(key), start, clock, row)
    }
    this.#touched.clear()
  }

  #windowed(key: string, start: number, state: S, final: boolean): Windowed<B> {
    const { window: { size }, fold } = this.#options
    return { key, start, end: start + size, value: fold.result(state), final }
  }

  #keysOf(start: number): Set<string> {
    let keys = this.#open.get(start)
    if (keys === undefined) {
      keys = new Set()
      this.#open.set(start, keys)
      if (start < this.#oldest) this.#oldest = start
    }
    return keys
  }
}

const late = (windowEnd: number, timestamp: number, partly?: true): Late =>
  new Late({
    message: `the window that ends at ${windowEnd} closed before this record of ${timestamp} came`,
    windowEnd,
    ...partly && { partly },
  })
