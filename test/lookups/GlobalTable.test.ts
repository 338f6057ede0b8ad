/** Global tables over the cluster in memory: what they hold, when they are ready, and what becomes of bad records. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Logger, Metric, Schema, Scope } from "effect"
import { Buffer } from "node:buffer"
import {
  Admin,
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
import { Cluster, KafkaError } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { run, sources } from "../support/FlowRunner.ts"
import { append as appendReadings, copied, Copies, Dlt, running } from "../support/Readings.ts"
import { readings } from "../support/Readings.ts"
import { pass, until } from "../support/Simulation.ts"
import { decoded, type Reading, Readings } from "../support/StageCases.ts"

const Devices = Topic.make({
  name: "devices",
  description: "Test",
  owner: "tests",
  schema: Schema.Struct({ name: Schema.String }),
  key: ["device", () => null],
  cleanup: "compact",
  partitions: 3,
})

/** Writes values, deletions (`null`) and text that is no value (in an array). */
const put = (partition: number, entries: Record<string, string | null | readonly [string]>) =>
  Effect.flatMap(ClusterMemory.Control, (control) => {
    const of = Object.entries(entries)
    return control.append({ topic: "devices", partition }, {
      keys: of.map(([key]) => key === "" ? null : Buffer.from(key)),
      values: of.map(([, value]) =>
        value === null ? null : Buffer.from(typeof value === "string" ? JSON.stringify({ name: value }) : value[0])
      ),
      headers: of.map(() => []),
      timestamps: of.map(() => 0),
    })
  })

const content = (table: GlobalTable.GlobalTable<{ readonly name: string }>) =>
  Object.fromEntries(Array.from(table.entries(), ([key, { name }]) => [key, name] as const).sort())

/** A transaction with one record, left open. */
const open = Effect.fnUntraced(function* (partition: number, key: string, name: string) {
  const cluster = yield* Cluster
  const producer = yield* cluster.initProducerId("other", 600_000)
  const txn = { transactionalId: "other", ...producer }
  yield* cluster.addPartitionsToTxn(txn, [{ topic: "devices", partition }])
  const records = {
    keys: [Buffer.from(key)],
    values: [Buffer.from(JSON.stringify({ name }))],
    headers: [[]],
    timestamps: [0],
  }
  yield* cluster.produce({
    node: 1,
    transactionalId: "other",
    timeout: 1_000,
    compression: "none",
    batches: [{ topic: "devices", partition, producer: { ...producer, baseSequence: 0 }, records }],
  })
  return (commit: boolean) => cluster.endTxn(txn, commit)
})

const figure = (metric: Metric.Metric<number, unknown>) =>
  Effect.map(
    Metric.value(Metric.withAttributes(metric, { topic: "devices" })),
    (state) => (state as { readonly count?: number }).count ?? (state as { readonly value: number }).value,
  )

/** What was logged as a warning or worse. */
const logged = () => {
  const lines: Array<string> = []
  const layer = Logger.layer([
    Logger.make(({ logLevel, message }) => {
      if (logLevel === "Warn" || logLevel === "Error") lines.push(String(message))
    }),
  ])
  return { lines, layer }
}

/** Opens a table while the clock goes on. */
const opened = (options?: GlobalTable.Options) =>
  Effect.gen(function* () {
    const opening = yield* Effect.forkChild(GlobalTable.topic(Devices, options))
    yield* until("the table", Effect.sync(() => opening.pollUnsafe() !== undefined))
    return yield* Fiber.join(opening)
  })

const test = <E>(name: string, body: Effect.Effect<void, E, Cluster | ClusterMemory.Control | Scope.Scope>) =>
  it.effect(name, () =>
    Effect.andThen(Admin.createTopics([Devices]), body).pipe(
      Effect.scoped,
      Effect.provide(ClusterMemory.layer()),
      Effect.provideService(Metric.MetricRegistry, new Map()),
    ))

