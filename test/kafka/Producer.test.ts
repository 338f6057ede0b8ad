/** The idempotent producer, over a network that fails in every way a request can. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Fiber, Layer, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Producer, Topic } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import type { ProducerRecord } from "../../src/kafka/Delivery.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { text } from "../../src/Topic.ts"
import { forSeeds } from "../support/Seeds.ts"
import { until } from "../support/Simulation.ts"

type Needs = Cluster | Faults.Faults | ClusterMemory.Control | Producer.Producer | Scope.Scope

/** A producer of its own on a cluster of its own, with topic `t` of three partitions. */
const run = <E>(options: Partial<Producer.Options>, body: Effect.Effect<void, E, Needs>) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(
      Producer.layer(options).pipe(Layer.provideMerge(Faults.layer), Layer.provideMerge(ClusterMemory.layer())),
    )
    const { createTopics } = Context.get(context, Cluster)
    yield* createTopics([{ topic: "t", partitions: 3, replicationFactor: 1, config: {} }])
    yield* Effect.provideContext(body, context)
  }).pipe(Effect.scoped)

const record = (value: string, rest: Partial<ProducerRecord> = {}): ProducerRecord => ({
  topic: "t",
  partition: 0,
  key: null,
  value: Buffer.from(value),
  ...rest,
})

const send = (records: ReadonlyArray<ProducerRecord>) =>
  Producer.Producer.use((producer) => Effect.forkChild(Effect.exit(producer.send(records))))

/** Lets the clock run until a call has its answer. */
const answer = <E>(fiber: Fiber.Fiber<Exit.Exit<void, E>>) =>
  Effect.andThen(until("an answer", Effect.sync(() => fiber.pollUnsafe() !== undefined)), Fiber.join(fiber))

const reasonOf = (exit: Exit.Exit<void, Producer.ProducerError>): string =>
  Exit.isSuccess(exit) ? "written" : (Cause.squash(exit.cause) as Producer.ProducerError).reason

const written = ClusterMemory.Control.use((control) =>
  Effect.map(control.records("t"), (records) => records.map(({ value }) => text(value!)))
)

const produces = Faults.Faults.use((faults) =>
  Effect.map(faults.calls, (calls) => calls.filter(({ operation }) => operation === "Produce").length)
)

const use = (plan: Faults.Plan) => Faults.Faults.use((faults) => faults.use(plan))

