/** Joins with tables: their edges one by one. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import {
  Aggregate,
  DeadLetter,
  Decode,
  Failures,
  Flow,
  Ingest,
  Join,
  Table,
  Task,
  Topic,
  Window,
} from "../../src/index.ts"
import { committed, type Rec, run, sources } from "../support/FlowRunner.ts"

const Event = Schema.Struct({ at: Schema.Int, v: Schema.String })
type Event = typeof Event.Type
const topic = (name: string) =>
  Topic.make({ name, description: "", owner: "", schema: Event, eventTime: ({ at }: Event) => at, partitions: 1 })
const Orders = topic("orders")
const Users = topic("users")
const Dlt = Topic.bytes({ name: "dlt", description: "", owner: "", partitions: 1 })

const orders = Ingest.topic(Orders).pipe(Decode.schema)
const users = Table.topic(Users)

/** Key, event time and value; a value of null is a tombstone, one that does not decode is `damaged`. */
type Row = readonly [key: string | null, at: number, v: string | null]

const rec = ([key, at, v]: Row): Rec => ({
  key,
  value: v === null ? null : v === "damaged" ? "{" : JSON.stringify({ at, v }),
  timestamp: at,
  ...v === null && { headers: [["millrace-time", Buffer.from(String(at))]] as const },
})

/** What a join of orders and users emits, with its time; what it drops and fails, by topic and offset. */
const joining = <A, F extends { readonly _tag: string; readonly message: string }, E>(
  flow: Flow.Flow<A, F, E, Task.Task | Task.Logged>,
  given: { readonly orders: ReadonlyArray<Row>; readonly users: ReadonlyArray<Row> },
) =>
  Effect.gen(function* () {
    const { batches, stores } = yield* run(
      flow,
      new Map([
        [Orders as Topic.Any, sources(Orders, given.orders.map(rec), [])],
        [Users as Topic.Any, sources(Users, given.users.map(rec), [])],
      ]),
    )
    const where = ({ source }: (typeof batches)[number], row: number) => `${source.topic.name} ${source.offsets[row]}`
    return {
      out: batches.flatMap(({ values, time }) => values.map((value, i) => `${value} @${time!.timestamps[i]}`)),
      failed: batches.flatMap((batch) => batch.failed.map(({ row, reason }) => `${where(batch, row)} ${reason._tag}`)),
      dropped: batches.flatMap((batch) => batch.dropped.map(({ row, reason }) => `${where(batch, row)} ${reason}`)),
      stores,
      batches,
    }
  })

const pair = (order: Event, user: Event | undefined) => `${order.v}+${user?.v ?? "none"}`

