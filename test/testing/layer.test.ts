/** Services that a test's pipelines need, made over the test's own cluster and clock. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import {
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  GlobalTable,
  Guarantee,
  Ingest,
  Pipeline,
  Topic,
} from "../../src/index.ts"
import { atEveryStep } from "../../src/testing/index.ts"

const common = { description: "Test", owner: "tests" }
const Order = Schema.Struct({ id: Schema.Int, customer: Schema.String, euros: Schema.Int, at: Schema.Int })
const ByCustomer = Topic.make({
  ...common,
  name: "by-customer",
  schema: Order,
  key: ["customer", ({ customer }) => customer],
  eventTime: ({ at }) => at,
  partitions: 3,
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

describe("the option layer", () => {
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
})
