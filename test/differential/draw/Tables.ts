/** Tables: their rows changed and left out, joined, and delivered. */
import { Deliver, Flow, Join, Table, Topic } from "../../../src/index.ts"
import type { Dice } from "../../support/Seeds.ts"
import * as Plain from "../reference/Plain.ts"
import { all, type Reference, type Stream } from "../reference/Stream.ts"
import * as Tables from "../reference/Tables.ts"
import { pair } from "./Joins.ts"
import { type AnyFlow, common, Kept, loose, Reading, remainder, seconds, type Step } from "./Steps.ts"

const map = (dice: Dice): Step => {
  const by = dice.int(1, 5)
  const f = <A extends { readonly n: number }>(row: A) => ({ ...row, n: row.n + by })
  return {
    name: `Table.map +${by}`,
    uses: ["Table.map"],
    stage: loose(Table.map(Reading, (row: Reading) => f(row))),
    reference: Tables.mapRows(f),
  }
}

const filter = (dice: Dice): Step => {
  const [name, is] = remainder(dice)
  return {
    name: `Table.filter ${name}`,
    uses: ["Table.filter"],
    stage: loose(Table.filter(is)),
    reference: Tables.filterRows(is),
  }
}

const deliver = (): Step => ({
  name: "Deliver.table",
  uses: ["Deliver.table"],
  stage: loose(Deliver.table(Kept)),
  reference: Tables.deliverTable(Kept.name),
})

/** Steps from a table to a table. */
export const steps = (dice: Dice, most: number): ReadonlyArray<Step> =>
  dice.list(0, most, () => dice.pick([map, filter])(dice))

/** The changes of a table as readings. */
export const asReadings: Step = {
  name: "",
  uses: [],
  stage: loose(
    Flow.map(({ row }: Table.Change<Reading>, { key, timestamp }) =>
      row === undefined ? { id: `${key} gone`, n: 0, at: timestamp } : { ...row, at: timestamp }
    ),
  ),
  reference: Plain.map(({ id, key, n, isGone }) => isGone ? { id: `${key} gone`, n: 0 } : { id, n }),
}

/** What a table ends with. */
export const ending = (dice: Dice): ReadonlyArray<Step> => [
  ...steps(dice, 2),
  ...dice.int(0, 1) === 0 ? [deliver()] : [],
  asReadings,
]

/** A topic of results of which only the latest of a name count. */
export const Latest = Topic.make({
  ...common,
  name: "latest",
  schema: Reading,
  cleanup: "compact",
  key: ["name", ({ id }) => id.split(" ")[0]!],
})

/** Behind results that are told again and again: the last of each name, and what was taken back is deleted. */
export const latest: Step = {
  name: "Deliver.latest",
  uses: ["Deliver.latest"],
  stage: loose(
    Deliver.latest(Latest, ({ id, n }: Reading) => ({ id, n, at: 0 }), {
      isDeleted: ({ id }: Reading) => id.endsWith(" gone"),
    }),
  ),
  reference: (stream) => {
    const named = Plain.map(({ id }) => ({ key: id.split(" ")[0]! }))(stream)
    const { sent } = Plain.send(Latest.name, ({ id, n }) => JSON.stringify({ id, n }))({ ...named, sent: [] })
    return { ...stream, sent: [...stream.sent, ...sent] }
  },
}

/** Running totals are a table: the rows of their keys. */
export const ofTotals = (dice: Dice): ReadonlyArray<Step> => [
  { name: "Table.of", uses: ["Table.of"], stage: loose(Table.of(Reading)), reference: (stream) => stream },
  ...steps(dice, 2),
  asReadings,
]

export interface Joined {
  readonly name: string
  readonly uses: ReadonlyArray<string>
  readonly stage: (right: AnyFlow) => (left: AnyFlow) => AnyFlow
  readonly reference: (merged: Stream) => Stream
}

export const join = (dice: Dice, name: string): Joined => {
  const kind = dice.pick(["inner", "left", "outer"] as const)
  const deletions = dice.pick([86_400, 40]) * seconds
  const row = (left: Tables.Row | undefined, right: Tables.Row | undefined) => ({ ...pair(left, right), at: 0 })
  return {
    name: `Join.tables ${kind}`,
    uses: [`Join.tables ${kind}`],
    stage: (right) => loose(Join.tables(right as never, { name, kind, deletions, row: Reading, join: row } as never)),
    reference: Tables.tables(kind, deletions, pair),
  }
}

export interface Referring {
  readonly name: string
  readonly uses: ReadonlyArray<string>
  readonly stage: (right: AnyFlow, failed: never) => (left: AnyFlow) => AnyFlow
  readonly reference: (left: Stream, right: Stream) => ReadonlyMap<string, Tables.Row>
}

const keys = ["ann", "ben", "cho", "dee", null]

/** Rows refer to others by their number. */
export const foreignKey = (dice: Dice, left: Topic.Topic<Reading>, right: Topic.Topic<Reading>): Referring => {
  const kind = dice.pick(["inner", "left"] as const)
  const name = "referring"
  const via = Join.foreignKeyTopics({ name, left, right, row: Reading })
  const reference = ({ n }: { readonly n: number }) => keys[Math.abs(n) % keys.length]!
  const row = (left: Tables.Row, right: Tables.Row | undefined) => ({ ...pair(left, right), at: 0 })
  return {
    name: `Join.foreignKey ${kind}`,
    uses: [`Join.foreignKey ${kind}`],
    stage: (right, failed) =>
      loose(Join.foreignKey(right as never, { name, via, foreignKey: reference, kind, join: row, failed } as never)),
    reference: (left, right) => Tables.foreignKey(kind, reference, pair)(left.values, right.values),
  }
}

export const referenceOf = (steps: ReadonlyArray<Step>): Reference => all(steps.map(({ reference }) => reference))
