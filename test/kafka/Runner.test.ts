import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Layer, Metric, Schema } from "effect"
import { PrometheusMetrics } from "effect/observability"
import {
  Admin,
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Fold,
  Guarantee,
  Ingest,
  merge,
  Pipeline,
  Producer,
  repartition,
  Runner,
  Task,
  Topic,
  Window,
} from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import type * as Delivery from "../../src/kafka/Delivery.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Partitioner from "../../src/kafka/Partitioner.ts"
import { options, start, stop, until } from "../support/Simulation.ts"

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

const contracts = [Readings, Copies, Counts, Dlt]

const readings = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => ({
    topic: "readings",
    key: Buffer.from(`k${(from + i) % 7}`),
    value: Buffer.from(JSON.stringify({ id: from + i, at: (from + i) * 1000 })),
  }))

/** Sends records while the test clock runs, and ends when all are acknowledged. */
const send = (records: ReadonlyArray<Delivery.ProducerRecord>) =>
  Effect.gen(function* () {
    const producer = yield* Producer.Producer
    const sending = yield* Effect.forkChild(producer.send(records))
    yield* until("records sent", Effect.sync(() => sending.pollUnsafe() !== undefined))
    yield* Fiber.join(sending)
  })

const idsIn = Effect.fnUntraced(function* (topic: string) {
  const control = yield* ClusterMemory.Control
  const records = yield* control.records(topic)
  return records.map(({ value }) => decodeReading(String(value)).id)
})

const decodeReading = Schema.decodeSync(Schema.fromJsonString(Reading))

/** Runs a pipeline until the end of the scope, as a program does that is told to stop then. */
const running = <E, R>(pipeline: Pipeline.Pipeline<E, R>) =>
  Effect.acquireRelease(
    Effect.forkDetach(Runner.run(pipeline, options)),
    (fiber) => Effect.ignore(stop(fiber)),
  )

/** A stage whose effect fails for a time, as a lookup does whose server is away. */
const failingTimes = (fails: () => boolean) => <A, F, E, R>(flow: Flow.Flow<A, F, E, R>) =>
  Flow.perTask<A, A, never, Task.PipelineError, never, never, never>(
    Effect.succeed((batch) =>
      batch.values.length > 0 && fails()
        ? Effect.fail(new Task.PipelineError({ reason: "Sink", message: "away", retriable: true }))
        : Effect.succeed(batch)
    ),
    { stage: "failing" },
  )(flow)

