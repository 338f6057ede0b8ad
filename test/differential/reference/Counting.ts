/** Windows of so many records, and aggregates of all records of a key: neither knows of lateness. */
import type { Fold } from "./Folds.ts"
import { instants, type Reference, refuse, type Stream, type Value } from "./Stream.ts"
import { type Emit, isPast, shown } from "./Windowing.ts"

export interface Count {
  readonly size: number
  readonly every: number
  readonly timeout: number
}

/** What has no key fails; what has one goes on to `f` with its moment, and so does every moment without a value. */
const keyed = (stream: Stream, f: (instant: ReturnType<typeof instants>[number]) => void): Stream => {
  const keyless: Array<readonly [Value, string]> = []
  for (const instant of instants(stream)) {
    if (instant.value?.key === null) {
      keyless.push([instant.value, "Keyless"])
      f({ ...instant, value: undefined })
    } else f(instant)
  }
  return refuse(keyless)(stream)
}

/** The records of a key since its last time-out. */
interface Run {
  readonly values: ReadonlyArray<Value>
  readonly last: number
}

export const counted = ({ size, every, timeout }: Count, fold: Fold, emit: Emit): Reference => (stream) => {
  const period = typeof emit === "object" ? emit.every : Infinity
  const out: Array<Value> = []
  const updates = new Map<string, Value>()
  let runs = new Map<string, Run>()
  const windowsOf = (values: ReadonlyArray<Value>) =>
    Array.from({ length: Math.ceil(values.length / every) }, (_, number) => ({
      number,
      inside: values.slice(number * every, number * every + size),
    }))
  const result = (
    row: number,
    key: string,
    number: number,
    inside: ReadonlyArray<Value>,
    how: string,
    clock: number,
  ): Value => {
    const times = inside.map(({ at }) => at)
    // As long as an input of a merge was never heard there is no stream time: then records' own times are all there is.
    const at = clock === -Infinity ? Math.max(...times) : clock
    const what = `#${inside.length} ${Math.min(...times)}..${Math.max(...times)}${how}`
    return { ...shown(`${key}@${number}`, what, fold(inside)), row, unit: {}, key, at, clock }
  }
  const tell = (value: Value) => {
    out.push(value)
    updates.set(value.id.split(" ")[0]!, value)
  }
  const open = ({ values }: Run) => windowsOf(values).filter(({ inside }) => inside.length < size)
  let changed = new Set<string>()
  const kept = keyed(stream, ({ row, now, before, value }) => {
    if (now > before) {
      const over = [...runs].filter(([, { last }]) => last + timeout <= now).sort(([, a], [, b]) => a.last - b.last)
      for (const [key, run] of over) {
        for (const { number, inside } of open(run)) tell(result(row, key, number, inside, "!", run.last + timeout))
        runs.delete(key)
        changed.delete(key)
      }
      if (isPast(period, before, now)) {
        for (const key of [...changed].sort()) {
          for (const { number, inside } of open(runs.get(key)!)) tell(result(row, key, number, inside, "", now))
        }
        changed = new Set()
      }
    }
    if (value === undefined) return
    const key = value.key!
    const values = [...runs.get(key)?.values ?? [], value]
    const waiting = open({ values, last: now }).flatMap(({ inside }) => inside.map(({ at }) => at))
    const run = { values, last: now === -Infinity ? Math.max(-Infinity, ...waiting) : now }
    runs = new Map([...runs, [key, run]])
    changed.add(key)
    const full = windowsOf(run.values).filter(({ inside }) => inside.length === size && inside.at(-1) === value)
    for (const { number, inside } of full) tell(result(row, key, number, inside, "!", now))
    if (emit === "updates") {
      for (const { number, inside } of open(run)) tell(result(row, key, number, inside, "", now))
    }
  })
  return { ...kept, values: emit === "updates" ? [...updates.values()] : out }
}

/** One result for each key, over all of its values. */
export const running = (fold: Fold, emit: "updates" | { readonly every: number }): Reference => (stream) => {
  const period = typeof emit === "object" ? emit.every : Infinity
  const out: Array<Value> = []
  const all = new Map<string, { readonly values: ReadonlyArray<Value>; readonly changedAt: number }>()
  let changed = new Set<string>()
  const result = (row: number, key: string, at: number, clock: number): Value => {
    const value = fold(all.get(key)!.values)
    return { ...shown(key, "", value), row, unit: {}, key, at, clock }
  }
  const starts = (now: number) => typeof emit === "object" ? Math.floor(now / period) * period : now
  let rows = 0
  const kept = keyed(stream, ({ row, now, before, value }) => {
    rows = row
    if (now > before && isPast(period, before, now)) {
      for (const key of [...changed].sort()) {
        const { changedAt } = all.get(key)!
        out.push(result(row, key, changedAt === -Infinity ? now : changedAt, starts(before)))
      }
      changed = new Set()
    }
    if (value === undefined) return
    const { key } = value
    all.set(key!, { values: [...all.get(key!)?.values ?? [], value], changedAt: now })
    changed.add(key!)
  })
  if (emit === "updates") { for (const key of all.keys()) out.push(result(rows, key, 0, 0)) }
  let now = -Infinity
  return { ...kept, values: out, clock: stream.clock.map((clock) => starts(now = Math.max(now, clock))) }
}
