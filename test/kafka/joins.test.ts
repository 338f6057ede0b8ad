/** Joins as programs that die at each request of their work: what is committed in the end is as without. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import {
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Guarantee,
  Ingest,
  Join,
  Pipeline,
  Table,
  Topic,
} from "../../src/index.ts"
import { atEveryStep, Driver } from "../../src/testing/index.ts"

const common = { description: "Test", owner: "tests", partitions: 2 }
const time = ({ at }: { readonly at: number }) => at
const Order = Schema.Struct({ id: Schema.String, user: Schema.NullOr(Schema.String), at: Schema.Int })
const User = Schema.Struct({ id: Schema.String, name: Schema.String, at: Schema.Int })
const Pair = Schema.Struct({ id: Schema.String, name: Schema.NullOr(Schema.String) })
const Orders = Topic.make({ ...common, name: "orders", schema: Order, key: ["id", ({ id }) => id], eventTime: time })
const Users = Topic.make({ ...common, name: "users", schema: User, key: ["id", ({ id }) => id], eventTime: time })
const Pairs = Topic.make({ ...common, name: "pairs", schema: Pair, key: ["id", ({ id }) => id], cleanup: "compact" })
const Dlt = Topic.bytes({ ...common, name: "dlt" })

const pair = ({ id }: typeof Order.Type, user: typeof User.Type | undefined) => ({ id, name: user?.name ?? null })

const via = Join.foreignKeyTopics({ name: "order-users", left: Orders, right: Users, row: Pair })

const byReference = (guarantee: ReturnType<typeof Guarantee.exactlyOnce> | ReturnType<typeof Guarantee.atLeastOnce>) =>
  Pipeline.make(
    "by-reference",
    Table.topic(Orders).pipe(
      Join.foreignKey(Table.topic(Users), {
        name: "order-users",
        via,
        foreignKey: ({ user }) => user,
        kind: "left",
        join: pair,
        failed: DeadLetter.to(Dlt),
      }),
      Deliver.table(Pairs),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    guarantee,
  )

type Fed = readonly [key: string, user: string | null, at: number]

const orders = (driver: Driver.Driver, ...fed: ReadonlyArray<Fed>) =>
  driver.feed(Orders, fed.map(([id, user, at]) => ({ id, user, at })))
const users = (driver: Driver.Driver, ...fed: ReadonlyArray<readonly [id: string, name: string, at: number]>) =>
  driver.feed(Users, fed.map(([id, name, at]) => ({ id, name, at })))
const tombstones = (driver: Driver.Driver, topic: Topic.Any, at: number, ...keys: ReadonlyArray<string>) =>
  driver.feedBytes(
    topic,
    keys.map((key) => ({ key, value: null, headers: [["millrace-time", Buffer.from(String(at))]] })),
  )

const references = (driver: Driver.Driver) =>
  Effect.gen(function* () {
    yield* users(driver, ["ann", "Ann", 1], ["ben", "Ben", 1])
    yield* orders(driver, ["o1", "ann", 2], ["o2", "ann", 2], ["o3", "cho", 2], ["o4", "ben", 2], ["o5", null, 2])
    yield* driver.settle
    yield* users(driver, ["ann", "Anna", 3], ["cho", "Cho", 3])
    yield* orders(driver, ["o1", "ben", 3], ["o2", "cho", 3], ["o2", "ben", 2], ["o6", "ann", 3])
    yield* tombstones(driver, Orders, 4, "o4")
    yield* driver.feedBytes(Users, [{ key: "dee", value: "{" }])
    yield* driver.settle
    yield* tombstones(driver, Users, 5, "ben")
    yield* orders(driver, ["o5", "cho", 5], ["o6", null, 5])
    yield* driver.settle
    return {
      pairs: [...yield* driver.latest(Pairs)].map(([id, { name }]) => `${id} ${name}`).sort(),
      dead: (yield* driver.readBytes(Dlt)).length,
    }
  })

const referenced = ["o1 null", "o2 Cho", "o3 Cho", "o5 Cho", "o6 null"]

describe("a foreign-key join", () => {
  it.effect(
    "is as without a crash when its program dies at any request",
    () =>
      Effect.gen(function* () {
        const crashes = yield* atEveryStep({ pipelines: byReference(Guarantee.exactlyOnce()) }, (driver) =>
          Effect.map(references(driver), (results) => {
            assert.deepStrictEqual(results, { pairs: referenced, dead: 1 })
            return results
          }))
        assert.isAbove(crashes, 50)
      }),
    120_000,
  )

  it.effect(
    "comes to the same table where records may repeat",
    () =>
      Effect.gen(function* () {
        const crashes = yield* atEveryStep({ pipelines: byReference(Guarantee.atLeastOnce()) }, (driver) =>
          Effect.map(references(driver), ({ pairs }) => {
            assert.deepStrictEqual(pairs, referenced)
            return pairs
          }))
        assert.isAbove(crashes, 50)
      }),
    120_000,
  )

  const exactly = byReference(Guarantee.exactlyOnce())
  it.effect("does not wait for a table that is idle, whichever it is", () =>
    Driver.run({ pipelines: exactly }, (driver) =>
      Effect.gen(function* () {
        const pairs = Effect.map(driver.latest(Pairs), (rows) =>
          [...rows].map(([id, { name }]) => `${id} ${name}`).sort())
        yield* orders(driver, ["o1", "ann", 100])
        yield* driver.advance("10 seconds")
        assert.deepStrictEqual(yield* pairs, ["o1 null"])
        yield* users(driver, ["ann", "Ann", 1], ["ben", "Ben", 900])
        yield* driver.advance("10 seconds")
        assert.deepStrictEqual(yield* pairs, ["o1 Ann"])
        yield* orders(driver, ["o2", "ben", 101])
        yield* driver.advance("10 seconds")
        assert.deepStrictEqual(yield* pairs, ["o1 Ann", "o2 Ben"])
        yield* tombstones(driver, Users, 901, "ben")
        yield* driver.advance("10 seconds")
        assert.deepStrictEqual(yield* pairs, ["o1 Ann", "o2 null"])
      })))
})

const Joined = Topic.make({ ...common, name: "joined", schema: Pair, key: ["id", ({ id }) => id] })

/** Orders by the key of their user, so that both are in one place. */
const ByUser = Topic.make({
  ...common,
  name: "orders-by-user",
  schema: Order,
  key: ["user", (o) => o.user],
  eventTime: time,
})

