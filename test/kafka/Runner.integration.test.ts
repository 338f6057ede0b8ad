/** Programs that share a topic on Apache Kafka: they come and go, and the broker does. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema } from "effect"
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import {
  Admin,
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Fold,
  Guarantee,
  Ingest,
  KafkaClient,
  Pipeline,
  Producer,
  Runner,
  type Task,
  Topic,
} from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import { readable } from "../../src/kafka/ReadCommitted.ts"
import * as Broker from "../support/Broker.ts"

const Reading = Schema.Struct({ id: Schema.Int, sensor: Schema.String })
const common = { description: "Test", owner: "tests", partitions: 6 }

/** Copies every reading and counts them per sensor, in topics of its own. */
const setup = (guarantee: Pipeline.Guarantee<unknown, Cluster>) => {
  const run = randomUUID().slice(0, 8)
  const readings = Topic.make({
    ...common,
    name: `readings-${run}`,
    schema: Reading,
    key: ["sensor", ({ sensor }) => sensor],
  })
  const copies = Topic.make({ ...common, name: `copies-${run}`, schema: Reading })
  const totals = Topic.make({
    ...common,
    name: `totals-${run}`,
    schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
    key: ["sensor", ({ key }) => key],
    cleanup: "compact",
  })
  const dlt = Topic.bytes({ ...common, name: `dlt-${run}` })
  const pipeline = Pipeline.make(
    `copy-${run}`,
    Ingest.topic(readings).pipe(
      Decode.schema,
      Deliver.to(copies),
      Aggregate.running({ name: "totals", fold: Fold.count }),
      Deliver.to(totals),
      Failures.routeAll(DeadLetter.to(dlt)),
    ),
    guarantee,
  )
  return { readings, copies, totals, pipeline, topics: [readings, copies, totals, dlt] }
}

const sensors = 40
const send = (topic: Topic.Topic<typeof Reading.Type>, from: number, to: number) =>
  Producer.publish(
    topic,
    Array.from({ length: to - from }, (_, i) => ({ id: from + i, sensor: `s${(from + i) % sensors}` })),
  )

/** Committed values of a topic, with what they were keyed by. */
const committed = Effect.fnUntraced(function* (topic: Topic.Any) {
  const cluster = yield* Cluster
  const { topics: [metadata] } = yield* cluster.metadata([topic.name])
  const found: Array<readonly [key: string, value: string]> = []
  for (const { partition, leader } of metadata!.partitions) {
    const where = { topic: topic.name, partition }
    const [end] = yield* cluster.listOffsets([where], "latest", "read_committed")
    for (let offset = 0; end!.error === null && offset < end!.offset;) {
      const partitions = [{ ...where, offset, maxBytes: 4_000_000 }]
      const [fetched] = yield* cluster.fetch({ node: leader, maxWait: 500, maxBytes: 4_000_000, partitions })
      if (fetched!.error !== null) break
      const { keys, bytes, next } = readable(fetched!, offset)
      for (let i = 0; i < keys.length; i++) found.push([String(Buffer.from(keys[i]!)), String(Buffer.from(bytes[i]!))])
      if (next === offset) break
      offset = next
    }
  }
  return found
}, Effect.orElseSucceed((): ReadonlyArray<readonly [key: string, value: string]> => []))

const idsIn = (records: ReadonlyArray<readonly [string, string]>) =>
  records.map(([, value]) => (JSON.parse(value) as { id: number }).id).toSorted((a, b) => a - b)

const until = <E, R>(what: string, done: Effect.Effect<boolean, E, R>, seconds = 40) =>
  Effect.gen(function* () {
    for (let left = seconds * 10; left > 0; left--) {
      if (yield* done) return
      yield* Effect.sleep("100 millis")
    }
    return yield* Effect.die(new Error(`not within ${seconds} s: ${what}`))
  })

const copied = (topic: Topic.Any, count: number) =>
  until(`${count} copies`, Effect.map(committed(topic), (records) => new Set(idsIn(records)).size >= count))

const options: Partial<Runner.Options> = { sessionTimeout: "6 seconds", heartbeatInterval: "500 millis" }

