import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Result, Schema } from "effect"
import {
  DeadLetter,
  Decider,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  Topic,
} from "../../src/index.ts"
import { atEveryStep, type Dice, Driver, forSeeds } from "../../src/testing/index.ts"
import { committed, run, sources } from "../support/FlowRunner.ts"
import { laws } from "../support/Laws.ts"
import { decoded, type Reading } from "../support/StageCases.ts"

const common = { description: "Test", owner: "tests", partitions: 1 }

/** Bookings on accounts that must not go below zero. */
const Booking = Schema.Struct({ id: Schema.String, account: Schema.String, cents: Schema.Int })
type Booking = typeof Booking.Type
const Bookings = Topic.make({
  ...common,
  name: "bookings",
  schema: Booking,
  key: ["account", (b: Booking) => b.account],
})

class Overdrawn extends Schema.TaggedError<Overdrawn>()("Overdrawn", { message: Schema.String, missing: Schema.Int }) {}

const Booked = Schema.Struct({ cents: Schema.Int })

const accounts = Decider.make({
  name: "accounts",
  state: Schema.Int,
  event: Booked,
  rejection: Overdrawn,
  initial: 0,
  decide: (balance, { cents }: Booking) => {
    if (balance + cents < 0) return Result.fail(new Overdrawn({ message: "not enough", missing: -balance - cents }))
    if (Math.abs(cents) === 13) throw new Error("thirteen")
    // Large ones in two parts.
    return Result.succeed(cents > 1_000 ? [{ cents: 1_000 }, { cents: cents - 1_000 }] : cents === 0 ? [] : [{ cents }])
  },
  evolve: (balance, { cents }) => balance + cents,
  commandId: ({ id }) => id,
  aggregateId: ({ account }) => account,
  remember: "1 hour",
})

const deciding = Ingest.topic(Bookings).pipe(Decode.schema, Decider.stage(accounts))

const records = (bookings: ReadonlyArray<readonly [account: string | null, id: string, cents: number, at?: number]>) =>
  bookings.map(([account, id, cents, at = 0]) => ({
    key: account,
    value: JSON.stringify({ id, account: account ?? "none", cents }),
    timestamp: at,
  }))

/** What each command came to, in order. */
const decide = (
  bookings: Parameters<typeof records>[0],
  cuts: ReadonlyArray<number> = [],
  decider: typeof accounts = accounts,
) => {
  const flow = Ingest.topic(Bookings).pipe(Decode.schema, Decider.stage(decider))
  return Effect.map(
    run(flow, new Map([[Bookings, sources(Bookings, records(bookings), cuts)]])),
    ({ batches, stores }) => ({
      outcomes: batches.flatMap(({ source, values, rows, failed }) => [
        ...values.map(({ events, repeated }, i) =>
          [
            source.offsets[rows === undefined ? i : rows[i]!]!,
            `${events.map(({ version, event }) => `${version}:${event.cents}`).join(" ")}${repeated ? " again" : ""}`,
          ] as const
        ),
        ...failed.map(({ row, reason }) => [source.offsets[row]!, reason._tag] as const),
      ]).sort(([a], [b]) => a - b).map(([, outcome]) => outcome),
      stores,
    }),
  )
}

