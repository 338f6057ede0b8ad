/** Flows of different topics as one, and records that several tasks have written. */
import type { Stream, Value } from "./Stream.ts"

/**
 * The rows of both in the order of stream time, those of the left one first where it is equal. The clock is the lower one of
 * both; a flow that has ended holds nothing back, and no clock goes back.
 */
export const merge = (left: Stream, right: Stream): Stream => {
  const rows = [
    ...left.clock.map((clock, row) => ({ of: left, row, clock })),
    ...right.clock.map((clock, row) => ({ of: right, row, clock })),
  ].sort((a, b) => a.clock - b.clock)
  const last = new Map([[left, -Infinity], [right, -Infinity]])
  const seen = new Map([[left, 0], [right, 0]])
  let now = -Infinity
  const clock: Array<number> = []
  const place = new Map<Stream, Map<number, number>>([[left, new Map()], [right, new Map()]])
  const clocks = new Map<Stream, Array<(own: number) => number>>([[left, []], [right, []]])
  for (const [i, { of, row, clock: own }] of rows.entries()) {
    const other = of === left ? right : left
    const bound = seen.get(other) === other.clock.length ? Infinity : last.get(other)!
    const before = now
    clocks.get(of)![row] = (time) => Math.max(before, Math.min(time, bound))
    now = Math.max(now, Math.min(own, bound))
    clock.push(now)
    last.set(of, own)
    seen.set(of, seen.get(of)! + 1)
    place.get(of)!.set(row, i)
  }
  const moved = (of: Stream) => <A extends { readonly row: number }>(one: A): A => ({
    ...one,
    row: place.get(of)!.get(one.row)!,
  })
  const timed = (of: Stream) => (value: Value): Value => ({ ...value, clock: clocks.get(of)![value.row]!(value.clock) })
  const both = <A extends { readonly row: number }>(list: (stream: Stream) => ReadonlyArray<A>) =>
    [left, right].flatMap((of) => list(of).map(moved(of))).sort((a, b) => a.row - b.row)
  return {
    values: both((of) => of.values.map(timed(of))),
    clock,
    places: rows.map(({ of, row }) => of.places[row]!),
    arrivals: rows.map(({ of, row }) => of.arrivals[row]!),
    sent: both(({ sent }) => sent),
    failed: both(({ failed }) => failed),
    dropped: both(({ dropped }) => dropped),
  }
}

/** A record of a repartition topic: who wrote it, and at what stream time. */
export interface Written {
  readonly writer: number
  readonly clock: number
  readonly arrival: number
  readonly value: Pick<Value, "key" | "id" | "n" | "at">
}

/** How long a writer may be silent, by arrival time, before it holds stream time back no longer. */
const idle = 60_000

/** So much of a time in which nobody writes counts as silence. */
const longestPause = 20_000

/** Arrival times without the parts of long pauses that do not count. */
const withoutPauses = (arrivals: ReadonlyArray<number>): ReadonlyArray<number> =>
  arrivals.map((arrival, i) => {
    const before = arrivals.slice(0, i)
    const latest = before.map((_, n) => Math.max(...before.slice(0, n + 1)))
    const pauses = [...latest, Math.max(arrival, ...before)].map((at, n, all) => n === 0 ? 0 : at - all[n - 1]!)
    return arrival - pauses.reduce((sum, pause) => sum + Math.max(0, pause - longestPause), 0)
  })

/** What several tasks have written to one topic: stream time is the lowest of the writers'. */
export const repartitioned = (topic: string, written: ReadonlyArray<Written>, writers: number): Stream => {
  let now = -Infinity
  const arrivals = withoutPauses(written.map(({ arrival }) => arrival))
  const clock = written.map(({ clock: own }, i) => {
    if (writers === 1) return now = Math.max(now, own)
    const arrival = arrivals[i]!
    const before = written.slice(0, i + 1).map((one, n) => ({ ...one, arrival: arrivals[n]! }))
    const heard = [...Map.groupBy(before, (one) => one.writer).values()].map((all) => ({
      time: Math.max(...all.map(({ clock }) => clock)),
      arrival: Math.max(...all.map(({ arrival }) => arrival)),
    }))
    // Writers that were never heard are waited for as long as those that fell silent.
    const isWaiting = heard.length < writers && Math.min(...before.map((one) => one.arrival)) > arrival - idle
    const lowest = Math.min(...heard.filter((one) => one.arrival > arrival - idle).map(({ time }) => time))
    if (!isWaiting && lowest < Infinity) now = Math.max(now, lowest)
    return now
  })
  return {
    values: written.map(({ value }, row): Value => ({ ...value, row, unit: {}, clock: clock[row]! })),
    clock,
    places: written.map((_, row) => `${topic}@${row}`),
    arrivals: written.map(({ arrival }) => arrival),
    sent: [],
    failed: [],
    dropped: [],
  }
}