describe("Join.table", () => {
  const inner = orders.pipe(Join.table(users, { name: "users", join: pair }))
  const left = orders.pipe(Join.table(users, { name: "users", kind: "left", join: pair }))

  it.effect("joins a record with the row as it then is, and one of the same time after the change", () =>
    Effect.gen(function* () {
      const { out, dropped } = yield* joining(inner, {
        orders: [["ann", 9, "o1"], ["ann", 10, "o2"], ["ben", 15, "o3"], ["ann", 20, "o4"]],
        users: [["ann", 10, "u1"], ["ann", 20, "u2"], ["ann", 30, "u3"]],
      })
      assert.deepStrictEqual(out, ["o2+u1 @10", "o4+u2 @20"])
      assert.deepStrictEqual(dropped, ["orders 0 unmatched", "orders 2 unmatched"])
    }))

  it.effect("gives a record without a row none, where it is a left join", () =>
    Effect.gen(function* () {
      const { out, dropped } = yield* joining(left, { orders: [["ann", 9, "o1"]], users: [["ben", 1, "u1"]] })
      assert.deepStrictEqual([out, dropped], [["o1+none @9"], []])
    }))

  it.effect("takes a tombstone for a deletion in a table, and for a record that is damaged in a stream", () =>
    Effect.gen(function* () {
      const { out, failed } = yield* joining(left, {
        orders: [["ann", 1, "o1"], ["ann", 2, null], ["ann", 3, "o3"], ["ann", 5, "o5"]],
        users: [["ann", 0, "u1"], ["ann", 3, null], ["ann", 4, "u2"]],
      })
      assert.deepStrictEqual(out, ["o1+u1 @1", "o3+none @3", "o5+u2 @5"])
      assert.deepStrictEqual(failed, ["orders 1 DecodeError"])
    }))

  it.effect("counts the change of the latest event time, and remembers deletions for their time", () =>
    Effect.gen(function* () {
      const remembering = orders.pipe(
        Join.table(users, { name: "users", kind: "left", join: pair, deletions: 10 }),
      )
      const { out, dropped } = yield* joining(remembering, {
        orders: [["ann", 13, "o1"], ["ben", 14, "o2"], ["eva", 24, "o3"], ["cho", 40, "o4"]],
        users: [
          ["ann", 12, "u1"],
          ["ann", 11, "u2"],
          ["ben", 13, null],
          ["ben", 10, "u3"],
          ["cho", 14, null],
          ["eva", 25, "u4"],
          ["cho", 13, "u5"],
        ],
      })
      assert.deepStrictEqual(out, ["o1+u1 @13", "o2+none @14", "o3+none @24", "o4+u5 @40"])
      assert.deepStrictEqual(dropped, ["users 1 superseded", "users 3 superseded"])
    }))

  it.effect("fails a record without a key on either side, and goes on", () =>
    Effect.gen(function* () {
      const { out, failed } = yield* joining(left, {
        orders: [[null, 1, "o1"], ["ann", 2, "o2"]],
        users: [[null, 0, "u1"], [null, 0, null], ["ann", 1, "u2"]],
      })
      assert.deepStrictEqual(out, ["o2+u2 @2"])
      assert.deepStrictEqual(failed, ["users 0 DecodeError", "users 1 DecodeError", "orders 0 Keyless"])
    }))

  it.effect("fails a row of the table that is damaged as that row, with its own topic and offset", () =>
    Effect.gen(function* () {
      const routed = inner.pipe(
        Failures.route({ DecodeError: DeadLetter.to(Dlt), Keyless: Failures.stop }),
      )
      const { out, batches } = yield* joining(routed, {
        orders: [["ann", 2, "o1"]],
        users: [["ann", 0, "u1"], ["ann", 1, "damaged"], ["ann", 3, "u2"]],
      })
      assert.deepStrictEqual(out, ["o1+u1 @2"])
      const [letter] = batches.flatMap(({ outgoing }) => outgoing)
      const headers = new Map(letter!.headers)
      assert.strictEqual(String(letter!.value), "{")
      assert.strictEqual(String(headers.get("kafka_dlt-original-topic")), "users")
      assert.strictEqual(headers.get("kafka_dlt-original-offset")!.at(-1), 1)
    }))

  it.effect("names the record at which its function throws", () =>
    Effect.gen(function* () {
      const throwing = orders.pipe(Join.table(users, {
        name: "users",
        join: () => {
          throw new Error("no")
        },
      }))
      const exit = yield* Effect.exit(joining(throwing, {
        orders: [["ben", 1, "o1"], ["ann", 2, "o2"]],
        users: [["ann", 0, "u1"]],
      }))
      assert.include(String(exit), "topic orders partition 0 offset 1: Error: no")
    }))

  it.effect("joins a topic with a table of itself", () =>
    Effect.gen(function* () {
      const first = orders.pipe(Flow.filter(({ v }) => v.startsWith("u")), Table.of(Event))
      const self = orders.pipe(
        Flow.filter(({ v }) => v.startsWith("o")),
        Join.table(first, { name: "self", kind: "left", join: pair }),
      )
      const { batches } = yield* run(
        self,
        new Map([[
          Orders as Topic.Any,
          sources(Orders, ([["ann", 1, "o1"], ["ann", 2, "u1"], ["ann", 3, "o2"]] as const).map(rec), []),
        ]]),
      )
      assert.deepStrictEqual(batches.flatMap(({ values }) => values), ["o1+none", "o2+u1"])
    }))

  it("refuses options that make no sense, and a second join of other topics behind the first", () => {
    assert.throws(() => Join.table(users, { name: "users", join: pair, deletions: -1 }), /join users: deletions/)
    assert.throws(
      () => inner.pipe(Join.table(Table.topic(topic("more")), { name: "more", join: (a) => a })),
      /store users before it changes with whole batches: .*repartition/,
    )
  })
})

