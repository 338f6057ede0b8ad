/** Joins of two topics with the same keys. */
import { Schema } from "effect"
import { Failures, Join, Table } from "../../../../src/index.ts"
import { asOf, within } from "../hand/joins.ts"
import { byTime, type Loop, type Out } from "../hand/loop.ts"
import { Lefts, Reading, Rights, type Shape, span } from "../input.ts"
import type { Operator } from "../operator.ts"

const minute = 60_000
const Pair = Schema.Struct({ id: Schema.String, n: Schema.Int })
const pair = (left: Reading, right: Reading) => ({ id: left.id, n: right.n })

/** So close that a record has one partner on average. */
const bound = ({ keys, records }: Shape): number => Math.max(1, Math.round(keys * span / records))

const topics = Join.foreignKeyTopics({ name: "joined", left: Lefts, right: Rights, row: Pair })

/** Two tables by hand; what is made of them goes on as `of` says. */
const tables = (of: (key: string, row: typeof Pair.Type) => unknown): Loop => {
  const [lefts, rights] = [new Map<string, Reading>(), new Map<string, Reading>()]
  const side = (rows: Map<string, Reading>) => (value: Reading, key: string, _: number, out: Out) => {
    rows.set(key, value)
    const [left, right] = [lefts.get(key), rights.get(key)]
    if (left !== undefined && right !== undefined) out.push(of(key, pair(left, right)))
  }
  return byTime("right", { left: side(lefts), right: side(rights) })
}

export const joins: ReadonlyArray<Operator> = [
  {
    name: "Join.table, one change in ten records",
    isKeyed: true,
    rightOneIn: 10,
    flow: (left, right) =>
      left.pipe(
        Join.table(right.pipe(Table.of(Reading)), {
          name: "rows",
          kind: "left",
          join: (value, row) => ({ ...value, row }),
        }),
      ),
    loop: () => {
      const rows = new Map<string, { readonly at: number; readonly row: Reading }>()
      return byTime("right", {
        left: (value, key, _, out) => out.push({ ...value, row: rows.get(key)?.row }),
        right: (row, key, at) => {
          const known = rows.get(key)
          if (known === undefined || known.at <= at) rows.set(key, { at, row })
        },
      })
    },
  },
  {
    name: "Join.asOf, one change in ten records",
    isKeyed: true,
    rightOneIn: 10,
    flow: (left, right) =>
      left.pipe(
        Join.asOf(right.pipe(Table.of(Reading)), {
          name: "versions",
          kind: "left",
          history: minute,
          join: (value, row) => ({ ...value, row }),
        }),
      ),
    loop: () => byTime("right", asOf(minute)),
  },
  {
    name: "Join.stream, one partner each",
    isKeyed: true,
    rightOneIn: 2,
    thousands: 300,
    flow: (left, right, shape) => {
      const options = { name: "pairs", within: bound(shape), grace: 0, left: Reading, right: Reading }
      return left.pipe(Join.stream(right, { ...options, join: pair }))
    },
    loop: (shape) => byTime("left", within(bound(shape), pair)),
  },
  {
    name: "Join.tables",
    isKeyed: true,
    rightOneIn: 2,
    thousands: 300,
    flow: (left, right) =>
      left.pipe(Table.of(Reading), Join.tables(right.pipe(Table.of(Reading)), { name: "both", row: Pair, join: pair })),
    loop: () => tables((_, row) => ({ row })),
  },
  {
    name: "Join.foreignKey",
    isKeyed: true,
    rightOneIn: 2,
    thousands: 100,
    compared: "last",
    flow: (left, right) =>
      left.pipe(
        Table.of(Reading),
        Join.foreignKey(right.pipe(Table.of(Reading)), {
          name: "joined",
          via: topics,
          foreignKey: ({ user }) => user,
          join: pair,
          failed: Failures.skip,
        }),
      ),
    loop: () => tables((key, row) => [key, { row }]),
  },
]
