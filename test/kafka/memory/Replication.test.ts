/** Followers that lag, and brokers that restart without what only they have. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Cluster, type ProducerIdentity } from "../../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../../src/kafka/ClusterMemory.ts"

const where = { topic: "t", partition: 0 }
const kafka = ClusterMemory.layer({ nodes: 2, replicationLag: "20 millis" })

const created = Effect.gen(function* () {
  const cluster = yield* Cluster
  yield* cluster.createTopics([{ ...where, partitions: 1, replicationFactor: 2, config: {} }])
  return cluster
})

const leader = Effect.gen(function* () {
  const { topics } = yield* (yield* Cluster).metadata(["t"])
  return topics[0]!.partitions[0]!.leader
})

const produce = (
  producer: ProducerIdentity,
  baseSequence: number,
  value: string,
  transactionalId: string | null = null,
) =>
  Effect.gen(function* () {
    const cluster = yield* Cluster
    const records = { keys: [null], values: [Buffer.from(value)], headers: [[]], timestamps: [0] }
    const batches = [{ ...where, records, producer: { ...producer, baseSequence } }]
    return yield* cluster.produce({
      node: yield* leader,
      transactionalId,
      timeout: 1_000,
      compression: "none",
      batches,
    })
  })

const values = Effect.flatMap(
  ClusterMemory.Control,
  (control) => Effect.map(control.records("t"), (records) => records.map(({ value }) => String(value))),
)

describe("Replication", () => {
  it.effect("acknowledges, and lets be read, what followers have", () =>
    Effect.gen(function* () {
      const cluster = yield* created
      const producer = yield* cluster.initProducerId(null, 1_000)
      const sent = yield* Effect.forkChild(produce(producer, 0, "a"))
      yield* TestClock.adjust(19)
      assert.isUndefined(sent.pollUnsafe())
      assert.deepStrictEqual(yield* values, [])
      const [listed] = yield* cluster.listOffsets([where], "latest", "read_uncommitted")
      assert.strictEqual(listed!.offset, 0)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(sent))[0]!.baseOffset, 0)
      assert.deepStrictEqual(yield* values, ["a"])
    }).pipe(Effect.provide(kafka)))

  it.effect("loses what was not acknowledged, once: the same batch is taken by the next leader", () =>
    Effect.gen(function* () {
      const cluster = yield* created
      const control = yield* ClusterMemory.Control
      const producer = yield* cluster.initProducerId(null, 1_000)
      const first = yield* Effect.forkChild(produce(producer, 0, "a"))
      yield* TestClock.adjust(20)
      yield* Fiber.join(first)
      const before = yield* leader
      const lost = yield* Effect.forkChild(Effect.exit(produce(producer, 1, "b")))
      yield* TestClock.adjust(10)
      assert.strictEqual(yield* control.restart(before), 1)
      const exit = yield* Fiber.join(lost)
      assert.isTrue(Exit.isFailure(exit))
      assert.notStrictEqual(yield* leader, before)
      const again = yield* Effect.forkChild(produce(producer, 1, "b"))
      yield* TestClock.adjust(20)
      assert.deepStrictEqual((yield* Fiber.join(again)).map(({ error }) => error), [null])
      assert.deepStrictEqual(yield* values, ["a", "b"])
    }).pipe(Effect.provide(kafka)))

  it.effect("writes a transaction's marker again, which its coordinator knows", () =>
    Effect.gen(function* () {
      const cluster = yield* created
      const control = yield* ClusterMemory.Control
      const producer = yield* cluster.initProducerId("id", 60_000)
      const txn = { transactionalId: "id", ...producer }
      yield* cluster.addPartitionsToTxn(txn, [where])
      const sent = yield* Effect.forkChild(produce(producer, 0, "a", "id"))
      yield* TestClock.adjust(20)
      yield* Fiber.join(sent)
      yield* cluster.endTxn(txn, true)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* control.restart(yield* leader), 1)
      assert.deepStrictEqual(yield* values, [])
      yield* TestClock.adjust(20)
      assert.deepStrictEqual(yield* values, ["a"])
    }).pipe(Effect.provide(kafka)))
})
