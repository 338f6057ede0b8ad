import { assert, type Vitest } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { Buffer } from "node:buffer"
import { Cluster, type GroupIdentity, type JoinResult } from "../../../src/kafka/Cluster.ts"
import { readable } from "../../../src/kafka/ReadCommitted.ts"
import {
  eventually,
  fetch,
  join,
  newMember,
  newTopic,
  protocol,
  refusal,
  saidBy,
  soleMember,
  stateOf,
  text,
  unique,
  write,
} from "./Harness.ts"

const identityOf = (group: string, { memberId, generation }: JoinResult): GroupIdentity => ({
  group,
  memberId,
  generation,
})

/** Until the coordinator tells this member to join again. */
const toldToRejoin = (member: GroupIdentity) =>
  eventually(
    `a rebalance of ${member.group}`,
    Cluster.use((cluster) => Effect.result(cluster.heartbeat(member))),
    (answer) => answer._tag === "Failure" && answer.failure.code === "REBALANCE_IN_PROGRESS",
  )

/** A second member joins beside the first, which joins again; both wait for assignments. */
const joinBeside = Effect.fnUntraced(function* (first: GroupIdentity) {
  const { group } = first
  const memberId = yield* newMember(group)
  const joining = yield* Effect.forkChild(join(group, memberId))
  yield* toldToRejoin(first)
  const again = yield* join(group, first.memberId)
  const joined = yield* Fiber.join(joining)
  return { again, joined, first: identityOf(group, again), second: identityOf(group, joined) }
})

const assignments = (...members: ReadonlyArray<GroupIdentity>) =>
  members.map(({ memberId }, i) => ({ memberId, assignment: Buffer.from(`part ${i}`) }))