describe("Decider", () => {
  it.effect("decides each command by the events before, and numbers what comes of it", () =>
    Effect.gen(function* () {
      const { outcomes } = yield* decide([
        ["ann", "1", 500],
        ["ben", "1", -1],
        ["ann", "2", 1_500],
        ["ann", "3", 0],
        ["ann", "4", -2_000],
        ["ann", "5", -1],
      ], [2])
      assert.deepStrictEqual(outcomes, ["1:500", "Overdrawn", "2:1000 3:500", "", "4:-2000", "Overdrawn"])
    }))

  it.effect("answers a command that comes again with its first result, in its batch and later", () =>
    forSeeds(20, (dice) =>
      Effect.gen(function* () {
        const bookings = [
          ["ann", "1", 500],
          ["ann", "1", 500],
          ["ann", "2", -600],
          ["ann", "3", 1_000],
          // What is refused stays refused, although it could be done now.
          ["ann", "2", -600],
          ["ben", "1", 7],
          ["ann", "1", 999],
        ] as const
        const { outcomes, stores } = yield* decide(bookings, dice.list(0, 4, () => dice.int(1, 6)))
        assert.deepStrictEqual(outcomes, [
          "1:500",
          "1:500 again",
          "Overdrawn",
          "2:1000",
          "Overdrawn",
          "1:7",
          "1:500 again",
        ])
        assert.deepStrictEqual(stores.get("accounts")!.get("ann"), { version: 2, state: 1_500 })
      })))

  it.effect("forgets results after their time, and beyond their number", () =>
    Effect.gen(function* () {
      const hour = 3_600_000
      const { outcomes, stores } = yield* decide([
        ["ann", "1", 5, 0],
        ["ann", "1", 5, hour - 1],
        ["ann", "1", 5, hour],
        ["ann", "1", 5, hour + 1],
      ])
      assert.deepStrictEqual(outcomes, ["1:5", "1:5 again", "2:5", "2:5 again"])
      assert.strictEqual(stores.get("accounts-results")!.size, 1)
      const few = { ...accounts, atMost: 2 }
      const some = yield* decide([["a", "1", 1], ["a", "2", 1], ["a", "3", 1], ["a", "2", 1], ["a", "1", 1]], [], few)
      assert.strictEqual(some.stores.get("accounts-results")!.size, 2)
      assert.deepStrictEqual(some.outcomes, ["1:1", "2:1", "3:1", "2:1 again", "4:1"])
    }))

  it.effect("does not take what is read again for its own repeat", () =>
    Effect.gen(function* () {
      const all = records([["ann", "1", 500], ["ann", "2", -600]])
      const { batches } = yield* run(deciding, new Map([[Bookings, sources(Bookings, all, [])]]))
      const ahead = { ...committed(batches), positions: new Map() }
      const again = yield* run(deciding, new Map([[Bookings, sources(Bookings, all, [])]]), ahead)
      assert.deepStrictEqual(again.batches[0]!.values.map(({ repeated, events }) => [repeated, events.length]), [[
        false,
        1,
      ]])
      assert.deepStrictEqual(again.batches[0]!.failed.map(({ reason }) => reason._tag), ["Overdrawn"])
      assert.deepStrictEqual(
        again.stores,
        new Map(Array.from(again.stores, ([name]) => [
          name,
          new Map(
            [...committed(batches).stores.get(name)!.entries.keys()].map((
              key,
            ) => [key, again.stores.get(name)!.get(key)]),
          ),
        ])),
      )
      assert.deepStrictEqual(again.stores.get("accounts")!.get("ann"), { version: 1, state: 500 })
    }))

  it.effect("fails a command without a key, or under another's", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* decide([[null, "1", 1]])).outcomes, ["Keyless"])
      const [record] = records([["ann", "1", 1]])
      const { batches } = yield* run(
        deciding,
        new Map([[Bookings, sources(Bookings, [{ ...record!, key: "ben" }], [])]]),
      )
      assert.deepStrictEqual(batches[0]!.failed.map(({ reason }) => reason._tag), ["WrongKey"])
    }))

  it.effect("names the record at which it throws", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(decide([["ann", "1", 5], ["ann", "2", 13]]))
      assert.isTrue(Exit.isFailure(exit))
      assert.include(String(exit), "topic bookings partition 0 offset 1: Error: thirteen")
    }))
})

/** Readings as commands that are often repeated, refused, or change nothing. */
const Odd = Schema.TaggedStruct("Odd", { message: Schema.String })
const readings = Decider.make({
  name: "readings",
  state: Schema.Int,
  event: Schema.Int,
  rejection: Odd,
  initial: 0,
  decide: (sum, { n }: Reading) =>
    (sum + n) % 5 === 0
      ? Result.fail({ _tag: "Odd" as const, message: "refused" })
      : Result.succeed(Array.from({ length: n % 3 }, (_, i) => n + i)),
  evolve: (sum, n) => sum + n,
  commandId: ({ id }) => id,
  atMost: 10,
})

laws([
  { name: "decider", flow: decoded.pipe(Decider.stage(readings)) },
  {
    name: "decider, its events",
    flow: decoded.pipe(Decider.stage(readings), Flow.flatMap(Decider.published)),
    fansOut: true,
  },
  {
    name: "decider of many commands in a record",
    flow: decoded.pipe(Flow.flatMap((reading) => [reading, { ...reading, n: reading.n + 1 }]), Decider.stage(readings)),
    fansOut: true,
  },
])