describe("GlobalTable.topic", () => {
  test(
    "has the latest value of every key of every partition, and follows",
    Effect.gen(function* () {
      yield* put(0, { a: "pump", b: "fan" })
      yield* put(0, { a: "valve", gone: "old" })
      yield* put(2, { c: "lamp" })
      yield* put(0, { gone: null, never: null })
      const table = yield* opened()
      assert.deepStrictEqual(content(table), { a: "valve", b: "fan", c: "lamp" })
      assert.deepStrictEqual(table.get("a"), { name: "valve" })
      assert.isUndefined(table.get("gone"))
      assert.strictEqual(table.size, 3)
      assert.strictEqual(yield* figure(GlobalTable.entries), 3)
      yield* put(1, { d: "door" })
      yield* put(0, { b: null })
      yield* pass(500)
      assert.deepStrictEqual(content(table), { a: "valve", c: "lamp", d: "door" })
      assert.strictEqual(yield* figure(GlobalTable.records), 9)
      const cluster = yield* Cluster
      assert.deepStrictEqual(yield* cluster.listGroups(), [])
    }),
  )

  test(
    "is ready at once where there is nothing, and reads all again when it is opened again",
    Effect.gen(function* () {
      const first = yield* Scope.make()
      const table = yield* Scope.provide(opened(), first)
      assert.strictEqual(table.size, 0)
      yield* put(1, { a: "pump" })
      yield* pass(500)
      assert.deepStrictEqual(content(table), { a: "pump" })
      yield* Scope.close(first, Exit.void)
      yield* put(1, { a: "fan", b: "lamp" })
      yield* pass(500)
      assert.deepStrictEqual(content(table), { a: "pump" })
      assert.deepStrictEqual(content(yield* opened()), { a: "fan", b: "lamp" })
    }),
  )

  test(
    "waits for what stood in the topic when reading began, in a log that is compacted and longer than one fetch",
    Effect.gen(function* () {
      const pad = "x".repeat(1_000)
      for (let round = 0; round < 30; round++) {
        yield* put(
          round % 3,
          Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`${round % 3}-${i}`, `${pad}${round}`])),
        )
      }
      const control = yield* ClusterMemory.Control
      yield* control.expire
      const table = yield* opened()
      assert.strictEqual(table.size, 120)
      for (const [key, { name }] of table.entries()) assert.strictEqual(name, `${pad}${27 + Number(key[0])}`)
    }),
  )

  test(
    "never shows what is not committed, and waits for what was open when reading began",
    Effect.gen(function* () {
      yield* put(0, { a: "pump" })
      const decide = yield* open(0, "a", "fan")
      yield* put(1, { b: "lamp" })
      const opening = yield* Effect.forkChild(GlobalTable.topic(Devices))
      yield* pass(2_000)
      assert.isUndefined(opening.pollUnsafe())
      yield* decide(true)
      yield* pass(1_000)
      const table = yield* Fiber.join(opening)
      assert.deepStrictEqual(content(table), { a: "fan", b: "lamp" })
      const abort = yield* open(1, "b", "never")
      yield* pass(1_000)
      yield* abort(false)
      yield* put(1, { c: "door" })
      yield* pass(1_000)
      assert.deepStrictEqual(content(table), { a: "fan", b: "lamp", c: "door" })
    }),
  )

  const waiting = logged()
  test(
    "goes on without a transaction that stays open for too long",
    Effect.gen(function* () {
      yield* put(0, { a: "pump" })
      const decide = yield* open(0, "a", "fan")
      const opening = yield* Effect.forkChild(GlobalTable.topic(Devices, { readyWithin: "10 seconds" }))
      yield* pass(9_900, 100)
      assert.isUndefined(opening.pollUnsafe())
      yield* pass(200, 100)
      const table = yield* Fiber.join(opening)
      assert.deepStrictEqual(content(table), { a: "pump" })
      assert.include(
        waiting.lines.join(),
        "a transaction that was open when it was read is still not decided after 10s",
      )
      yield* decide(true)
      yield* pass(1_000)
      assert.deepStrictEqual(content(table), { a: "fan" })
    }).pipe(Effect.provide(waiting.layer)),
  )

  const bad = logged()
  test(
    "keeps the value before one that cannot be decoded, counts it, and tells nothing of it",
    Effect.gen(function* () {
      yield* put(0, { a: "pump", b: ['{"name":"Ann Personal","name":7}'], c: ["null"] })
      const table = yield* opened()
      assert.deepStrictEqual(content(table), { a: "pump" })
      yield* put(0, { a: ["{Ann Personal"], c: "lamp" })
      yield* pass(1_000)
      const control = yield* ClusterMemory.Control
      yield* control.append({ topic: "devices", partition: 0 }, {
        keys: [Buffer.from([0xff])],
        values: [Buffer.from('{"name":"Ann Personal"}')],
        headers: [[]],
        timestamps: [0],
      })
      yield* pass(1_000)
      assert.deepStrictEqual(content(table), { a: "pump", c: "lamp" })
      assert.isUndefined(table.failure)
      assert.strictEqual(yield* figure(GlobalTable.undecodable), 4)
      assert.deepStrictEqual(bad.lines.slice(0, 1), [
        "global table devices: partition 0 has a record that cannot be used at offset 1: name: Expected string; what its " +
        "key had before stays; 1 after it cannot either",
      ])
      assert.include(bad.lines.join(), "at offset 3: the value is not JSON; what its key had before stays")
      assert.include(bad.lines.join(), "its key is not UTF-8 text")
      assert.notInclude(bad.lines.join(), "Ann")
      // A broker takes no record without a key for a compacted topic, but may not have been told that it is one.
      const cluster = yield* Cluster
      yield* cluster.createTopics([{ topic: "loose", partitions: 1, replicationFactor: 1, config: {} }])
      yield* control.append({ topic: "loose", partition: 0 }, {
        keys: [null],
        values: [Buffer.from('{"name":"x"}')],
        headers: [[]],
        timestamps: [0],
      })
      const opening = yield* Effect.forkChild(GlobalTable.topic({ ...Devices, name: "loose" }))
      yield* pass(1_000)
      assert.strictEqual((yield* Fiber.join(opening)).size, 0)
      assert.include(bad.lines.join(), "at offset 0: it has no key")
    }).pipe(Effect.provide(bad.layer)),
  )

  test(
    "stops at one that cannot be decoded where it is told to, and with it the tasks that join it",
    Effect.gen(function* () {
      yield* put(0, { a: "pump" })
      const table = yield* opened({ onUndecodable: "stop" })
      const flow = decoded.pipe(
        GlobalTable.join(Effect.succeed(table), { key: ({ id }) => id, join: (_, found) => found?.name }),
      )
      const input = new Map([[
        Readings,
        sources(Readings, [{ key: "k", value: '{"id":"a","n":1,"at":1}', timestamp: 1 }], []),
      ]])
      const { batches } = yield* run(flow, input)
      assert.deepStrictEqual(batches.flatMap(({ values }) => values), ["pump"])
      yield* put(0, { b: ["{"], a: "fan" })
      yield* pass(1_000)
      assert.deepStrictEqual(content(table), { a: "pump" })
      const stopped = yield* Effect.flip(run(flow, input))
      assert.strictEqual(stopped, table.failure)
      assert.isFalse(stopped.retriable)
      assert.include(stopped.message, "partition 0 has a record that cannot be used at offset 1: the value is not JSON")
      const refused = yield* Effect.flip(opened({ onUndecodable: "stop" }))
      assert.strictEqual(refused.message, stopped.message)
    }).pipe(Effect.provide(Logger.layer([]))),
  )

  test(
    "reads all again where its position is gone, and has what it had until then",
    Effect.gen(function* () {
      yield* put(0, { a: "pump", b: "fan" })
      yield* put(0, { a: "valve", c: "lamp" })
      yield* put(1, { d: "door" })
      const table = yield* opened()
      const control = yield* ClusterMemory.Control
      yield* control.truncate({ topic: "devices", partition: 0 }, 2)
      yield* until(
        "a new table",
        Effect.sync(() => {
          const now = content(table)
          assert.strictEqual(now["d"], "door")
          return now["a"] === "pump"
        }),
      )
      assert.deepStrictEqual(content(table), { a: "pump", b: "fan", d: "door" })
      yield* put(0, { e: "bell" })
      yield* pass(1_000)
      assert.deepStrictEqual(content(table), { a: "pump", b: "fan", d: "door", e: "bell" })
    }).pipe(Effect.provide(Logger.layer([]))),
  )

  test(
    "reads partitions that are added, from their beginning",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      let partitions = 1
      const metadata: typeof cluster.metadata = (topics) =>
        Effect.map(cluster.metadata(topics), (answer) => ({
          ...answer,
          topics: answer.topics.map((topic) => ({ ...topic, partitions: topic.partitions.slice(0, partitions) })),
        }))
      yield* put(0, { a: "pump" })
      yield* put(2, { c: "lamp" })
      const table = yield* Effect.provideService(opened(), Cluster, Cluster.of({ ...cluster, metadata }))
      yield* pass(120_000, 1_000)
      assert.deepStrictEqual(content(table), { a: "pump" })
      partitions = 3
      yield* pass(62_000, 200)
      assert.deepStrictEqual(content(table), { a: "pump", c: "lamp" })
      yield* put(1, { b: "fan" })
      yield* put(0, { a: null })
      yield* pass(1_000)
      assert.deepStrictEqual(content(table), { b: "fan", c: "lamp" })
    }),
  )

  test(
    "says what is wrong where it cannot be read, and stays where it was while brokers are away later",
    Effect.gen(function* () {
      assert.throws(() => GlobalTable.topic({ ...Devices, cleanup: "delete" }), RangeError, 'cleanup: "compact"')
      const missing = yield* Effect.flip(GlobalTable.topic({ ...Devices, name: "none" }))
      assert.strictEqual(missing.reason, "Definition")
      assert.include(missing.message, "topic none does not exist")

      const cluster = yield* Cluster
      let isAway = true
      const fetch: typeof cluster.fetch = (request) =>
        isAway
          ? Effect.delay(Effect.fail(new KafkaError({ code: "NETWORK", operation: "Fetch", message: "away" })), 100)
          : cluster.fetch(request)
      const there = Cluster.of({ ...cluster, fetch })
      yield* put(0, { a: "pump" })
      const opening = yield* Effect.forkChild(
        Effect.flip(Effect.provideService(GlobalTable.topic(Devices, { readyWithin: "5 seconds" }), Cluster, there)),
      )
      yield* pass(5_000, 50)
      assert.include((yield* Fiber.join(opening)).message, "global table devices could not be read within 5s")
      isAway = false
      const table = yield* Effect.provideService(opened(), Cluster, there)
      isAway = true
      yield* pass(1_000)
      yield* put(0, { a: "fan" })
      yield* pass(10_000, 50)
      assert.deepStrictEqual(content(table), { a: "pump" })
      assert.isUndefined(table.failure)
      isAway = false
      yield* pass(2_000, 50)
      assert.deepStrictEqual(content(table), { a: "fan" })
    }).pipe(Effect.provide(Logger.layer([]))),
  )
})

