import { assert, type Vitest } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { Cluster } from "../../../src/kafka/Cluster.ts"
import { readable } from "../../../src/kafka/ReadCommitted.ts"
import {
  decided,
  end,
  eventually,
  fetch,
  newTopic,
  readAll,
  refusal,
  settled,
  text,
  transact,
  transactor,
  unique,
  write,
} from "./Harness.ts"

export const transactions = (it: Vitest.MethodsNonLive<Cluster>): void => {
  it.effect("shows a transaction's records when it is committed; its marker is a gap in the offsets", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic(2)
      const one = yield* transactor(unique("txn"))
      yield* one.begin(topic, 0, 1)
      assert.strictEqual((yield* one.write(topic, ["a", "b"], 0)).error, null)
      assert.strictEqual((yield* one.write(topic, ["c"], 1)).error, null)
      assert.strictEqual(yield* end(topic, "read_committed", 0), 0)
      assert.strictEqual(yield* end(topic, "read_uncommitted", 0), 2)
      const open = yield* fetch({ topic, partition: 0 }, 0)
      assert.deepStrictEqual([open.highWatermark, open.lastStableOffset, open.batches], [2, 0, []])
      yield* one.end(true)
      yield* decided(topic, 0)
      yield* decided(topic, 1)
      assert.deepStrictEqual((yield* readAll(topic, 0)).values, ["a", "b"])
      assert.deepStrictEqual((yield* readAll(topic, 1)).values, ["c"])
      assert.strictEqual(yield* end(topic, "read_committed", 0), 3)
      const { batches: [data, marker] } = yield* fetch({ topic, partition: 0 }, 0)
      assert.deepStrictEqual([data!.transactional, data!.control, data!.producerId], [
        true,
        null,
        one.identity.producerId,
      ])
      assert.deepStrictEqual([marker!.control, marker!.baseOffset, marker!.lastOffset, marker!.producerId], [
        "commit",
        2,
        2,
        one.identity.producerId,
      ])
      assert.deepStrictEqual([marker!.values, marker!.offsets], [[], []])
      assert.strictEqual(yield* write(topic, ["d"]), 3)
      const after = yield* fetch({ topic, partition: 0 }, 2)
      assert.strictEqual(readable(after, 2).next, 4)
      assert.deepStrictEqual(readable(after, 2).bytes.map(text), ["d"])
    }))

  it.effect("an open transaction holds back what others wrote after it; an aborted one is named and left out", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const one = yield* transactor(unique("txn"))
      yield* write(topic, ["before"])
      yield* one.begin(topic)
      yield* one.write(topic, ["never"])
      yield* write(topic, ["after"])
      assert.deepStrictEqual((yield* readAll(topic)).values, ["before"])
      assert.strictEqual(yield* end(topic, "read_committed"), 1)
      yield* one.end(false)
      yield* decided(topic)
      const answer = yield* fetch({ topic, partition: 0 }, 0)
      assert.deepStrictEqual(answer.batches.flatMap(({ values }) => values.map(text)), ["before", "never", "after"])
      assert.deepStrictEqual(answer.aborted.map(({ producerId, firstOffset }) => [producerId, firstOffset]), [
        [one.identity.producerId, 1],
      ])
      assert.strictEqual(answer.batches.at(-1)!.control, "abort")
      assert.deepStrictEqual((yield* readAll(topic)).values, ["before", "after"])
    }))

  it.effect("names every aborted transaction of a fetch, also several of one producer", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const one = yield* transactor(unique("txn"))
      const many = (name: string) => Array.from({ length: 50 }, (_, i) => `${name}${i}-${"x".repeat(100)}`)
      yield* transact(one, topic, many("no"), false)
      yield* transact(one, topic, ["yes1"], true)
      yield* transact(one, topic, many("nor"), false)
      yield* transact(one, topic, ["yes2"], true)
      yield* decided(topic)
      const all = yield* readAll(topic)
      assert.deepStrictEqual([all.values, all.position], [["yes1", "yes2"], 106])
      const answer = yield* fetch({ topic, partition: 0 }, 0)
      const named = answer.aborted.toSorted((a, b) => a.firstOffset - b.firstOffset)
      assert.deepStrictEqual(named.map(({ firstOffset }) => firstOffset), [0, 53])
      assert.deepStrictEqual((yield* readAll(topic, 0, 1_000)).values, ["yes1", "yes2"])
    }))

  it.effect("names an aborted transaction in each of the fetches that it spans", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const one = yield* transactor(unique("txn"))
      yield* one.begin(topic)
      for (let i = 0; i < 5; i++) yield* one.write(topic, [`no${i}-${"x".repeat(1_000)}`])
      yield* write(topic, ["between"])
      for (let i = 5; i < 10; i++) yield* one.write(topic, [`no${i}-${"x".repeat(1_000)}`])
      yield* one.end(false)
      yield* decided(topic)
      yield* transact(one, topic, ["yes"], true)
      yield* decided(topic)
      const small = yield* readAll(topic, 0, 1_100)
      assert.deepStrictEqual(small.values, ["between", "yes"])
      assert.isAtLeast(small.fetches, 10)
      const middle = yield* fetch({ topic, partition: 0 }, 7, { maxBytes: 1_100 })
      assert.deepStrictEqual(middle.aborted.map(({ firstOffset }) => firstOffset), [0])
    }))

  it.effect("wakes a waiting reader when a transaction ends", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const one = yield* transactor(unique("txn"))
      yield* one.begin(topic)
      yield* one.write(topic, ["a"])
      const waiting = yield* Effect.forkChild(fetch({ topic, partition: 0 }, 0, { maxWait: 25_000 }))
      yield* Effect.sleep(200)
      const ended = yield* Clock.currentTimeMillis
      yield* one.end(true)
      const answer = yield* Fiber.join(waiting)
      assert.isBelow((yield* Clock.currentTimeMillis) - ended, 10_000)
      assert.deepStrictEqual(readable(answer, 0).bytes.map(text), ["a"])
    }))

  it.effect("refuses to write to a partition that was not added", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic(2)
      const one = yield* transactor(unique("txn"))
      const nowhere = yield* one.write(topic, ["a"], 0)
      assert.include(["INVALID_TXN_STATE", "TRANSACTION_ABORTABLE"], nowhere.error)
      yield* one.begin(topic, 0)
      const elsewhere = yield* one.write(topic, ["b"], 1)
      assert.include(["INVALID_TXN_STATE", "TRANSACTION_ABORTABLE"], elsewhere.error)
      assert.strictEqual(yield* end(topic, "read_uncommitted", 1), 0)
      yield* one.end(false)
    }))

  it.effect("adds all partitions of requests that come at the same time", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic(6)
      const one = yield* transactor(unique("txn"))
      const partitions = [0, 1, 2, 3, 4, 5]
      yield* Effect.forEach(partitions, (partition) => one.begin(topic, partition), { concurrency: "unbounded" })
      const written = yield* Effect.forEach(partitions, (partition) => one.write(topic, [`${partition}`], partition), {
        concurrency: "unbounded",
      })
      assert.deepStrictEqual(written.map(({ error }) => error), partitions.map(() => null))
      yield* one.end(true)
      for (const partition of partitions) {
        yield* decided(topic, partition)
        assert.deepStrictEqual((yield* readAll(topic, partition)).values, [`${partition}`])
      }
    }))

  it.effect("answers EndTxn again as before, refuses the other decision, and one without a transaction", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const one = yield* transactor(unique("txn"))
      assert.strictEqual(yield* refusal(one.end(true)), "INVALID_TXN_STATE")
      yield* transact(one, topic, ["a"], true)
      yield* one.end(true)
      assert.strictEqual(yield* refusal(one.end(false)), "INVALID_TXN_STATE")
      yield* transact(one, topic, ["b"], false)
      yield* one.end(false)
      assert.strictEqual(yield* refusal(one.end(true)), "INVALID_TXN_STATE")
      yield* decided(topic)
      assert.deepStrictEqual((yield* readAll(topic)).values, ["a"])
    }))

  it.effect("a restart takes the id over: what was open is aborted, and the one before can do nothing more", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic(2)
      const id = unique("txn")
      const zombie = yield* transactor(id)
      yield* zombie.begin(topic)
      yield* zombie.write(topic, ["never"])
      const successor = yield* transactor(id)
      assert.strictEqual(successor.identity.producerId, zombie.identity.producerId)
      assert.isAbove(successor.identity.producerEpoch, zombie.identity.producerEpoch)
      yield* decided(topic)
      assert.strictEqual(yield* refusal(zombie.end(true)), "PRODUCER_FENCED")
      assert.strictEqual(yield* refusal(zombie.begin(topic, 1)), "PRODUCER_FENCED")
      assert.strictEqual(yield* refusal(cluster.addOffsetsToTxn(zombie.identity, unique("group"))), "PRODUCER_FENCED")
      assert.strictEqual((yield* zombie.write(topic, ["never"])).error, "INVALID_PRODUCER_EPOCH")
      yield* transact(successor, topic, ["yes"], true)
      yield* decided(topic)
      assert.strictEqual((yield* zombie.write(topic, ["never"])).error, "INVALID_PRODUCER_EPOCH")
      assert.deepStrictEqual((yield* readAll(topic)).values, ["yes"])
    }))

  it.effect("the holder of an id gets a higher epoch, and the same one when it asks again", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const id = unique("txn")
      const { identity: { producerId, producerEpoch } } = yield* transactor(id)
      const current = { producerId, producerEpoch }
      const next = yield* settled(cluster.initProducerId(id, 60_000, current))
      assert.deepStrictEqual(next, { producerId, producerEpoch: producerEpoch + 1 })
      assert.deepStrictEqual(yield* settled(cluster.initProducerId(id, 60_000, current)), next)
      const later = yield* settled(cluster.initProducerId(id, 60_000, next))
      assert.deepStrictEqual(later, { producerId, producerEpoch: producerEpoch + 2 })
      assert.strictEqual(yield* refusal(cluster.initProducerId(id, 60_000, current)), "PRODUCER_FENCED")
      assert.strictEqual(
        yield* refusal(cluster.initProducerId(id, 60_000, { producerId: producerId + 1_000, producerEpoch: 0 })),
        "PRODUCER_FENCED",
      )
    }))

  it.effect("gives every producer without an id a producer id of its own", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const ids = yield* Effect.forEach([1, 2, 3], () => settled(cluster.initProducerId(null, 60_000)))
      assert.strictEqual(new Set(ids.map(({ producerId }) => producerId)).size, 3)
    }))

  it.effect("refuses who does not hold the id, partitions that do not exist, and timeouts out of range", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const { identity } = yield* transactor(unique("txn"))
      const add = (txn: typeof identity, partition = 0) => cluster.addPartitionsToTxn(txn, [{ topic, partition }])
      const stranger = { ...identity, producerId: identity.producerId + 1_000 }
      assert.strictEqual(yield* refusal(add(stranger)), "INVALID_PRODUCER_ID_MAPPING")
      assert.strictEqual(yield* refusal(cluster.endTxn(stranger, true)), "INVALID_PRODUCER_ID_MAPPING")
      const unknown = { ...identity, transactionalId: unique("unknown") }
      assert.strictEqual(yield* refusal(add(unknown)), "INVALID_PRODUCER_ID_MAPPING")
      assert.strictEqual(yield* refusal(add(identity, 5)), "UNKNOWN_TOPIC_OR_PARTITION")
      assert.strictEqual(yield* refusal(cluster.initProducerId(unique("txn"), 0)), "INVALID_TRANSACTION_TIMEOUT")
      assert.strictEqual(yield* refusal(cluster.initProducerId(unique("txn"), 900_001)), "INVALID_TRANSACTION_TIMEOUT")
    }))

  it.effect(
    "aborts a transaction that takes longer than its timeout; its owner may begin again",
    () =>
      Effect.gen(function* () {
        const cluster = yield* Cluster
        const topic = yield* newTopic()
        const id = unique("txn")
        const slow = yield* transactor(id, 1_000)
        yield* slow.begin(topic)
        yield* slow.write(topic, ["never"])
        yield* decided(topic)
        assert.strictEqual(yield* refusal(slow.end(true)), "PRODUCER_FENCED")
        const { producerId, producerEpoch } = slow.identity
        const again = yield* settled(cluster.initProducerId(id, 1_000, { producerId, producerEpoch }))
        assert.isAbove(again.producerEpoch, producerEpoch)
        assert.deepStrictEqual((yield* readAll(topic)).values, [])
      }),
    60_000,
  )

  it.effect("nothing new begins while a decision is being written", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const one = yield* transactor(unique("txn"))
      // Whether the markers are still on their way is up to the broker: either answer is right, silence or a mix is not.
      for (let i = 0; i < 10; i++) {
        yield* transact(one, topic, [`${i}`], true)
        const next = yield* Effect.result(cluster.addPartitionsToTxn(one.identity, [{ topic, partition: 0 }]))
        if (next._tag === "Failure") assert.strictEqual(next.failure.code, "CONCURRENT_TRANSACTIONS")
        else yield* one.end(false)
      }
      const { values } = yield* eventually("all committed", readAll(topic), ({ values }) => values.length === 10)
      assert.deepStrictEqual(values, Array.from({ length: 10 }, (_, i) => `${i}`))
    }))
}
