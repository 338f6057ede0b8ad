/** Joins of two streams: every two records of one key whose times are within a bound, and those that have no partner. */
import { instants, late, refuse, type Stream, type Value } from "./Stream.ts"

export interface Bound {
  readonly kind: "inner" | "left" | "outer"
  /** A right record is a partner from `before` ahead of a left one's time until `after` it, both included. */
  readonly before: number
  readonly after: number
  readonly grace: number
}

export type Join = (left: Value | undefined, right: Value | undefined) => Pick<Value, "id" | "n">

interface Accepted {
  readonly value: Value
  /** Its place among all that were accepted. */
  readonly place: number
}

/** Over the merge of both, where the right one's values are marked. */
export const streamJoin = ({ kind, before, after, grace }: Bound, join: Join) => (stream: Stream): Stream => {
  const accepted: Array<Accepted> = []
  const moments = instants(stream)
  const lates: Array<Value> = []
  const keyless: Array<readonly [Value, string]> = []
  for (const { now, value } of moments) {
    if (value === undefined) continue
    if (value.at < now - grace) lates.push(value)
    else if (value.key === null) keyless.push([value, "Keyless"])
    else accepted.push({ value, place: accepted.length })
  }
  const arePartners = (left: Value, right: Value) =>
    left.key === right.key && right.at >= left.at - before && right.at <= left.at + after
  const partnersOf = ({ value }: Accepted) =>
    accepted.filter((other) =>
      Boolean(other.value.isRight) !== Boolean(value.isRight) &&
      (value.isRight ? arePartners(other.value, value) : arePartners(value, other.value))
    )
  const isKept = ({ isRight }: Value) => isRight ? kind === "outer" : kind !== "inner"
  const ahead = ({ isRight }: Value) => isRight ? before : after
  const longest = grace + Math.max(0, kind === "inner" ? 0 : after, kind === "outer" ? before : 0)
  const made = (one: Value, other: Value | undefined) => one.isRight ? join(other, one) : join(one, other)
  const alone = accepted.filter((one) => isKept(one.value) && partnersOf(one).length === 0)
    .map((one) => ({ ...one, until: one.value.at + ahead(one.value) + grace }))
    .sort((a, b) =>
      a.until - b.until || Number(a.value.isRight ?? false) - Number(b.value.isRight ?? false) ||
      a.value.at - b.value.at || a.place - b.place
    )
  const gone = new Set<Accepted>()
  const values: Array<Value> = []
  const emit = (row: number, of: Value, result: Pick<Value, "id" | "n">, at: number, clock: number) =>
    void values.push({ ...result, row, unit: {}, key: of.key, at, clock })
  let place = 0
  for (const { row, now, value } of moments) {
    for (const one of alone) {
      if (gone.has(one) || one.until >= now || one.place >= place) continue
      gone.add(one)
      emit(row, one.value, made(one.value, undefined), one.value.at, one.until - longest)
    }
    if (value === undefined || accepted[place]?.value !== value) continue
    const one = accepted[place++]!
    const earlier = partnersOf(one).filter((other) => other.place < one.place)
      .sort((a, b) => a.value.at - b.value.at || a.place - b.place)
    for (const other of earlier) {
      emit(row, value, made(value, other.value), Math.max(value.at, other.value.at), now - longest)
    }
    const mine = alone.find((other) => other.place === one.place)
    if (mine !== undefined && mine.until < now) {
      gone.add(mine)
      emit(row, value, made(value, undefined), value.at, now - longest)
    }
  }
  const kept = refuse(keyless)(stream)
  let now = -Infinity
  return {
    ...kept,
    values,
    clock: stream.clock.map((clock) => (now = Math.max(now, clock)) - longest),
    failed: [...kept.failed, ...late(lates)],
  }
}
