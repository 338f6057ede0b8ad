/** What windows of all kinds have in common: who is folded, when results are told, and at what time they stand downstream. */
import type { Fold } from "./Folds.ts"
import { type Instant, instants, late, type Reference, refuse, type Value } from "./Stream.ts"

/** A value that has come, and stream time as it then stood. */
export interface Taken {
  readonly value: Value
  readonly now: number
}

/** A window of a key and what it holds, in the order in which a fold is to take it. */
export interface Held {
  readonly key: string
  readonly start: number
  readonly end: number
  readonly values: ReadonlyArray<Value>
}

export interface Kind {
  /** All windows there ever were, after one more value; those of other keys as they were. */
  add(known: ReadonlyArray<Held>, taken: Taken, all: ReadonlyArray<Taken>): ReadonlyArray<Held>
  isClosed(held: Held, now: number): boolean
  /** Whether a value is in none of the windows it should be in, or not in all. */
  lateness(value: Value, now: number, known: ReadonlyArray<Held>): "late" | "partly" | undefined
  /** A result's own event time. */
  time(held: Held): number
  /** The earliest that a result can still be of: stream time for what reads results. */
  clock(now: number): number
}

/** Whether stream time has passed a multiple of the period. */
export const isPast = (period: number, before: number, now: number): boolean =>
  period < Infinity && Math.floor(now / period) !== Math.floor(before / period)

export type Emit = "updates" | "final" | { readonly every: number }

/** A result as a value: what is in its id is compared, what is in its number is gone on with. */
export const shown = (name: string, what: string, value: unknown): { readonly id: string; readonly n: number } => {
  const text = JSON.stringify(value)
  return { id: `${name} ${what} ${text}`, n: Number.isInteger(value) ? value as number : text.length }
}

const nameOf = ({ key, start }: Held) => `${key}@${start}`

export const windows = (kind: Kind, fold: Fold, emit: Emit): Reference => (stream) => {
  const period = typeof emit === "object" ? emit.every : Infinity
  const out: Array<Value> = []
  const lates: Array<Value> = []
  const partly = new Set<Value>()
  const keyless: Array<readonly [Value, string]> = []
  const all: Array<Taken> = []
  let known: ReadonlyArray<Held> = []
  /** What was told of open windows, and what has become part of another since, as it last was. */
  let told = new Map<string, Held>()
  const gone = new Map<string, Held>()
  const tell = ({ row }: Instant, held: Held, how: "" | "!" | "gone", at: number, clock: number) => {
    const result = how === "gone"
      ? { id: `${nameOf(held)} gone`, n: 0 }
      : shown(nameOf(held), `..${held.end}${how}`, fold(held.values))
    out.push({ ...result, row, unit: {}, key: held.key, at, clock })
  }
  const end = stream.clock.length - 1
  for (const instant of instants(stream)) {
    const { now, before, value } = instant
    if (now > before) {
      const closing = known.filter((held) => kind.isClosed(held, now) && !kind.isClosed(held, before))
      for (const held of closing.toSorted((a, b) => a.end - b.end)) {
        tell(instant, held, "!", kind.time(held), kind.time(held))
      }
      if (isPast(period, before, now)) {
        const open = new Map(known.filter((held) => !kind.isClosed(held, now)).map((held) => [nameOf(held), held]))
        const news = [
          ...Array.from(open.values()).filter((held) => held.values.length !== told.get(nameOf(held))?.values.length)
            .map((held) => ({ held, how: "" as const })),
          ...Array.from(gone).filter(([name]) => told.has(name)).map(([, held]) => ({ held, how: "gone" as const })),
        ].sort((a, b) => a.held.start - b.held.start)
        for (const { held, how } of news) {
          tell(instant, held, how, Math.max(kind.time(held), kind.clock(now)), kind.clock(now))
        }
        told = open
        gone.clear()
      }
    }
    if (value === undefined) continue
    const lateness = kind.lateness(value, now, known)
    if (lateness !== "late" && value.key === null) {
      keyless.push([value, "Keyless"])
      continue
    }
    if (lateness !== undefined) lates.push(value)
    if (lateness === "partly") partly.add(value)
    if (lateness === "late") continue
    all.push({ value, now })
    const next = kind.add(known, { value, now }, all)
    for (const held of known) if (!next.some((other) => nameOf(other) === nameOf(held))) gone.set(nameOf(held), held)
    known = next
  }
  if (emit === "updates") {
    // For a table only the last counts that is said of a window: here all of it is said at the end.
    const instant: Instant = { row: end, now: NaN, before: NaN, value: undefined }
    const now = Math.max(-Infinity, ...instants(stream).map((one) => one.now))
    out.length = 0
    for (const held of known) tell(instant, held, kind.isClosed(held, now) ? "!" : "", kind.time(held), kind.clock(now))
  }
  const kept = refuse(keyless)(stream)
  let now = -Infinity
  return {
    ...kept,
    values: out,
    clock: stream.clock.map((clock) => kind.clock(now = Math.max(now, clock))),
    failed: [...kept.failed, ...late(lates, (value) => partly.has(value))],
  }
}