const byTime = (reading: Ingest.Options) =>
  Pipeline.make(
    "by-time",
    Ingest.topic(ByUser, reading).pipe(
      Decode.schema,
      Join.asOf(Table.topic(Users, reading), {
        name: "users",
        history: 100,
        grace: 20,
        value: Order,
        kind: "left",
        join: pair,
      }),
      Deliver.to(Joined),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    Guarantee.exactlyOnce(),
  )

describe("an as-of join", () => {
  it.effect(
    "is as without a crash when its program dies at any request, with records that wait",
    () =>
      Effect.gen(function* () {
        const feed = (driver: Driver.Driver, ...fed: ReadonlyArray<Fed>) =>
          driver.feed(ByUser, fed.map(([id, user, at]) => ({ id, user, at })))
        const crashes = yield* atEveryStep({ pipelines: byTime({}) }, (driver) =>
          Effect.gen(function* () {
            yield* users(driver, ["ann", "Ann", 1], ["ben", "Ben", 1])
            yield* feed(driver, ["o1", "ann", 5], ["o2", "ben", 6], ["o3", "cho", 7], ["o4", "ann", 12])
            yield* driver.settle
            // Out of order by no more than their grace: they are seen all the same.
            yield* users(driver, ["ann", "Anna", 10], ["cho", "Cho", 4], ["ben", "Benno", 7])
            yield* feed(driver, ["o5", "ann", 9], ["o6", "ben", 14])
            yield* driver.settle
            yield* tombstones(driver, Users, 15, "ann")
            yield* feed(driver, ["o7", "ann", 16])
            yield* driver.settle
            // Both partitions of both topics go on to a time that lets all go.
            const ends = ["ann", "ben", "cho", "dee", "eva", "fay"]
            yield* users(driver, ...ends.map((key) => [key, "end", 60] as const))
            yield* feed(driver, ...ends.map((key) => [`end-${key}`, key, 60] as const))
            yield* driver.settle
            const joined = (yield* driver.values(Joined)).map((value) => `${value!.id} ${value!.name}`)
            assert.deepStrictEqual(joined.filter((value) => !value.startsWith("end")).sort(), [
              "o1 Ann",
              "o2 Ben",
              "o3 Cho",
              "o4 Anna",
              "o5 Ann",
              "o6 Benno",
              "o7 null",
            ])
            return Object.groupBy(yield* driver.readBytes(Joined), ({ partition }) => partition)
          }).pipe(Effect.map((read) => Object.values(read).map((some) => some!.map(({ value }) => String(value))))))
        assert.isAbove(crashes, 50)
      }),
    120_000,
  )

  it.effect("lets records go by the wall clock when both inputs have stopped", () =>
    Effect.gen(function* () {
      const joined = yield* Driver.run({ pipelines: byTime({ wallClockAfter: "10 seconds" }) }, (driver) =>
        Effect.gen(function* () {
          yield* users(driver, ["ann", "Ann", 1])
          yield* driver.feed(ByUser, [{ id: "o1", user: "ann", at: 5 }])
          yield* driver.settle
          const before = yield* driver.values(Joined)
          yield* driver.advance("30 seconds")
          return [before, yield* driver.values(Joined)]
        }))
      assert.deepStrictEqual(joined, [[], [{ id: "o1", name: "Ann" }]])
    }))
})

describe("joins in a row", () => {
  const Names = Topic.make({ ...common, name: "names", schema: Pair, key: ["id", ({ id }) => id], eventTime: () => 0 })
  const Between = Topic.make({
    ...common,
    name: "between",
    schema: Pair,
    key: ["id", ({ id }) => id],
    cleanup: "compact",
    eventTime: () => 0,
  })

  const chained = Pipeline.make(
    "chained",
    Table.topic(Orders).pipe(
      Join.tables(Table.topic(Users), { name: "first", row: Pair, join: pair }),
      Failures.routeAll(DeadLetter.to(Dlt)),
      Table.through(Between, { undeliverable: DeadLetter.to(Dlt) }),
      Join.tables(Table.topic(Names), {
        name: "second",
        kind: "left",
        row: Pair,
        join: ({ id, name }, other) => ({ id, name: `${name} ${other?.name}` }),
      }),
      Deliver.table(Pairs),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    Guarantee.exactlyOnce(),
  )

  it.effect("go through a topic between them, with deletions and the times of changes", () =>
    Effect.gen(function* () {
      const read = yield* Driver.run({ pipelines: chained }, (driver) =>
        Effect.gen(function* () {
          yield* orders(driver, ["a", null, 10], ["b", null, 10], ["c", null, 10])
          yield* users(driver, ["a", "A", 50], ["b", "B", 50])
          yield* driver.feed(Names, [{ id: "a", name: "Ash" }])
          yield* driver.settle
          yield* tombstones(driver, Users, 60, "a", "b")
          yield* driver.settle
          const without = yield* driver.latest(Pairs)
          yield* users(driver, ["a", "AA", 70])
          yield* driver.settle
          const times = (yield* driver.readBytes(Between)).filter(({ key }) => String(key) === "a")
            .map(({ value, headers }) => [
              value !== null,
              ...headers.filter(([name]) => name === "millrace-time").map(([, time]) => String(Buffer.from(time))),
            ])
          return [without.size, [...(yield* driver.latest(Pairs)).values()], times]
        }))
      // The rows themselves say time 0: what is deleted at 60 and comes again at 70 is there all the same.
      assert.deepStrictEqual(read, [0, [{ id: "a", name: "AA Ash" }], [[true, "50"], [false, "60"], [true, "70"]]])
    }))

  it("are refused without", () => {
    const joined = Table.topic(Orders).pipe(Join.tables(Table.topic(Users), { name: "first", row: Pair, join: pair }))
    assert.throws(
      () => joined.pipe(Join.tables(Table.topic(Names), { name: "second", row: Pair, join: (pair) => pair })),
      /store first-left before it changes with whole batches: .*Table\.through/,
    )
    const referring = { name: "order-users", via, foreignKey: () => "a", join: pair, failed: DeadLetter.to(Dlt) }
    const after = Table.topic(Names).pipe(
      Join.tables(Table.topic(Orders), { name: "first", row: Order, join: (_, order) => order }),
      Join.foreignKey(Table.topic(Users), referring),
    )
    assert.throws(
      () => after.pipe(Join.tables(Table.topic(Between), { name: "second", row: Pair, join: (p) => p })),
      /store order-users-newest before it changes with whole batches: .*Table\.through/,
    )
  })
})