describe("Runner", () => {
  it.effect("takes records from topic to topic", () =>
    Effect.gen(function* () {
      const control = yield* ClusterMemory.Control
      yield* Admin.createTopics(contracts)
      const records = readings(0, 100)
      yield* send(records.with(50, { ...records[50]!, value: Buffer.from("{") }))
      yield* running(pipeline)
      yield* until("copies", Effect.map(control.records("copies"), (records) => records.length === 99))
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
    }).pipe(Effect.provide(layer)))

  it.effect.each([["hang", Faults.hang], ["are refused", Faults.unreachable]] as const)(
    "fails when a stop cannot commit what is at hand, because commits %s",
    ([, fault]) =>
      Effect.gen(function* () {
        const control = yield* ClusterMemory.Control
        yield* Admin.createTopics(contracts)
        const { fiber, use } = yield* start(pipeline, Faults.none)
        yield* send(readings(0, 50))
        yield* until("copies", Effect.map(control.records("copies"), (records) => records.length === 50))
        yield* use(Faults.every(({ operation }) => operation === "EndTxn" || operation === "TxnOffsetCommit", fault))
        yield* send(readings(50, 100))
        yield* stop(fiber)
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasFails(exit.cause))
        assert.match(
          (Cause.squash((exit as Exit.Failure<void, unknown>).cause) as Error).message,
          /^counting stopped, and what was at hand could not be committed/,
        )
      }).pipe(Effect.provide(layer)),
  )

  it.effect("counts what is committed, once, also when a commit had to be tried again", () =>
    Effect.gen(function* () {
      const control = yield* ClusterMemory.Control
      yield* Admin.createTopics(contracts)
      const records = readings(0, 100)
      yield* send(records.with(50, { ...records[50]!, value: Buffer.from("{") }))
      const { fiber } = yield* start(
        pipeline,
        Faults.nth(1, ({ operation }) => operation === "TxnOffsetCommit", Faults.refuse("KAFKA_STORAGE_ERROR")),
      )
      yield* until("copies", Effect.map(control.records("copies"), (records) => records.length === 99))
      yield* stop(fiber)
      const figures = (yield* PrometheusMetrics.format()).split("\n")
      for (
        const line of [
          'millrace_records_read_total{pipeline="counting",topic="readings"} 100',
          'millrace_records_written_total{pipeline="counting",topic="copies"} 99',
          'millrace_records_failed_total{pipeline="counting",topic="dlt",reason="DecodeError"} 1',
          'millrace_records_folded_total{pipeline="counting",stage="minutes"} 99',
          'millrace_records_produced_total{topic="readings"} 100',
        ]
      ) assert.include(figures, line)
    }).pipe(Effect.provide(layer), Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("ends without a failure when a stop has committed everything", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics(contracts)
      const { fiber } = yield* start(pipeline, Faults.none)
      yield* send(readings(0, 50))
      yield* stop(fiber)
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
    }).pipe(Effect.provide(layer)))

  it.effect("stops a task at a defect, names the record, and goes on with the others", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics(contracts)
      yield* send(readings(0, 70))
      const poison = 33
      const failing = Pipeline.make(
        "failing",
        Ingest.topic(Readings).pipe(
          Decode.schema,
          Flow.map((reading) => {
            if (reading.id === poison) throw new TypeError("not this one")
            return reading
          }),
          Deliver.to(Copies),
          Failures.routeAll(DeadLetter.to(Dlt)),
        ),
        Guarantee.exactlyOnce(),
      )
      const partition = (id: number) => Partitioner.forKey(Buffer.from(`k${id % 7}`), Readings.partitions)
      const others = Array.from({ length: 70 }, (_, id) => id).filter((id) => partition(id) !== partition(poison))
      const fiber = yield* Effect.forkDetach(Runner.run(failing, options))
      yield* until("the others' records", Effect.map(idsIn("copies"), (ids) => others.every((id) => ids.includes(id))))
      yield* send(readings(70, 140))
      const later = Array.from({ length: 70 }, (_, i) => 70 + i).filter((id) => partition(id) !== partition(poison))
      yield* until("later records", Effect.map(idsIn("copies"), (ids) => later.every((id) => ids.includes(id))))
      assert.isFalse((yield* idsIn("copies")).includes(poison))
      yield* stop(fiber)
      const exit = yield* Fiber.await(fiber)
      const failure = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""
      const control = yield* ClusterMemory.Control
      const at = (yield* control.records("readings")).find(({ value }) => decodeReading(String(value)).id === poison)!
      assert.include(failure, `topic readings partition ${partition(poison)} offset ${at.offset}`)
    }).pipe(Effect.scoped, Effect.provide(layer)))

  it.effect("goes back to what was committed when a task fails for a time, and repeats nothing", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics(contracts)
      let left = 3
      const flaky = Pipeline.make(
        "flaky",
        Ingest.topic(Readings).pipe(
          Decode.schema,
          Deliver.to(Copies),
          Aggregate.count({ name: "minutes", window: Window.tumbling({ size: "1 minute", grace: "1 hour" }) }),
          failingTimes(() => left-- > 0),
          Flow.map(({ key, start, value, final }) => ({ key, start, value, final })),
          Deliver.to(Counts),
          Failures.routeAll(DeadLetter.to(Dlt)),
        ),
        Guarantee.exactlyOnce(),
      )
      yield* running(flaky)
      for (const from of [0, 50, 100]) {
        yield* send(readings(from, from + 50))
        yield* until("copies", Effect.map(idsIn("copies"), (ids) => ids.length >= from + 50))
      }
      assert.isBelow(left, 0)
      assert.deepStrictEqual(
        (yield* idsIn("copies")).toSorted((a, b) => a - b),
        Array.from({ length: 150 }, (_, i) => i),
      )
      const control = yield* ClusterMemory.Control
      const last = new Map((yield* control.records("counts")).map(({ key, value }) => [
        String(key),
        JSON.parse(String(value)).value as number,
      ]))
      assert.strictEqual([...last.values()].reduce((sum, count) => sum + count, 0), 150)
    }).pipe(Effect.scoped, Effect.provide(layer)))

  it.effect("moves records to the partition of their new key", () =>
    Effect.gen(function* () {
      const ByParity = Topic.make({
        name: "by-parity",
        description: "",
        owner: "",
        schema: Reading,
        key: ["parity", (reading) => reading.id % 2 === 0 ? "even" : "odd"],
        eventTime: (reading) => reading.at,
        partitions: 4,
      })
      const Totals = Topic.make({
        name: "totals",
        description: "",
        owner: "",
        schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
        key: ["parity", (total) => total.key],
        partitions: 1,
        cleanup: "compact",
      })
      yield* Admin.createTopics([...contracts, ByParity, Totals])
      yield* send(readings(0, 101))
      yield* running(Pipeline.make(
        "parities",
        Ingest.topic(Readings).pipe(
          Decode.schema,
          Failures.routeAll(DeadLetter.to(Dlt)),
          repartition(ByParity, { undeliverable: DeadLetter.to(Dlt) }),
          Aggregate.running({ name: "totals", fold: Fold.count }),
          Deliver.to(Totals),
          Failures.routeAll(DeadLetter.to(Dlt)),
        ),
        Guarantee.exactlyOnce(),
      ))
      const control = yield* ClusterMemory.Control
      const totals = Effect.map(
        control.records("totals"),
        (records) => new Map(records.map(({ key, value }) => [String(key), JSON.parse(String(value)).value as number])),
      )
      yield* until("totals", Effect.map(totals, (totals) => totals.get("even") === 51 && totals.get("odd") === 50))
    }).pipe(Effect.scoped, Effect.provide(layer)))

  it.effect("reads two topics as one task, and refuses topics that are not co-partitioned", () =>
    Effect.gen(function* () {
      const More = { ...Readings, name: "more-readings" }
      const Fewer = { ...Readings, name: "fewer-readings", partitions: 2 }
      yield* Admin.createTopics([...contracts, More, Fewer])
      const both = (other: Topic.Topic<typeof Reading.Type>) =>
        Pipeline.make(
          "both",
          Ingest.topic(Readings).pipe(
            Decode.schema,
            merge(Ingest.topic(other).pipe(Decode.schema)),
            Deliver.to(Copies),
            Failures.routeAll(DeadLetter.to(Dlt)),
          ),
          Guarantee.exactlyOnce(),
        )
      const refused = yield* Effect.flip(Runner.run(both(Fewer), options))
      assert.strictEqual(refused.reason, "Definition")
      assert.include(refused.message, "fewer-readings (2 partitions)")
      yield* send(readings(0, 30))
      yield* send(readings(30, 60).map((record) => ({ ...record, topic: "more-readings" })))
      yield* running(both(More))
      yield* until("both", Effect.map(idsIn("copies"), (ids) => new Set(ids).size === 60))
      assert.strictEqual((yield* idsIn("copies")).length, 60)
    }).pipe(Effect.scoped, Effect.provide(layer)))

  it.effect("says which topic is missing", () =>
    Effect.gen(function* () {
      const missing = yield* Effect.flip(Runner.run(pipeline))
      assert.strictEqual(missing.reason, "Definition")
      assert.include(missing.message, "topic readings does not exist")
    }).pipe(Effect.provide(layer)))
})
