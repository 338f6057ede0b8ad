import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Result, Schema } from "effect"
import {
  Aggregate,
  Check,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Fold,
  GlobalTable,
  Guarantee,
  Ingest,
  Pipeline,
  repartition,
  Topic,
  Window,
} from "../../src/index.ts"
import { atEveryStep, Differs, Driver, Faults } from "../../src/testing/index.ts"

const common = { description: "Test", owner: "tests" }

const Order = Schema.Struct({ id: Schema.Int, customer: Schema.String, euros: Schema.Int, at: Schema.Int })
type Order = typeof Order.Type
const order = (name: string, key: (order: Order) => string) =>
  Topic.make({ ...common, name, schema: Order, key: ["key", key], eventTime: ({ at }: Order) => at, partitions: 3 })
const Orders = order("orders", ({ id }) => String(id))
const ByCustomer = order("by-customer", ({ customer }) => customer)
const Minutes = Topic.make({
  ...common,
  name: "minutes",
  schema: Schema.Struct({ customer: Schema.String, minute: Schema.Int, euros: Schema.Int }),
  key: ["customer and minute", ({ customer, minute }) => `${customer}@${minute}`],
  partitions: 2,
})
const Totals = Topic.make({
  ...common,
  name: "totals",
  schema: Schema.Struct({ customer: Schema.String, euros: Schema.Int }),
  key: ["customer", ({ customer }) => customer],
  partitions: 2,
  cleanup: "compact",
})
const Dlt = Topic.bytes({ ...common, name: "dlt", partitions: 1 })

class Free extends Schema.TaggedError<Free>()("Free", { message: Schema.String }) {}

const sum = Fold.make({ state: Schema.Int, initial: () => 0, add: (sum, { euros }: { euros: number }) => sum + euros })

