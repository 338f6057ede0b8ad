import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Layer, Random } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Cluster, type GroupIdentity, type Records } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { Control } from "../../src/kafka/ClusterMemory.ts"
import { text } from "../../src/Topic.ts"
import { contract } from "./Cluster.contract.ts"

contract("Cluster in memory", ClusterMemory.layer())
contract(
  "Cluster in memory, late markers and slow groups",
  ClusterMemory.layer({ markerDelay: "30 millis", initialRebalanceDelay: "50 millis" }),
)

/** Records with these values: stamped 0, without keys unless given. */
const recordsOf = (values: ReadonlyArray<string>, keys?: ReadonlyArray<string>): Records => ({
  keys: values.map((_, i) => keys === undefined ? null : Buffer.from(keys[i]!)),
  values: values.map((value) => Buffer.from(value)),
  headers: values.map(() => []),
  timestamps: values.map(() => 0),
})

const where = { topic: "t", partition: 0 }
const group = "g"
const protocol = "p"

const create = (partitions = 1, config: Record<string, string> = {}) =>
  Cluster.use((cluster) => cluster.createTopics([{ topic: "t", partitions, replicationFactor: -1, config }]))

const read = (offset: number, maxWait = 0, node = 1) =>
  Cluster.use((cluster) =>
    cluster.fetch({ node, maxWait, maxBytes: 1e6, partitions: [{ ...where, offset, maxBytes: 1e6 }] })
  ).pipe(Effect.map(([answer]) => answer!))

const begin = Effect.fnUntraced(function* (transactionalId: string, timeout: number) {
  const cluster = yield* Cluster
  const { producerId, producerEpoch } = yield* cluster.initProducerId(transactionalId, timeout)
  const txn = { transactionalId, producerId, producerEpoch }
  yield* cluster.addPartitionsToTxn(txn, [where])
  yield* cluster.produce({
    node: 1,
    transactionalId,
    timeout: 1_000,
    compression: "none",
    batches: [{ ...where, records: recordsOf(["a"]), producer: { producerId, producerEpoch, baseSequence: 0 } }],
  })
  return txn
})

const codeOf = <A, E extends { readonly code: string }, R>(ask: Effect.Effect<A, E, R>) =>
  Effect.match(ask, { onFailure: ({ code }) => code, onSuccess: () => "no error" })

const joinAs = (memberId: string, options: { readonly session?: number; readonly rebalance?: number } = {}) =>
  Cluster.use((cluster) =>
    cluster.joinGroup({
      group,
      memberId,
      sessionTimeout: options.session ?? 10_000,
      rebalanceTimeout: options.rebalance ?? 60_000,
      protocol,
      metadata: Buffer.from("m"),
    })
  )

const identityOf = (
  { memberId, generation }: { readonly memberId: string; readonly generation: number },
): GroupIdentity => ({
  group,
  memberId,
  generation,
})

const stateOf = Cluster.use((cluster) => Effect.map(cluster.describeGroups([group]), ([found]) => found!.state))

const test = (
  name: string,
  body: Effect.Effect<void, unknown, Cluster | Control>,
  options: ClusterMemory.Options = {},
) => it.effect(name, () => Effect.provide(body, ClusterMemory.layer(options)))

