/** Open transactions are found, told whose they are, and ended where that is safe. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Admin, Guarantee, Topic } from "../../src/index.ts"
import { Cluster, type KafkaError } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Transactions from "../../src/ops/Transactions.ts"
import * as Counting from "../support/Counting.ts"
import { Dice } from "../support/Seeds.ts"
import * as Simulation from "../support/Simulation.ts"
import * as Contract from "../kafka/contract/Harness.ts"

const T = Topic.bytes({ name: "t", description: "Test", owner: "tests", partitions: 2 })

const test = (name: string, run: Effect.Effect<void, unknown, Cluster | ClusterMemory.Control>) =>
  it.effect(name, () =>
    Effect.provide(
      Effect.andThen(Admin.createTopics([T]), run),
      Layer.fresh(ClusterMemory.layer()),
    ) as Effect.Effect<void, unknown>)

/** Lets the clock run until it is done: the end of a transaction is waited for. */
const abort = (id: string, force = false) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Transactions.abort(id, { force }))
    yield* Simulation.until("an abort", Effect.sync(() => fiber.pollUnsafe() !== undefined))
    return yield* Fiber.join(fiber)
  })
const reason = (refused: Effect.Effect<unknown, Transactions.TransactionsError, Cluster>) =>
  Effect.map(Effect.flip(refused), ({ reason }) => reason)

/** A commit whose marker is lost: the partition has a transaction open that no coordinator knows. */
const hanging: Effect.Effect<Contract.Transactor, KafkaError, Cluster | ClusterMemory.Control> = Effect.gen(
  function* () {
    const control = yield* ClusterMemory.Control
    const one = yield* Contract.transactor("lost")
    yield* one.begin("t", 0)
    yield* one.write("t", ["hangs"])
    yield* one.end(true)
    const [end] = yield* (yield* Cluster).listOffsets([{ topic: "t", partition: 0 }], "latest", "read_uncommitted")
    yield* control.truncate({ topic: "t", partition: 0 }, end!.offset - 1)
    return one
  },
)

