/** Joins with tables over restarts, beside an input that is idle, and with changes of one time. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Buffer } from "node:buffer"
import {
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Join,
  Pipeline,
  Table,
  Task,
  Topic,
} from "../../src/index.ts"
import { atEveryStep, Driver } from "../../src/testing/index.ts"
import { committed, type Rec, run, sources, type Start } from "../support/FlowRunner.ts"

const about = { description: "", owner: "", partitions: 1 }
const Event = Schema.Struct({ at: Schema.Int, v: Schema.String })
type Event = typeof Event.Type
const topic = (name: string) => Topic.make({ ...about, name, schema: Event, eventTime: ({ at }: Event) => at })
const Orders = topic("orders")
const Users = topic("users")
const Pairs = Topic.make({ ...about, name: "pairs", schema: Schema.String })
const Dlt = Topic.bytes({ ...about, name: "dlt" })

const pair = (order: Event | undefined, user: Event | undefined) => `${order?.v ?? "none"}+${user?.v ?? "none"}`
const orders = Ingest.topic(Orders).pipe(Decode.schema)
const users = Table.topic(Users)
const options = { name: "users", join: pair, deletions: 50 }

type AnyFlow = Flow.Flow<
  string,
  { readonly _tag: string; readonly message: string },
  Task.PipelineError,
  Task.Task | Task.Logged
>

const joins: Record<string, AnyFlow> = {
  "the latest row": orders.pipe(Join.table(users, { ...options, kind: "left" })),
  "the row of its time": orders.pipe(Join.asOf(users, { ...options, kind: "left", history: 100 })),
  "the row of its time, with grace": orders.pipe(
    Join.asOf(users, { ...options, kind: "left", history: 100, grace: 5, value: Event }),
  ),
  "rows of another table": Table.topic(Orders).pipe(
    Join.tables(users, { ...options, kind: "outer", row: Schema.String }),
    Flow.map(({ row }) => row ?? "deleted"),
  ),
}

/** Key, event time and value; a value of null is a tombstone. */
type Row = readonly [key: string | null, at: number, v: string | null]
type Given = { readonly orders: ReadonlyArray<Row>; readonly users: ReadonlyArray<Row> }

const rec = ([key, at, v]: Row): Rec => ({
  key,
  value: v === null ? null : v === "damaged" ? "{" : JSON.stringify({ at, v }),
  timestamp: at,
  ...v === null && { headers: [["millrace-time", Buffer.from(String(at))]] as const },
})

const joined = (flow: AnyFlow, given: Given, start?: Start) => {
  const of = (topic: Topic.Any, rows: ReadonlyArray<Row>) =>
    sources(topic, rows.map(rec), rows.map((_, i) => i), { position: start?.positions.get(topic) ?? 0 })
  const inputs = new Map([[Orders as Topic.Any, of(Orders, given.orders)], [
    Users as Topic.Any,
    of(Users, given.users),
  ]])
  return Effect.map(run(flow, inputs, start), ({ batches }) => batches)
}

type Batches = Effect.Success<ReturnType<typeof joined>>

const told = (batches: Batches) => ({
  out: batches.flatMap(({ values, time }) => values.map((value, i) => `${value} @${time!.timestamps[i]}`)),
  gone: batches.flatMap(({ source, failed, dropped }) => [
    ...failed.map(({ row, reason }) => `${source.topic.name} ${source.offsets[row]} ${reason._tag}`),
    ...dropped.map(({ row, reason }) => `${source.topic.name} ${source.offsets[row]} ${reason}`),
  ]).toSorted(),
})