const Events = Topic.make({
  ...common,
  name: "events",
  schema: Schema.Struct({ account: Schema.String, version: Schema.Int, cents: Schema.Int }),
  key: ["account", ({ account }) => account],
  partitions: 3,
})
const Rejected = Topic.bytes({ ...common, name: "rejected" })
const Commands = Topic.make({
  ...common,
  name: "commands",
  schema: Booking,
  key: ["account", ({ account }) => account],
  partitions: 3,
})

const booking = <R>(guarantee: Pipeline.Guarantee<unknown, R>) =>
  Pipeline.make(
    "booking",
    Ingest.topic(Commands).pipe(
      Decode.schema,
      Decider.stage(accounts),
      Flow.flatMap(Decider.published),
      Flow.map(({ key, version, event }) => ({ account: key, version, cents: event.cents })),
      Deliver.to(Events),
      Failures.route({
        DecodeError: DeadLetter.to(Rejected),
        Overdrawn: DeadLetter.to(Rejected),
        Keyless: DeadLetter.to(Rejected),
        WrongKey: DeadLetter.to(Rejected),
        Undeliverable: DeadLetter.to(Rejected),
      }),
    ),
    guarantee,
  )

const someBookings = (dice: Dice): ReadonlyArray<Booking> =>
  dice.list(5, 30, () => ({
    id: String(dice.int(1, 15)),
    account: dice.pick(["ann", "ben", "cho"]),
    cents: dice.pick([-700, -100, 0, 50, 400, 1_700]),
  }))

/** The events of each account, decided one command after the other. */
const expected = (bookings: ReadonlyArray<Booking>) => {
  const events = new Map<string, Array<number>>()
  const seen = new Set<string>()
  for (const booking of bookings) {
    const id = `${booking.account} ${booking.id}`
    if (seen.has(id)) continue
    seen.add(id)
    const before = events.get(booking.account) ?? []
    const balance = before.reduce((sum, cents) => sum + cents, 0)
    if (balance + booking.cents < 0 || booking.cents === 0) continue
    events.set(booking.account, [
      ...before,
      ...booking.cents > 1_000 ? [1_000, booking.cents - 1_000] : [booking.cents],
    ])
  }
  return events
}

const published = (driver: Driver.Driver) =>
  Effect.map(driver.values(Events), (values) => Map.groupBy(values.map((value) => value!), ({ account }) => account))

describe("a pipeline that decides", () => {
  it.effect(
    "publishes every event once, whatever crashes; the state is what the events lead to",
    () =>
      forSeeds(3, (dice) =>
        Effect.gen(function* () {
          const bookings = someBookings(dice)
          yield* atEveryStep({ pipelines: booking(Guarantee.exactlyOnce()) }, (driver) =>
            Effect.gen(function* () {
              yield* driver.feed(Commands, bookings)
              yield* driver.settle
              const events = yield* published(driver)
              assert.deepStrictEqual(
                new Map(Array.from(events, ([account, all]) => [account, all.map(({ cents }) => cents)])),
                expected(bookings),
              )
              const states = yield* driver.store(booking(Guarantee.exactlyOnce()), "accounts")
              for (const [account, all] of events) {
                assert.deepStrictEqual(all.map(({ version }) => version), all.map((_, i) => i + 1))
                assert.deepStrictEqual(states.get(account), { version: all.length, state: Decider.fold(accounts, all) })
              }
              return events
            }))
        })),
    60_000,
  )

  it.effect("misses no event under at-least-once", () =>
    Effect.gen(function* () {
      const bookings = [["1", 500], ["2", 1_700], ["3", -400], ["4", 50]].map(([id, cents]) => (
        { id: String(id), account: "ann", cents: Number(cents) }
      ))
      yield* atEveryStep({ pipelines: booking(Guarantee.atLeastOnce()) }, (driver) =>
        Effect.gen(function* () {
          yield* driver.feed(Commands, bookings)
          yield* driver.settle
          const events = (yield* published(driver)).get("ann")!
          return [...new Map(events.map(({ version, cents }) => [version, cents]))].sort()
        }))
    }), 60_000)
})