describe("ClusterMemory on a test clock", () => {
  test(
    "aborts a transaction when its timeout is over, and not before; a reader that waits is answered",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      yield* create()
      const txn = yield* begin("id", 10_000)
      const waiting = yield* Effect.forkChild(read(0, 60_000))
      yield* TestClock.adjust(10_000)
      assert.deepStrictEqual(yield* Control.use((control) => control.openTransactions), [
        { transactionalId: "id", state: "Ongoing" },
      ])
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(1)
      const answer = yield* Fiber.join(waiting)
      assert.deepStrictEqual(answer.aborted, [{ producerId: txn.producerId, firstOffset: 0 }])
      assert.strictEqual(yield* codeOf(cluster.endTxn(txn, true)), "PRODUCER_FENCED")
      assert.deepStrictEqual(yield* Control.use((control) => control.openTransactions), [])
    }),
  )

  test(
    "writes markers after their delay; until then nothing new begins and nothing is stable",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      yield* create()
      const txn = yield* begin("id", 60_000)
      yield* cluster.addOffsetsToTxn(txn, group)
      const position = { ...where, offset: 9, metadata: "" }
      yield* cluster.txnOffsetCommit(txn, { group, generation: -1, memberId: "" }, [position])
      yield* cluster.endTxn(txn, true)
      const waiting = yield* Effect.forkChild(read(0, 60_000))
      yield* TestClock.adjust(99)
      const concurrent = "CONCURRENT_TRANSACTIONS"
      assert.strictEqual(yield* codeOf(cluster.addPartitionsToTxn(txn, [where])), concurrent)
      assert.strictEqual(yield* codeOf(cluster.endTxn(txn, true)), concurrent)
      assert.strictEqual(yield* codeOf(cluster.endTxn(txn, false)), "INVALID_TXN_STATE")
      assert.strictEqual(yield* codeOf(cluster.initProducerId("id", 60_000)), concurrent)
      const unstable = yield* cluster.offsetFetch(group, [where], true)
      assert.strictEqual(unstable[0]!.error, "UNSTABLE_OFFSET_COMMIT")
      assert.strictEqual((yield* read(0)).lastStableOffset, 0)
      assert.deepStrictEqual(yield* Control.use((control) => control.openTransactions), [
        { transactionalId: "id", state: "PrepareCommit" },
      ])
      yield* TestClock.adjust(1)
      const { lastStableOffset, batches } = yield* Fiber.join(waiting)
      assert.deepStrictEqual([lastStableOffset, batches.length], [2, 2])
      const stable = yield* cluster.offsetFetch(group, [where], true)
      assert.strictEqual(stable[0]!.offset, 9)
      yield* cluster.addPartitionsToTxn(txn, [where])
    }),
    { markerDelay: "100 millis" },
  )

  test(
    "without a delay markers are there when the next request is answered",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      yield* create()
      const txn = yield* begin("id", 60_000)
      yield* cluster.endTxn(txn, true)
      assert.strictEqual((yield* read(0)).lastStableOffset, 2)
    }),
  )

  test(
    "a fetch waits exactly as long as it may",
    Effect.gen(function* () {
      yield* create()
      const waiting = yield* Effect.forkChild(Effect.andThen(read(0, 500), Clock.currentTimeMillis))
      yield* TestClock.adjust(499)
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(1_000)
      assert.strictEqual(yield* Fiber.join(waiting), 500)
    }),
  )

  test(
    "a reader that waits is answered when its leader moves or its topic is deleted",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const control = yield* Control
      yield* create()
      const moved = yield* Effect.forkChild(read(0, 60_000))
      yield* Effect.yieldNow
      yield* control.lead(where, 2)
      assert.strictEqual((yield* Fiber.join(moved)).error, "NOT_LEADER_OR_FOLLOWER")
      const deleted = yield* Effect.forkChild(read(0, 60_000, 2))
      yield* Effect.yieldNow
      yield* cluster.deleteTopics(["t"])
      assert.strictEqual((yield* Fiber.join(deleted)).error, "UNKNOWN_TOPIC_OR_PARTITION")
    }),
    { nodes: 3 },
  )

  test(
    "spreads leaders over the brokers, and only the leader serves",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      yield* cluster.createTopics([{ topic: "t", partitions: 4, replicationFactor: 2, config: {} }])
      const { brokers, topics: [topic] } = yield* cluster.metadata(["t"])
      assert.deepStrictEqual(brokers.map(({ node }) => node), [1, 2, 3])
      assert.deepStrictEqual(topic!.partitions.map(({ leader }) => leader), [1, 2, 3, 1])
      assert.deepStrictEqual(topic!.partitions.map(({ inSync }) => inSync), [[1, 2], [2, 3], [3, 1], [1, 2]])
      const batch = { ...where, records: recordsOf(["a"]) }
      const send = (node: number) =>
        cluster.produce({ node, transactionalId: null, timeout: 1_000, compression: "none", batches: [batch] })
      assert.strictEqual((yield* send(2))[0]!.error, "NOT_LEADER_OR_FOLLOWER")
      assert.strictEqual((yield* send(1))[0]!.error, null)
      assert.strictEqual((yield* read(0, 60_000, 3)).error, "NOT_LEADER_OR_FOLLOWER")
      assert.strictEqual((yield* read(0)).error, null)
    }),
    { nodes: 3 },
  )

  test(
    "removes a silent member when its session is over, and not before",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const { memberId } = yield* joinAs("")
      const member = identityOf(yield* joinAs(memberId))
      yield* cluster.syncGroup(member, protocol, [])
      yield* TestClock.adjust(9_000)
      yield* cluster.heartbeat(member)
      yield* TestClock.adjust(9_999)
      assert.strictEqual(yield* stateOf, "Stable")
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* stateOf, "Empty")
      assert.strictEqual(yield* codeOf(cluster.heartbeat(member)), "UNKNOWN_MEMBER_ID")
    }),
  )

  test(
    "waits for a member that has its id and not joined yet, until its session is over",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const first = yield* joinAs("")
      const member = identityOf(yield* joinAs(first.memberId, { session: 60_000 }))
      yield* cluster.syncGroup(member, protocol, [])
      yield* joinAs("", { session: 20_000 })
      const waiting = yield* Effect.forkChild(joinAs(member.memberId, { session: 60_000 }))
      yield* TestClock.adjust(19_999)
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(waiting)).generation, member.generation + 1)
    }),
  )

  test(
    "removes members that do not ask for their assignment within the rebalance timeout",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const { memberId } = yield* joinAs("")
      const member = identityOf(yield* joinAs(memberId, { session: 1_000_000, rebalance: 30_000 }))
      yield* TestClock.adjust(30_000)
      assert.strictEqual(yield* codeOf(cluster.syncGroup(member, protocol, [])), "UNKNOWN_MEMBER_ID")
      assert.strictEqual(yield* stateOf, "Empty")
    }),
  )

  test(
    "members that wait in a rebalance need not be heard of; who does not join again in time is dropped",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const first = yield* joinAs("")
      const slow = identityOf(yield* joinAs(first.memberId))
      yield* cluster.syncGroup(slow, protocol, [])
      const second = yield* joinAs("")
      const waiting = yield* Effect.forkChild(joinAs(second.memberId, { rebalance: 60_000 }))
      for (let i = 0; i < 11; i++) {
        yield* TestClock.adjust(5_000)
        assert.strictEqual(yield* codeOf(cluster.heartbeat(slow)), "REBALANCE_IN_PROGRESS")
      }
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(5_000)
      const joined = yield* Fiber.join(waiting)
      assert.deepStrictEqual([joined.leader, joined.members.length], [second.memberId, 1])
    }),
  )

  test(
    "a new group waits for more members, and longer while more come",
    Effect.gen(function* () {
      const first = yield* joinAs("")
      const waiting = yield* Effect.forkChild(joinAs(first.memberId))
      yield* TestClock.adjust(2_000)
      const second = yield* joinAs("")
      const beside = yield* Effect.forkChild(joinAs(second.memberId))
      yield* TestClock.adjust(3_999)
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(1)
      const [one, two] = [yield* Fiber.join(waiting), yield* Fiber.join(beside)]
      assert.deepStrictEqual([one.generation, two.generation, one.members.length], [1, 1, 2])
    }),
    { initialRebalanceDelay: "3 seconds" },
  )

  test(
    "the next epoch after the last one comes with another producer id",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      let current = yield* cluster.initProducerId("id", 60_000)
      const { producerId } = current
      for (let i = 0; i < 32_766; i++) current = yield* cluster.initProducerId("id", 60_000, current)
      assert.deepStrictEqual(current, { producerId, producerEpoch: 32_766 })
      const next = yield* cluster.initProducerId("id", 60_000, current)
      assert.notStrictEqual(next.producerId, producerId)
      assert.strictEqual(next.producerEpoch, 0)
      assert.deepStrictEqual(yield* cluster.initProducerId("id", 60_000, current), next)
    }),
  )

  test(
    "knows where the committed records end: neither markers nor what is undecided or aborted counts",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const control = yield* Control
      yield* create(2)
      assert.deepStrictEqual(yield* control.ends("t"), [0, 0])
      yield* control.append(where, recordsOf(["x", "y"]))
      assert.deepStrictEqual(yield* control.ends("t"), [2, 0])
      const first = yield* begin("id", 60_000)
      yield* control.append(where, recordsOf(["z"]))
      assert.deepStrictEqual(yield* control.ends("t"), [2, 0])
      yield* cluster.endTxn(first, false)
      assert.deepStrictEqual(yield* control.ends("t"), [4, 0])
      const second = yield* begin("other", 60_000)
      yield* cluster.endTxn(second, false)
      assert.deepStrictEqual(yield* control.ends("t"), [4, 0])
      const third = yield* begin("third", 60_000)
      yield* cluster.endTxn(third, true)
      assert.deepStrictEqual(yield* control.ends("t"), [8, 0])
    }),
  )

  test(
    "forgets by the topic's retention as time passes",
    Effect.gen(function* () {
      const control = yield* Control
      yield* create(1, { "retention.ms": "3600000" })
      yield* control.append(where, recordsOf(["a", "b"]))
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual((yield* control.records("t")).length, 2)
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* read(0)).error, "OFFSET_OUT_OF_RANGE")
      assert.strictEqual((yield* read(2)).logStartOffset, 2)
    }),
    { retentionInterval: "1 minute" },
  )

  test(
    "lets a test look inside: committed records, sizes, and compaction at once",
    Effect.gen(function* () {
      const control = yield* Control
      const cluster = yield* Cluster
      yield* create(2, { "cleanup.policy": "compact" })
      yield* control.append(where, recordsOf(["1", "1", "2"], ["a", "b", "a"]))
      yield* control.append({ topic: "t", partition: 1 }, recordsOf(["3"], ["c"]))
      const { producerId, producerEpoch } = yield* cluster.initProducerId("id", 60_000)
      const txn = { transactionalId: "id", producerId, producerEpoch }
      yield* cluster.addPartitionsToTxn(txn, [where])
      yield* cluster.produce({
        node: 1,
        transactionalId: "id",
        timeout: 1_000,
        compression: "none",
        batches: [{
          ...where,
          records: recordsOf(["never"], ["d"]),
          producer: { producerId, producerEpoch, baseSequence: 0 },
        }],
      })
      yield* cluster.endTxn(txn, false)
      const contents = Effect.map(
        control.records("t"),
        (records) =>
          records.map(({ partition, offset, key, value }) => `${partition}/${offset} ${text(key!)}=${text(value!)}`),
      )
      assert.deepStrictEqual(yield* contents, ["0/0 a=1", "0/1 b=1", "0/2 a=2", "1/0 c=3"])
      const before = yield* control.size("t")
      yield* control.expire
      assert.deepStrictEqual(yield* contents, ["0/1 b=1", "0/2 a=2", "1/0 c=3"])
      assert.isBelow(yield* control.size("t"), before)
    }),
  )

  test(
    "lets a test lose records, and remove a member",
    Effect.gen(function* () {
      const control = yield* Control
      const cluster = yield* Cluster
      yield* create()
      yield* control.append(where, recordsOf(["a"]))
      yield* control.append(where, recordsOf(["b"]))
      yield* control.truncate(where, 1)
      assert.deepStrictEqual((yield* control.records("t")).map(({ value }) => text(value!)), ["a"])
      assert.strictEqual((yield* read(2)).error, "OFFSET_OUT_OF_RANGE")
      const { memberId } = yield* joinAs("")
      const member = identityOf(yield* joinAs(memberId))
      yield* cluster.syncGroup(member, protocol, [])
      yield* control.kick(group, memberId)
      assert.strictEqual(yield* codeOf(cluster.heartbeat(member)), "UNKNOWN_MEMBER_ID")
    }),
  )

  test(
    "a member whose join was interrupted is still waited for, as over a network",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const first = yield* joinAs("")
      const member = identityOf(yield* joinAs(first.memberId))
      yield* cluster.syncGroup(member, protocol, [])
      const second = yield* joinAs("")
      const joining = yield* Effect.forkChild(joinAs(second.memberId))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(joining)
      const joined = yield* joinAs(member.memberId)
      assert.strictEqual(joined.members.length, 2)
      yield* cluster.syncGroup(identityOf(joined), protocol, [])
      yield* TestClock.adjust(9_000)
      yield* cluster.heartbeat(identityOf(joined))
      yield* TestClock.adjust(1_000)
      assert.strictEqual(yield* codeOf(cluster.heartbeat(identityOf(joined))), "REBALANCE_IN_PROGRESS")
    }),
  )

  it.effect("answers the same to the same requests, and every layer is a cluster of its own", () =>
    Effect.gen(function* () {
      const run = Effect.gen(function* () {
        const cluster = yield* Cluster
        yield* create(2)
        const txn = yield* begin("id", 5_000)
        const { memberId } = yield* joinAs("")
        const joined = yield* joinAs(memberId)
        yield* TestClock.adjust("6 seconds")
        return { txn, joined, metadata: yield* cluster.metadata(), answer: yield* read(0) }
      })
      const clusters = yield* Effect.forEach(
        ["seed", "seed", "another"],
        (seed) => Random.withSeed(Effect.provide(run, Layer.fresh(ClusterMemory.layer())), seed),
      )
      const timeless = clusters.map(({ answer, ...rest }) => ({ ...rest, aborted: answer.aborted }))
      assert.deepStrictEqual(timeless[1], timeless[0])
      const [one, , other] = timeless.map(({ metadata }) => metadata)
      assert.notStrictEqual(one!.clusterId, other!.clusterId)
      assert.notStrictEqual(one!.topics[0]!.id, other!.topics[0]!.id)
    }))
})
