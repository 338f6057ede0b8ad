/**
 * The group coordinator of the classic protocol: who is in a group, when a rebalance begins and when it is over.
 *
 * States, timeouts and refusals are those of a Kafka 4 broker. A member offers one protocol.
 */
import { Exit } from "effect"
import type { GroupDescription, GroupIdentity, JoinRequest, JoinResult } from "../Cluster.ts"
import { Group, type Member, nothing, type Reply } from "./Group.ts"
import {
  checkGeneration,
  checkProtocol,
  checkTimeout,
  clientName,
  describe,
  equal,
  inconsistent,
  newMemberTimeout,
  rebalancing,
} from "./GroupChecks.ts"
import { Refusal } from "./Refusal.ts"
import type { Timers } from "./Timers.ts"

export interface Options {
  readonly timers: Timers
  /** How long a new group waits for more members before its first generation, in milliseconds. */
  readonly initialRebalanceDelay: number
  readonly minSessionTimeout: number
  readonly maxSessionTimeout: number
}

export class Groups {
  readonly #groups = new Map<string, Group>()
  readonly #options: Options
  #members = 0

  constructor(options: Options) {
    this.#options = options
  }

  get names(): ReadonlyArray<string> {
    return [...this.#groups.keys()]
  }

  join(request: JoinRequest, now: number, reply: Reply<JoinResult>): void {
    const { memberId, sessionTimeout } = request
    if (request.group === "") throw new Refusal("INVALID_GROUP_ID", "a group's name cannot be empty")
    checkTimeout(request, this.#options)
    const group = memberId === "" ? this.#atOrNew(request.group) : this.#at(request.group)
    checkProtocol(group, request)
    if (memberId === "" && request.instanceId !== undefined) return this.#joinStatic(group, request, now, reply)
    if (memberId === "") return reply(Exit.succeed(this.#promise(group, sessionTimeout, now)))
    const promise = group.promised.get(memberId)
    if (promise === undefined) return this.#rejoin(group, request, now, reply)
    this.#options.timers.cancel(promise)
    group.promised.delete(memberId)
    group.grew = true
    this.#expect(group, group.add(request, reply), now, newMemberTimeout)
    this.#rebalance(group, now)
  }

  sync(
    { group: name, memberId, instanceId, generation }: GroupIdentity,
    protocol: string,
    assignments: ReadonlyArray<{ readonly memberId: string; readonly assignment: Uint8Array }>,
    now: number,
    reply: Reply<Uint8Array>,
  ): void {
    const group = this.#at(name)
    const member = group.identified({ memberId, instanceId })
    checkGeneration(group, generation)
    if (member.protocol !== protocol) throw inconsistent(group, protocol)
    if (group.state === "PreparingRebalance") throw rebalancing(group)
    group.unsynced.delete(memberId)
    if (group.unsynced.size === 0) this.#options.timers.cancel(group.syncDeadline)
    if (group.state === "Stable") return reply(Exit.succeed(member.assignment))
    member.syncing = reply
    if (group.leader !== memberId) return
    for (const { memberId, assignment } of assignments) {
      const assigned = group.members.get(memberId)
      if (assigned !== undefined) assigned.assignment = new Uint8Array(assignment)
    }
    group.state = "Stable"
    this.#answerSyncs(group, now, (member) => Exit.succeed(member.assignment))
  }

  heartbeat({ group: name, memberId, instanceId, generation }: GroupIdentity, now: number): void {
    const group = this.#at(name)
    const member = group.identified({ memberId, instanceId })
    checkGeneration(group, generation)
    this.#expect(group, member, now)
    if (group.state === "PreparingRebalance") throw rebalancing(group)
  }

  leave(name: string, memberId: string, now: number): void {
    const group = this.#at(name)
    const promise = group.promised.get(memberId)
    if (promise === undefined) this.#remove(group, group.member(memberId))
    else {
      this.#options.timers.cancel(promise)
      group.promised.delete(memberId)
    }
    this.#rebalance(group, now)
  }

  /** Refuses a commit of positions that does not come from a member of the current generation. */
  checkCommit(identity: GroupIdentity, transactional: boolean, now: number): void {
    const { group: name, memberId, generation } = identity
    const group = this.#groups.get(name)
    if (group === undefined) {
      if (generation < 0) return void this.#atOrNew(name)
      throw new Refusal(
        transactional ? "ILLEGAL_GENERATION" : "GROUP_ID_NOT_FOUND",
        `group ${name} does not exist, the commit came with generation ${generation}`,
      )
    }
    if (generation < 0 && group.state === "Empty") return
    // The transactional request once had no member: a broker takes it without one to this day.
    if (transactional && generation < 0 && memberId === "") return
    const member = group.identified(identity)
    checkGeneration(group, generation)
    if (transactional) return
    if (group.state === "CompletingRebalance") throw rebalancing(group)
    this.#expect(group, member, now)
  }

  describe(name: string): GroupDescription {
    return describe(name, this.#groups.get(name))
  }

  /** Removes a member as if its session had ended. */
  expire(name: string, memberId: string, now: number): void {
    const group = this.#at(name)
    this.#remove(group, group.member(memberId))
    this.#rebalance(group, now)
  }

  #at(name: string): Group {
    const group = this.#groups.get(name)
    if (group === undefined) throw new Refusal("UNKNOWN_MEMBER_ID", `group ${name} has no members`)
    return group
  }

  #atOrNew(name: string): Group {
    const group = this.#groups.get(name) ?? new Group(name)
    this.#groups.set(name, group)
    return group
  }

  #promise(group: Group, sessionTimeout: number, now: number): JoinResult {
    const memberId = `${clientName}-${++this.#members}`
    const broken = (now: number) => {
      group.promised.delete(memberId)
      if (group.state === "PreparingRebalance" && group.isComplete) this.#complete(group, now)
    }
    group.promised.set(memberId, this.#options.timers.schedule(now + sessionTimeout, broken))
    return { error: "MEMBER_ID_REQUIRED", memberId, generation: -1, leader: "", skipAssignment: false, members: [] }
  }

  /** A static member that is known takes its place again, in a generation that has its assignments without a rebalance. */
  #joinStatic(group: Group, request: JoinRequest, now: number, reply: Reply<JoinResult>): void {
    const memberId = `${request.instanceId}-${++this.#members}`
    const known = group.instances.get(request.instanceId!)
    if (known === undefined) {
      group.grew = true
      this.#expect(group, group.add({ ...request, memberId }, reply), now, newMemberTimeout)
      return this.#rebalance(group, now)
    }
    const before = group.member(known)
    this.#options.timers.cancel(before.session)
    const member = group.replace(before, memberId)
    member.sessionTimeout = request.sessionTimeout
    member.rebalanceTimeout = request.rebalanceTimeout
    member.metadata = new Uint8Array(request.metadata)
    this.#expect(group, member, now)
    if (group.state === "Stable") {
      const skipAssignment = group.leader === memberId
      return reply(Exit.succeed({ ...group.joined(memberId), skipAssignment }))
    }
    member.joining = reply
    this.#rebalance(group, now)
  }

  #rejoin(group: Group, request: JoinRequest, now: number, reply: Reply<JoinResult>): void {
    const member = group.identified(request)
    const knows = group.state === "CompletingRebalance" ||
      (group.state === "Stable" && group.leader !== member.memberId)
    if (knows && equal(member.metadata, request.metadata)) return reply(Exit.succeed(group.joined(member.memberId)))
    member.sessionTimeout = request.sessionTimeout
    member.rebalanceTimeout = request.rebalanceTimeout
    member.metadata = new Uint8Array(request.metadata)
    member.joining = reply
    this.#rebalance(group, now)
  }

  /** Begins a rebalance, or ends the one that is on if everybody is there. */
  #rebalance(group: Group, now: number): void {
    const { timers, initialRebalanceDelay } = this.#options
    if (group.state === "PreparingRebalance") {
      if (!group.isFirst && group.isComplete) this.#complete(group, now)
      return
    }
    if (group.state === "Empty" && group.members.size === 0) return
    if (group.state === "CompletingRebalance") {
      for (const member of group.members.values()) member.assignment = nothing
      this.#answerSyncs(group, now, () => Exit.fail(rebalancing(group)))
    }
    timers.cancel(group.syncDeadline)
    group.unsynced.clear()
    group.isFirst = group.state === "Empty"
    group.state = "PreparingRebalance"
    if (group.isFirst) {
      group.grew = false
      return this.#wait(group, now, initialRebalanceDelay, group.rebalanceTimeout - initialRebalanceDelay)
    }
    if (group.isComplete) return this.#complete(group, now)
    group.deadline = timers.schedule(now + group.rebalanceTimeout, (now) => this.#complete(group, now))
  }

  /** The first rebalance waits for members that come together, and longer while more are coming. */
  #wait(group: Group, now: number, delay: number, left: number): void {
    if (delay <= 0) return this.#complete(group, now)
    group.deadline = this.#options.timers.schedule(now + delay, (now) => {
      if (!group.grew || left <= 0) return this.#complete(group, now)
      group.grew = false
      this.#wait(group, now, Math.min(this.#options.initialRebalanceDelay, left), left - delay)
    })
  }

  /** The next generation, of those who have joined, and of static members that are away. */
  #complete(group: Group, now: number): void {
    const { timers } = this.#options
    timers.cancel(group.deadline)
    for (const member of [...group.members.values()]) {
      if (member.joining === undefined && member.instanceId === undefined) this.#remove(group, member)
    }
    if (group.members.size > 0 && !group.electLeader()) {
      group.deadline = timers.schedule(now + group.rebalanceTimeout, (now) => this.#complete(group, now))
      return
    }
    group.nextGeneration()
    if (group.state === "Empty") return
    for (const member of group.members.values()) {
      member.isNew = false
      group.unsynced.add(member.memberId)
      this.#expect(group, member, now)
      group.answerJoin(member)
    }
    const { generation } = group
    group.syncDeadline = timers.schedule(now + group.rebalanceTimeout, (now) => {
      if (group.generation !== generation || group.unsynced.size === 0) return
      for (const memberId of [...group.unsynced]) this.#remove(group, group.member(memberId))
      this.#rebalance(group, now)
    })
  }

  #answerSyncs(group: Group, now: number, answer: (member: Member) => Exit.Exit<Uint8Array, Refusal>): void {
    for (const member of group.members.values()) {
      const { syncing } = member
      if (syncing === undefined) continue
      member.syncing = undefined
      this.#expect(group, member, now)
      syncing(answer(member))
    }
  }

  /** Expects to hear from the member again within its session. */
  #expect(group: Group, member: Member, now: number, timeout = member.sessionTimeout): void {
    const { timers } = this.#options
    timers.cancel(member.session)
    member.session = timers.schedule(now + timeout, (now) => {
      const waits = member.joining !== undefined || member.syncing !== undefined
      if (waits && !member.isNew) return
      this.#remove(group, member)
      this.#rebalance(group, now)
    })
  }

  #remove(group: Group, member: Member): void {
    this.#options.timers.cancel(member.session)
    group.remove(member.memberId)
    const gone = new Refusal("UNKNOWN_MEMBER_ID", `"${member.memberId}" is no longer a member of group ${group.name}`)
    member.joining?.(Exit.fail(gone))
    member.syncing?.(Exit.fail(gone))
  }
}
