/**
 * Being the only member of a consumer group, for as long as its positions are moved from outside: a program that starts
 * meanwhile waits in its join, and what is committed under our generation can be taken for nobody else's.
 */
import { Duration, Effect, Schema, type Scope } from "effect"
import * as Assignment from "./Assignment.ts"
import { Cluster, type GroupIdentity, KafkaError } from "./Cluster.ts"
import * as ConsumerProtocol from "./ConsumerProtocol.ts"
import { protocol } from "./Membership.ts"
import { patiently } from "./Retry.ts"
import { within } from "../Within.ts"

/** Programs are at work in the group. */
export class GroupActive extends Schema.TaggedError<GroupActive>()("GroupActive", {
  group: Schema.String,
  /** How many. */
  members: Schema.Int,
  message: Schema.String,
}) {}

const nothing: Assignment.Assigned = { tasks: [], owners: new Map() }

const sessionTimeout = Duration.toMillis("10 seconds")

/** For so long programs that start wait for us, at most. */
const rebalanceTimeout = Duration.toMillis("5 minutes")

/**
 * Joins a group that has no members, until the scope ends. Fails with `GroupActive` where it has some, also where one has
 * come at the same moment.
 */
export const hold = Effect.fnUntraced(function* (
  group: string,
  topics: ReadonlyArray<string>,
): Effect.fn.Return<GroupIdentity, KafkaError | GroupActive, Cluster | Scope.Scope> {
  const cluster = yield* Cluster
  yield* inactive(group)
  let memberId = ""
  yield* Effect.addFinalizer(() =>
    Effect.ignore(
      within(Effect.suspend(() => memberId === "" ? Effect.void : cluster.leaveGroup(group, memberId)), "3 seconds"),
    )
  )
  const userData = Assignment.encodeOwned({ generation: -1, tasks: [] })
  const metadata = ConsumerProtocol.encodeSubscription({ topics, userData })
  const join = Effect.gen(function* () {
    for (;;) {
      const joined = yield* cluster.joinGroup({ group, memberId, sessionTimeout, rebalanceTimeout, protocol, metadata })
      memberId = joined.memberId
      if (joined.error === null) return joined
    }
  })
  const joined = yield* patiently(join, 30_000)
  if (joined.leader !== memberId || joined.members.length !== 1) {
    return yield* active(group, Math.max(1, joined.members.length - 1))
  }
  const identity = { group, generation: joined.generation, memberId }
  const assignment = ConsumerProtocol.encodeAssignment({ partitions: [], userData: Assignment.encodeAssigned(nothing) })
  yield* cluster.syncGroup(identity, protocol, [{ memberId, assignment }])
  // Who wants to join waits: that a rebalance has begun changes nothing before we leave.
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(
    Effect.sleep("2 seconds"),
    Effect.ignore(Effect.timeoutOption(cluster.heartbeat(identity), "5 seconds")),
  )))
  return identity
})

/** Fails with `GroupActive` where a group has members. */
export const inactive = Effect.fnUntraced(function* (
  group: string,
): Effect.fn.Return<void, KafkaError | GroupActive, Cluster> {
  const cluster = yield* Cluster
  const described = yield* patiently(
    Effect.flatMap(cluster.describeGroups([group]), ([described]) => {
      const code = described?.error
      return code == null || code === "GROUP_ID_NOT_FOUND" ? Effect.succeed(described) : Effect.fail(
        new KafkaError({ code, operation: "DescribeGroups", message: `group ${group} cannot be looked at (${code})` }),
      )
    }),
    30_000,
  )
  const members = described?.members.length ?? 0
  if (members > 0) return yield* active(group, members)
})

const active = (group: string, members: number): Effect.Effect<never, GroupActive> =>
  Effect.fail(
    new GroupActive({
      group,
      members,
      message:
        `group ${group} has ${members} ${members === 1 ? "member" : "members"} at work: stop the programs that ` +
        "run it, and try again (one that was killed counts until its session ends, 10 seconds unless it was told another)",
    }),
  )
