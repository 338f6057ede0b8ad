import { assert, type Vitest } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { Cluster } from "../../../src/kafka/Cluster.ts"
import { decided, end, eventually, newTopic, readAll, settled, transactor, unique, write } from "./Harness.ts"

export const transactionAdmin = (it: Vitest.MethodsNonLive<Cluster>): void => {
  it.effect("lists and describes an open transaction, and says when it is over", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic(3)
      const id = unique("txn")
      const one = yield* transactor(id, 50_000)
      const before = yield* Clock.currentTimeMillis
      yield* one.begin(topic, 0, 2)
      yield* one.write(topic, ["a"], 2)
      const listed = (yield* cluster.listTransactions()).filter(({ transactionalId }) => transactionalId === id)
      assert.deepStrictEqual(listed, [{ transactionalId: id, producerId: one.identity.producerId, state: "Ongoing" }])
      const [described] = yield* cluster.describeTransactions([id])
      const { started, partitions, ...rest } = described!
      assert.deepStrictEqual(rest, { ...one.identity, error: null, state: "Ongoing", timeout: 50_000 })
      assert.isAtLeast(started, before - 1_000)
      assert.isAtMost(started, (yield* Clock.currentTimeMillis) + 1_000)
      assert.deepStrictEqual(partitions.map(({ topic, partition }) => `${topic}/${partition}`).toSorted(), [
        `${topic}/0`,
        `${topic}/2`,
      ])
      yield* one.end(true)
      yield* eventually("the end", cluster.describeTransactions([id]), ([found]) => found!.state === "CompleteCommit")
    }))

  it.effect("answers an error for a transactional id that nobody has used", () =>
    Effect.gen(function* () {
      const id = unique("nobody")
      const [described] = yield* eventually(
        "an answer of the coordinator",
        Cluster.use((cluster) => cluster.describeTransactions([id])),
        ([found]) => found!.error !== "COORDINATOR_NOT_AVAILABLE",
      )
      assert.strictEqual(described!.error, "TRANSACTIONAL_ID_NOT_FOUND")
    }))

  it.effect("says of a partition who writes to it, and where an open transaction begins", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic(2)
      yield* write(topic, ["before"])
      const one = yield* transactor(unique("txn"))
      yield* one.begin(topic, 0)
      yield* one.write(topic, ["a"])
      const [open, other, missing] = yield* cluster.describeProducers([
        { topic, partition: 0 },
        { topic, partition: 1 },
        { topic: "no-such-topic", partition: 0 },
      ])
      assert.deepStrictEqual(
        open!.producers.map(({ lastTimestamp: _, ...rest }) => rest),
        [{
          producerId: one.identity.producerId,
          producerEpoch: one.identity.producerEpoch,
          coordinatorEpoch: -1,
          transactionStart: 1,
        }],
      )
      assert.deepStrictEqual([other!.error, other!.producers], [null, []])
      assert.strictEqual(missing!.error, "UNKNOWN_TOPIC_OR_PARTITION")
      yield* one.end(false)
      yield* decided(topic)
      const [over] = yield* cluster.describeProducers([{ topic, partition: 0 }])
      assert.strictEqual(over!.producers[0]!.transactionStart, -1)
      assert.isAtLeast(over!.producers[0]!.coordinatorEpoch, 0)
    }))

  it.effect("ends a transaction in a partition by a marker, whatever its coordinator says", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const one = yield* transactor(unique("txn"))
      yield* one.begin(topic)
      yield* one.write(topic, ["never"])
      yield* write(topic, ["after"])
      assert.strictEqual(yield* end(topic, "read_committed"), 0)
      const { producerId, producerEpoch } = one.identity
      const marked = yield* cluster.writeTxnMarkers({
        producerId,
        producerEpoch,
        coordinatorEpoch: 0,
        commit: false,
        partitions: [{ topic, partition: 0 }, { topic: "no-such-topic", partition: 0 }],
      })
      assert.deepStrictEqual(marked, [
        { topic, partition: 0, error: null },
        { topic: "no-such-topic", partition: 0, error: "UNKNOWN_TOPIC_OR_PARTITION" },
      ])
      yield* decided(topic)
      assert.deepStrictEqual((yield* readAll(topic)).values, ["after"])
      yield* one.end(false)
    }))

  it.effect("lets nobody who asked before end or go on with a transaction that was taken from them", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const id = unique("txn")
      const one = yield* transactor(id)
      yield* one.begin(topic)
      yield* one.write(topic, ["never"])
      yield* settled(cluster.initProducerId(id, 60_000))
      yield* decided(topic)
      assert.strictEqual((yield* Effect.flip(one.end(true))).code, "PRODUCER_FENCED")
      const [described] = yield* cluster.describeTransactions([id])
      assert.strictEqual(described!.state, "Empty")
    }))
}
