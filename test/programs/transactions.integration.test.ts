/** A transaction that was left open on Apache Kafka holds readers back until it is found and aborted. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { KafkaClient } from "../../src/index.ts"
import * as Contract from "../kafka/contract/Harness.ts"
import * as Broker from "../support/Broker.ts"
import * as Program from "../support/Program.ts"

Broker.describeWithBroker("transactions on Apache Kafka", () => {
  it.live("lists one that holds readers back, and aborts it when that is confirmed", () =>
    Effect.gen(function* () {
      const brokers = yield* Broker.shared
      const env = { KAFKA_BROKERS: brokers.join(",") }
      const program = (...args: ReadonlyArray<string>) =>
        Effect.flatMap(Program.start("transactions", { args, env }), ({ ended }) => ended)
      yield* Effect.gen(function* () {
        const topic = yield* Contract.newTopic()
        const id = Contract.unique("left-open")
        const one = yield* Contract.transactor(id, 600_000)
        yield* Contract.write(topic, ["before"])
        yield* one.begin(topic)
        yield* one.write(topic, ["never"])
        yield* Contract.write(topic, ["after"])
        const values = Effect.map(Contract.readAll(topic), ({ values }) => values)
        assert.deepStrictEqual(yield* values, ["before"])

        const listed = yield* program("list", "--json")
        assert.strictEqual(listed.code, 0, listed.output)
        const all = JSON.parse(listed.output) as ReadonlyArray<Record<string, unknown>>
        const found = all.find(({ transactionalId }) => transactionalId === id)
        assert.deepInclude(found, { state: "Ongoing", producerId: one.identity.producerId, owner: null })
        assert.deepStrictEqual(found!["partitions"], [{ topic, partition: 0, lastStable: 1, high: 3, isFirst: true }])

        assert.strictEqual((yield* program("abort", id)).code, 3)
        assert.deepStrictEqual(yield* values, ["before"])
        const aborted = yield* program("abort", id, "--yes")
        assert.strictEqual(aborted.code, 0, aborted.output)
        yield* Contract.decided(topic)
        assert.deepStrictEqual(yield* values, ["before", "after"])
        assert.strictEqual((yield* Effect.flip(one.end(true))).code, "PRODUCER_FENCED")
      }).pipe(Effect.provide(Layer.fresh(KafkaClient.layer({ brokers }))))
    }), 180_000)
})
