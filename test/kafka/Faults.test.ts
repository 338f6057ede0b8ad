import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Cluster, type TopicPartition } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { text } from "../../src/Topic.ts"

const layer = Faults.layer.pipe(Layer.provideMerge(ClusterMemory.layer()))

const test = (name: string, body: Effect.Effect<void, unknown, Cluster | Faults.Faults | ClusterMemory.Control>) =>
  it.effect(name, () =>
    Effect.provide(
      Effect.gen(function* () {
        yield* Cluster.use((cluster) =>
          cluster.createTopics([{ topic: "t", partitions: 3, replicationFactor: 1, config: {} }])
        )
        yield* body
      }),
      layer,
    ))

const use = (plan: Faults.Plan) => Faults.Faults.use((faults) => faults.use(plan))

/** Writes a value to each of these partitions; answers errors by partition. */
const produce = (value: string, ...partitions: ReadonlyArray<number>) =>
  Cluster.use((cluster) =>
    cluster.produce({
      node: 1,
      transactionalId: null,
      timeout: 1_000,
      compression: "none",
      batches: partitions.map((partition) => ({
        topic: "t",
        partition,
        records: { keys: [null], values: [Buffer.from(value)], headers: [[]], timestamps: [0] },
      })),
    })
  ).pipe(
    Effect.map((results) => results.map(({ error }) => error)),
    Effect.catch(({ code, operation }) => Effect.succeed([`${operation}: ${code}`])),
  )

const fetch = Cluster.use((cluster) =>
  cluster.fetch({
    node: 1,
    maxWait: 0,
    maxBytes: 1e6,
    partitions: [0, 1, 2].map((partition) => ({ topic: "t", partition, offset: 0, maxBytes: 1e6 })),
  })
).pipe(Effect.map((answers) => answers.map(({ error, batches }) => error ?? batches.length)))

/** What is in the log, whatever was answered. */
const written = ClusterMemory.Control.use((control) =>
  Effect.map(control.records("t"), (records) => records.map(({ value }) => text(value!)))
)

const odd = ({ partition }: TopicPartition) => partition % 2 === 1