describe("Join.asOf", () => {
  const options = { name: "users", history: 100, join: pair, deletions: 100 } as const
  const atOnce = orders.pipe(Join.asOf(users, options))
  const left = orders.pipe(Join.asOf(users, { ...options, kind: "left" }))
  const grace = { grace: 10, value: Event } as const
  const waiting = orders.pipe(Join.asOf(users, { ...options, ...grace }))

  it.effect("joins a record with the version of its time, from the time of the change on", () =>
    Effect.gen(function* () {
      const { out, dropped } = yield* joining(atOnce, {
        orders: [["ann", 40, "o1"], ["ann", 9, "o2"], ["ann", 10, "o3"], ["ann", 19, "o4"], ["ann", 20, "o5"]],
        users: [["ann", 10, "u1"], ["ann", 20, "u2"], ["ann", 30, null]],
      })
      assert.deepStrictEqual(out, ["o3+u1 @10", "o4+u1 @19", "o5+u2 @20"])
      assert.deepStrictEqual(dropped, ["orders 0 unmatched", "orders 1 unmatched"])
    }))

  it.effect("puts changes that come out of order in their place", () =>
    Effect.gen(function* () {
      const { out } = yield* joining(left, {
        orders: [["ann", 35, "o1"], ["ann", 12, "o2"], ["ann", 15, "o3"]],
        users: [["ann", 30, "u3"], ["ann", 10, "u1"], ["ann", 15, null]],
      })
      assert.deepStrictEqual(out, ["o1+u3 @35", "o2+u1 @12", "o3+none @15"])
    }))

  it.effect("calls a record late that is older than the history, and not one exactly as old", () =>
    Effect.gen(function* () {
      const late = yield* joining(left, {
        orders: [["ann", 300, "o1"], ["ann", 200, "o2"], ["ann", 199, "o3"]],
        users: [["ann", 10, "u1"], ["ben", 300, "u2"]],
      })
      assert.deepStrictEqual(late.out, ["o1+u1 @300", "o2+u1 @200"])
      assert.deepStrictEqual(late.failed, ["orders 2 Late"])
      const [reason] = late.batches.flatMap(({ failed }) => failed)
      assert.strictEqual(reason!.kept, true)
      assert.strictEqual(reason!.reason._tag === "Late" && reason!.reason.windowEnd, 299)
    }))

  it.effect("drops a change that nobody can ask for any more, and keeps an old one that is the only one", () =>
    Effect.gen(function* () {
      const { out, dropped, stores } = yield* joining(left, {
        orders: [["cho", 500, "o1"], ["ann", 501, "o2"], ["ben", 501, "o3"]],
        users: [["cho", 501, "u1"], ["ann", 400, "u2"], ["ann", 399, "u3"], ["ben", 1, "u4"]],
      })
      assert.deepStrictEqual(out, ["o1+none @500", "o2+u2 @501", "o3+u4 @501"])
      assert.deepStrictEqual(dropped, ["users 2 superseded"])
      assert.strictEqual(stores.get("users")!.size, 3)
    }))

  it.effect("keeps records until stream time is more than grace beyond them, and not longer", () =>
    Effect.gen(function* () {
      const at = (now: number) =>
        joining(waiting, {
          orders: [["ann", 10, "o1"], ["eva", now, "end"]],
          users: [["ann", 5, "u1"], ["eva", now, "end"]],
        })
      const before = yield* at(20)
      assert.deepStrictEqual(before.out, [])
      assert.strictEqual(before.stores.get("users-waiting")!.size, 2)
      const after = yield* at(21)
      assert.deepStrictEqual(after.out, ["o1+u1 @10"])
      assert.strictEqual(after.stores.get("users-waiting")!.size, 1)
    }))

  it.effect("sees changes that come out of order by as much as grace, and by no more", () =>
    Effect.gen(function* () {
      const { out } = yield* joining(waiting, {
        // Stream time is 20 when u2 comes, and 21 when u3 does.
        orders: [["ann", 10, "o1"], ["ann", 12, "o2"], ["cho", 20, ""], ["cho", 21, ""], ["cho", 60, ""]],
        users: [["ann", 5, "u1"], ["eva", 21, ""], ["ann", 10, "u2"], ["eva", 22, ""], ["ann", 10, "u3"], [
          "eva",
          60,
          "",
        ]],
      })
      assert.deepStrictEqual(out, ["o1+u2 @10", "o2+u3 @12"])
    }))

  it.effect("lets records go in the order of their times, and at once where they come later than grace", () =>
    Effect.gen(function* () {
      const { out, batches } = yield* joining(waiting, {
        orders: [
          ["ann", 12, "o1"],
          ["ann", 11, "o2"],
          ["ann", 11, "o3"],
          ["ann", 25, "o4"],
          ["ann", 12, "o5"],
          ["ann", 99, "end"],
        ],
        users: [["ann", 0, "u1"], ["eva", 24, ""], ["eva", 99, ""]],
      })
      assert.deepStrictEqual(out, ["o2+u1 @11", "o3+u1 @11", "o1+u1 @12", "o5+u1 @12", "o4+u1 @25"])
      const clocks = batches.flatMap(({ time }) => [...time!.clock])
      assert.deepStrictEqual(clocks, [11, 11, 12, 14, 25])
    }))

  it.effect("finds the row of a record's time however far stream time jumps while it waits", () =>
    Effect.gen(function* () {
      const { out, failed } = yield* joining(waiting, {
        orders: [["ann", 10, "o1"], ["eva", 9_000, "end"]],
        users: [["ann", 5, "u1"], ["ann", 15, "u2"], ["eva", 9_000, "end"]],
      })
      assert.deepStrictEqual([out, failed], [["o1+u1 @10"], []])
    }))

  it.effect("counts what waited in vain", () =>
    Effect.gen(function* () {
      const { dropped } = yield* joining(waiting, {
        orders: [["ann", 10, "o1"], ["eva", 50, "end"]],
        users: [["ann", 11, "u1"], ["eva", 50, "end"]],
      })
      assert.deepStrictEqual(dropped, ["orders 1 unmatched"])
    }))

  it.effect("names the record at which its function throws, also when that has waited", () =>
    Effect.gen(function* () {
      const throwing = orders.pipe(Join.asOf(users, {
        ...options,
        ...grace,
        join: ({ v }) => {
          if (v === "o2") throw new Error("no")
          return v
        },
      }))
      const exit = yield* Effect.exit(joining(throwing, {
        orders: [["ann", 1, "o1"], ["ann", 2, "o2"], ["ann", 3, "o3"], ["eva", 50, "end"]],
        users: [["ann", 0, "u1"]],
      }))
      assert.include(String(exit), "topic orders partition 0 offset 1: Error: no")
    }))

  it.effect("lets a record wait once that is read again, with state that is ahead of positions", () =>
    Effect.gen(function* () {
      const given = (orders: ReadonlyArray<Row>, users: ReadonlyArray<Row>) =>
        new Map([
          [Orders as Topic.Any, sources(Orders, orders.map(rec), [1])],
          [Users as Topic.Any, sources(Users, users.map(rec), [])],
        ])
      const before = yield* run(waiting, given([["ann", 10, "o1"]], [["ann", 5, "u1"]]))
      const { stores } = committed(before.batches)
      assert.strictEqual(stores.get("users-waiting")!.entries.size, 1)
      const again = given([["ann", 10, "o1"], ["eva", 50, ""]], [["eva", 50, ""]])
      const after = yield* run(waiting, again, { ...committed([]), stores })
      assert.deepStrictEqual(after.batches.flatMap(({ values }) => values), ["o1+u1"])
    }))

  it.effect("takes what a tick has caused and the record behind it for two, also after a start from the log", () =>
    Effect.gen(function* () {
      const Counted = Schema.Struct({ start: Schema.Int, value: Schema.Int })
      const windows = orders.pipe(
        Aggregate.count({ name: "counts", window: Window.hopping({ size: 60, every: 30 }), emit: "final" }),
        Flow.map(({ start, value }) => ({ start, value })),
      )
      const flow = windows.pipe(Join.asOf(orders.pipe(Table.of(Event)), {
        ...options,
        grace: 90,
        value: Counted,
        kind: "left",
        join: ({ start, value }) => `${start}=${value}`,
      }))
      const records = ([["ann", 65, "o1"], ["ann", 125, "o2"], ["ann", 900, "o3"]] as const).map(rec)
      const given = (position: number, until: number) =>
        new Map([[
          Orders as Topic.Any,
          sources(Orders, records.slice(0, until), [1, 2], { position, ticks: [{ before: 1, silence: 30 }] }),
        ]])
      const whole = yield* run(flow, given(0, 3))
      const before = whole.batches.slice(0, 2)
      assert.strictEqual(before[1]!.source.length, 0)
      const after = yield* run(
        flow,
        new Map([[Orders as Topic.Any, sources(Orders, records, [2], { position: 1 })]]),
        committed(before),
      )
      const values = (batches: ReadonlyArray<{ readonly values: ReadonlyArray<string> }>) =>
        batches.flatMap(({ values }) => values)
      assert.deepStrictEqual(values(whole.batches), ["30=1", "60=1", "90=1", "120=1"])
      assert.deepStrictEqual(values(after.batches), ["30=1", "60=1", "90=1", "120=1"])
    }))

  it("refuses a grace that is longer than the history", () => {
    assert.throws(
      () => Join.asOf(users, { ...options, value: Event, grace: 101 }),
      /join users: records that wait for 101 ms/,
    )
    assert.throws(() => Join.asOf(users, { ...options, history: 0.5 }), /join users: history/)
  })
})