export const groups = (it: Vitest.MethodsNonLive<Cluster>): void => {
  it.effect("gives a new member an id, then a generation, of which it is the leader", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const group = unique("group")
      assert.strictEqual(yield* stateOf(group), "Dead")
      const memberId = yield* newMember(group)
      const joined = yield* join(group, memberId, { metadata: "mine" })
      assert.deepStrictEqual([joined.error, joined.memberId, joined.leader], [null, memberId, memberId])
      assert.isAtLeast(joined.generation, 1)
      assert.deepStrictEqual(joined.members.map((member) => [member.memberId, saidBy(member)]), [[
        memberId,
        "mine",
      ]])
      // A coordinator with replicas tells of a new group when they have it.
      yield* eventually("a group that completes", stateOf(group), (state) => state === "CompletingRebalance")
      const member = identityOf(group, joined)
      yield* cluster.heartbeat(member)
      const assignment = yield* cluster.syncGroup(member, protocol, assignments(member))
      assert.strictEqual(text(assignment), "part 0")
      yield* cluster.heartbeat(member)
      const [described] = yield* cluster.describeGroups([group])
      assert.deepStrictEqual([described!.error, described!.state], [null, "Stable"])
      assert.deepStrictEqual(
        described!.members.map((one) => [one.memberId, saidBy(one), text(one.assignment)]),
        [[memberId, "mine", "part 0"]],
      )
      assert.include(yield* cluster.listGroups(), group)
    }))

  it.effect("a second member makes the first one join again, which stays leader and assigns to both", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const alone = yield* soleMember(unique("group"))
      const { again, joined, first, second } = yield* joinBeside(alone)
      assert.strictEqual(again.generation, alone.generation + 1)
      assert.strictEqual(joined.generation, again.generation)
      assert.deepStrictEqual([again.leader, joined.leader], [alone.memberId, alone.memberId])
      assert.sameMembers(again.members.map(({ memberId }) => memberId), [first.memberId, second.memberId])
      assert.deepStrictEqual(joined.members, [])
      const following = yield* Effect.forkChild(cluster.syncGroup(second, protocol, []))
      yield* Effect.sleep(100)
      const own = yield* cluster.syncGroup(first, protocol, assignments(first, second))
      assert.deepStrictEqual([text(own), text(yield* Fiber.join(following))], ["part 0", "part 1"])
      assert.strictEqual(text(yield* cluster.syncGroup(second, protocol, [])), "part 1")
      assert.strictEqual(yield* refusal(cluster.heartbeat(alone)), "ILLEGAL_GENERATION")
    }))

  it.effect("a member may commit until it joins again, and not before the new generation has its assignments", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const at = (offset: number) => [{ topic, partition: 0, offset, metadata: "" }]
      const alone = yield* soleMember(unique("group"))
      const memberId = yield* newMember(alone.group)
      const joining = yield* Effect.forkChild(join(alone.group, memberId))
      yield* toldToRejoin(alone)
      assert.strictEqual(yield* stateOf(alone.group), "PreparingRebalance")
      yield* cluster.offsetCommit(alone, at(1))
      const first = identityOf(alone.group, yield* join(alone.group, alone.memberId))
      yield* Fiber.join(joining)
      assert.strictEqual(yield* refusal(cluster.offsetCommit(first, at(2))), "REBALANCE_IN_PROGRESS")
      assert.strictEqual(yield* refusal(cluster.offsetCommit(alone, at(2))), "ILLEGAL_GENERATION")
      yield* cluster.syncGroup(first, protocol, [])
      yield* cluster.offsetCommit(first, at(3))
      const [committed] = yield* cluster.offsetFetch(alone.group, undefined, true)
      assert.strictEqual(committed!.offset, 3)
    }))

  it.effect("who waits for assignments is told to join again when another member comes", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const alone = yield* soleMember(unique("group"))
      const { first, second } = yield* joinBeside(alone)
      const following = yield* Effect.forkChild(Effect.result(cluster.syncGroup(second, protocol, [])))
      yield* Effect.sleep(100)
      const third = yield* newMember(alone.group)
      const joining = yield* Effect.forkChild(join(alone.group, third))
      const answer = yield* Fiber.join(following)
      assert.strictEqual(answer._tag === "Failure" ? answer.failure.code : "", "REBALANCE_IN_PROGRESS")
      assert.strictEqual(yield* refusal(cluster.syncGroup(first, protocol, [])), "REBALANCE_IN_PROGRESS")
      const [again] = yield* Effect.all([join(alone.group, first.memberId), join(alone.group, second.memberId)], {
        concurrency: "unbounded",
      })
      yield* Fiber.join(joining)
      assert.strictEqual(again.members.length, 3)
    }))

  it.effect("goes on without a member that does not join again within the rebalance timeout", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const slow = yield* soleMember(unique("group"), { rebalanceTimeout: 1_000 })
      const memberId = yield* newMember(slow.group, { rebalanceTimeout: 1_000 })
      const begun = yield* Clock.currentTimeMillis
      const joined = yield* join(slow.group, memberId, { rebalanceTimeout: 1_000 })
      assert.isAtLeast((yield* Clock.currentTimeMillis) - begun, 900)
      assert.deepStrictEqual([joined.generation, joined.leader], [slow.generation + 1, memberId])
      assert.deepStrictEqual(joined.members.map((member) => member.memberId), [memberId])
      assert.strictEqual(yield* refusal(cluster.heartbeat(slow)), "UNKNOWN_MEMBER_ID")
      assert.strictEqual(yield* refusal(join(slow.group, slow.memberId)), "UNKNOWN_MEMBER_ID")
    }))

  it.effect("removes a member that is not heard of for its session", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const silent = yield* soleMember(unique("group"), { sessionTimeout: 6_000 })
      const begun = yield* Clock.currentTimeMillis
      yield* eventually("an empty group", stateOf(silent.group), (state) => state === "Empty")
      assert.isAtLeast((yield* Clock.currentTimeMillis) - begun, 5_000)
      assert.strictEqual(yield* refusal(cluster.heartbeat(silent)), "UNKNOWN_MEMBER_ID")
    }), 60_000)

  it.effect("keeps a member that is heard of, however long it takes", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const member = yield* soleMember(unique("group"), { sessionTimeout: 6_000 })
      for (let i = 0; i < 4; i++) {
        yield* Effect.sleep(2_000)
        yield* cluster.heartbeat(member)
      }
      assert.strictEqual(yield* stateOf(member.group), "Stable")
    }), 60_000)

  it.effect("refuses session timeouts out of range", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* refusal(join(unique("group"), "", { sessionTimeout: 5_999 })),
        "INVALID_SESSION_TIMEOUT",
      )
    }))

  it.effect("neither a reader that waits nor a member that waits holds up anything else", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const member = yield* soleMember(unique("group"))
      const reading = yield* Effect.forkChild(fetch({ topic, partition: 0 }, 0, { maxWait: 20_000 }))
      const memberId = yield* newMember(member.group)
      const joining = yield* Effect.forkChild(join(member.group, memberId))
      yield* toldToRejoin(member)
      yield* cluster.offsetFetch(member.group, [{ topic, partition: 0 }], true)
      yield* write(topic, ["a"])
      const answer = yield* Fiber.join(reading)
      assert.deepStrictEqual(readable(answer, 0).bytes.map(text), ["a"])
      assert.isUndefined(joining.pollUnsafe())
      yield* join(member.group, member.memberId)
      yield* Fiber.join(joining)
    }))

  it.effect("a member that leaves sets off a rebalance, the last one leaves the group empty", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const alone = yield* soleMember(unique("group"))
      const { first, second } = yield* joinBeside(alone)
      yield* cluster.syncGroup(first, protocol, assignments(first, second))
      yield* cluster.leaveGroup(alone.group, first.memberId)
      yield* toldToRejoin(second)
      const left = yield* join(alone.group, second.memberId)
      assert.deepStrictEqual([left.leader, left.members.length], [second.memberId, 1])
      assert.strictEqual(yield* refusal(cluster.leaveGroup(alone.group, first.memberId)), "UNKNOWN_MEMBER_ID")
      yield* cluster.leaveGroup(alone.group, second.memberId)
      assert.strictEqual(yield* stateOf(alone.group), "Empty")
      assert.strictEqual(yield* refusal(cluster.heartbeat(second)), "UNKNOWN_MEMBER_ID")
    }))

  it.effect("refuses strangers and old generations", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const member = yield* soleMember(unique("group"))
      const old = { ...member, generation: member.generation - 1 }
      const stranger = { ...member, memberId: "stranger" }
      assert.strictEqual(yield* refusal(cluster.heartbeat(old)), "ILLEGAL_GENERATION")
      assert.strictEqual(yield* refusal(cluster.heartbeat(stranger)), "UNKNOWN_MEMBER_ID")
      assert.strictEqual(yield* refusal(cluster.syncGroup(old, protocol, [])), "ILLEGAL_GENERATION")
      assert.strictEqual(yield* refusal(cluster.syncGroup(stranger, protocol, [])), "UNKNOWN_MEMBER_ID")
      assert.strictEqual(yield* refusal(cluster.leaveGroup(member.group, "stranger")), "UNKNOWN_MEMBER_ID")
      assert.strictEqual(yield* refusal(join(member.group, "stranger")), "UNKNOWN_MEMBER_ID")
      assert.strictEqual(yield* refusal(join(unique("unknown"), "stranger")), "UNKNOWN_MEMBER_ID")
      yield* cluster.heartbeat(member)
    }))

  it.effect("a follower that joins again unchanged keeps the generation, a leader or a changed one begins another", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const alone = yield* soleMember(unique("group"))
      const { first, second } = yield* joinBeside(alone)
      yield* cluster.syncGroup(first, protocol, assignments(first, second))
      const same = yield* join(alone.group, second.memberId)
      assert.deepStrictEqual([same.generation, same.members], [first.generation, []])
      yield* cluster.heartbeat(first)
      const leading = yield* Effect.forkChild(join(alone.group, first.memberId))
      yield* toldToRejoin(second)
      const changed = yield* join(alone.group, second.memberId, { metadata: "changed" })
      const leader = yield* Fiber.join(leading)
      assert.deepStrictEqual([changed.generation, leader.generation], [first.generation + 1, first.generation + 1])
      assert.sameMembers(leader.members.map(saidBy), ["metadata", "changed"])
    }))
}
