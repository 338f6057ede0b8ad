/** Groups: membership by the classic protocol, and committed positions. */
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import type { Cluster, CommittedOffset, GroupDescription, GroupIdentity, JoinResult } from "../Cluster.ts"
import { KafkaError } from "../Cluster.ts"
import type { Brokers, Coordinated } from "./Brokers.ts"
import { call } from "./Connections.ts"
import { nameOf, refused } from "./Failure.ts"
import { byTopic, inOrder } from "./Partitions.ts"
import {
  DescribeGroups,
  Heartbeat,
  JoinGroup,
  LeaveGroup,
  ListGroups,
  OffsetCommit,
  OffsetFetch,
  SyncGroup,
} from "./Protocol.ts"
import { check, checkAll, committed, toCommit } from "./Transactions.ts"

type Methods = Pick<
  Cluster["Service"],
  | "describeGroups"
  | "heartbeat"
  | "joinGroup"
  | "leaveGroup"
  | "listGroups"
  | "offsetCommit"
  | "offsetFetch"
  | "syncGroup"
>

const about = (group: string): Coordinated => ({ kind: "group", key: group })

const subject = ({ group, generation, memberId }: GroupIdentity): string =>
  memberId === "" ? `group ${group}` : `group ${group}, generation ${generation} of member ${memberId}`

const protocolType = "consumer"

/** How much longer than the members' own time a coordinator may take for a rebalance, in milliseconds. */
const rebalanceMargin = 10_000

