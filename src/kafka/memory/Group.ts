/** One consumer group under the classic protocol: its members, its generation, and the rebalance it may be in. */
import { Exit } from "effect"
import type { JoinRequest, JoinResult } from "../Cluster.ts"
import { Refusal } from "./Refusal.ts"
import type { Timer } from "./Timers.ts"

export type Reply<A> = (answer: Exit.Exit<A, Refusal>) => void

export type State = "Empty" | "PreparingRebalance" | "CompletingRebalance" | "Stable"

export interface Member {
  readonly memberId: string
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

  member(memberId: string): Member {
    const member = this.members.get(memberId)
    if (member === undefined) {
      throw new Refusal("UNKNOWN_MEMBER_ID", `"${memberId}" is not a member of group ${this.name}`)
    }
    return member
  }

  add(request: JoinRequest, joining: Reply<JoinResult>): Member {
    const { memberId, sessionTimeout, rebalanceTimeout, protocol } = request
    const metadata = new Uint8Array(request.metadata)
    const member: Member = {
      memberId,
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
    this.leader ??= memberId
    return member
  }

  remove(memberId: string): void {
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
      members: members.map(({ memberId, metadata }) => ({ memberId, metadata })),
    }
  }
}

export const nothing = new Uint8Array()