describe("Faults", () => {
  test(
    "passes everything through until a plan is used",
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* produce("a", 0), [null])
      assert.deepStrictEqual(yield* written, ["a"])
    }),
  )

  test(
    "refuses the n-th call of an operation without carrying it out",
    Effect.gen(function* () {
      yield* use(Faults.at("Produce", 2, Faults.refuse("NOT_COORDINATOR")))
      assert.deepStrictEqual(yield* produce("a", 0), [null])
      assert.deepStrictEqual(yield* fetch, [1, 0, 0])
      assert.deepStrictEqual(yield* produce("b", 0), ["Produce: NOT_COORDINATOR"])
      assert.deepStrictEqual(yield* produce("c", 0), [null])
      assert.deepStrictEqual(yield* written, ["a", "c"])
    }),
  )

  test(
    "loses the answer of a call that was carried out",
    Effect.gen(function* () {
      yield* use(Faults.all(
        Faults.at("Produce", 1, Faults.loseAnswer),
        Faults.at("Produce", 2, Faults.loseAnswerAs("TIMEOUT")),
        Faults.at("Produce", 3, Faults.unreachable),
      ))
      const answers = yield* Effect.forEach(["a", "b", "c"], (value) => produce(value, 0))
      assert.deepStrictEqual(answers.flat(), ["Produce: NETWORK", "Produce: TIMEOUT", "Produce: NETWORK"])
      assert.deepStrictEqual(yield* written, ["a", "b"])
    }),
  )

  test(
    "delays a call, and hangs one until it is interrupted",
    Effect.gen(function* () {
      yield* use(Faults.all(
        Faults.at("Produce", 1, Faults.delay("1 second")),
        Faults.at("Produce", 2, Faults.hang),
        Faults.at("Produce", 3, Faults.hangAfter),
      ))
      const late = yield* Effect.forkChild(produce("late", 0))
      yield* TestClock.adjust(999)
      assert.deepStrictEqual(yield* written, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(late), [null])
      const lost = yield* Effect.forkChild(produce("lost", 0))
      const silent = yield* Effect.forkChild(produce("silent", 0))
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(lost.pollUnsafe())
      assert.isUndefined(silent.pollUnsafe())
      assert.deepStrictEqual(yield* written, ["late", "silent"])
      yield* Fiber.interruptAll([lost, silent])
    }),
  )

  test(
    "kills a program at a step: nothing it does later reaches the brokers",
    Effect.gen(function* () {
      for (const [carriedOut, fault] of [[false, Faults.crash], [true, Faults.crashAfter]] as const) {
        const died = yield* Deferred.make<void>()
        yield* use(Faults.at("Produce", 2, fault(Deferred.succeed(died, undefined))))
        const before = yield* written
        const program = yield* Effect.forkChild(Effect.ensuring(
          Effect.forEach(["a", "b", "c"], (value) => produce(value, 0)),
          produce("last words", 0),
        ))
        yield* Deferred.await(died)
        yield* Fiber.interrupt(program)
        assert.deepStrictEqual(yield* written, [...before, "a", ...(carriedOut ? ["b"] : [])])
      }
      yield* use(Faults.none)
      assert.deepStrictEqual(yield* produce("restarted", 0), [null])
    }),
  )

  test(
    "lets single partitions fail, carried out or not",
    Effect.gen(function* () {
      const code = "NOT_LEADER_OR_FOLLOWER"
      yield* use(Faults.all(
        Faults.at("Produce", 1, Faults.refusePartitions(code, odd)),
        Faults.at("Produce", 2, Faults.misreportPartitions("REQUEST_TIMED_OUT", odd)),
        Faults.at("Produce", 3, Faults.refusePartitions(code)),
        Faults.at("Fetch", 1, Faults.refusePartitions(code, odd)),
      ))
      assert.deepStrictEqual(yield* produce("a", 0, 1, 2), [null, code, null])
      assert.deepStrictEqual(yield* produce("b", 0, 1, 2), [null, "REQUEST_TIMED_OUT", null])
      assert.deepStrictEqual(yield* produce("c", 0, 1), [code, code])
      assert.deepStrictEqual(yield* written, ["a", "b", "b", "a", "b"])
      assert.deepStrictEqual(yield* fetch, [2, code, 2])
      assert.deepStrictEqual(yield* fetch, [2, 1, 2])
    }),
  )

  test(
    "logs the calls, so that a test can repeat a run with a fault at each step",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const faults = yield* Faults.Faults
      const run = Effect.gen(function* () {
        const { producerId, producerEpoch } = yield* cluster.initProducerId("id", 60_000)
        const txn = { transactionalId: "id", producerId, producerEpoch }
        yield* cluster.addOffsetsToTxn(txn, "g")
        const position = { topic: "t", partition: 0, offset: 1, metadata: "" }
        yield* cluster.txnOffsetCommit(txn, { group: "g", generation: -1, memberId: "" }, [position])
        yield* cluster.endTxn(txn, true)
      })
      yield* faults.use(Faults.none)
      yield* run
      const calls = yield* faults.calls
      assert.deepStrictEqual(calls.map(({ operation, step }) => [step, operation]), [
        [1, "InitProducerId"],
        [2, "AddOffsetsToTxn"],
        [3, "TxnOffsetCommit"],
        [4, "EndTxn"],
      ])
      assert.deepStrictEqual(calls[2], {
        operation: "TxnOffsetCommit",
        count: 1,
        step: 3,
        at: 0,
        topics: ["t"],
        group: "g",
        transactionalId: "id",
      })
      for (const { operation, count, step } of calls) {
        yield* faults.use(Faults.at(operation, count, Faults.unreachable))
        const { code } = yield* Effect.flip(run)
        assert.strictEqual(code, "NETWORK")
        assert.strictEqual((yield* faults.calls).length, step)
        // What was left open is aborted at the next start.
        yield* faults.use(Faults.none)
        yield* Effect.ignore(cluster.initProducerId("id", 60_000))
      }
    }),
  )

  test(
    "counts by what a call is about, and lets a plan match every such call",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      yield* use(Faults.all(
        Faults.nth(2, ({ group }) => group === "g", Faults.refuse("NOT_COORDINATOR")),
        Faults.every(({ operation }) => operation === "ListGroups", Faults.refuse("COORDINATOR_LOAD_IN_PROGRESS")),
      ))
      const offsets = (group: string) => Effect.exit(cluster.offsetFetch(group, undefined, false))
      const exits = [yield* offsets("g"), yield* offsets("other"), yield* offsets("g"), yield* offsets("g")]
      assert.deepStrictEqual(exits.map(({ _tag }) => _tag), ["Success", "Success", "Failure", "Success"])
      for (let i = 0; i < 3; i++) {
        assert.strictEqual((yield* Effect.flip(cluster.listGroups())).code, "COORDINATOR_LOAD_IN_PROGRESS")
      }
    }),
  )

  test(
    "draws the same faults from the same seed, about as many as asked for",
    Effect.gen(function* () {
      const plan = Faults.random(7, { refuse: 0.2, loseAnswer: 0.2 })
      const run = Effect.gen(function* () {
        yield* use(plan)
        return yield* Effect.forEach(Array.from({ length: 200 }), () => produce("x", 0, 1, 2))
      })
      const first = yield* run
      assert.deepStrictEqual(yield* run, first)
      const failed = first.filter((errors) => errors.some((error) => error !== null)).length
      assert.isAbove(failed, 40)
      assert.isBelow(failed, 120)
      yield* use(Faults.random(8, { refuse: 0.2, loseAnswer: 0.2 }))
      const other = yield* Effect.forEach(Array.from({ length: 200 }), () => produce("x", 0, 1, 2))
      assert.notDeepEqual(other, first)
      yield* use(Faults.random(7, { refuse: 1, matches: ({ operation }) => operation === "EndTxn" }))
      assert.deepStrictEqual(yield* produce("x", 0), [null])
    }),
  )
})
