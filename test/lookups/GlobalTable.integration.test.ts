/** On Apache Kafka: a topic that one pipeline writes is a table, and says what the stores behind it answer. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Schema } from "effect"
import { randomUUID } from "node:crypto"
import {
  Admin,
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Fold,
  GlobalTable,
  Guarantee,
  Ingest,
  KafkaClient,
  Pipeline,
  Producer,
  Queries,
  Runner,
  Topic,
} from "../../src/index.ts"
import { forKey } from "../../src/kafka/Partitioner.ts"
import * as Broker from "../support/Broker.ts"

const run = randomUUID().slice(0, 8)
const about = { description: "Test", owner: "tests", partitions: 4 }
const Reading = Schema.Struct({ id: Schema.Int, sensor: Schema.String })
const Readings = Topic.make({ ...about, name: `readings-${run}`, schema: Reading, key: ["sensor", (r) => r.sensor] })
const Totals = Topic.make({
  ...about,
  name: `totals-${run}`,
  schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
  key: ["sensor", ({ key }) => key],
  cleanup: "compact",
})
const Dlt = Topic.bytes({ ...about, name: `dlt-${run}` })
const counting = Pipeline.make(
  `count-${run}`,
  Ingest.topic(Readings).pipe(
    Decode.schema,
    Aggregate.running({ name: "totals", fold: Fold.count }),
    Deliver.latest(Totals, (total) => total),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Guarantee.exactlyOnce(),
)

const sensors = Array.from({ length: 20 }, (_, i) => `sensor ${i}`)

Broker.describeWithBroker("Tables and queries on Apache Kafka", () => {
  it.live(
    "agree with each other and with what was counted, in whichever process a partition is",
    () =>
      Effect.gen(function* () {
        yield* Admin.createTopics([Readings, Totals, Dlt])
        const send = (count: number) =>
          Producer.publish(
            Readings,
            Array.from({ length: count }, (_, id) => ({ id, sensor: sensors[id % sensors.length]! })),
          )
        yield* send(1_000)
        const table = yield* GlobalTable.topic(Totals)
        const program = (endpoint: string) =>
          Effect.gen(function* () {
            const context = yield* Layer.build(Layer.fresh(Queries.layer({ endpoint })))
            const fiber = yield* Effect.forkScoped(Effect.provideContext(Runner.run(counting), context))
            return { fiber, queries: Context.get(context, Queries.Queries) }
          })
        const one = yield* program("http://one")
        const two = yield* program("http://two")
        const ask = (queries: Queries.Queries["Service"], key: string) =>
          Effect.match(queries.get({ store: "totals", key }), {
            onFailure: ({ reason, owner }) => reason === "Elsewhere" ? `ask ${owner}` : reason,
            onSuccess: (entry) => entry?.value,
          })
        const settled = (expected: number) =>
          Effect.gen(function* () {
            for (let left = 300;; left--) {
              const answers = yield* Effect.forEach(
                sensors,
                (key) => Effect.all([ask(one.queries, key), ask(two.queries, key)]),
              )
              const isRight = answers.every(([a, b]) =>
                a === expected && b === "ask http://one" || b === expected && a === "ask http://two"
              )
              const isTold = sensors.every((key) => table.get(key)?.value === expected)
              if (isRight && isTold) return answers
              if (left === 0) return assert.fail(JSON.stringify(answers))
              yield* Effect.sleep("100 millis")
            }
          })
        yield* settled(50)
        yield* send(200)
        const answers = yield* settled(60)
        const places = new Set(answers.map(([a], i) => `${a === 60} ${forKey(Buffer.from(sensors[i]!), 4)}`))
        assert.strictEqual(places.size, 4)
        const again = yield* GlobalTable.topic(Totals)
        assert.deepStrictEqual(new Map(again.entries()), new Map(table.entries()))
        yield* Effect.all([Fiber.interrupt(one.fiber), Fiber.interrupt(two.fiber)], { concurrency: 2 })
      }).pipe(
        Effect.scoped,
        Effect.provide(
          Producer.layer().pipe(
            Layer.provideMerge(Layer.unwrap(Effect.map(Broker.shared, (brokers) => KafkaClient.layer({ brokers })))),
          ),
        ),
      ),
    120_000,
  )
})
