/** Ways that part and meet again. */
import { type Reference, type Stream, undone, type Value } from "./Stream.ts"

/** Sends every value the way that `choose` says, past all of them where that is none. */
export const branch = (choose: (value: Value) => number, ways: ReadonlyArray<Reference>): Reference => (stream) => {
  const part = (way: number): Stream => ({
    ...stream,
    values: stream.values.filter((value) => choose(value) === way),
    sent: [],
    failed: [],
    dropped: [],
  })
  return together(stream, [part(-1), ...ways.map((way, i) => way(part(i)))])
}

/** The flow as often as there are ways, and merged again. */
export const split = (ways: ReadonlyArray<Reference>): Reference => (stream) =>
  together(stream, ways.map((way) => way({ ...stream, sent: [], failed: [], dropped: [] })))

/**
 * What came of one flow on several ways: in the order of rows, and in each in that of stream time. Stream time is the lowest
 * of all ways, and a record that has failed on one of them is gone from the others.
 */
const together = (before: Stream, ways: ReadonlyArray<Stream>): Stream => {
  const failed = ways.flatMap((way) => way.failed)
  const lost = undone(failed)
  const clock = before.clock.map((_, row) => Math.min(...ways.map((way) => way.clock[row]!)))
  const isLeft = ({ unit }: { readonly unit: object }) => !lost.has(unit)
  return {
    ...before,
    clock,
    values: ways.flatMap(({ values }) => values.filter(isLeft))
      .sort((a, b) => a.row - b.row || a.clock - b.clock)
      .map((value) => ({ ...value, clock: Math.min(value.clock, clock[value.row]!) })),
    sent: [...before.sent, ...ways.flatMap((way) => way.sent)].filter(isLeft).sort((a, b) => a.row - b.row),
    failed: [...before.failed, ...oncePerUnit(failed)],
    dropped: [...before.dropped, ...ways.flatMap((way) => way.dropped)],
  }
}

/** A record that fails on several ways fails once. */
const oncePerUnit = (failed: Stream["failed"]): Stream["failed"] => {
  const seen = new Set<object>()
  return failed.filter(({ unit, reason }) => reason === "Late" || !seen.has(unit) && seen.add(unit) !== undefined)
}
