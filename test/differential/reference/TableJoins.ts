/** Joins of a stream with a table, as it is and as it was: over the merge of both, where the table's changes are marked. */
import { drop, type Instant, instants, late, refuse, type Stream, type Value } from "./Stream.ts"

export type Kind = "inner" | "left"
export type Join = (value: Value, row: Value | undefined) => Pick<Value, "id" | "n">

/** The last change of a key that is not later than a time; of two of one time the one that came last. */
export const lastChange = (changes: ReadonlyArray<Value>, key: string | null, time = Infinity): Value | undefined =>
  changes.filter((change) => change.key === key && change.at <= time)
    .reduce<Value | undefined>((last, change) => last === undefined || change.at >= last.at ? change : last, undefined)

/** What is left of the changes when stream time is `now`: a deletion that is `deletions` behind is forgotten, with its key. */
export const remembered = (changes: ReadonlyArray<Value>, now: number, deletions: number): ReadonlyArray<Value> =>
  changes.filter(({ key }) => {
    const last = lastChange(changes, key)!
    return !last.isGone || last.at + deletions > now
  })

const rowOf = (change: Value | undefined) => change === undefined || change.isGone ? undefined : change

interface Joined {
  readonly values: Array<Value>
  readonly superseded: Array<Value>
  readonly unmatched: Array<readonly [row: number, value: Value]>
  readonly lates: Array<Value>
}

/** Goes over both once: `counts` says whether a change is taken, and `meet` is asked for every record. */
const over = (
  stream: Stream,
  deletions: number,
  counts: (change: Value, changes: ReadonlyArray<Value>, now: number) => boolean,
  meet: (instant: Instant, changes: ReadonlyArray<Value>, out: Joined) => void,
  advance: (instant: Instant, changes: ReadonlyArray<Value>, out: Joined) => void = () => {},
) => {
  const keyless: Array<readonly [Value, string]> = []
  let changes: ReadonlyArray<Value> = []
  const out: Joined = { values: [], superseded: [], unmatched: [], lates: [] }
  for (const instant of instants(stream)) {
    const { value, now } = instant
    advance(instant, changes, out)
    changes = remembered(changes, now, deletions)
    if (value?.key === null) keyless.push([value, "Keyless"])
    else if (value?.isRight !== true) meet(instant, changes, out)
    else if (counts(value, changes, now)) changes = [...changes, value]
    else out.superseded.push(value)
  }
  const kept = refuse(keyless)({ ...stream, values: out.values })
  return {
    ...kept,
    failed: [...kept.failed, ...late(out.lates)],
    dropped: [
      ...stream.dropped,
      ...drop("superseded", out.superseded),
      ...out.unmatched.map(([row]) => ({ row, reason: "unmatched" })),
    ],
  }
}

/** With the row as it is when the record comes. */
export const latest = (kind: Kind, deletions: number, join: Join) => (stream: Stream): Stream =>
  over(
    stream,
    deletions,
    (change, changes) => (lastChange(changes, change.key)?.at ?? -Infinity) <= change.at,
    ({ value, row }, changes, { values, unmatched }) => {
      if (value === undefined) return
      const found = rowOf(lastChange(changes, value.key))
      if (found === undefined && kind === "inner") unmatched.push([row, value])
      else values.push({ ...value, ...join(value, found) })
    },
  )

export interface AsOf {
  readonly kind: Kind
  readonly history: number
  /** How long a deletion is remembered, and at least as long as the history. */
  readonly deletions: number
  /** How long records wait for changes; not at all where there is none. */
  readonly grace?: number
}

/** With the row as it was at the record's own time. */
export const asOf = ({ kind, history, deletions, grace }: AsOf, join: Join) => (stream: Stream): Stream => {
  /** What nobody can ask for any more comes to nothing. */
  const counts = (change: Value, changes: ReadonlyArray<Value>, now: number) =>
    lastChange([...changes, change], change.key, Math.max(change.at, now - history)) === change
  const answer = (
    value: Value,
    row: number,
    changes: ReadonlyArray<Value>,
    { values, unmatched }: Joined,
    own: Partial<Value>,
  ) => {
    const found = rowOf(lastChange(changes, value.key, value.at))
    if (found === undefined && kind === "inner") unmatched.push([row, value])
    else values.push({ ...value, ...join(value, found), ...own })
  }
  if (grace === undefined) {
    return over(stream, Math.max(history, deletions), counts, ({ value, row, now }, changes, out) => {
      if (value === undefined) return
      if (value.at < now - history) out.lates.push(value)
      else answer(value, row, changes, out, {})
    })
  }
  let waiting: ReadonlyArray<Value> = []
  // A change that moves stream time is not seen by what has waited for that.
  const leave = ({ row, now }: Instant, changes: ReadonlyArray<Value>, out: Joined) => {
    const due = waiting.filter(({ at }) => at < now - grace).sort((a, b) => a.at - b.at)
    waiting = waiting.filter((value) => !due.includes(value))
    for (const value of due) answer(value, row, changes, out, { row, unit: {}, clock: value.at })
  }
  const meet = ({ value, row, now }: Instant, changes: ReadonlyArray<Value>, out: Joined) => {
    if (value === undefined) return
    if (value.at < now - history) out.lates.push(value)
    else if (value.at < now - grace) answer(value, row, changes, out, { row, unit: {}, clock: now - grace })
    else waiting = [...waiting, value]
  }
  const joined = over(stream, Math.max(history, deletions), counts, meet, leave)
  let now = -Infinity
  return { ...joined, clock: stream.clock.map((clock) => (now = Math.max(now, clock)) - grace) }
}