export const make = (brokers: Brokers): Methods => {
  /** A follower's sync waits for its leader as long as the join allowed, and the port's sync does not say how long. */
  const rebalanceTimeouts = new Map<string, number>()

  const describe = (group: string): Effect.Effect<GroupDescription, KafkaError> =>
    brokers.coordinated(
      about(group),
      Effect.fnUntraced(function* (send) {
        const { groups: [found] } = yield* send("admin", call(DescribeGroups, [group], false))
        const error = found === undefined ? "COORDINATOR_NOT_AVAILABLE" : nameOf(found.errorCode)
        if (found === undefined || error !== null) {
          return yield* refused("DescribeGroups", `group ${group}`, error ?? "")
        }
        return {
          group,
          error,
          state: found.groupState,
          members: found.members.map(({ memberId, clientId, clientHost, memberMetadata, memberAssignment }) => ({
            memberId,
            clientId,
            clientHost,
            metadata: memberMetadata,
            assignment: memberAssignment,
          })),
        } satisfies GroupDescription
      }),
    )

  return {
    offsetCommit: Effect.fn("Cluster.offsetCommit")((member, offsets) =>
      brokers.coordinated(about(member.group), (send) => {
        const { group, generation, memberId, instanceId = null } = member
        const request = call(OffsetCommit, group, generation, memberId, instanceId, byTopic(offsets, toCommit))
        return Effect.flatMap(
          send("control", request),
          (response) => checkAll("OffsetCommit", subject(member), committed(response)),
        )
      })
    ),

    offsetFetch: Effect.fn("Cluster.offsetFetch")((group, partitions, requireStable) =>
      brokers.coordinated(
        about(group),
        Effect.fnUntraced(function* (send) {
          const topics = partitions === undefined
            ? null
            : byTopic(partitions, ({ partition }) => partition).map(({ name, partitions }) => ({
              name,
              partitionIndexes: partitions,
            }))
          const { groups: [found] } = yield* send(
            "control",
            call(OffsetFetch, [{ groupId: group, memberEpoch: -1, topics }], requireStable),
          )
          const error = found === undefined ? "COORDINATOR_NOT_AVAILABLE" : nameOf(found.errorCode)
          if (found === undefined || error !== null) return yield* refused("OffsetFetch", `group ${group}`, error ?? "")
          const offsets = found.topics.flatMap(({ name, partitions }) =>
            partitions.map(({ partitionIndex, committedOffset, metadata, errorCode }): CommittedOffset => ({
              topic: name,
              partition: partitionIndex,
              error: nameOf(errorCode),
              offset: Number(committedOffset),
              metadata: metadata ?? "",
            }))
          )
          return partitions === undefined ? offsets : inOrder(
            partitions,
            offsets,
            (one) => ({ ...one, error: "UNKNOWN_SERVER_ERROR", offset: -1, metadata: "" }),
          )
        }),
      )
    ),

    joinGroup: Effect.fn("Cluster.joinGroup")((request) =>
      brokers.coordinated(
        about(request.group),
        Effect.fnUntraced(function* (send) {
          const { group, memberId, instanceId = null, sessionTimeout, rebalanceTimeout, protocol, metadata } = request
          rebalanceTimeouts.set(group, rebalanceTimeout)
          const protocols = [{ name: protocol, metadata: Buffer.from(metadata) }]
          const joined = yield* send(
            "join",
            call(
              JoinGroup,
              group,
              sessionTimeout,
              rebalanceTimeout,
              memberId,
              instanceId,
              protocolType,
              protocols,
              null,
            ),
            rebalanceTimeout + rebalanceMargin,
          )
          const error = nameOf(joined.errorCode)
          const idRequired = error === "MEMBER_ID_REQUIRED"
          if (error !== null && !idRequired) {
            return yield* refused(
              "JoinGroup",
              memberId === "" ? `group ${group}` : `group ${group}, member ${memberId}`,
              error,
            )
          }
          return {
            error: idRequired ? "MEMBER_ID_REQUIRED" : null,
            memberId: joined.memberId,
            generation: joined.generationId,
            leader: joined.leader,
            skipAssignment: joined.skipAssignment,
            members: joined.members.map(({ memberId, metadata }) => ({
              memberId,
              metadata: metadata ?? Buffer.alloc(0),
            })),
          } satisfies JoinResult
        }),
      )
    ),

    syncGroup: Effect.fn("Cluster.syncGroup")((member, protocol, assignments) =>
      brokers.coordinated(
        about(member.group),
        Effect.fnUntraced(function* (send) {
          const { group, generation, memberId, instanceId = null } = member
          const all = assignments.map(({ memberId, assignment }) => ({ memberId, assignment: Buffer.from(assignment) }))
          const request = call(SyncGroup, group, generation, memberId, instanceId, protocolType, protocol, all)
          const { errorCode, assignment } = yield* send(
            "join",
            request,
            (rebalanceTimeouts.get(group) ?? brokers.timeout) + rebalanceMargin,
          )
          yield* check("SyncGroup", subject(member), errorCode)
          return assignment
        }),
      )
    ),

    heartbeat: Effect.fn("Cluster.heartbeat")((member) =>
      brokers.coordinated(about(member.group), (send) =>
        Effect.flatMap(
          send(
            "heartbeat",
            call(Heartbeat, member.group, member.generation, member.memberId, member.instanceId ?? null),
          ),
          ({ errorCode }) => check("Heartbeat", subject(member), errorCode),
        ))
    ),

    leaveGroup: Effect.fn("Cluster.leaveGroup")((group, memberId) =>
      brokers.coordinated(about(group), (send) =>
        Effect.flatMap(
          send("heartbeat", call(LeaveGroup, group, [{ memberId, groupInstanceId: null, reason: null }])),
          ({ errorCode, members }) =>
            check(
              "LeaveGroup",
              `group ${group}, member ${memberId}`,
              errorCode !== 0 ? errorCode : members?.find(({ errorCode }) => errorCode !== 0)?.errorCode ?? 0,
            ),
        ))
    ),

    describeGroups: Effect.fn("Cluster.describeGroups")((groups) =>
      Effect.forEach(
        groups,
        (group) =>
          Effect.catch(describe(group), ({ code }) =>
            Effect.succeed<GroupDescription>({ group, error: code, state: "", members: [] })),
        { concurrency: 8 },
      )
    ),

    listGroups: Effect.fn("Cluster.listGroups")(function* () {
      const nodes = yield* brokers.nodes
      const lists = yield* Effect.forEach(
        nodes,
        (node) =>
          Effect.flatMap(
            brokers.node("admin", node, call(ListGroups, [], [])),
            ({ errorCode, groups }) =>
              Effect.as(check("ListGroups", `broker ${node}`, errorCode), groups.map(({ groupId }) => groupId)),
          ),
        { concurrency: "unbounded" },
      )
      return [...new Set(lists.flat())]
    }),
  }
}
