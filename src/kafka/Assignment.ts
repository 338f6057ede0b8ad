/** Who works on which task. */
import { Schema } from "effect"
import { Buffer } from "node:buffer"
import type { TaskId } from "../Pipeline.ts"
import { text } from "../Topic.ts"

/** What a member had before the rebalance, and in which generation: of two that claim a task the later one has it. */
export interface Owned {
  readonly generation: number
  readonly tasks: ReadonlyArray<TaskId>
  /** Where this member answers queries about its tasks, if it does. */
  readonly endpoint?: string
}

export interface Member extends Owned {
  readonly memberId: string
}

export const taskKey = ({ flow, partition }: TaskId): string => `${flow}-${partition}`

/**
 * Spreads the tasks of every flow evenly over the members, and leaves tasks where they are as far as that allows: a task
 * that moves must restore its state. All partitions of one number that a flow reads belong to one task, so co-partitioned
 * topics never come apart. The same members in any order get the same assignment.
 */
export const assign = (
  members: ReadonlyArray<Member>,
  flows: ReadonlyArray<{ readonly partitions: number }>,
): ReadonlyMap<string, ReadonlyArray<TaskId>> => {
  const byId = members.toSorted((a, b) => a.memberId < b.memberId ? -1 : 1)
  const assigned = new Map(byId.map(({ memberId }) => [memberId, [] as Array<TaskId>]))
  const owners = ownersOf(byId)
  flows.forEach(({ partitions }, flow) => {
    const owns = (memberId: string) =>
      [...owners].filter(([key, owner]) => owner === memberId && key.startsWith(`${flow}-`)).length
    const quota = quotas(assigned, partitions, owns)
    const left: Array<TaskId> = []
    for (let partition = 0; partition < partitions; partition++) {
      const task = { flow, partition }
      const owner = owners.get(taskKey(task))
      if (owner !== undefined && quota.get(owner)! > 0) give(assigned, quota, owner, task)
      else left.push(task)
    }
    for (const [memberId, room] of [...quota]) {
      for (const task of left.splice(0, room)) give(assigned, quota, memberId, task)
    }
  })
  return assigned
}

/**
 * How many of a flow's tasks each member gets: one more where they do not divide, first for those with the least so far,
 * then for those who have most of this flow already.
 */
const quotas = (
  assigned: ReadonlyMap<string, ReadonlyArray<TaskId>>,
  partitions: number,
  owns: (memberId: string) => number,
): Map<string, number> => {
  const byLoad = [...assigned].sort(([a, hasA], [b, hasB]) => hasA.length - hasB.length || owns(b) - owns(a))
  const least = Math.floor(partitions / byLoad.length)
  const more = partitions % byLoad.length
  return new Map(byLoad.map(([memberId], i) => [memberId, least + (i < more ? 1 : 0)]))
}

const give = (assigned: Map<string, Array<TaskId>>, quota: Map<string, number>, memberId: string, task: TaskId) => {
  assigned.get(memberId)!.push(task)
  quota.set(memberId, quota.get(memberId)! - 1)
}

const ownersOf = (members: ReadonlyArray<Member>): ReadonlyMap<string, string> => {
  const latest = new Map<string, Member>()
  for (const member of members) {
    for (const task of member.tasks) {
      const known = latest.get(taskKey(task))
      if (known === undefined || member.generation > known.generation) latest.set(taskKey(task), member)
    }
  }
  return new Map(Array.from(latest, ([task, { memberId }]) => [task, memberId]))
}

const Task = Schema.Struct({ flow: Schema.Int, partition: Schema.Int })
const Owned = Schema.Struct({
  generation: Schema.Int,
  tasks: Schema.Array(Task),
  endpoint: Schema.optionalKey(Schema.String),
})
const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Owned))

export const encodeOwned = (owned: Owned): Uint8Array => Buffer.from(JSON.stringify(owned))

/** What another member says it owns; nothing where its words are not ours. */
export const decodeOwned = (userData: Uint8Array): Owned => {
  const decoded = decode(text(userData))
  return decoded._tag === "Some" ? decoded.value : { generation: -1, tasks: [] }
}

/** By task: where the member that has it answers queries. */
export type Owners = ReadonlyMap<string, string>

/** Who answers queries about which tasks, of the members that do. */
export const ownersIn = (
  assignment: ReadonlyMap<string, ReadonlyArray<TaskId>>,
  members: ReadonlyArray<Pick<Member, "memberId" | "endpoint">>,
): Owners =>
  new Map(
    members.flatMap(({ memberId, endpoint }) =>
      endpoint === undefined ? [] : assignment.get(memberId)!.map((task) => [taskKey(task), endpoint] as const)
    ),
  )

/** What the group's leader tells a member: its tasks, and who answers queries about all of them. */
export interface Assigned {
  readonly tasks: ReadonlyArray<TaskId>
  readonly owners: Owners
  /** By flow: how many tasks there are, of all members; absent where the leader does not say it. */
  readonly partitions?: ReadonlyArray<number> | undefined
}

const Assigned = Schema.Struct({
  tasks: Schema.Array(Task),
  /** By endpoint. */
  owners: Schema.optionalKey(Schema.Record(Schema.String, Schema.Array(Schema.String))),
  partitions: Schema.optionalKey(Schema.Array(Schema.Int)),
})
const decodeAssignedJson = Schema.decodeUnknownOption(Schema.fromJsonString(Assigned))

/** Members of an older version find in it what they know: their tasks. */
export const encodeAssigned = ({ tasks, owners, partitions }: Assigned): Uint8Array => {
  const byEndpoint = Map.groupBy(owners.keys(), (task) => owners.get(task)!)
  return Buffer.from(JSON.stringify({
    generation: 0,
    tasks,
    ...byEndpoint.size > 0 && { owners: Object.fromEntries(byEndpoint) },
    ...partitions !== undefined && { partitions },
  }))
}

export const decodeAssigned = (userData: Uint8Array): Assigned => {
  const decoded = decodeAssignedJson(text(userData))
  if (decoded._tag === "None") return { tasks: [], owners: new Map() }
  const { tasks, owners = {}, partitions } = decoded.value
  return {
    tasks,
    owners: new Map(
      Object.entries(owners).flatMap(([endpoint, tasks]) => tasks.map((task) => [task, endpoint] as const)),
    ),
    ...partitions !== undefined && { partitions },
  }
}