describe.each(Object.entries(joins))("a join with %s", (name, flow) => {
  const given: Given = {
    orders: [
      ["ann", 10, "o1"],
      ["ann", 20, "o2"],
      [null, 20, "o3"],
      ["ann", 20, "damaged"],
      ["ben", 30, "o4"],
      ["ann", 35, "o5"],
      ["ann", 12, "o6"],
      ["ann", 40, null],
      ["ben", 45, "o7"],
      ["end", 200, "end"],
    ],
    users: [
      ["ann", 10, "u1"],
      ["ann", 10, "u2"],
      ["ben", 15, "damaged"],
      ["ann", 20, null],
      ["ann", 19, "u3"],
      ["ben", 30, "u4"],
      [null, 31, "u5"],
      ["ann", 34, "u6"],
      ["ben", 44, null],
      ["ben", 43, "u7"],
      ["end", 200, "end"],
    ],
  }

  it.effect("comes to what it must: of one time the last change, after a deletion nothing older", () =>
    Effect.gen(function* () {
      const { out } = told(yield* joined(flow, given))
      const expected: Record<string, ReadonlyArray<string>> = {
        // u3 comes after the deletion of time 20, and is older. o6 is out of order by more than any grace.
        "the latest row": [
          "o1+u2 @10",
          "o2+none @20",
          "o4+u4 @30",
          "o5+u6 @35",
          "o6+u6 @12",
          "o7+none @45",
          "end+end @200",
        ],
        "the row of its time": [
          "o1+u2 @10",
          "o2+none @20",
          "o4+u4 @30",
          "o5+u6 @35",
          "o6+u2 @12",
          "o7+none @45",
          "end+end @200",
        ],
        "the row of its time, with grace": [
          "o1+u2 @10",
          "o2+none @20",
          "o6+u2 @12",
          "o4+u4 @30",
          "o5+u6 @35",
          "o7+none @45",
        ],
        "rows of another table": [
          "none+u1 @10",
          "none+u2 @10",
          "o1+u2 @10",
          "o1+none @20",
          "o2+none @20",
          "none+u4 @30",
          "o4+u4 @30",
          "o2+u6 @34",
          "o5+u6 @35",
          "none+u6 @40",
          "o4+none @44",
          "o7+none @45",
          "none+end @200",
          "end+end @200",
        ],
      }
      assert.deepStrictEqual(out, expected[name])
    }))

  it.effect("goes on after a restart as without, deletions and what waits included", () =>
    Effect.gen(function* () {
      const whole = yield* joined(flow, given)
      // No input ends that a task reads.
      const most = whole.findIndex(({ source }) =>
        source.next === (source.topic === Orders ? given.orders : given.users).length
      )
      assert.isAbove(most, 10)
      for (let n = 1; n < most; n++) {
        const before = whole.slice(0, n)
        const after = yield* joined(flow, given, committed(before))
        assert.deepStrictEqual(told([...before, ...after]), told(whole), `after ${n}`)
      }
    }))

  const pipeline = Pipeline.make(
    "joining",
    flow.pipe(Deliver.to(Pairs), Failures.routeAll(DeadLetter.to(Dlt))),
    Guarantee.exactlyOnce(),
  )
  const feed = (
    driver: Driver.Driver,
    topic: typeof Orders,
    ...rows: ReadonlyArray<readonly [at: number, v: string]>
  ) => driver.feed(topic, rows.map(([at, v]) => Driver.record({ value: { at, v }, key: "ann" })))

  it.effect("does not wait for a table that is idle, and takes what that brings later", () =>
    Driver.run({ pipelines: pipeline }, (driver) =>
      Effect.gen(function* () {
        const pairs = Effect.map(driver.take(Pairs), (all) => all.map(({ value }) => value!))
        yield* feed(driver, Orders, [10, "o1"], [100, "o2"], [101, "o3"])
        yield* driver.advance("1 second")
        assert.deepStrictEqual(yield* pairs, [])
        yield* driver.advance("8 seconds")
        const alone = name === "the row of its time, with grace" ? ["o1+none"] : ["o1+none", "o2+none", "o3+none"]
        assert.deepStrictEqual(yield* pairs, alone)
        yield* feed(driver, Users, [95, "u1"], [120, "u2"])
        yield* feed(driver, Orders, [110, "o4"], [130, "o5"])
        yield* driver.advance("8 seconds")
        const later: Record<string, ReadonlyArray<string>> = {
          "the latest row": ["o4+u1", "o5+u2"],
          "the row of its time": ["o4+u1", "o5+u2"],
          // What was held back meets the row that came while it waited.
          "the row of its time, with grace": ["o2+u1", "o3+u1", "o4+u1"],
          "rows of another table": ["o3+u1", "o4+u1", "o4+u2", "o5+u2"],
        }
        assert.deepStrictEqual(yield* pairs, later[name])
      })))

  it.effect("writes the same whatever request its program dies at", () =>
    Effect.gen(function* () {
      const crashes = yield* atEveryStep({ pipelines: pipeline, most: 30 }, (driver) =>
        Effect.gen(function* () {
          yield* feed(driver, Users, [5, "u1"], [15, "u2"])
          yield* feed(driver, Orders, [10, "o1"], [15, "o2"])
          yield* driver.settle
          yield* feed(driver, Users, [30, "u3"], [200, "u4"])
          yield* feed(driver, Orders, [25, "o3"], [200, "o4"])
          yield* driver.settle
          return yield* driver.values(Pairs)
        }))
      assert.isAbove(crashes, 20)
    }), 60_000)
})
