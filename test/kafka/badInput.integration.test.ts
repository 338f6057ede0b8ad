/** The same on Apache Kafka: a byte of its log is changed on disk, and partitions are added while programs run. */
import { assert, it } from "@effect/vitest"
import { Admin as Tool } from "@platformatic/kafka"
import { Effect, Fiber, Layer, Schema, Stream } from "effect"
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
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
  Topic,
} from "../../src/index.ts"
import * as Contents from "../../src/kafka/Contents.ts"
import * as Broker from "../support/Broker.ts"
import { eventually, leaders } from "./contract/Harness.ts"

const Reading = Schema.Struct({ id: Schema.Int })

const setup = () => {
  const run = randomUUID().slice(0, 8)
  const common = { description: "Test", owner: "tests", partitions: 2 }
  const In = Topic.make({ ...common, name: `in-${run}`, schema: Reading })
  const Out = Topic.make({ ...common, name: `out-${run}`, schema: Reading })
  const Dlt = Topic.bytes({ ...common, name: `dlt-${run}` })
  const Counts = Topic.make({
    ...common,
    name: `counts-${run}`,
    schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
  })
  const copying = Pipeline.make(
    `copy-${run}`,
    Ingest.topic(In).pipe(Decode.schema, Deliver.to(Out), Failures.routeAll(DeadLetter.to(Dlt))),
    Guarantee.exactlyOnce(),
  )
  const counting = Pipeline.make(
    `count-${run}`,
    Ingest.topic(In).pipe(
      Decode.schema,
      Aggregate.running({ name: "counts", fold: Fold.count }),
      Deliver.to(Counts),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    Guarantee.exactlyOnce(),
  )
  const send = (partition: number, id: number) =>
    Producer.Producer.use(({ send }) =>
      send([{
        topic: In.name,
        partition,
        key: Buffer.from(`key ${partition}`),
        value: Buffer.from(JSON.stringify({ id })),
      }])
    )
  const ids = Effect.map(
    Stream.runCollect(Contents.read(Out)),
    (all) => [...all].map(({ value }) => value!.id).toSorted((a, b) => a - b),
  )
  return { In, topics: [In, Out, Dlt, Counts], copying, counting, send, ids }
}

const options: Partial<Runner.Options> = {
  sessionTimeout: "6 seconds",
  heartbeatInterval: "500 millis",
  shutdownTimeout: "10 seconds",
  metadataInterval: "1 second",
}

/** What a program fails with. */
const failure = <E>(fiber: Fiber.Fiber<void, E>) => Effect.map(Effect.flip(Fiber.join(fiber)), (error) => String(error))

Broker.describeWithOwnBroker("a log that is damaged on disk", () => {
  it.live("stops its task in front of the damage, and no other", () =>
    Effect.gen(function* () {
      const broker = yield* Broker.own()
      const { In, topics, copying, send, ids } = setup()
      const client = KafkaClient.layer({ brokers: broker.brokers })
      yield* Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        for (const id of [0, 1, 2]) yield* send(0, id)
        yield* send(1, 10)
      }).pipe(Effect.provide(Layer.provideMerge(Producer.layer(), client)))
      yield* broker.stop
      const log = join(broker.dir, "data-1", `${In.name}-0`, "00000000000000000000.log")
      yield* Effect.promise(async () => {
        const bytes = await readFile(log)
        const at = bytes.indexOf('{"id":1}')
        assert.isAbove(at, 0)
        bytes[at + 6] = "7".charCodeAt(0)
        await writeFile(log, bytes)
      })
      yield* broker.start
      yield* Effect.gen(function* () {
        const running = yield* Effect.forkChild(Runner.run(copying, options))
        yield* eventually("what is whole", ids, (ids) => ids.length === 2)
        yield* Effect.sleep("4 seconds")
        assert.deepStrictEqual(yield* ids, [0, 10])
        yield* send(1, 11)
        yield* eventually("the other partition", ids, (ids) => ids.includes(11))
        yield* Effect.forkChild(Fiber.interrupt(running))
        const message = yield* failure(running)
        assert.include(
          message,
          `task 0-0 stopped: Fetch: topic ${In.name} partition 0: from offset 1 on, the batch at offset 1`,
        )
        assert.include(message, "its checksum is not that of its bytes, and was read 20 times")
      }).pipe(Effect.provide(Layer.provideMerge(Producer.layer(), client)))
    }).pipe(Effect.scoped), 240_000)
})

Broker.describeWithBroker("partitions that are added on a broker", () => {
  const withBroker = <E, R>(body: Effect.Effect<void, E, R>) =>
    Effect.flatMap(
      Broker.shared,
      (brokers) => Effect.provide(body, Layer.provideMerge(Producer.layer(), KafkaClient.layer({ brokers }))),
    )

  const grow = (topic: string, count: number) =>
    Effect.flatMap(Broker.shared, (bootstrapBrokers) =>
      Effect.promise(async () => {
        const tool = new Tool({ clientId: "test", bootstrapBrokers: [...bootstrapBrokers] })
        await tool.createPartitions({ topics: [{ name: topic, count }] })
        await tool.close()
      })).pipe(Effect.andThen(leaders(topic, count)))

  it.live("are read where there is no state, and stop the tasks with state", () =>
    withBroker(
      Effect.gen(function* () {
        const { In, topics, copying, counting, send, ids } = setup()
        yield* Admin.createTopics(topics)
        const copies = yield* Effect.forkChild(Runner.run(copying, { ...options, reset: "latest" }))
        const counts = yield* Effect.forkChild(Runner.run(counting, options))
        yield* eventually("a start", Effect.andThen(send(0, 0), ids), (ids) => ids.length > 0)
        yield* grow(In.name, 3)
        // A producer that has not heard of the partition yet would not know who leads it.
        yield* Effect.provide(send(2, 2), Layer.fresh(Producer.layer()))
        yield* eventually("the new partition", ids, (ids) => ids.includes(2))
        const message = yield* failure(counts)
        assert.include(
          message,
          `topic ${In.name} has 3 partitions, and had 2: keys are in other partitions than the state`,
        )
        yield* Fiber.interrupt(copies)
      }).pipe(Effect.scoped),
    ), 240_000)
})
