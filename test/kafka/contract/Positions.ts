import { assert, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
import { Cluster, type GroupIdentity, type TransactionIdentity } from "../../../src/kafka/Cluster.ts"
import { eventually, newTopic, refusal, settled, soleMember, stateOf, transactor, unique } from "./Harness.ts"

const nobody = (group: string): GroupIdentity => ({ group, generation: -1, memberId: "" })

/** Commits positions to partitions 0, 1, ... of a topic. */
const commit = Effect.fnUntraced(function* (member: GroupIdentity, topic: string, ...offsets: ReadonlyArray<number>) {
  const cluster = yield* Cluster
  yield* settled(cluster.offsetCommit(member, positions(topic, offsets)))
})

/** The same in a transaction, which stays open. */
const prepare = Effect.fnUntraced(function* (
  txn: TransactionIdentity,
  member: GroupIdentity,
  topic: string,
  ...offsets: ReadonlyArray<number>
) {
  const cluster = yield* Cluster
  yield* settled(cluster.addOffsetsToTxn(txn, member.group))
  yield* settled(cluster.txnOffsetCommit(txn, member, positions(topic, offsets)))
})

const positions = (topic: string, offsets: ReadonlyArray<number>) =>
  offsets.map((offset, partition) => ({ topic, partition, offset, metadata: `at ${offset}` }))

/** Committed offsets of partitions 0 to n - 1, or the error in its place. */
const committed = Effect.fnUntraced(function* (group: string, topic: string, n: number, requireStable: boolean) {
  const cluster = yield* Cluster
  const partitions = Array.from({ length: n }, (_, partition) => ({ topic, partition }))
  const found = yield* settled(cluster.offsetFetch(group, partitions, requireStable))
  return found.toSorted((a, b) => a.partition - b.partition).map(({ error, offset }) => error ?? offset)
})

const stable = (group: string, topic: string, n: number) =>
  eventually(
    `positions of ${group}`,
    committed(group, topic, n, true),
    (found) => !found.includes("UNSTABLE_OFFSET_COMMIT"),
  )

export const positionsOfGroups = (it: Vitest.MethodsNonLive<Cluster>): void => {
  it.effect("remembers positions and their metadata by partition", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic(3)
      const group = unique("group")
      assert.deepStrictEqual(yield* committed(group, topic, 3, true), [-1, -1, -1])
      yield* commit(nobody(group), topic, 5, 7)
      assert.deepStrictEqual(yield* committed(group, topic, 3, true), [5, 7, -1])
      const all = yield* cluster.offsetFetch(group, undefined, true)
      assert.sameDeepMembers(all.map((one) => ({ ...one })), [
        { topic, partition: 0, error: null, offset: 5, metadata: "at 5" },
        { topic, partition: 1, error: null, offset: 7, metadata: "at 7" },
      ])
      yield* commit(nobody(group), topic, 4)
      assert.deepStrictEqual(yield* committed(group, topic, 3, false), [4, 7, -1])
      assert.deepStrictEqual(yield* cluster.offsetFetch(unique("unknown"), undefined, true), [])
    }))

  it.effect("refuses positions of a topic that does not exist", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const where = { topic: unique("missing"), partition: 0, offset: 1, metadata: "" }
      assert.strictEqual(
        yield* refusal(cluster.offsetCommit(nobody(unique("group")), [where])),
        "UNKNOWN_TOPIC_OR_PARTITION",
      )
    }))

  it.effect("takes plain commits on an active group only from members of the current generation", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const member = yield* soleMember(unique("group"))
      const refused = (from: GroupIdentity) => refusal(cluster.offsetCommit(from, positions(topic, [1])))
      yield* commit(member, topic, 10)
      assert.strictEqual(yield* refused(nobody(member.group)), "UNKNOWN_MEMBER_ID")
      assert.strictEqual(yield* refused({ ...member, memberId: "stranger" }), "UNKNOWN_MEMBER_ID")
      assert.strictEqual(yield* refused({ ...member, generation: member.generation - 1 }), "ILLEGAL_GENERATION")
      assert.strictEqual(yield* refused({ ...member, generation: member.generation + 1 }), "ILLEGAL_GENERATION")
      assert.deepStrictEqual(yield* committed(member.group, topic, 1, true), [10])
      yield* cluster.leaveGroup(member.group, member.memberId)
      assert.strictEqual(yield* refused(member), "UNKNOWN_MEMBER_ID")
      yield* commit(nobody(member.group), topic, 11)
      assert.deepStrictEqual(yield* committed(member.group, topic, 1, true), [11])
    }))

  it.effect("positions in a transaction are unstable while it is open, and hold once it is committed", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic(3)
      const member = yield* soleMember(unique("group"))
      yield* commit(member, topic, 1, 2, 3)
      const one = yield* transactor(unique("txn"))
      yield* prepare(one.identity, member, topic, 100, 200)
      const unstable = "UNSTABLE_OFFSET_COMMIT"
      assert.deepStrictEqual(yield* committed(member.group, topic, 3, true), [unstable, unstable, 3])
      assert.deepStrictEqual(yield* committed(member.group, topic, 3, false), [1, 2, 3])
      yield* one.end(true)
      assert.deepStrictEqual(yield* stable(member.group, topic, 3), [100, 200, 3])
      assert.deepStrictEqual(yield* committed(member.group, topic, 3, false), [100, 200, 3])
    }))

  it.effect("positions in a transaction vanish when it is aborted", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic(2)
      const member = yield* soleMember(unique("group"))
      yield* commit(member, topic, 1)
      const one = yield* transactor(unique("txn"))
      yield* prepare(one.identity, member, topic, 100, 200)
      yield* one.end(false)
      assert.deepStrictEqual(yield* stable(member.group, topic, 2), [1, -1])
    }))

  it.effect("keeps all positions of requests that come at the same time, in one transaction", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic(6)
      const member = yield* soleMember(unique("group"))
      const { identity, end } = yield* transactor(unique("txn"))
      yield* settled(cluster.addOffsetsToTxn(identity, member.group))
      yield* Effect.forEach(
        [0, 1, 2, 3, 4, 5],
        (partition) =>
          settled(
            cluster.txnOffsetCommit(identity, member, [{ topic, partition, offset: 10 + partition, metadata: "" }]),
          ),
        { concurrency: "unbounded" },
      )
      yield* end(true)
      assert.deepStrictEqual(yield* stable(member.group, topic, 6), [10, 11, 12, 13, 14, 15])
    }))

  it.effect("refuses positions of a group that was not added to the transaction", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const member = yield* soleMember(unique("group"))
      const { identity } = yield* transactor(unique("txn"))
      assert.include(
        ["INVALID_TXN_STATE", "TRANSACTION_ABORTABLE"],
        yield* refusal(cluster.txnOffsetCommit(identity, member, positions(topic, [1]))),
      )
      assert.deepStrictEqual(yield* committed(member.group, topic, 1, true), [-1])
    }))

  it.effect("refuses transactional positions of an old generation or a stranger, but not those of nobody at all", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const member = yield* soleMember(unique("group"))
      yield* commit(member, topic, 100)
      const one = yield* transactor(unique("txn"))
      yield* settled(cluster.addOffsetsToTxn(one.identity, member.group))
      const refused = (from: GroupIdentity) =>
        refusal(cluster.txnOffsetCommit(one.identity, from, positions(topic, [1])))
      assert.strictEqual(yield* refused({ ...member, generation: member.generation - 1 }), "ILLEGAL_GENERATION")
      assert.strictEqual(yield* refused({ ...member, memberId: "stranger" }), "UNKNOWN_MEMBER_ID")
      assert.strictEqual(yield* refused({ ...member, memberId: "" }), "UNKNOWN_MEMBER_ID")
      assert.strictEqual(yield* stateOf(member.group), "Stable")
      // Whoever builds on this must never send it: it rewinds an active group.
      yield* settled(cluster.txnOffsetCommit(one.identity, nobody(member.group), positions(topic, [1])))
      yield* one.end(true)
      assert.deepStrictEqual(yield* stable(member.group, topic, 1), [1])
    }))

  it.effect("what a dead owner left open blocks its positions until a successor takes its id over", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const id = unique("txn")
      const member = yield* soleMember(unique("group"))
      yield* commit(member, topic, 1)
      const dead = yield* transactor(id)
      yield* prepare(dead.identity, member, topic, 100)
      assert.deepStrictEqual(yield* committed(member.group, topic, 1, true), ["UNSTABLE_OFFSET_COMMIT"])
      yield* transactor(id)
      assert.deepStrictEqual(yield* stable(member.group, topic, 1), [1])
      const late = yield* refusal(cluster.txnOffsetCommit(dead.identity, member, positions(topic, [100])))
      assert.include(["INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED"], late)
      assert.strictEqual(yield* refusal(dead.end(true)), "PRODUCER_FENCED")
      assert.deepStrictEqual(yield* stable(member.group, topic, 1), [1])
    }))

  it.effect("of a plain and a transactional commit the later one holds", () =>
    Effect.gen(function* () {
      const topic = yield* newTopic()
      const member = yield* soleMember(unique("group"))
      const one = yield* transactor(unique("txn"))
      yield* prepare(one.identity, member, topic, 100)
      yield* commit(member, topic, 50)
      yield* one.end(true)
      assert.deepStrictEqual(yield* stable(member.group, topic, 1), [50])
    }))
}
