import { assert, type Vitest } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { Buffer } from "node:buffer"
import { Cluster, type Records } from "../../../src/kafka/Cluster.ts"
import { end, fetch, newTopic, produce, readAll, recordsOf, text, write } from "./Harness.ts"

export const logs = (it: Vitest.MethodsNonLive<Cluster>): void => {
  it.effect("answers what was written: keys, values, headers, timestamps, offsets", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const now = yield* Clock.currentTimeMillis
      const records: Records = {
        keys: [Buffer.from("k"), null, Buffer.alloc(0)],
        values: [Buffer.from("v"), Buffer.from("w"), null],
        headers: [[["a", Buffer.from("1")], ["a", Buffer.from("ü")]], [], []],
        timestamps: [now - 5, now - 10, now],
      }
      const [result] = yield* produce([{ topic, partition: 0, records }])
      assert.deepStrictEqual([result!.topic, result!.partition, result!.error, result!.baseOffset], [topic, 0, null, 0])
      const { error, highWatermark, lastStableOffset, logStartOffset, batches, aborted } = yield* fetch(
        { topic, partition: 0 },
        0,
      )
      assert.deepStrictEqual([error, highWatermark, lastStableOffset, logStartOffset], [null, 3, 3, 0])
      assert.deepStrictEqual(aborted, [])
      assert.strictEqual(batches.length, 1)
      const batch = batches[0]!
      assert.deepStrictEqual(
        [batch.baseOffset, batch.lastOffset, batch.producerId, batch.transactional, batch.control],
        [
          0,
          2,
          -1,
          false,
          null,
        ],
      )
      assert.deepStrictEqual(batch.keys.map(text), ["k", "null", ""])
      assert.strictEqual(batch.keys[1], null)
      assert.deepStrictEqual(batch.values.map(text), ["v", "w", "null"])
      assert.strictEqual(batch.values[2], null)
      assert.deepStrictEqual(batch.headers.map((headers) => headers.map(([name, value]) => [name, text(value)])), [
        [["a", "1"], ["a", "ü"]],
        [],
        [],
      ])
      assert.deepStrictEqual([...batch.timestamps], [now - 5, now - 10, now])
      assert.deepStrictEqual([...batch.offsets], [0, 1, 2])
    }))

  it.effect("answers whole batches, from the one that contains the offset", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      yield* write(topic, ["a", "b", "c"])
      yield* write(topic, ["d", "e"])
      const { batches } = yield* fetch({ topic, partition: 0 }, 1)
      assert.deepStrictEqual(batches.map(({ baseOffset, lastOffset }) => [baseOffset, lastOffset]), [[0, 2], [3, 4]])
      const later = yield* fetch({ topic, partition: 0 }, 3)
      assert.deepStrictEqual(later.batches.map(({ baseOffset }) => baseOffset), [3])
    }))

  it.effect("answers at most the bytes asked for, but one batch in any case, of the first partition that has one", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic(1)
      const other = yield* newTopic(1)
      const large = "x".repeat(2_000)
      for (const value of [large, large, large]) yield* write(topic, [value])
      yield* write(other, [large])
      const one = yield* fetch({ topic, partition: 0 }, 0, { maxBytes: 100 })
      assert.strictEqual(one.batches.length, 1)
      const two = yield* fetch({ topic, partition: 0 }, 0, { maxBytes: 4_500 })
      assert.strictEqual(two.batches.length, 2)
      const { brokers: [broker], topics } = yield* cluster.metadata([topic, other])
      if (topics.some(({ partitions: [only] }) => only!.leader !== broker!.node)) return
      const both = yield* cluster.fetch({
        node: broker!.node,
        maxWait: 0,
        maxBytes: 100,
        partitions: [topic, other].map((topic) => ({ topic, partition: 0, offset: 0, maxBytes: 1_000_000 })),
      })
      const found = both.map((answer) => [answer.topic, answer.error, answer.batches.length])
      assert.sameDeepMembers(found, [[topic, null, 1], [other, null, 0]])
      const atEnd = yield* cluster.fetch({
        node: broker!.node,
        maxWait: 0,
        maxBytes: 100,
        partitions: [{ topic, partition: 0, offset: 3, maxBytes: 100 }, {
          topic: other,
          partition: 0,
          offset: 0,
          maxBytes: 100,
        }],
      })
      assert.sameDeepMembers(atEnd.map((answer) => [answer.topic, answer.batches.length]), [[topic, 0], [other, 1]])
    }))

  it.effect("waits for data as long as the reader wants to, and no longer than it must", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const begun = yield* Clock.currentTimeMillis
      const nothing = yield* fetch({ topic, partition: 0 }, 0, { maxWait: 300 })
      assert.deepStrictEqual([nothing.error, nothing.batches, nothing.highWatermark], [null, [], 0])
      assert.isAtLeast((yield* Clock.currentTimeMillis) - begun, 290)
      const waiting = yield* Effect.forkChild(fetch({ topic, partition: 0 }, 0, { maxWait: 25_000 }))
      yield* Effect.sleep(200)
      const written = yield* Clock.currentTimeMillis
      yield* write(topic, ["a"])
      const { batches } = yield* Fiber.join(waiting)
      assert.isBelow((yield* Clock.currentTimeMillis) - written, 10_000)
      assert.deepStrictEqual(batches.flatMap(({ values }) => values.map(text)), ["a"])
    }))

  it.effect("refuses to read outside of the log", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      yield* write(topic, ["a"])
      const beyond = yield* fetch({ topic, partition: 0 }, 2, { maxWait: 20_000 })
      assert.deepStrictEqual([beyond.error, beyond.batches], ["OFFSET_OUT_OF_RANGE", []])
      const atEnd = yield* fetch({ topic, partition: 0 }, 1)
      assert.deepStrictEqual([atEnd.error, atEnd.batches], [null, []])
    }))

  it.effect("lists the first offset, the next one, and the first of a time", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic(2)
      const now = yield* Clock.currentTimeMillis
      const times = [now - 3_000, now - 2_000, now - 1_000]
      for (const time of times) yield* produce([{ topic, partition: 0, records: yield* recordsOf(["a", "b"], time) }])
      const list = (at: "earliest" | "latest" | number) =>
        Effect.map(
          cluster.listOffsets([{ topic, partition: 0 }, { topic, partition: 1 }], at, "read_committed"),
          (listed) => listed.toSorted((a, b) => a.partition - b.partition).map(({ error, offset }) => error ?? offset),
        )
      assert.deepStrictEqual(yield* list("earliest"), [0, 0])
      assert.deepStrictEqual(yield* list("latest"), [6, 0])
      assert.deepStrictEqual(yield* list(now - 2_000), [2, -1])
      assert.deepStrictEqual(yield* list(now - 1_999), [4, -1])
      assert.deepStrictEqual(yield* list(now), [-1, -1])
    }))

  it.effect("refuses a batch above max.message.bytes whole, and takes the others of its request", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic(2, { "max.message.bytes": "2000" })
      const small = "x".repeat(500)
      const results = yield* produce([
        { topic, partition: 0, records: yield* recordsOf([small, small, small, small]) },
        { topic, partition: 1, records: yield* recordsOf([small, small, small]) },
      ])
      assert.sameDeepMembers(results.map(({ partition, error }) => [partition, error]), [[0, "MESSAGE_TOO_LARGE"], [
        1,
        null,
      ]])
      assert.strictEqual(yield* end(topic, "read_uncommitted", 0), 0)
      assert.deepStrictEqual((yield* readAll(topic, 1)).values, [small, small, small])
    }))

  it.effect("writes where all replicas are in sync, also if the topic wants more than it has", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic(1, { "min.insync.replicas": "4" })
      yield* write(topic, ["a"])
      assert.deepStrictEqual((yield* readAll(topic)).values, ["a"])
    }))

  it.effect("refuses a batch whole for one record that is stamped two hours ahead", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const now = yield* Clock.currentTimeMillis
      const records = yield* recordsOf(["a", "b"])
      const ahead = (hours: number) => ({ ...records, timestamps: [now, now + hours * 3_600_000] })
      const [refused] = yield* produce([{ topic, partition: 0, records: ahead(2) }])
      assert.deepStrictEqual([refused!.error, refused!.baseOffset], ["INVALID_TIMESTAMP", -1])
      assert.strictEqual(yield* end(topic, "read_uncommitted"), 0)
      const [taken] = yield* produce([{ topic, partition: 0, records: ahead(0.5) }])
      assert.strictEqual(taken!.error, null)
    }))

  it.effect("takes no record without a key into a compacted topic", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic(1, { "cleanup.policy": "compact" })
      const [refused] = yield* produce([{ topic, partition: 0, records: yield* recordsOf(["a"]) }])
      assert.strictEqual(refused!.error, "INVALID_RECORD")
    }))
}