/** A program with connections of its own. */
const start = (
  brokers: ReadonlyArray<string>,
  pipeline: Pipeline.Pipeline<unknown, Cluster | Task.Task | Task.Logged>,
) => Effect.forkChild(Effect.provide(Runner.run(pipeline, options), Layer.fresh(KafkaClient.layer({ brokers }))))

const client = (brokers: ReadonlyArray<string>) =>
  Producer.layer({ deliveryTimeout: "60 seconds", maxBlock: "60 seconds" }).pipe(
    Layer.provideMerge(KafkaClient.layer({ brokers })),
  )

const everyIdOnce = (count: number) => Array.from({ length: count }, (_, i) => i)

Broker.describeWithBroker("Runner on Apache Kafka", () => {
  it.live(
    "shares partitions between programs that come and go, and counts every record once",
    () =>
      Effect.gen(function* () {
        const brokers = yield* Broker.shared
        const { readings, copies, totals, pipeline, topics } = setup(Guarantee.exactlyOnce())
        yield* Effect.gen(function* () {
          yield* Admin.createTopics(topics)
          yield* send(readings, 0, 1_000)
          const first = yield* start(brokers, pipeline)
          yield* copied(copies, 1_000)
          const second = yield* start(brokers, pipeline)
          const { describeGroups } = yield* Cluster
          const members = (count: number) =>
            until(
              `${count} members`,
              Effect.map(
                describeGroups([pipeline.name]),
                ([group]) => group!.state === "Stable" && group!.members.length === count,
              ),
            )
          yield* members(2)
          yield* send(readings, 1_000, 2_000)
          yield* copied(copies, 2_000)
          yield* Fiber.interrupt(first)
          yield* send(readings, 2_000, 3_000)
          yield* start(brokers, pipeline)
          yield* members(2)
          yield* Fiber.interrupt(second)
          yield* send(readings, 3_000, 4_000)
          yield* copied(copies, 4_000)
          assert.deepStrictEqual(idsIn(yield* committed(copies)), everyIdOnce(4_000))
          const last = new Map(yield* committed(totals))
          assert.deepStrictEqual(
            new Map([...last].map(([sensor, value]) => [sensor, (JSON.parse(value) as { value: number }).value])),
            new Map(Array.from({ length: sensors }, (_, i) => [`s${i}`, 100])),
          )
        }).pipe(Effect.provide(client(brokers)))
      }).pipe(Effect.scoped),
    120_000,
  )

  it.live("misses nothing at least once, over a restart", () =>
    Effect.gen(function* () {
      const brokers = yield* Broker.shared
      const { readings, copies, pipeline, topics } = setup(Guarantee.atLeastOnce())
      yield* Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        yield* send(readings, 0, 1_000)
        const first = yield* start(brokers, pipeline)
        yield* copied(copies, 1_000)
        yield* send(readings, 1_000, 2_000)
        yield* Fiber.interrupt(first)
        yield* start(brokers, pipeline)
        yield* copied(copies, 2_000)
        assert.deepStrictEqual([...new Set(idsIn(yield* committed(copies)))], everyIdOnce(2_000))
      }).pipe(Effect.provide(client(brokers)))
    }).pipe(Effect.scoped), 90_000)
})

Broker.describeWithOwnBroker("Runner while the broker is away", () => {
  it.live("goes on by itself when it is back, and counts every record once", () =>
    Effect.gen(function* () {
      const broker = yield* Broker.own()
      const { readings, copies, pipeline, topics } = setup(Guarantee.exactlyOnce())
      yield* Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        yield* send(readings, 0, 1_000)
        yield* start(broker.brokers, pipeline)
        yield* copied(copies, 500)
        yield* broker.stop
        const sending = yield* Effect.forkChild(send(readings, 1_000, 2_000))
        yield* broker.start
        yield* Fiber.join(sending)
        yield* copied(copies, 2_000)
        assert.deepStrictEqual(idsIn(yield* committed(copies)), everyIdOnce(2_000))
      }).pipe(Effect.provide(client(broker.brokers)))
    }).pipe(Effect.scoped), 120_000)
})
