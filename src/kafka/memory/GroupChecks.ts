/** What the coordinator of the classic protocol refuses, and what it tells of a group. */
import type { GroupDescription, JoinRequest } from "../Cluster.ts"
import { type Group, nothing } from "./Group.ts"
import { Refusal } from "./Refusal.ts"

/** The beginning of every member id that the coordinator makes. */
export const clientName = "millrace"

/** How long a new member's join may wait before it is given up (Kafka's own constant). */
export const newMemberTimeout = 300_000

export const checkGeneration = (group: Group, generation: number): void => {
  if (generation === group.generation) return
  throw new Refusal("ILLEGAL_GENERATION", `group ${group.name} is at generation ${group.generation}, not ${generation}`)
}

export const checkProtocol = (group: Group, { memberId, protocol }: JoinRequest): void => {
  for (const member of group.members.values()) {
    if (member.memberId !== memberId && member.protocol !== protocol) throw inconsistent(group, protocol)
  }
}

export const inconsistent = ({ name }: Group, protocol: string): Refusal =>
  new Refusal("INCONSISTENT_GROUP_PROTOCOL", `the members of group ${name} do not all speak "${protocol}"`)

export const rebalancing = ({ name }: Group): Refusal =>
  new Refusal("REBALANCE_IN_PROGRESS", `group ${name} is rebalancing: join again`)

export const equal = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i])

export const describe = (name: string, group: Group | undefined): GroupDescription => {
  if (group === undefined) return { group: name, error: null, state: "Dead", members: [] }
  const known = group.state === "Stable"
  return {
    group: name,
    error: null,
    state: group.state,
    members: Array.from(group.members.values(), ({ memberId, metadata, assignment }) => ({
      memberId,
      clientId: clientName,
      clientHost: "/127.0.0.1",
      metadata: known ? metadata : nothing,
      assignment: known ? assignment : nothing,
    })),
  }
}

export const checkTimeout = (
  { sessionTimeout }: JoinRequest,
  { minSessionTimeout, maxSessionTimeout }: { readonly minSessionTimeout: number; readonly maxSessionTimeout: number },
): void => {
  if (sessionTimeout >= minSessionTimeout && sessionTimeout <= maxSessionTimeout) return
  throw new Refusal(
    "INVALID_SESSION_TIMEOUT",
    `a session timeout of ${sessionTimeout} ms is not within ${minSessionTimeout} to ${maxSessionTimeout}`,
  )
}