describe("Producer", () => {
  it.effect("gathers what comes within the linger into one request", () =>
    run(
      { linger: "20 millis" },
      Effect.gen(function* () {
        const calls = yield* Effect.forEach(["a", "b", "c"], (value) => send([record(value)]))
        for (const call of calls) assert.strictEqual(reasonOf(yield* answer(call)), "written")
        assert.deepStrictEqual(yield* written, ["a", "b", "c"])
        assert.strictEqual(yield* produces, 1)
      }),
    ))

  it.effect("does not let a full batch wait, nor grow beyond its size", () =>
    run(
      { linger: "1 hour", batchBytes: 1_000 },
      Effect.gen(function* () {
        const call = yield* send(Array.from({ length: 10 }, (_, i) => record(`${i}${"x".repeat(400)}`)))
        yield* until("nine records", Effect.map(written, ({ length }) => length >= 8), 10_000)
        assert.isAtLeast(yield* produces, 4)
        yield* Fiber.interrupt(call)
      }),
    ))

  it.effect("writes by key as Java's producer does, and nothing twice over a network that fails", () =>
    forSeeds(30, (dice, seed) =>
      run(
        { linger: "5 millis", batchBytes: 300, deliveryTimeout: "5 minutes" },
        Effect.gen(function* () {
          yield* use(Faults.random(seed, { refuse: 0.15, loseAnswer: 0.15, delay: 0.2 }))
          const all = dice.list(20, 120, (i) => record(String(i), { key: Buffer.from(`k${i % 5}`) }))
            .map(({ partition: _, ...rest }) => rest)
          const calls = []
          for (let from = 0; from < all.length;) {
            const size = dice.int(1, 9)
            calls.push(yield* send(all.slice(from, from + size)))
            from += size
          }
          for (const call of calls) assert.strictEqual(reasonOf(yield* answer(call)), "written", `SEED=${seed}`)
          const control = yield* ClusterMemory.Control
          const byKey = Map.groupBy(yield* control.records("t"), ({ key }) => text(key!))
          for (const [key, records] of byKey) {
            const expected = all.filter((one) => text(one.key!) === key).map(({ value }) => text(value!))
            assert.deepStrictEqual(records.map(({ value }) => text(value!)), expected, `SEED=${seed} ${key}`)
            assert.strictEqual(new Set(records.map(({ partition }) => partition)).size, 1)
          }
          assert.strictEqual([...byKey.values()].flat().length, all.length)
        }),
      )))

  it.effect("keeps the keyless records of one call together, and spreads calls over the partitions", () =>
    run(
      {},
      Effect.gen(function* () {
        const { records } = yield* ClusterMemory.Control
        const keyless = (value: string): ProducerRecord => ({ topic: "t", key: null, value: Buffer.from(value) })
        for (const call of ["a", "b", "c"]) yield* answer(yield* send([keyless(`${call}1`), keyless(`${call}2`)]))
        const partitions = Map.groupBy(yield* records("t"), ({ partition }) => partition)
        assert.sameDeepMembers(
          Array.from(partitions.values(), (some) => some.map(({ value }) => text(value!))),
          [["a1", "a2"], ["b1", "b2"], ["c1", "c2"]],
        )
      }),
    ))

  it.effect("answers Timeout when the brokers stay away, says since when, and recovers", () =>
    run(
      { deliveryTimeout: "10 seconds" },
      Effect.gen(function* () {
        const { failingSince } = yield* Producer.Producer
        assert.isUndefined(yield* failingSince)
        yield* use(Faults.every(({ operation }) => operation === "Produce", Faults.unreachable))
        const lost = yield* send([record("lost")])
        yield* until("failing", Effect.map(failingSince, (since) => since !== undefined))
        assert.strictEqual(reasonOf(yield* answer(lost)), "Timeout")
        assert.isDefined(yield* failingSince)
        yield* use(Faults.none)
        assert.strictEqual(reasonOf(yield* answer(yield* send([record("kept")]))), "written")
        assert.isUndefined(yield* failingSince)
        assert.deepStrictEqual(yield* written, ["kept"])
      }),
    ))

  it.effect("is no longer failing when the brokers are back, though nothing is sent", () =>
    run(
      { deliveryTimeout: "10 seconds" },
      Effect.gen(function* () {
        const { failingSince } = yield* Producer.Producer
        yield* use(Faults.every(() => true, Faults.unreachable))
        assert.strictEqual(reasonOf(yield* answer(yield* send([record("lost")]))), "Timeout")
        yield* TestClock.adjust("1 minute")
        assert.isDefined(yield* failingSince)
        yield* use(Faults.none)
        yield* TestClock.adjust("2 seconds")
        assert.isUndefined(yield* failingSince)
        const { calls } = yield* Faults.Faults
        const asked = (yield* calls).length
        yield* TestClock.adjust("1 minute")
        assert.lengthOf(yield* calls, asked)
      }),
    ))

  it.effect("is failing while what is sent is not delivered, whatever else brokers answer", () =>
    run(
      { deliveryTimeout: "1 minute" },
      Effect.gen(function* () {
        const { failingSince } = yield* Producer.Producer
        yield* use(Faults.every(({ operation }) => operation === "Produce", Faults.unreachable))
        const waiting = yield* send([record("waiting")])
        yield* TestClock.adjust("30 seconds")
        assert.isDefined(yield* failingSince)
        yield* use(Faults.none)
        assert.strictEqual(reasonOf(yield* answer(waiting)), "written")
        assert.isUndefined(yield* failingSince)
      }),
    ))

  it.effect("is failing where not even its first record's partitions can be found out", () =>
    run(
      { maxBlock: "5 seconds" },
      Effect.gen(function* () {
        const { failingSince } = yield* Producer.Producer
        for (const fault of [Faults.unreachable, Faults.hang]) {
          yield* use(Faults.every(({ operation }) => operation === "Metadata", fault))
          const first = yield* send([record("first")])
          if (fault === Faults.unreachable) yield* TestClock.adjust("1 second")
          else assert.strictEqual(reasonOf(yield* answer(first)), "Timeout")
          assert.isDefined(yield* failingSince)
          assert.strictEqual(reasonOf(yield* answer(first)), "Timeout")
          yield* use(Faults.none)
          yield* until("an end", Effect.map(failingSince, (since) => since === undefined))
        }
        assert.deepStrictEqual(yield* written, [])
      }),
    ))

  it.effect("is failing while no producer id can be had, answers in time, and recovers", () =>
    run(
      { deliveryTimeout: "5 seconds" },
      Effect.gen(function* () {
        const { failingSince } = yield* Producer.Producer
        // After a record whose outcome nobody knows, a new id is needed.
        yield* use(Faults.every(({ operation }) => operation === "Produce", Faults.unreachable))
        assert.strictEqual(reasonOf(yield* answer(yield* send([record("lost")]))), "Timeout")
        yield* use(Faults.every(({ operation }) => operation === "InitProducerId", Faults.unreachable))
        const second = yield* send([record("second")])
        yield* TestClock.adjust("6 seconds")
        assert.strictEqual(reasonOf(yield* answer(second)), "Timeout")
        assert.isDefined(yield* failingSince)
        yield* TestClock.adjust("30 seconds")
        assert.isDefined(yield* failingSince)
        yield* use(Faults.none)
        assert.strictEqual(reasonOf(yield* answer(yield* send([record("third")]))), "written")
        assert.isUndefined(yield* failingSince)
        assert.deepStrictEqual(yield* written, ["third"])
      }),
    ))

  it.effect("writes once what was written although nobody heard", () =>
    run(
      {},
      Effect.gen(function* () {
        yield* use(Faults.at("Produce", 1, Faults.loseAnswer))
        assert.strictEqual(reasonOf(yield* answer(yield* send([record("once")]))), "written")
        assert.deepStrictEqual(yield* written, ["once"])
        assert.strictEqual(yield* produces, 2)
      }),
    ))

  it.effect("refuses what a broker will never take, and only that", () =>
    run(
      { linger: "5 millis" },
      Effect.gen(function* () {
        const tooLarge = yield* send([record("x".repeat(2_000_000), { partition: 1 })])
        const others = yield* send([record("fine")])
        const refused = yield* answer(tooLarge)
        assert.strictEqual(reasonOf(refused), "Refused")
        assert.strictEqual(reasonOf(yield* answer(others)), "written")
        assert.strictEqual(reasonOf(yield* answer(yield* send([record("later", { partition: 1 })]))), "written")
        assert.deepStrictEqual(yield* written, ["fine", "later"])
      }),
    ))

  it.effect("takes nothing of a call that finds the buffer full", () =>
    run(
      { bufferBytes: 1_000, maxBlock: "2 seconds", deliveryTimeout: "1 minute" },
      Effect.gen(function* () {
        yield* use(Faults.every(({ operation }) => operation === "Produce", Faults.unreachable))
        const first = yield* send([record("a".repeat(900))])
        yield* until("the first try", Effect.map(produces, (count) => count > 0))
        assert.strictEqual(reasonOf(yield* answer(yield* send([record("b".repeat(900))]))), "BufferFull")
        yield* use(Faults.none)
        assert.strictEqual(reasonOf(yield* answer(first)), "written")
        assert.deepStrictEqual(yield* written, ["a".repeat(900)])
      }),
    ))

  it.effect("writes what is waiting before it closes", () =>
    Effect.gen(function* () {
      const context = yield* Layer.build(ClusterMemory.layer())
      const { createTopics } = Context.get(context, Cluster)
      yield* createTopics([{ topic: "t", partitions: 1, replicationFactor: 1, config: {} }])
      const closing = yield* Effect.gen(function* () {
        yield* send([record("last")])
        yield* Effect.yieldNow
      }).pipe(
        Effect.provide(Producer.layer({ linger: "100 millis" })),
        Effect.provideContext(context),
        Effect.forkChild,
      )
      yield* until("closed", Effect.sync(() => closing.pollUnsafe() !== undefined))
      const { records } = Context.get(context, ClusterMemory.Control)
      assert.deepStrictEqual((yield* records("t")).map(({ value }) => text(value!)), ["last"])
    }).pipe(Effect.scoped))

  it.effect("publishes values as their contract says, and none of a call with one that does not fit", () =>
    run(
      {},
      Effect.gen(function* () {
        const Readings = Topic.make({
          name: "t",
          description: "",
          owner: "",
          schema: Schema.Struct({ id: Schema.String.check(Schema.isNonEmpty()) }),
          key: ["id", ({ id }) => id],
          partitions: 3,
        })
        const publish = (...ids: ReadonlyArray<string>) =>
          Effect.forkChild(Effect.exit(Producer.publish(Readings, ids.map((id) => ({ id })))))
        assert.strictEqual(reasonOf(yield* answer(yield* publish("a", "b"))), "written")
        const invalid = yield* answer(yield* publish("c", ""))
        assert.strictEqual(reasonOf(invalid), "Invalid")
        assert.include(Exit.isFailure(invalid) ? Cause.pretty(invalid.cause) : "", "value 1 for topic t")
        assert.deepStrictEqual((yield* written).sort(), ['{"id":"a"}', '{"id":"b"}'])
      }),
    ))

  it.effect("leaves a broker that hangs for the one that has taken over from it, and writes once", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const control = yield* ClusterMemory.Control
      yield* cluster.createTopics([{ topic: "t", partitions: 1, replicationFactor: 1, config: {} }])
      yield* control.lead({ topic: "t", partition: 0 }, 1)
      // Node 1 takes what it is sent, and answers nothing.
      const hanging = Cluster.of({
        ...cluster,
        produce: (request) =>
          request.node === 1 ? Effect.andThen(cluster.produce(request), Effect.never) : cluster.produce(request),
      })
      const layer = Producer.layer({ deliveryTimeout: "1 minute" }).pipe(Layer.provide(Layer.succeed(Cluster, hanging)))
      yield* Effect.gen(function* () {
        const call = yield* send([record("a")])
        yield* TestClock.adjust("10 seconds")
        assert.isUndefined(call.pollUnsafe())
        yield* control.lead({ topic: "t", partition: 0 }, 2)
        yield* TestClock.adjust("3 seconds")
        assert.isDefined(call.pollUnsafe())
        assert.strictEqual(reasonOf(yield* Fiber.join(call)), "written")
        assert.deepStrictEqual(yield* written, ["a"])
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(ClusterMemory.layer({ nodes: 2 })))))
})
