import { assert, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
import { Cluster } from "../../../src/kafka/Cluster.ts"
import { end, newTopic, produce, readAll, recordsOf, settled } from "./Harness.ts"

/** Writes a batch of `values` and answers its offset, or the error. */
const writer = Effect.fnUntraced(function* (topic: string) {
  const cluster = yield* Cluster
  const { producerId, producerEpoch } = yield* settled(cluster.initProducerId(null, 60_000))
  assert.strictEqual(producerEpoch, 0)
  return Effect.fnUntraced(function* (baseSequence: number, values: ReadonlyArray<string>, epoch = 0) {
    const records = yield* recordsOf(values)
    const producer = { producerId, producerEpoch: epoch, baseSequence }
    const [result] = yield* produce([{ topic, partition: 0, records, producer }])
    return result!.error ?? result!.baseOffset
  })
})

export const idempotence = (it: Vitest.MethodsNonLive<Cluster>): void => {
  it.effect("writes a batch once, however often it is sent", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const write = yield* writer(topic)
      for (let i = 0; i < 6; i++) assert.strictEqual(yield* write(i, [`${i}`]), i)
      for (let i = 1; i < 6; i++) assert.include([0, i], yield* write(i, [`${i}`]))
      assert.deepStrictEqual((yield* readAll(topic)).values, ["0", "1", "2", "3", "4", "5"])
      // Only the last five are remembered, and only as they were cut.
      assert.strictEqual(yield* write(0, ["0"]), "OUT_OF_ORDER_SEQUENCE_NUMBER")
      assert.strictEqual(yield* write(4, ["4", "5"]), "OUT_OF_ORDER_SEQUENCE_NUMBER")
      assert.strictEqual(yield* end(topic, "read_uncommitted"), 6)
    }))

  it.effect("refuses a batch that leaves out a sequence number", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const write = yield* writer(topic)
      assert.strictEqual(yield* write(0, ["a", "b"]), 0)
      assert.strictEqual(yield* write(3, ["d"]), "OUT_OF_ORDER_SEQUENCE_NUMBER")
      assert.strictEqual(yield* write(2, ["c"]), 2)
    }))

  it.effect("takes any sequence of a producer it does not know, and goes on at 0 after 2^31 - 1", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const write = yield* writer(topic)
      assert.strictEqual(yield* write(2 ** 31 - 2, ["a", "b", "c"]), 0)
      assert.include([0], yield* write(2 ** 31 - 2, ["a", "b", "c"]))
      assert.strictEqual(yield* write(0, ["d"]), "OUT_OF_ORDER_SEQUENCE_NUMBER")
      assert.strictEqual(yield* write(1, ["d"]), 3)
      assert.deepStrictEqual((yield* readAll(topic)).values, ["a", "b", "c", "d"])
    }))

  it.effect("begins a new epoch at sequence 0 and refuses the old one from then on", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const write = yield* writer(topic)
      assert.strictEqual(yield* write(0, ["a"]), 0)
      assert.strictEqual(yield* write(1, ["b"], 1), "OUT_OF_ORDER_SEQUENCE_NUMBER")
      assert.strictEqual(yield* write(0, ["b"], 1), 1)
      assert.strictEqual(yield* write(1, ["c"], 0), "INVALID_PRODUCER_EPOCH")
      assert.strictEqual(yield* write(1, ["c"], 1), 2)
    }))
}