const minutes = Pipeline.make(
  "minutes",
  Ingest.topic(Orders).pipe(
    Decode.schema,
    Check.with((order) => order.euros > 0 ? Result.succeed(order) : Result.fail(new Free({ message: "free" }))),
    Flow.filter(({ customer }) => customer !== "test", "test order"),
    Failures.routeAll(DeadLetter.to(Dlt)),
    repartition(ByCustomer, { undeliverable: DeadLetter.to(Dlt) }),
    Aggregate.windowed({ name: "sums", window: Window.tumbling({ size: "1 minute" }), fold: sum, emit: "final" }),
    Flow.map(({ key, start, value }) => ({ customer: key, minute: start, euros: value })),
    Deliver.to(Minutes),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Guarantee.exactlyOnce(),
)

const totals = Pipeline.make(
  "totals",
  Ingest.topic(Minutes).pipe(
    Decode.schema,
    Flow.map(({ customer, euros }) => ({ customer, euros })),
    Failures.routeAll(DeadLetter.to(Dlt)),
    repartition(
      Topic.make({
        ...common,
        name: "minutes-by-customer",
        schema: Totals.schema,
        key: ["customer", ({ customer }) => customer],
        partitions: 2,
      }),
      { undeliverable: DeadLetter.to(Dlt) },
    ),
    Aggregate.running({ name: "totals", fold: sum }),
    Flow.map(({ key, value }) => ({ customer: key, euros: value })),
    Deliver.latest(Totals, (total) => total),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Guarantee.exactlyOnce(),
)

const at = (customer: string, euros: number, seconds: number): Order => (
  { id: seconds, customer, euros, at: 1_000_000_020_000 + seconds * 1_000 }
)
const orders = [
  at("ann", 5, 0),
  at("ben", 7, 10),
  at("ann", 6, 20),
  at("ann", 0, 30),
  at("test", 9, 40),
  at("ben", 1, 70),
  at("ann", 2, 80),
]
/** Of every partition, so that every one's clock passes the minutes before. */
const later = Array.from({ length: 30 }, (_, i) => ({ ...at(`later-${i}`, 1, 1_000), id: 1_000 + i }))

const euros = (records: ReadonlyArray<{ readonly value: typeof Minutes.schema.Type | null }>) =>
  records.map(({ value }) => `${value!.customer} ${value!.euros}`).sort()

const chain = { pipelines: [minutes, totals] }

const now = Date.parse("2026-01-01T00:00:00Z")

describe("Driver", () => {
  it.effect("runs a pipeline over what it is fed, and reads what came of it", () =>
    Driver.run({ pipelines: minutes }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Orders, orders)
        yield* driver.settle
        assert.deepStrictEqual(yield* driver.take(Minutes), [])
        yield* driver.feed(Orders, later)
        yield* driver.settle
        assert.deepStrictEqual(euros(yield* driver.take(Minutes)), ["ann 11", "ann 2", "ben 1", "ben 7"])
        assert.deepStrictEqual(yield* driver.take(Minutes), [])
        assert.strictEqual((yield* driver.read(Minutes)).length, 4)
        assert.strictEqual((yield* driver.latest(Minutes)).size, 4)
        assert.strictEqual((yield* driver.store(minutes, "sums")).size, 30)
        const counts = yield* driver.counts(minutes)
        assert.deepStrictEqual(counts.failed, { Free: 1 })
        assert.deepStrictEqual(counts.dropped, { "test order": 1 })
        assert.deepStrictEqual(counts.read, { orders: 37, "by-customer": 35 })
        assert.strictEqual(counts.folded["sums"], 35)
      })))

  it.effect("feeds what a contract would not: other keys and times, damaged values, tombstones", () =>
    Driver.run({ pipelines: minutes, topics: [Totals] }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Orders, [
          Driver.record({ value: orders[0]!, key: "other", partition: 2, timestamp: now - 7 }),
        ])
        yield* driver.feedBytes(Orders, [{ key: "k", value: "{" }, { key: "k", value: null }])
        yield* driver.settle
        const [first, ...others] = yield* driver.readBytes(Orders).pipe(
          Effect.map((records) => records.toSorted((a, b) => a.timestamp - b.timestamp)),
        )
        assert.deepInclude(first, { partition: 2, timestamp: now - 7, key: Buffer.from("other") })
        assert.strictEqual(others[0]!.timestamp, now)
        assert.strictEqual((yield* driver.readBytes(Dlt)).length, 2)
        yield* driver.feed(Totals, [{ customer: "ann", euros: 1 }, { customer: "ben", euros: 2 }])
        yield* driver.feedBytes(Totals, [{ key: "ann", value: null }])
        assert.deepStrictEqual([...(yield* driver.latest(Totals))], [["ben", { customer: "ben", euros: 2 }]])
      })))

  it.effect("runs pipelines that read what others write", () =>
    Driver.run(chain, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Orders, [...orders, ...later])
        yield* driver.settle
        assert.deepStrictEqual((yield* driver.latest(Totals)).get("ann"), { customer: "ann", euros: 13 })
      })))

  it.effect(
    "comes to the same with a crash at every step, and says at which where it does not",
    () =>
      Effect.gen(function* () {
        const observed = (driver: Driver.Driver) =>
          Effect.gen(function* () {
            yield* driver.feed(Orders, [...orders, ...later])
            yield* driver.settle
            return [...(yield* driver.latest(Totals)).entries()].sort()
          })
        assert.isAtLeast(yield* atEveryStep(chain, observed), 40)
        const calls = (driver: Driver.Driver) =>
          Effect.gen(function* () {
            yield* driver.feed(Orders, orders)
            yield* driver.settle
            return (yield* driver.members).length === 1 && (yield* (yield* driver.members)[0]!.calls).length
          })
        const failure = yield* Effect.flip(atEveryStep({ pipelines: minutes }, calls))
        assert.instanceOf(failure, Differs)
        assert.include(failure.message, "the test has come to")
      }),
    60_000,
  )

  it.effect("shares partitions out among members that come, stop and crash", () =>
    Driver.run({ pipelines: minutes }, (driver) =>
      Effect.gen(function* () {
        const [first] = yield* driver.members
        yield* driver.feed(Orders, orders.slice(0, 3))
        const second = yield* driver.start(minutes)
        yield* driver.settle
        yield* first!.crash
        yield* driver.feed(Orders, orders.slice(3))
        yield* driver.settle
        yield* driver.start(minutes)
        yield* driver.advance("10 seconds")
        yield* second.stop
        yield* driver.feed(Orders, later)
        yield* driver.settle
        assert.deepStrictEqual(euros(yield* driver.read(Minutes)), ["ann 11", "ann 2", "ben 1", "ben 7"])
      })))

  it.effect("crashes and restarts everything", () =>
    Driver.run(chain, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Orders, orders)
        yield* driver.advance("150 millis")
        yield* driver.crash
        assert.deepStrictEqual(yield* driver.members, [])
        yield* driver.restart
        assert.strictEqual((yield* driver.members).length, 2)
        yield* driver.feed(Orders, later)
        yield* driver.settle
        assert.deepStrictEqual((yield* driver.latest(Totals)).get("ben"), { customer: "ben", euros: 8 })
      })))

  it.effect("is the same run for the same seed", () =>
    Effect.gen(function* () {
      const trace = Driver.run({ pipelines: minutes, seed: 7 }, (driver) =>
        Effect.gen(function* () {
          yield* driver.inject(Faults.random(3, { refuse: 0.1, loseAnswer: 0.1, delay: 0.2 }))
          yield* driver.feed(Orders, [...orders, ...later])
          yield* driver.advance("2 seconds")
          yield* driver.settle
          const [member] = yield* driver.members
          return { calls: yield* member!.calls, records: yield* driver.readBytes(Minutes) }
        }))
      assert.deepStrictEqual(yield* trace, yield* trace)
    }))

  it.effect("says what is wrong", () =>
    Driver.run({ pipelines: minutes, start: false }, (driver) =>
      Effect.gen(function* () {
        const refused = yield* Effect.flip(driver.feed(Orders, [orders[0]!, { ...orders[1]!, euros: 1.5 }]))
        assert.include(refused.message, "value 1 for topic orders at euros: ")
        yield* driver.feed(Orders, orders.slice(0, 1))
        const unsettled = yield* Effect.flip(driver.settle)
        assert.match(
          unsettled.message,
          /^after two minutes minutes stands at offset -1 of 1 in topic orders partition \d$/,
        )
        yield* driver.feedBytes(Minutes, [{ key: "k", value: '{"customer":1}', partition: 1 }])
        const undecodable = yield* Effect.flip(driver.read(Minutes))
        assert.include(undecodable.message, "topic minutes partition 1 offset 0 at customer: ")
        yield* driver.start(minutes, Faults.at("SyncGroup", 1, Faults.refuse("GROUP_AUTHORIZATION_FAILED")))
        const ended = yield* Effect.flip(driver.settle)
        assert.include(ended.message, "minutes has ended: ")
      })))

  it.effect("makes services over its cluster and clock, for pipelines and for the test, anew at every run", () =>
    Effect.gen(function* () {
      const Rates = Topic.make({
        ...common,
        name: "rates",
        schema: Schema.Struct({ customer: Schema.String, percent: Schema.Int }),
        key: ["customer", ({ customer }) => customer],
        partitions: 2,
        cleanup: "compact",
      })
      class RateTable
        extends Context.Service<RateTable, GlobalTable.GlobalTable<typeof Rates.schema.Type>>()("test/Rates") {}
      const discounted = Pipeline.make(
        "discounted",
        Ingest.topic(ByCustomer).pipe(
          Decode.schema,
          GlobalTable.join(RateTable, {
            key: ({ customer }) => customer,
            join: (order, rate) => ({ ...order, euros: order.euros * (100 - (rate?.percent ?? 0)) / 100 }),
          }),
          Flow.map(({ customer, euros }) => ({ customer, euros })),
          Deliver.to(Totals),
          Failures.routeAll(DeadLetter.to(Dlt)),
        ),
        Guarantee.exactlyOnce(),
      )
      const options = {
        pipelines: discounted,
        topics: [Rates],
        layer: Layer.effect(RateTable, GlobalTable.topic(Rates)),
      }
      const crashes = yield* atEveryStep(options, (driver) =>
        Effect.gen(function* () {
          const table = yield* RateTable
          assert.strictEqual(table.size, 0)
          yield* driver.feed(Rates, [{ customer: "ben", percent: 50 }])
          yield* driver.advance("1 second")
          assert.strictEqual(table.size, 1)
          yield* driver.feed(ByCustomer, [{ id: 1, customer: "ben", euros: 8, at: 0 }])
          yield* driver.settle
          const totals = yield* driver.latest(Totals)
          assert.deepStrictEqual([...totals.values()], [{ customer: "ben", euros: 4 }])
          return totals
        }))
      assert.isAbove(crashes, 10)
    }))

  it("runs under a plain runtime, and leaves nothing behind", async () => {
    const exit = await Effect.runPromiseExit(Driver.run(chain, (driver) => driver.settle))
    assert.isTrue(Exit.isSuccess(exit))
  })
})