describe("Transactions", () => {
  test(
    "are listed with where they hold readers back, the oldest first, and which one they stop at",
    Effect.gen(function* () {
      yield* TestClock.setTime(1_000_000)
      yield* Contract.write("t", ["before"])
      const first = yield* Contract.transactor("first", 40_000)
      yield* first.begin("t", 0, 1)
      yield* first.write("t", ["a"])
      yield* TestClock.adjust(5_000)
      const second = yield* Contract.transactor("second")
      yield* second.begin("t", 0)
      yield* second.write("t", ["b"])
      yield* Contract.write("t", ["after"])
      const over = yield* Contract.transactor("over")
      yield* over.begin("t", 1)
      yield* over.write("t", ["c"], 1)
      yield* over.end(true)
      const standing = { topic: "t", partition: 0, lastStable: 1, high: 4 }
      const common = { state: "Ongoing", owner: null, producerEpoch: 0 }
      assert.deepStrictEqual(yield* Transactions.list, [
        {
          ...{ ...common, transactionalId: "first", producerId: first.identity.producerId },
          ...{ started: 1_000_000, timeout: 40_000, partitions: [{ ...standing, isFirst: true }] },
        },
        {
          ...{ ...common, transactionalId: "second", producerId: second.identity.producerId },
          ...{ started: 1_005_000, timeout: 60_000, partitions: [{ ...standing, isFirst: false }] },
        },
      ])
      yield* abort("first")
      const [left, ...none] = yield* Transactions.list
      assert.deepStrictEqual([left!.transactionalId, left!.partitions[0]!.isFirst, none], ["second", true, []])
      yield* abort("second")
      assert.deepStrictEqual((yield* Contract.readAll("t")).values, ["before", "after"])
      assert.strictEqual((yield* Effect.flip(first.end(true))).code, "PRODUCER_FENCED")
      assert.strictEqual(yield* reason(abort("second")), "Unknown")
      assert.strictEqual(yield* reason(abort("nobody")), "Unknown")
    }),
  )

  test(
    "that hang are told from those that a coordinator ends, and are ended by a marker",
    Effect.gen(function* () {
      const { identity: { producerId } } = yield* hanging
      const other = yield* Contract.transactor("other")
      yield* other.begin("t", 0)
      yield* other.write("t", ["open"])
      yield* Contract.write("t", ["after"])
      assert.deepStrictEqual((yield* Contract.readAll("t")).values, [])
      const listed = yield* Transactions.list
      assert.deepStrictEqual(listed.map(({ state, producerId }) => [state, producerId]).toSorted(), [
        ["Hanging", producerId],
        ["Ongoing", other.identity.producerId],
      ])
      const here = { topic: "t", partition: 0 }
      // No time-out ends it.
      yield* TestClock.adjust("30 minutes")
      assert.deepStrictEqual((yield* Transactions.list).map(({ state }) => state), ["Hanging"])
      assert.strictEqual(yield* reason(abort("lost")), "Unknown")
      assert.strictEqual(yield* reason(Transactions.abortHanging(here, 4711)), "Unknown")
      yield* Transactions.abortHanging(here, producerId)
      assert.deepStrictEqual((yield* Contract.readAll("t")).values, ["after"])
      assert.deepStrictEqual(yield* Transactions.list, [])
      const third = yield* Contract.transactor("third")
      yield* third.begin("t", 0)
      yield* third.write("t", ["kept"])
      const coordinated = Transactions.abortHanging(here, third.identity.producerId)
      assert.strictEqual(yield* reason(coordinated), "Coordinated")
      yield* third.end(true)
      assert.deepStrictEqual((yield* Contract.readAll("t")).values, ["after", "kept"])
    }),
  )

  test(
    "that end while they are looked at are not taken for such that hang",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const one = yield* Contract.transactor("short")
      yield* one.begin("t", 0)
      yield* one.write("t", ["a"])
      const ending = Cluster.of({
        ...cluster,
        listTransactions: () =>
          Effect.andThen(Effect.provideService(one.end(true), Cluster, cluster), cluster.listTransactions()),
      })
      assert.deepStrictEqual(yield* Effect.provideService(Transactions.list, Cluster, ending), [])
      yield* one.begin("t", 0)
      yield* one.write("t", ["b"])
      const where = { topic: "t", partition: 0 }
      const abort = Effect.provideService(Transactions.abortHanging(where, one.identity.producerId), Cluster, ending)
      assert.strictEqual((yield* Effect.flip(abort)).reason, "Unknown")
      assert.deepStrictEqual((yield* Contract.readAll("t")).values, ["a", "b"])
    }),
  )

  test(
    "that a coordinator cannot tell of now are not taken for such that hang, nor are those whose producer has just written",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const one = yield* Contract.transactor("coordinated")
      yield* one.begin("t", 0)
      yield* one.write("t", ["a"])
      const where = { topic: "t", partition: 0 }
      const moving = Cluster.of({
        ...cluster,
        describeTransactions: (ids) =>
          Effect.map(
            cluster.describeTransactions(ids),
            (answers) => answers.map((answer) => ({ ...answer, error: "NOT_COORDINATOR" })),
          ),
      })
      /** As coordinators answer who may not describe the id. */
      const secret = Cluster.of({ ...cluster, listTransactions: () => Effect.succeed([]) })
      const { producerId } = one.identity
      const asked = Effect.fnUntraced(function* <A>(
        through: Cluster["Service"],
        what: Effect.Effect<A, Transactions.TransactionsError, Cluster>,
      ) {
        const fiber = yield* Effect.forkChild(Effect.provideService(reason(what), Cluster, through))
        yield* Simulation.until("an answer", Effect.sync(() => fiber.pollUnsafe() !== undefined), 120_000)
        return yield* Fiber.join(fiber)
      })
      assert.strictEqual(yield* asked(secret, Transactions.abortHanging(where, producerId)), "Alive")
      assert.strictEqual(yield* asked(moving, Transactions.list), "Kafka")
      assert.strictEqual(yield* asked(moving, Transactions.abortHanging(where, producerId)), "Kafka")
    }),
  )

  test(
    "whose group cannot be asked may have an owner at work",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const id = `some.pipeline-${"0123456789abcdef".repeat(2)}`
      const one = yield* Contract.transactor(id)
      yield* one.begin("t", 0)
      yield* one.write("t", ["a"])
      const away = Cluster.of({
        ...cluster,
        describeGroups: (groups) =>
          Effect.succeed(
            groups.map((group) => ({ group, error: "COORDINATOR_NOT_AVAILABLE", state: "", members: [] })),
          ),
      })
      assert.strictEqual(yield* Effect.provideService(reason(Transactions.abort(id)), Cluster, away), "Alive")
    }),
  )

  it.effect("of a program that is a member of its group are aborted by force alone, of a dead one at once", () =>
    Effect.scoped(Effect.gen(function* () {
      yield* Admin.createTopics(Counting.topics)
      const records = Counting.input(new Dice(1), 80)
      const pipeline = Counting.pipeline(Guarantee.exactlyOnce())
      yield* Simulation.feed(records.slice(0, 40))
      const { network, plan } = Simulation.switched()
      const program = yield* Simulation.start(pipeline, plan)
      yield* Simulation.until("the first half", Simulation.caughtUp)
      // From now on it begins transactions and cannot end them.
      network.decide = ({ operation }) => operation === "EndTxn" ? Faults.unreachable : undefined
      yield* Simulation.feed(records.slice(40, 60))
      const open = Effect.map(Transactions.list, (all) => all.filter(({ partitions }) => partitions.length > 0))
      yield* Simulation.until("an open transaction", Effect.map(open, ({ length }) => length > 0))
      const [one] = yield* open
      assert.deepStrictEqual(one!.owner, { pipeline: "counting", isAlive: "yes" })
      assert.strictEqual(yield* reason(abort(one!.transactionalId!)), "Alive")
      yield* abort(one!.transactionalId!, true)
      network.decide = () => undefined
      yield* Simulation.feed(records.slice(60))
      yield* Simulation.until("the rest", Simulation.caughtUp)
      const read = yield* ClusterMemory.Control
      const logs = new Map<string, ReadonlyArray<ClusterMemory.TopicRecord>>()
      for (const { name } of Counting.topics) logs.set(name, yield* read.records(name))
      assert.deepStrictEqual(Counting.results((topic) => logs.get(topic)!), Counting.expected(records))

      // It dies with a transaction open, and its session ends.
      network.decide = ({ operation }) => operation === "EndTxn" ? Faults.hang : undefined
      yield* Simulation.feed(records.slice(0, 3))
      yield* Simulation.until("another open transaction", Effect.map(open, ({ length }) => length > 0))
      const [left] = yield* open
      yield* program.use(Faults.every(() => true, Faults.hang))
      yield* Simulation.pass(8_000)
      assert.deepStrictEqual((yield* open)[0]!.owner, { pipeline: "counting", isAlive: "no" })
      yield* abort(left!.transactionalId!)
      assert.deepStrictEqual(yield* open, [])
    })).pipe(Effect.provide(Layer.fresh(ClusterMemory.layer()))))

  test(
    "whose owner has committed nothing in the group of its name are not taken for those of a dead one: it may have another",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const id = `some.pipeline-${"0123456789abcdef".repeat(2)}`
      const one = yield* Contract.transactor(id)
      yield* one.begin("t", 0)
      yield* one.write("t", ["a"])
      assert.deepStrictEqual((yield* Transactions.list)[0]!.owner, { pipeline: "some.pipeline", isAlive: "unknown" })
      assert.strictEqual(yield* reason(abort(id)), "Alive")
      const join = (memberId: string) =>
        cluster.joinGroup({
          ...{ group: "some.pipeline", memberId, sessionTimeout: 10_000, rebalanceTimeout: 10_000, protocol: "p" },
          metadata: Buffer.from(""),
        })
      yield* join((yield* join("")).memberId)
      assert.deepStrictEqual((yield* Transactions.list)[0]!.owner, { pipeline: "some.pipeline", isAlive: "unknown" })
      assert.strictEqual(yield* reason(abort(id)), "Alive")
      yield* abort(id, true)
      assert.deepStrictEqual(yield* Transactions.list, [])
    }),
  )
})
