/** Tables: of the changes of a row the one of the latest event time counts, whatever the order in which they came. */
import { drop, type Reference, refuse, type Stream, type Value } from "./Stream.ts"
import { lastChange, remembered } from "./TableJoins.ts"

export type Row = Pick<Value, "id" | "n">

const gone = { id: "gone", n: 0, isGone: true }

export const mapRows = (f: (row: Row) => Row): Reference => (stream) => ({
  ...stream,
  values: stream.values.map((value) => value.isGone ? value : { ...value, ...f(value) }),
})

/** A row that is kept no more is deleted. */
export const filterRows = (is: (row: Row) => boolean): Reference => (stream) => ({
  ...stream,
  values: stream.values.map((value) => value.isGone || is(value) ? value : { ...value, ...gone }),
})

/** Every change to a topic, deletions as null values. */
export const deliverTable = (topic: string): Reference => (stream) => ({
  ...stream,
  sent: [
    ...stream.sent,
    ...stream.values.map((value) => ({
      ...value,
      topic,
      value: value.isGone ? "null" : JSON.stringify({ id: value.id, n: value.n }),
    })),
  ].sort((a, b) => a.row - b.row),
})

export type TablesKind = "inner" | "left" | "outer"

const exists = (kind: TablesKind, left: Value | undefined, right: Value | undefined) =>
  kind === "left"
    ? left !== undefined
    : kind === "outer"
    ? left !== undefined || right !== undefined
    : left !== undefined && right !== undefined

/** Two tables as one, over the merge of both: the new row whenever one of either side changes. */
export const tables = (
  kind: TablesKind,
  deletions: number,
  join: (left: Value | undefined, right: Value | undefined) => Row,
) =>
(stream: Stream): Stream => {
  let sides: readonly [left: ReadonlyArray<Value>, right: ReadonlyArray<Value>] = [[], []]
  let now = -Infinity
  const superseded: Array<Value> = []
  const values: Array<Value> = []
  const rows = (key: string | null) =>
    sides.map((changes) => lastChange(changes, key)).map((last) => last?.isGone ? undefined : last)
  for (const value of stream.values.filter(({ key }) => key !== null)) {
    now = Math.max(now, value.clock)
    const kept = sides.map((changes) => remembered(changes, now, deletions))
    const own = value.isRight ? 1 : 0
    if ((lastChange(kept[own]!, value.key)?.at ?? 0) > value.at) superseded.push(value)
    else {
      const [left, right] = rows(value.key)
      kept[own] = [...kept[own]!, value]
      sides = [kept[0]!, kept[1]!]
      const at = Math.max(...sides.map((changes) => lastChange(changes, value.key)?.at ?? 0))
      const made = rows(value.key)
      const { isGone: _, isRight: __, ...plain } = value
      if (exists(kind, made[0], made[1])) values.push({ ...plain, ...join(made[0], made[1]), at })
      else if (exists(kind, left, right)) values.push({ ...plain, ...gone, at })
    }
    // A deletion that comes too late to be remembered deletes, and is forgotten.
    sides = [remembered(kept[0]!, now, deletions), remembered(kept[1]!, now, deletions)]
  }
  const keyless = stream.values.filter(({ key }) => key === null)
  const kept = refuse(keyless.map((value) => [value, "Keyless"]))({ ...stream, values })
  return { ...kept, dropped: [...stream.dropped, ...drop("superseded", superseded)] }
}

/** What a table holds in the end. */
export const rowsOf = (changes: ReadonlyArray<Value>): ReadonlyMap<string, Value> => {
  const rows = new Map<string, Value>()
  for (const key of new Set(changes.map((change) => change.key))) {
    const last = lastChange(changes, key)
    if (key !== null && last !== undefined && !last.isGone) rows.set(key, last)
  }
  return rows
}

/** The rows of a table with the rows of another that they refer to: what there is in the end, and nothing of the way there. */
export const foreignKey = (
  kind: "inner" | "left",
  reference: (row: Value) => string | null,
  join: (left: Value, right: Value | undefined) => Row,
) =>
(left: ReadonlyArray<Value>, right: ReadonlyArray<Value>): ReadonlyMap<string, Row> => {
  const rights = rowsOf(right)
  const made = [...rowsOf(left)].flatMap(([key, row]): ReadonlyArray<readonly [string, Row]> => {
    const found = rights.get(reference(row) ?? "")
    return found === undefined && kind === "inner" ? [] : [[key, join(row, found)]]
  })
  return new Map(made)
}
