/** Sessions and windows of so many records by hand: counts only. */
import type { Out } from "./loop.ts"
import type { Mode, Windows } from "./windows.ts"

interface Session {
  readonly start: number
  end: number
  value: number
}

/** A map from which what is silent for longer than the gap goes, whenever a gap has passed. */
export class Sessions implements Windows {
  readonly #gap: number
  readonly #mode: Mode
  readonly #open = new Map<string, Session>()
  readonly #touched = new Set<string>()
  #swept = -Infinity
  #now = -Infinity

  constructor(gap: number, mode: Mode) {
    this.#gap = gap
    this.#mode = mode
  }

  advance(now: number, out: Out): void {
    this.#now = now
    if (now <= this.#swept + this.#gap) return
    this.#sweep(out)
  }

  add(key: string, at: number, _: unknown, out: Out): void {
    const session = this.#open.get(key)
    if (session !== undefined && at - session.end <= this.#gap) {
      session.end = at
      session.value++
    } else {
      if (session !== undefined) out.push(result(key, session, true))
      this.#open.set(key, { start: at, end: at, value: 1 })
    }
    if (this.#mode !== "final") this.#touched.add(key)
  }

  changed(out: Out): void {
    for (const key of this.#touched) {
      const session = this.#open.get(key)
      if (session !== undefined && session.end >= this.#now - this.#gap) out.push(result(key, session, false))
    }
    this.#touched.clear()
  }

  end(out: Out): void {
    this.#sweep(out)
  }

  #sweep(out: Out): void {
    this.#swept = this.#now
    for (const [key, session] of this.#open) {
      if (session.end >= this.#now - this.#gap) continue
      out.push(result(key, session, true))
      this.#open.delete(key)
    }
  }
}

const result = (key: string, { start, end, value }: Session, final: boolean) => (
  { key, start, end, value, final, retracted: false }
)

interface Window {
  number: number
  start: number
  end: number
  count: number
}

/** Windows of so many records, one after the other. */
export class Counted implements Windows {
  readonly #size: number
  readonly #mode: Mode
  readonly #open = new Map<string, Window>()
  readonly #touched = new Set<string>()

  constructor(size: number, mode: Mode) {
    this.#size = size
    this.#mode = mode
  }

  advance(): void {}

  add(key: string, at: number, _: unknown, out: Out): void {
    let window = this.#open.get(key)
    if (window === undefined) this.#open.set(key, window = { number: 0, start: at, end: at, count: 0 })
    if (window.count === 0) window.start = at
    window.end = at
    window.count++
    if (this.#mode !== "final") this.#touched.add(key)
    if (window.count < this.#size) return
    out.push(counted(key, window, true))
    window.number++
    window.count = 0
  }

  changed(out: Out): void {
    for (const key of this.#touched) {
      const window = this.#open.get(key)!
      if (window.count > 0) out.push(counted(key, window, false))
    }
    this.#touched.clear()
  }
}

const counted = (key: string, { number, start, end, count }: Window, final: boolean) => (
  { key, start, end, value: count, final, number, count }
)
