/** The same work as the operators do, by hand: plain loops with maps, without commits, failures or restarts. */
import { Buffer } from "node:buffer"
import type { Prepared, Reading } from "./input.ts"

/** Is asked for one batch after the other, and answers how many results it has made of it. */
export type Loop = (batch: Prepared, isRight: boolean) => number

export const textOf = (key: Uint8Array | null): string => (key as Buffer).toString("utf8")

type Visit = (
  value: Reading,
  out: Array<unknown>,
  key: Uint8Array | null,
  at: number,
  bytes: Uint8Array | null,
) => unknown

export const each = (visit: Visit): Loop => ({ values, source: { keys, bytes, timestamps } }) => {
  const out: Array<unknown> = []
  for (let i = 0; i < values.length; i++) visit(values[i]!, out, keys[i]!, timestamps[i]!, bytes[i]!)
  return out.length
}

/** With something to do when a batch is through. */
export const batches = (visit: Visit, end: () => ReadonlyArray<unknown>): Loop => {
  const loop = each(visit)
  return (batch, isRight) => loop(batch, isRight) + end().length
}

interface Sides {
  left(value: Reading, key: Uint8Array | null, at: number): void
  right(value: Reading, key: Uint8Array | null, at: number): void
}

/** Two sides in the order of time; of equal times the left one first. */
export const byTime = (make: (out: { push(value: unknown): void }) => Sides): Loop => {
  let out: Array<unknown> = []
  const sides = make({ push: (value) => out.push(value) })
  const waiting: { batch: Prepared; isRight: boolean; row: number }[] = []
  return (batch, isRight) => {
    waiting.push({ batch, isRight, row: 0 })
    const left = waiting.find((one) => !one.isRight)
    const right = waiting.find((one) => one.isRight)
    if (left === undefined || right === undefined) return 0
    out = []
    const [lefts, rights] = [left.batch.source, right.batch.source]
    while (left.row < lefts.length && right.row < rights.length) {
      if (lefts.timestamps[left.row]! <= rights.timestamps[right.row]!) {
        sides.left(left.batch.values[left.row]!, lefts.keys[left.row]!, lefts.timestamps[left.row++]!)
      } else sides.right(right.batch.values[right.row]!, rights.keys[right.row]!, rights.timestamps[right.row++]!)
    }
    waiting.splice(waiting.indexOf(left.row === lefts.length ? left : right), 1)
    return out.length
  }
}

/** FNV-1a over UTF-16 code units. */
export const fnv = (text: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

/** Token buckets. */
export const tokens = (perSecond: number) => {
  const buckets = new Map<string, { left: number; at: number }>()
  return (key: string): boolean => {
    const now = performance.now()
    let bucket = buckets.get(key)
    if (bucket === undefined) buckets.set(key, bucket = { left: perSecond, at: now })
    bucket.left = Math.min(perSecond, bucket.left + (now - bucket.at) / 1_000 * perSecond)
    bucket.at = now
    if (bucket.left < 1) return false
    bucket.left--
    return true
  }
}

interface Windows {
  readonly size: number
  readonly every: number
  readonly updates: boolean
}

/** Counts per key and window. */
export const windows = ({ size, every, updates }: Windows): Loop => {
  const open = new Map<number, Map<string, number>>()
  const touched = new Map<string, { start: number; key: string }>()
  let closed = -Infinity
  let out: Array<unknown> = []
  return batches(
    (_, __, bytes, at) => {
      if (at - size > closed) {
        closed = at - size
        for (const [start, counts] of open) {
          if (start > closed) continue
          for (const [key, value] of counts) out.push({ key, start, end: start + size, value, final: true })
          open.delete(start)
        }
      }
      const key = textOf(bytes)
      for (let start = at - at % every; start > at - size; start -= every) {
        let counts = open.get(start)
        if (counts === undefined) open.set(start, counts = new Map())
        counts.set(key, (counts.get(key) ?? 0) + 1)
        if (updates) touched.set(`${start}:${key}`, { start, key })
      }
    },
    () => {
      for (const { start, key } of touched.values()) {
        const value = open.get(start)?.get(key)
        if (value !== undefined) out.push({ key, start, end: start + size, value, final: false })
      }
      touched.clear()
      const made = out
      out = []
      return made
    },
  )
}

/** The row of a key as it was at a time, for some time back. */
export const asOf = (history: number, out: { push(value: unknown): void }): Sides => {
  const versions = new Map<string, Array<{ readonly at: number; readonly row: Reading }>>()
  return {
    left: (value, key, at) => {
      const list = versions.get(textOf(key))
      let row: Reading | undefined
      if (list !== undefined) {
        for (let i = list.length - 1; i >= 0 && row === undefined; i--) if (list[i]!.at <= at) row = list[i]!.row
      }
      out.push({ ...value, row })
    },
    right: (row, key, at) => {
      const text = textOf(key)
      let list = versions.get(text)
      if (list === undefined) versions.set(text, list = [])
      list.push({ at, row })
      while (list.length > 1 && list[1]!.at < at - history) list.shift()
    },
  }
}

interface Waiting {
  readonly key: string
  readonly at: number
  readonly value: Reading
}

/** Pairs of two sides that are so close in time. */
export const join = (
  within: number,
  out: { push(value: unknown): void },
  pair: (left: Reading, right: Reading) => unknown,
): Sides => {
  const side = () => ({ byKey: new Map<string, Array<Waiting>>(), inOrder: [] as Array<Waiting>, first: 0 })
  const [lefts, rights] = [side(), side()]
  const expire = (of: ReturnType<typeof side>, before: number) => {
    while (of.first < of.inOrder.length && of.inOrder[of.first]!.at < before) {
      const { key } = of.inOrder[of.first++]!
      const list = of.byKey.get(key)!
      if (list.length === 1) of.byKey.delete(key)
      else list.shift()
    }
    if (of.first > 1_000 && of.first * 2 > of.inOrder.length) {
      of.inOrder = of.inOrder.slice(of.first)
      of.first = 0
    }
  }
  const come =
    (own: typeof lefts, other: typeof lefts, made: (value: Reading, partner: Reading) => unknown) =>
    (value: Reading, bytes: Uint8Array | null, at: number) => {
      expire(lefts, at - within)
      expire(rights, at - within)
      const key = textOf(bytes)
      for (const partner of other.byKey.get(key) ?? []) out.push({ key, at, value: made(value, partner.value) })
      const waiting = { key, at, value }
      own.inOrder.push(waiting)
      const list = own.byKey.get(key)
      if (list === undefined) own.byKey.set(key, [waiting])
      else list.push(waiting)
    }
  return {
    left: come(lefts, rights, (left, right) => pair(left, right)),
    right: come(rights, lefts, (right, left) => pair(left, right)),
  }
}
