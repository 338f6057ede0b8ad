/** One consumer group under the classic protocol: its members, its generation, and the rebalance it may be in. */
import { Exit } from "effect"
import type { JoinRequest, JoinResult } from "../Cluster.ts"
import { Refusal } from "./Refusal.ts"
import type { Timer } from "./Timers.ts"

export type Reply<A> = (answer: Exit.Exit<A, Refusal>) => void

export type State = "Empty" | "PreparingRebalance" | "CompletingRebalance" | "Stable"

export interface Member {
  readonly memberId: string
  /** Of a static member. */
  readonly instanceId: string | undefined
  sessionTimeout: number
  rebalanceTimeout: number
  protocol: string
  metadata: Uint8Array
  assignment: Uint8Array
  /** Whether it has not taken part in a generation yet. */
  isNew: boolean
  /** The join that waits for the rebalance to end. */
  joining: Reply<JoinResult> | undefined
  /** The sync that waits for the leader's assignments. */
  syncing: Reply<Uint8Array> | undefined
  session: Timer | undefined
}

export class Group {
  readonly name: string
  state: State = "Empty"
  generation = 0
  /** The member that assigns: the oldest when it was chosen. Stays until it leaves or does not join in time. */
  leader: string | undefined
  readonly members = new Map<string, Member>()
  /** Static members' ids by their instance ids. */
  readonly instances = new Map<string, string>()
  /** Members that were given an id and have not joined with it yet. */
  readonly promised = new Map<string, Timer>()
  /** Members that have joined this generation and not synced yet. */
  readonly unsynced = new Set<string>()
  /** When the rebalance goes on without whoever is missing. */
  deadline: Timer | undefined
  /** Whether the rebalance that is on is the first one of an empty group, which waits for members to come. */
  isFirst = false
  /** Whether members came while it waited. */
  grew = false
  syncDeadline: Timer | undefined

  constructor(name: string) {
    this.name = name
  }

  /** As long as the slowest member needs. */
  get rebalanceTimeout(): number {
    return Math.max(0, ...Array.from(this.members.values(), (member) => member.rebalanceTimeout))
  }

  get isComplete(): boolean {
    return this.promised.size === 0 && [...this.members.values()].every((member) => member.joining !== undefined)
  }

  /** The member that this is, if it still is one. */
  identified({ memberId, instanceId }: Pick<JoinRequest, "memberId" | "instanceId">): Member {
    const holder = instanceId === undefined ? memberId : this.instances.get(instanceId)
    if (holder !== undefined && holder !== memberId) {
      throw new Refusal("FENCED_INSTANCE_ID", `"${instanceId}" of group ${this.name} is another member now`)
    }
    return this.member(holder ?? "")
  }

  member(memberId: string): Member {
    const member = this.members.get(memberId)
    if (member === undefined) {
      throw new Refusal("UNKNOWN_MEMBER_ID", `"${memberId}" is not a member of group ${this.name}`)
    }
    return member
  }

  add(request: JoinRequest, joining: Reply<JoinResult>): Member {
    const { memberId, instanceId, sessionTimeout, rebalanceTimeout, protocol } = request
    const metadata = new Uint8Array(request.metadata)
    const member: Member = {
      memberId,
      instanceId,
      sessionTimeout,
      rebalanceTimeout,
      protocol,
      metadata,
      assignment: nothing,
      isNew: true,
      joining,
      syncing: undefined,
      session: undefined,
    }
    this.members.set(memberId, member)
    if (instanceId !== undefined) this.instances.set(instanceId, memberId)
    this.leader ??= memberId
    return member
  }

  /** A static member goes on under another id; who waits under the old one is told. */
  replace(member: Member, memberId: string): Member {
    const { joining, syncing } = member
    const isLeader = this.leader === member.memberId
    this.remove(member.memberId)
    const again: Member = { ...member, memberId, joining: undefined, syncing: undefined }
    this.members.set(memberId, again)
    if (member.instanceId !== undefined) this.instances.set(member.instanceId, memberId)
    if (isLeader || this.leader === undefined) this.leader = memberId
    const fenced = new Refusal("FENCED_INSTANCE_ID", `"${member.instanceId}" of group ${this.name} has joined anew`)
    joining?.(Exit.fail(fenced))
    syncing?.(Exit.fail(fenced))
    return again
  }

  /** Answers whether somebody has joined who can lead; a leader that is away is replaced. */
  electLeader(): boolean {
    if (this.members.get(this.leader ?? "")?.joining !== undefined) return true
    const joined = Array.from(this.members.values()).find(({ joining }) => joining !== undefined)
    if (joined === undefined) return false
    this.leader = joined.memberId
    return true
  }

  remove(memberId: string): void {
    const instanceId = this.members.get(memberId)?.instanceId
    if (instanceId !== undefined) this.instances.delete(instanceId)
    this.members.delete(memberId)
    this.unsynced.delete(memberId)
    if (this.leader === memberId) this.leader = this.members.keys().next().value
  }

  nextGeneration(): void {
    this.generation++
    this.unsynced.clear()
    this.state = this.members.size === 0 ? "Empty" : "CompletingRebalance"
  }

  answerJoin(member: Member): void {
    const { joining } = member
    member.joining = undefined
    joining?.(Exit.succeed(this.joined(member.memberId)))
  }

  joined(memberId: string): JoinResult {
    const leader = this.leader ?? ""
    const members = memberId === leader ? [...this.members.values()] : []
    return {
      error: null,
      memberId,
      generation: this.generation,
      leader,
      skipAssignment: false,
      members: members.map(({ memberId, metadata }) => ({ memberId, metadata })),
    }
  }
}

export const nothing = new Uint8Array()
