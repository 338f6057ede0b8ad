/** Tables as flows: what changes a topic holds, when they happened, and how they are written. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import { Buffer } from "node:buffer"
import { Aggregate, Check, Decode, Deliver, Flow, Fold, Ingest, Table, Task, Topic, Window } from "../../src/index.ts"
import type { Batch } from "../../src/Batch.ts"
import { keyBytes } from "../../src/Batch.ts"
import { committed, type Rec, run, sources } from "../support/FlowRunner.ts"

const common = { description: "", owner: "", partitions: 1 }
const Row = Schema.Struct({ id: Schema.String, at: Schema.Int })
type Row = typeof Row.Type
const Timed = Topic.make({ ...common, name: "timed", schema: Row, eventTime: ({ at }: Row) => at })
const Plain = Topic.make({ ...common, name: "plain", schema: Row })
const Kept = Topic.make({
  ...common,
  name: "kept",
  schema: Row,
  key: ["id", ({ id }) => id],
  cleanup: "compact",
  maxMessageBytes: 160,
})

class Refused extends Schema.TaggedError<Refused>()("Refused", { message: Schema.String }) {}

const row = (key: string | null, at: number, arrival = 5_000, id = key ?? ""): Rec => ({
  key,
  value: JSON.stringify({ id, at }),
  timestamp: arrival,
})
const tombstone = (key: string | null, arrival = 5_000, at?: string): Rec => ({
  key,
  value: null,
  timestamp: arrival,
  ...at !== undefined && { headers: [["millrace-time", Buffer.from(at)]] as const },
})

const through = <A, F extends { readonly _tag: string }, E>(
  flow: Flow.Flow<A, F, E, Task.Task | Task.Logged>,
  topic: Topic.Any,
  records: ReadonlyArray<Rec>,
) => Effect.map(run(flow, new Map([[topic, sources(topic, records, [])]])), ({ batches }) => batches)

const told = (
  batches: ReadonlyArray<Batch<Table.Change<Row>, { readonly _tag: string; readonly field?: string }>>,
) => ({
  changes: batches.flatMap((batch) =>
    batch.values.map(({ row }, i) =>
      `${Buffer.from(keyBytes(batch, i)!)} ${row?.at ?? "gone"} @${batch.time!.timestamps[i]} clock ${
        batch.time!.clock[i]
      }`
    )
  ),
  failed: batches.flatMap(({ failed }) =>
    failed.map(({ row, reason }) => `${row} ${reason._tag} ${reason.field ?? ""}`)
  ),
})

describe("Table.topic", () => {
  it.effect("takes a change's time from its header, which stream time follows", () =>
    Effect.gen(function* () {
      const written = { ...row("ann", 40), headers: [["millrace-time", Buffer.from("50")]] as const }
      const records = [row("ann", 10), tombstone("ann", 5_000, "30"), row("ben", 20), written]
      assert.deepStrictEqual(told(yield* through(Table.topic(Timed), Timed, records)).changes, [
        "ann 10 @10 clock 10",
        "ann gone @30 clock 30",
        "ben 20 @20 clock 30",
        "ann 40 @50 clock 50",
      ])
    }))

  it.effect("takes a foreign tombstone's time from stream time, which stays as it is", () =>
    Effect.gen(function* () {
      const records = [tombstone("cho"), row("ann", 10), tombstone("ann"), row("ben", 20)]
      assert.deepStrictEqual(told(yield* through(Table.topic(Timed), Timed, records)).changes, [
        "cho gone @0 clock -Infinity",
        "ann 10 @10 clock 10",
        "ann gone @10 clock 10",
        "ben 20 @20 clock 20",
      ])
    }))

  it.effect("takes Kafka's time where the contract has none", () =>
    Effect.gen(function* () {
      const records = [row("ann", 10, 100), tombstone("ann", 200)]
      assert.deepStrictEqual(told(yield* through(Table.topic(Plain), Plain, records)).changes, [
        "ann 10 @100 clock 100",
        "ann gone @200 clock 200",
      ])
    }))

  it.effect("fails what has no key or no time, and damaged values; a stream fails tombstones", () =>
    Effect.gen(function* () {
      const damaged = { key: "ann", value: "{", timestamp: 1 }
      const records = [row(null, 1), tombstone(null), tombstone("ann", 1, "soon"), tombstone("ann", 1, "-1"), damaged]
      const batches = yield* through(Table.topic(Timed), Timed, records)
      assert.deepStrictEqual(told(batches), {
        changes: [],
        failed: [
          "0 DecodeError key",
          "1 DecodeError key",
          "2 DecodeError event time",
          "3 DecodeError event time",
          "4 DecodeError ",
        ],
      })
      const stream = yield* through(Ingest.topic(Timed).pipe(Decode.schema), Timed, [tombstone("ann"), row("ann", 1)])
      assert.deepStrictEqual(stream.flatMap(({ failed }) => failed.map(({ row }) => row)), [0])
    }))

  it.effect("goes on with its time where it was", () =>
    Effect.gen(function* () {
      const before = yield* through(Table.topic(Timed), Timed, [row("ann", 10)])
      const records = [row("ann", 10), tombstone("ann")]
      const start = committed(before)
      const inputs = new Map([[Timed as Topic.Any, sources(Timed, records, [], { position: 1 })]])
      const { batches } = yield* run(Table.topic(Timed), inputs, start)
      assert.deepStrictEqual(told(batches).changes, ["ann gone @10 clock 10"])
    }))
})

describe("Table", () => {
  it.effect("of a stream has a row for every value", () =>
    Effect.gen(function* () {
      const table = Ingest.topic(Timed).pipe(Decode.schema, Table.of(Row))
      assert.deepStrictEqual(told(yield* through(table, Timed, [row("ann", 1), row("ann", 2)])).changes, [
        "ann 1 @1 clock 1",
        "ann 2 @2 clock 2",
      ])
    }))

  it.effect("maps rows, and deletes those that a filter keeps no more", () =>
    Effect.gen(function* () {
      const table = Table.topic(Timed).pipe(
        Table.map(Row, (row, { key }) => ({ ...row, id: `${key}!`, at: row.at * 10 })),
        Table.filter(({ at }) => at < 30),
      )
      const records = [row("ann", 1), row("ann", 3), row("ben", 2), tombstone("ben")]
      assert.deepStrictEqual(told(yield* through(table, Timed, records)).changes, [
        "ann 10 @1 clock 1",
        "ann gone @3 clock 3",
        "ben 20 @2 clock 3",
        "ben gone @3 clock 3",
      ])
    }))
})

describe("Deliver.table", () => {
  const delivered = Table.topic(Timed).pipe(Deliver.table(Kept))
  const written = (batches: ReadonlyArray<Batch<unknown, unknown>>) =>
    batches.flatMap(({ outgoing }) =>
      outgoing.map(({ topic, key, value, headers = [] }) =>
        `${topic} ${key} ${value} ${headers.map(([name, value]) => `${name}=${Buffer.from(value)}`)}`
      )
    )

  it.effect("writes every change in order, and tombstones with their time, that Table.topic reads again", () =>
    Effect.gen(function* () {
      const records = [row("ann", 10), row("ann", 11), tombstone("ann", 5_000, "30"), row("ben", 20)]
      const batches = yield* through(delivered, Timed, records)
      assert.deepStrictEqual(written(batches), [
        'kept ann {"id":"ann","at":10} millrace-time=10',
        'kept ann {"id":"ann","at":11} millrace-time=11',
        "kept ann null millrace-time=30",
        'kept ben {"id":"ben","at":20} millrace-time=20',
      ])
      const again = batches.flatMap(({ outgoing }) =>
        outgoing.map(({ key, value, headers = [] }) => ({
          key: String(key),
          value: value && String(value),
          timestamp: 9_000,
          headers,
        }))
      )
      const changes = told(yield* through(Table.topic(Timed), Timed, again)).changes
      assert.deepStrictEqual(changes, told(batches).changes)
    }))

  it.effect("refuses a row whose key is another in the contract, one without a key, and one that is too large", () =>
    Effect.gen(function* () {
      const table = Ingest.topic(Timed).pipe(Decode.schema, Table.of(Row), Deliver.table(Kept))
      const records = [row("ann", 1, 1, "ben"), row(null, 2), row("cho".repeat(12), 3), row("dee", 4)]
      const batches = yield* through(table, Timed, records)
      assert.deepStrictEqual(written(batches), ['kept dee {"id":"dee","at":4} millrace-time=4'])
      assert.deepStrictEqual(
        batches.flatMap(({ failed }) => failed.map(({ row, reason }) => `${row} ${reason._tag} ${reason.field}`)),
        ["0 Undeliverable key", "1 Undeliverable key", "2 Undeliverable "],
      )
    }))

  it.effect("takes back one row of many that one record has made, where that alone is refused", () =>
    Effect.gen(function* () {
      const last = Fold.make({ state: Row, initial: () => ({ id: "", at: 0 }), add: (_, row: Row) => row })
      const table = Ingest.topic(Timed).pipe(
        Decode.schema,
        Aggregate.windowed({ name: "tens", window: Window.tumbling({ size: 10 }), fold: last, emit: "final" }),
        Flow.map(({ value }) => value),
        Table.of(Row),
        Deliver.table(Kept),
        Check.with((change) =>
          change.row?.id === "cho" ? Result.fail(new Refused({ message: "cho" })) : Result.succeed(change)
        ),
      )
      const records = [row("ann", 1), row("ben", 2, 0, "bob"), row("cho", 3), row("dee", 20)]
      const batches = yield* through(table, Timed, records)
      assert.deepStrictEqual(written(batches), ['kept ann {"id":"ann","at":1} millrace-time=0'])
    }))

  it.effect("names the record at which the contract's key throws", () =>
    Effect.gen(function* () {
      const Throwing = Topic.make({
        ...common,
        name: "throwing",
        schema: Row,
        key: ["id", () => {
          throw new Error("no")
        }],
      })
      const exit = yield* Effect.exit(through(Table.topic(Timed).pipe(Deliver.table(Throwing)), Timed, [row("ann", 1)]))
      assert.include(String(exit), "topic timed partition 0 offset 0: Error: no")
    }))
})
