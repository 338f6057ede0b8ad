/** Windows by hand: what they have in common. Input comes in the order of time, which makes much of it simple. */
import type { Prepared, Reading } from "../input.ts"
import { type Loop, type Out, textOf } from "./loop.ts"

export type Mode = "final" | "updates" | "periods"

/** Ten seconds. */
export const period = 10_000

/** The windows of all keys. */
export interface Windows {
  /** Time has gone on: what is over now leaves. */
  advance(now: number, out: Out): void
  add(key: string, at: number, value: Reading, out: Out): void
  /** What has changed since this was asked last. */
  changed(out: Out): void
  /** What is over, and was not looked at yet. */
  end?(out: Out): void
}

/** What is made of the values of one key in one window, changed in place. */
export interface Fold<S> {
  initial(): S
  add(state: S, value: Reading): S
  result(state: S): unknown
}

export const count: Fold<number> = { initial: () => 0, add: (n) => n + 1, result: (n) => n }

export const windowed = (mode: Mode, windows: Windows): Loop => {
  let now = -Infinity
  const row = ({ values, source: { keys, timestamps } }: Prepared, i: number, out: Out) => {
    const at = timestamps[i]!
    if (at > now) {
      const before = Math.floor(now / period)
      now = at
      windows.advance(now, out)
      if (mode === "periods" && Math.floor(now / period) !== before) windows.changed(out)
    }
    windows.add(textOf(keys[i]!), at, values[i]!, out)
  }
  return {
    take: (batch) => {
      const out: Out = []
      for (let i = 0; i < batch.values.length; i++) row(batch, i, out)
      if (mode === "updates") windows.changed(out)
      return out
    },
    end: () => {
      const out: Out = []
      windows.end?.(out)
      return out
    },
  }
}
