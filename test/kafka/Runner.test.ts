import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import {
  Admin,
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  Producer,
  Runner,
  Topic,
  Window,
} from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"

const Reading = Schema.Struct({ id: Schema.Int, at: Schema.Int })
const Readings = Topic.make({
  name: "readings",
  description: "",
  owner: "",
  schema: Reading,
  eventTime: (reading: typeof Reading.Type) => reading.at,
  partitions: 3,
})
const Copies = Topic.make({ name: "copies", description: "", owner: "", schema: Reading, partitions: 3 })
const Counts = Topic.make({
  name: "counts",
  description: "",
  owner: "",
  schema: Schema.Struct({ key: Schema.String, start: Schema.Int, value: Schema.Int, final: Schema.Boolean }),
  key: ["key and minute", (count) => `${count.key}@${count.start}`],
  partitions: 2,
  cleanup: "compact",
})
const Dlt = Topic.bytes({ name: "dlt", description: "", owner: "", partitions: 2 })

const pipeline = Pipeline.make(
  "counting",
  Ingest.topic(Readings).pipe(
    Decode.schema,
    Deliver.to(Copies),
    Aggregate.count({ name: "minutes", window: Window.tumbling({ size: "1 minute", grace: "1 minute" }) }),
    Flow.map(({ key, start, value, final }) => ({ key, start, value, final })),
    Deliver.to(Counts),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Guarantee.exactlyOnce(),
)

const layer = Layer.provideMerge(Producer.layer(), ClusterMemory.layer())

/** Lets the test clock run until `done` holds. */
const until = <E, R>(done: Effect.Effect<boolean, E, R>, limit = 60_000) =>
  Effect.gen(function* () {
    for (let passed = 0; passed < limit; passed += 10) {
      if (yield* done) return
      yield* TestClock.adjust("10 millis")
    }
    assert.fail(`not so within ${limit} ms`)
  })

describe("Runner", () => {
  it.effect("takes records from topic to topic", () =>
    Effect.gen(function* () {
      const control = yield* ClusterMemory.Control
      yield* Admin.createTopics([Readings, Copies, Counts, Dlt])
      const producer = yield* Producer.Producer
      const sending = yield* Effect.forkChild(producer.send(
        Array.from({ length: 100 }, (_, i) => ({
          topic: "readings",
          key: Buffer.from(`k${i % 7}`),
          value: Buffer.from(i === 50 ? "{" : JSON.stringify({ id: i, at: i * 1000 })),
        })),
      ))
      yield* until(Effect.sync(() => sending.pollUnsafe() !== undefined))
      yield* Fiber.join(sending)
      const running = yield* Effect.forkChild(Runner.run(pipeline))
      yield* until(Effect.map(control.records("copies"), (records) => records.length === 99))
      const copies = yield* control.records("copies")
      assert.strictEqual(new Set(copies.map((record) => String(record.value))).size, 99)
      const dead = yield* control.records("dlt")
      assert.strictEqual(dead.length, 1)
      assert.deepStrictEqual(dead[0]!.headers.map(([name]) => name), [
        "kafka_dlt-original-topic",
        "kafka_dlt-original-partition",
        "kafka_dlt-original-offset",
        "kafka_dlt-original-timestamp",
        "millrace-reason",
        "millrace-message",
        "millrace-field",
        "millrace-program",
        "millrace-version",
        "millrace-failed-at",
      ])
      yield* Fiber.interrupt(running)
    }).pipe(Effect.provide(layer)), 30_000)
})
