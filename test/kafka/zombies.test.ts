/** Changelogs that are written without a transaction: what comes late, or is lost, costs no count. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
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
  Pipeline,
  Topic,
  Window,
} from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Copying from "../support/Copying.ts"
import { ended, type Process, start, stop, switched, until } from "../support/Simulation.ts"
import * as Simulation from "../support/Simulation.ts"

const Sums = Topic.make({
  name: "sums",
  description: "Test",
  owner: "tests",
  schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
  partitions: 1,
})
const topics = [Copying.In, Sums, Copying.Dlt]
const changelog = "counting-count-changelog"

const pipeline = (deliveryTimeout = 30_000) =>
  Pipeline.make(
    "counting",
    Ingest.topic(Copying.In).pipe(
      Decode.schema,
      Aggregate.running({ name: "count", fold: Fold.count }),
      Deliver.to(Sums),
      Failures.routeAll(DeadLetter.to(Copying.Dlt)),
    ),
    Guarantee.atLeastOnce({ deliveryTimeout }),
  )

const pass = (millis: number) => Simulation.pass(millis, 50)
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

const counts = (key: string) =>
  Effect.map(
    Copying.valuesOf("sums"),
    (values) =>
      (values as ReadonlyArray<typeof Sums.schema.Type>).filter((one) => one.key === key).map(({ value }) => value),
  )
const counted = (key: string, value: number) =>
  until(`${key}: ${value}`, Effect.map(counts(key), (values) => values.includes(value)))

const toChangelog = ({ operation, topics }: Faults.Call) => operation === "Produce" && topics.includes(changelog)

const die = ({ use, fiber }: Process) => Effect.andThen(use(Faults.every(() => true, Faults.hang)), stop(fiber))

describe("a changelog", () => {
  for (const restarts of [1, 2]) {
    it.effect(`survives what a process that was cut off writes late: ${restarts} restarts`, () =>
      Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        yield* Copying.append(range(0, 5))
        const { network, plan } = switched()
        yield* start(pipeline(), plan)
        yield* counted("key", 5)
        yield* pass(500)
        let frozen = false
        network.decide = (call) => {
          if (frozen) return call.operation === "Produce" ? undefined : Faults.unreachable
          if (!toChangelog(call)) return undefined
          frozen = true
          return Faults.delay("20 seconds")
        }
        yield* Copying.append([5])
        yield* until("the zombie", Effect.sync(() => frozen))
        let successor = yield* start(pipeline(), Faults.none)
        yield* Copying.append(range(6, 10))
        yield* counted("key", 10)
        yield* pass(25_000)
        network.decide = () => Faults.hang
        for (let i = 0; i < restarts; i++) {
          yield* die(successor)
          successor = yield* start(pipeline(), Faults.none)
          yield* Copying.append([10 + i], { key: "other" })
          yield* counted("other", 1 + i)
          // What the late record covers is in the log again, after it.
          const control = yield* ClusterMemory.Control
          yield* pass(500)
          yield* control.expire
        }
        yield* Copying.append([20])
        yield* pass(3_000)
        assert.deepStrictEqual((yield* counts("key")).at(-1), 11)
        assert.isUndefined(ended(successor))
      }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
  }

  it.effect("survives a request of its own process that arrives after it was given up", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics(topics)
      yield* Copying.append(range(0, 5))
      const { network, plan } = switched()
      const first = yield* start(pipeline(2_000), plan)
      yield* counted("key", 5)
      let late = false
      network.decide = (call) => {
        if (late || !toChangelog(call)) return undefined
        late = true
        return Faults.delay("10 seconds")
      }
      yield* Copying.append([5])
      yield* until("the request", Effect.sync(() => late))
      yield* Copying.append([6])
      yield* counted("key", 7)
      yield* pass(12_000)
      assert.isUndefined(ended(first))
      yield* die(first)
      yield* start(pipeline(), Faults.none)
      yield* Copying.append([7])
      yield* pass(10_000)
      assert.strictEqual((yield* counts("key")).at(-1), 8)
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))

  for (const kept of [true, false]) {
    it.effect(`that lost its end ${kept ? "is made up for from the input" : "stops the task where the input is gone"}`, () =>
      Effect.gen(function* () {
        const control = yield* ClusterMemory.Control
        yield* Admin.createTopics([
          { ...Copying.In, config: { "retention.ms": kept ? "-1" : "1" } },
          Sums,
          Copying.Dlt,
        ])
        yield* Copying.append(range(0, 5))
        const first = yield* start(pipeline(), Faults.none)
        yield* counted("key", 5)
        yield* pass(500)
        const { length } = yield* control.records(changelog)
        yield* Copying.append(range(5, 10))
        yield* counted("key", 10)
        yield* pass(500)
        yield* stop(first.fiber)
        yield* control.truncate({ topic: changelog, partition: 0 }, length)
        yield* control.expire
        const second = yield* start(pipeline(), Faults.none)
        yield* Copying.append([10])
        yield* pass(15_000)
        yield* stop(second.fiber)
        const last = (yield* counts("key")).at(-1)!
        if (kept) assert.strictEqual(last, 11)
        else {
          assert.strictEqual(last, 10)
          assert.match(ended(second)!, /stands at offset 5 of topic in, but its group stands at 10/)
        }
      }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
  }

  it.effect("that lost its end finds nothing late in what is read again", () =>
    Effect.gen(function* () {
      const control = yield* ClusterMemory.Control
      const Timed = { ...Copying.In, eventTime: ({ id }: typeof Copying.Reading.Type) => id * 60_000 }
      const windows = Pipeline.make(
        "counting",
        Ingest.topic(Timed).pipe(
          Decode.schema,
          Aggregate.count({ name: "count", window: Window.tumbling({ size: "1 minute", grace: 0 }), emit: "final" }),
          Flow.map(({ start, value }) => ({ key: String(start), value })),
          Deliver.to(Sums),
          Failures.routeAll(DeadLetter.to(Copying.Dlt)),
        ),
        Guarantee.atLeastOnce(),
      )
      yield* Admin.createTopics(topics)
      yield* Copying.append(range(0, 5))
      const first = yield* start(windows, Faults.none)
      yield* counted(String(3 * 60_000), 1)
      yield* pass(500)
      const { length } = yield* control.records(changelog)
      yield* Copying.append(range(5, 10))
      yield* counted(String(8 * 60_000), 1)
      yield* pass(500)
      yield* stop(first.fiber)
      yield* control.truncate({ topic: changelog, partition: 0 }, length)
      yield* start(windows, Faults.none)
      yield* pass(5_000)
      assert.deepStrictEqual(yield* counts(String(8 * 60_000)), [1, 1])
      assert.deepStrictEqual(yield* control.records(Copying.Dlt.name), [])
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
})
