import { assert, type Vitest } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { Buffer } from "node:buffer"
import { Cluster, type GroupIdentity, type JoinResult } from "../../../src/kafka/Cluster.ts"
import { eventually, join, newTopic, protocol, refusal, stateOf, text, transactor, unique } from "./Harness.ts"

const identityOf = (group: string, instanceId: string, { memberId, generation }: JoinResult): GroupIdentity => ({
  group,
  memberId,
  instanceId,
  generation,
})

const toldToRejoin = (member: GroupIdentity) =>
  eventually(
    `a rebalance of ${member.group}`,
    Cluster.use((cluster) => Effect.result(cluster.heartbeat(member))),
    (answer) => answer._tag === "Failure" && answer.failure.code === "REBALANCE_IN_PROGRESS",
  )

const assignments = (...members: ReadonlyArray<GroupIdentity>) =>
  members.map(({ memberId }, i) => ({ memberId, assignment: Buffer.from(`part ${i}`) }))

/** A stable group of two static members, `one` who leads and `two`. */
const pair = Effect.fnUntraced(function* (timeouts: { sessionTimeout?: number; rebalanceTimeout?: number } = {}) {
  const cluster = yield* Cluster
  const group = unique("group")
  const alone = identityOf(group, "one", yield* join(group, "", { instanceId: "one", ...timeouts }))
  yield* cluster.syncGroup(alone, protocol, assignments(alone))
  const joining = yield* Effect.forkChild(join(group, "", { instanceId: "two", ...timeouts }))
  yield* toldToRejoin(alone)
  const one = identityOf(group, "one", yield* join(group, alone.memberId, { instanceId: "one", ...timeouts }))
  const two = identityOf(group, "two", yield* Fiber.join(joining))
  yield* cluster.syncGroup(one, protocol, assignments(one, two))
  return { group, one, two }
})

export const staticMembers = (it: Vitest.MethodsNonLive<Cluster>): void => {
  it.effect("a static member that comes back has its work again, in the same generation, and nobody notices", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const { group, one, two } = yield* pair()
      const follower = yield* join(group, "", { instanceId: "two", metadata: "another" })
      assert.notStrictEqual(follower.memberId, two.memberId)
      assert.deepStrictEqual([follower.generation, follower.skipAssignment], [one.generation, false])
      assert.notStrictEqual(follower.leader, follower.memberId)
      const again = identityOf(group, "two", follower)
      assert.strictEqual(text(yield* cluster.syncGroup(again, protocol, [])), "part 1")
      yield* cluster.heartbeat(one)
      yield* cluster.heartbeat(again)
      const leader = yield* join(group, "", { instanceId: "one", metadata: "another" })
      assert.deepStrictEqual([leader.generation, leader.skipAssignment], [one.generation, true])
      assert.strictEqual(leader.leader, leader.memberId)
      assert.strictEqual(text(yield* cluster.syncGroup(identityOf(group, "one", leader), protocol, [])), "part 0")
      yield* cluster.heartbeat(again)
      assert.strictEqual(yield* stateOf(group), "Stable")
    }))

  it.effect("who had the instance id before is fenced, and commits nothing any more", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const { group, two } = yield* pair()
      yield* join(group, "", { instanceId: "two" })
      const offsets = [{ topic, partition: 0, offset: 1, metadata: "" }]
      const producer = yield* transactor(unique("txn"))
      yield* cluster.addOffsetsToTxn(producer.identity, group)
      for (
        const { instanceId, code } of [
          { instanceId: "two", code: "FENCED_INSTANCE_ID" },
          { instanceId: undefined, code: "UNKNOWN_MEMBER_ID" },
        ]
      ) {
        const late = { ...two, instanceId }
        const asked = [
          cluster.heartbeat(late),
          cluster.syncGroup(late, protocol, []),
          cluster.offsetCommit(late, offsets),
          cluster.txnOffsetCommit(producer.identity, late, offsets),
          join(group, two.memberId, instanceId === undefined ? {} : { instanceId }),
        ]
        for (const one of asked) assert.strictEqual(yield* refusal(Effect.asVoid(one)), code)
      }
      const unknown = { ...two, instanceId: "three" }
      assert.strictEqual(yield* refusal(cluster.heartbeat(unknown)), "UNKNOWN_MEMBER_ID")
    }))

  it.effect("a static member that waits for the group is told when another takes its instance id", () =>
    Effect.gen(function* () {
      const { group, one } = yield* pair()
      const joining = yield* Effect.forkChild(Effect.result(join(group, one.memberId, { instanceId: "one" })))
      yield* eventually("a rebalance", stateOf(group), (state) => state === "PreparingRebalance")
      const taking = yield* Effect.forkChild(join(group, "", { instanceId: "one" }))
      const told = yield* Fiber.join(joining)
      assert.strictEqual(told._tag === "Failure" ? told.failure.code : "joined", "FENCED_INSTANCE_ID")
      yield* Fiber.interrupt(taking)
    }))

  it.effect(
    "a static member that is away has its place in the next generation all the same",
    () =>
      Effect.gen(function* () {
        const cluster = yield* Cluster
        const { group, one, two } = yield* pair({ sessionTimeout: 6_000, rebalanceTimeout: 1_000 })
        const begun = yield* Clock.currentTimeMillis
        const options = { instanceId: "one", sessionTimeout: 6_000, rebalanceTimeout: 1_000 }
        const alone = yield* join(group, one.memberId, options)
        assert.isAtLeast((yield* Clock.currentTimeMillis) - begun, 900)
        assert.sameMembers(alone.members.map(({ memberId }) => memberId), [one.memberId, two.memberId])
        yield* cluster.leaveGroup(group, one.memberId)
        yield* eventually("an empty group", stateOf(group), (state) => state === "Empty")
      }),
    60_000,
  )
}