describe("Join.tables", () => {
  const change = (of: Table.Change<string>) => of.row ?? "deleted"
  const joined = (kind: Join.TablesKind) =>
    Table.topic(Orders).pipe(
      Join.tables(users, {
        name: "both",
        kind,
        row: Schema.String,
        join: (order: Event | undefined, user) => `${order?.v ?? "none"}+${user?.v ?? "none"}`,
      }),
      Flow.map(change),
    )

  it.effect("has a row for keys of both tables, of the left one, or of any", () =>
    Effect.gen(function* () {
      const given = {
        orders: [["ann", 1, "o1"], ["ben", 3, "o2"], ["ann", 5, null], ["ben", 6, null]],
        users: [["ann", 2, "u1"], ["cho", 4, "u2"], ["ann", 7, null], ["cho", 8, null]],
      } as const
      assert.deepStrictEqual((yield* joining(joined("inner"), given)).out, ["o1+u1 @2", "deleted @5"])
      assert.deepStrictEqual((yield* joining(joined("left"), given)).out, [
        "o1+none @1",
        "o1+u1 @2",
        "o2+none @3",
        "deleted @5",
        "deleted @6",
      ])
      assert.deepStrictEqual((yield* joining(joined("outer"), given)).out, [
        "o1+none @1",
        "o1+u1 @2",
        "o2+none @3",
        "none+u2 @4",
        "none+u1 @5",
        "deleted @6",
        "deleted @7",
        "deleted @8",
      ])
    }))

  it.effect("goes by event time on each side, and gives results times that never go back", () =>
    Effect.gen(function* () {
      const { out, dropped } = yield* joining(joined("inner"), {
        orders: [["ann", 10, "o1"], ["ann", 20, "o2"], ["ann", 15, "o3"], ["ann", 20, "o4"]],
        users: [["ann", 25, "u1"], ["ann", 12, "u2"]],
      })
      assert.deepStrictEqual(out, ["o4+u1 @25"])
      assert.deepStrictEqual(dropped, ["orders 2 superseded", "users 1 superseded"])
    }))

  it.effect("fails a record without a key", () =>
    Effect.gen(function* () {
      const ofStreams = orders.pipe(
        Table.of(Event),
        Join.tables(users, { name: "both", row: Schema.String, join: pair }),
        Flow.map(change),
      )
      const { failed } = yield* joining(ofStreams, { orders: [[null, 1, "o1"]], users: [[null, 1, "u1"]] })
      assert.deepStrictEqual(failed, ["users 0 DecodeError", "orders 0 Keyless"])
    }))
})