class DeviceTable extends Context.Service<DeviceTable, GlobalTable.GlobalTable<{ readonly name: string }>>()(
  "test/DeviceTable",
) {}

describe("GlobalTable.join", () => {
  test(
    "joins the latest value in the tasks of a pipeline, which take the table from a service",
    Effect.gen(function* () {
      const In = readings("in", 2)
      yield* Admin.createTopics([In, Copies, Dlt])
      yield* put(0, { "0": "pump" })
      const table = yield* opened()
      const found: Array<string | undefined> = []
      const pipeline = Pipeline.make(
        "joining",
        Ingest.topic(In).pipe(
          Decode.schema,
          GlobalTable.join(DeviceTable, {
            key: ({ id }) => id < 0 ? undefined : String(id),
            join: (reading, device, record) => {
              found.push(`${record.partition}: ${device?.name}`)
              return reading
            },
          }),
          Deliver.to(Copies),
          Failures.routeAll(DeadLetter.to(Dlt)),
        ),
        Guarantee.exactlyOnce(),
      )
      yield* Effect.provide(running(pipeline), Layer.succeed(DeviceTable, table))
      yield* appendReadings("in", 0, [{ id: 0, at: 1 }, { id: -1, at: 1 }])
      yield* copied(0, -1)
      yield* put(2, { "1": "lamp" })
      yield* pass(500)
      yield* appendReadings("in", 1, [{ id: 1, at: 1 }])
      yield* copied(1)
      assert.deepStrictEqual(found, ["0: pump", "0: undefined", "1: lamp"])
    }),
  )

  it.effect("names the record where one of its functions throws", () =>
    Effect.gen(function* () {
      const table: GlobalTable.GlobalTable<string> = {
        topic: "t",
        size: 0,
        get: () => undefined,
        entries: () => new Map<string, string>().entries(),
        failure: undefined,
      }
      const boom = ({ id }: Reading) => {
        if (id === "bad") throw new TypeError("boom")
        return id
      }
      const input = sources(
        Readings,
        ["a", "bad"].map((id) => ({ key: "k", value: JSON.stringify({ id, n: 1, at: 1 }), timestamp: 1 })),
        [],
      )
      for (const options of [{ key: boom, join: () => "" }, { key: () => "a", join: boom }]) {
        const flow = decoded.pipe(GlobalTable.join(Effect.succeed(table), options)) as Flow.Flow<unknown, unknown>
        const exit = yield* Effect.exit(run(flow, new Map([[Readings, input]])))
        assert.include(String(Exit.isFailure(exit) && exit.cause), "partition 0 offset 1: TypeError: boom")
      }
    }))
})
