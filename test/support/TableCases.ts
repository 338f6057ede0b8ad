/** Tables and their joins in flows that a single task runs. */
import { Schema } from "effect"
import { Aggregate, Deliver, Flow, Join, Table, Topic, Window } from "../../src/index.ts"
import { answers } from "../../src/stages/joins/ForeignKeyAnswers.ts"
import { newest } from "../../src/stages/joins/ForeignKeyNewest.ts"
import { references } from "../../src/stages/joins/ForeignKeyReferences.ts"
import type { Response, Subscription } from "../../src/stages/joins/ForeignKeyTopics.ts"
import { beside } from "../../src/stages/joins/Joined.ts"
import {
  type Case,
  common,
  decoded,
  moved,
  odd,
  Others,
  read,
  Reading,
  Readings,
  refuseOdd,
  routed,
  twice,
} from "./StageCases.ts"

const Kept = Topic.make({ ...common, name: "kept", schema: Reading, cleanup: "compact", maxMessageBytes: 169 })

const others = Table.topic(Others)
const table = Table.topic(Readings)

const Pair = Schema.Struct({ left: Schema.NullOr(Schema.Int), right: Schema.NullOr(Schema.Int) })
const pair = (left: Reading | undefined, right: Reading | undefined) => ({
  left: left?.n ?? null,
  right: right?.n ?? null,
})

const latest = Join.table(others, { name: "latest", join: pair, deletions: "1 minute" })
const latestOrNone = Join.table(others, { name: "latest", kind: "left", join: pair, deletions: "1 minute" })
const asOf = Join.asOf(others, { name: "as-of", history: "2 minutes", join: pair })
const asOfOrNone = Join.asOf(others, { name: "as-of", kind: "left", history: "2 minutes", join: pair })
const waiting = { name: "as-of", history: "2 minutes", grace: "1 minute", value: Reading } as const

const referring = { name: "orders", foreignKey: ({ n }: Reading) => n < 2 ? null : String(n % 3) }
const toSubscription = ({ id, n, at }: Reading): Subscription<Reading> => {
  const version = { primaryKey: id, at, nth: n % 2 }
  if (n === 0) return { ...version, foreignKey: "ann", moved: true }
  if (n === 1) return { ...version, foreignKey: "ben" }
  if (n === 2) return { ...version, row: { id, n, at } }
  return { ...version, foreignKey: n % 2 === 0 ? "ann" : "cho", row: { id, n, at } }
}
const toResponse = ({ id, n, at }: Reading): Response<Reading> => {
  const version = { primaryKey: id, at: at - at % 5_000, nth: n % 3, time: at }
  return n % 4 === 0 ? version : { ...version, row: { id, n, at } }
}

export const cases: ReadonlyArray<Case> = [
  { name: "table", flow: table },
  {
    name: "table, changed and filtered",
    flow: table.pipe(Table.map(Reading, (row) => ({ ...row, n: row.n + 1 })), Table.filter(odd)),
  },
  { name: "table, delivered", flow: table.pipe(Deliver.table(Kept)) },
  { name: "table of a stream", flow: decoded.pipe(Table.of(Reading), Deliver.table(Kept)) },
  { name: "join with the latest row", flow: decoded.pipe(latest) },
  { name: "join with the latest row or none", flow: decoded.pipe(latestOrNone) },
  {
    name: "join with the latest row, of many values in a record, delivered before",
    flow: decoded.pipe(twice, Deliver.derived(Kept, (r) => r), refuseOdd, latest),
    fansOut: true,
  },
  {
    name: "join with the latest row of a table of the same topic",
    flow: decoded.pipe(
      Flow.filter((r) => r.n > 2),
      Join.table(decoded.pipe(Flow.filter((r) => r.n < 5), Table.of(Reading)), { name: "latest", join: pair }),
    ),
    fansOut: true,
  },
  {
    name: "join with the latest row of a table that came through a repartition",
    flow: read(Others).pipe(Join.table(moved(routed).pipe(Table.of(Reading)), { name: "latest", join: pair })),
    upstream: 3,
  },
  { name: "as-of join", flow: decoded.pipe(asOf) },
  { name: "as-of join or none", flow: decoded.pipe(asOfOrNone) },
  { name: "as-of join with grace", flow: decoded.pipe(Join.asOf(others, { ...waiting, join: pair })), fansOut: true },
  {
    name: "as-of join or none with grace",
    flow: decoded.pipe(Join.asOf(others, { ...waiting, kind: "left", join: pair })),
  },
  {
    name: "as-of join with grace, of many values in a record",
    flow: decoded.pipe(twice, Join.asOf(others, { ...waiting, kind: "left", join: pair })),
    fansOut: true,
  },
  {
    name: "as-of join with grace, of windows with a table of the same topic",
    flow: decoded.pipe(
      Aggregate.count({ name: "counts", window: Window.tumbling({ size: "30 seconds" }), emit: "final" }),
      Join.asOf(decoded.pipe(Table.of(Reading)), {
        ...waiting,
        kind: "left",
        value: Schema.Unknown as unknown as Schema.Codec<Window.Windowed<number>>,
        join: ({ key, start, value }, row) => ({ key, start, value, n: row?.n }),
      }),
    ),
    fansOut: true,
    storesByBatch: true,
  },
  ...(["inner", "left", "outer"] as const).map((kind): Case => ({
    name: `join of two tables, ${kind}`,
    flow: table.pipe(Join.tables(others, { name: "both", kind, row: Pair, join: pair, deletions: "1 minute" })),
  })),
  { name: "foreign keys, what refers", flow: table.pipe(references(referring, 60_000)), fansOut: true },
  ...(["inner", "left"] as const).map((kind): Case => ({
    name: `foreign keys, what answers, ${kind}`,
    flow: decoded.pipe(
      Flow.map(toSubscription),
      beside(others, undefined),
      answers({ left: Reading, right: Reading }, { name: "orders", kind, join: pair }, 60_000),
    ),
    table: ({ primaryKey }: Response<unknown>) => primaryKey,
  })),
  { name: "foreign keys, the newest", flow: decoded.pipe(Flow.map(toResponse), newest("orders", 60_000)) },
]
