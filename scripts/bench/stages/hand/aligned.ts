/** Tumbling and hopping windows by hand. */
import type { Reading } from "../input.ts"
import type { Out } from "./loop.ts"
import type { Fold, Mode, Windows } from "./windows.ts"

export interface Aligned<S> {
  readonly size: number
  readonly every: number
  readonly mode: Mode
  readonly fold: Fold<S>
}

/** A map per window. */
export class AlignedWindows<S> implements Windows {
  readonly #of: Aligned<S>
  readonly #open = new Map<number, Map<string, S>>()
  readonly #touched = new Map<number, Set<string>>()
  #closed = -Infinity

  constructor(of: Aligned<S>) {
    this.#of = of
  }

  advance(now: number, out: Out): void {
    const { size, every } = this.#of
    if (now < this.#closed) return
    this.#closed = Math.floor(now / every) * every + every
    for (const [start, states] of this.#open) {
      if (start + size > now) continue
      for (const [key, state] of states) out.push(this.#result(key, start, state, true))
      this.#open.delete(start)
      this.#touched.delete(start)
    }
  }

  add(key: string, at: number, value: Reading): void {
    const { size, every, mode, fold } = this.#of
    for (let start = at - at % every; start > at - size; start -= every) {
      let states = this.#open.get(start)
      if (states === undefined) this.#open.set(start, states = new Map())
      states.set(key, fold.add(states.get(key) ?? fold.initial(), value))
      if (mode === "final") continue
      const touched = this.#touched.get(start)
      if (touched === undefined) this.#touched.set(start, new Set([key]))
      else touched.add(key)
    }
  }

  changed(out: Out): void {
    for (const [start, keys] of this.#touched) {
      const states = this.#open.get(start)!
      for (const key of keys) out.push(this.#result(key, start, states.get(key)!, false))
    }
    this.#touched.clear()
  }

  #result(key: string, start: number, state: S, final: boolean) {
    const { size, fold } = this.#of
    return { key, start, end: start + size, value: fold.result(state), final }
  }
}
