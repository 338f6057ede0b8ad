/** Outputs, dead letters, state changes and positions in one Kafka transaction. */
import { Clock, Effect, Schedule } from "effect"
import * as Identifier from "../Identifier.ts"
import { spread } from "../Jitter.ts"
import type { Committed, Committer, Guarantee, Membership, Plan, Refused, TaskId } from "../Pipeline.ts"
import type { PipelineError } from "../Task.ts"
import { Cluster, type GroupIdentity, type KafkaError, retriable } from "./Cluster.ts"
import * as Abandoned from "./Abandoned.ts"
import { asPipelineError, moved, ofCommit } from "./Errors.ts"
import * as Leaders from "./Leaders.ts"
import {
  claim,
  distinct,
  fencing,
  ownerOf,
  partitionsOf,
  type Predecessor,
  stablePositions,
  toCommit,
} from "./Positions.ts"
import { culprits, prepare, type Prepared, without } from "./Prepared.ts"
import * as Transaction from "./Transaction.ts"
import * as Writer from "./Writer.ts"

export interface Options {
  /** After this long the brokers abort a transaction that was left open. */
  readonly transactionTimeout: number
  /** How long a commit's requests are repeated while the brokers cannot answer them. */
  readonly deliveryTimeout: number
  readonly compression: Writer.Options["compression"]
  /** The largest record batch; topics whose `maxMessageBytes` is smaller get smaller ones. */
  readonly maxBatchBytes: number
}

export const defaults: Options = {
  transactionTimeout: 60_000,
  deliveryTimeout: 30_000,
  compression: "none",
  maxBatchBytes: 1_000_000,
}

/**
 * What a batch caused becomes visible to read_committed readers together with its positions, or not at all: over crashes,
 * rebalances and broker failures every record counts exactly once. Transactions run while the next batches are processed.
 */
export const exactlyOnce = (options?: Partial<Options>): Guarantee<unknown, Cluster> => ({
  name: "exactlyOnce",
  state: "same",
  writes: "outgoing",
  open: Effect.fnUntraced(function* (plan: Plan) {
    const cluster = yield* Cluster
    const scope = yield* Effect.scope
    const settings = { ...defaults, ...options }
    const leaders = yield* Leaders.make
    const transactionalId = `${plan.name}-${yield* Identifier.make}`
    let commits = 0
    /** Who we were in the group when we last took tasks over: by this name successors know us. */
    let known: GroupIdentity | undefined
    let epoch = 0
    /** Whom we took tasks over from, until it is known that they have left nothing open: who takes over from us ends that. */
    let before: ReadonlyArray<Predecessor> = []

    let taken = -Infinity

    /**
     * Nobody else begins a transaction under our id, which is drawn anew by every process. Who takes our work over ends
     * what we left open, once we have left the group: then the id is free, and the group refuses what we still would commit.
     * While we are in the group, a request of theirs or ours that came late may have taken the id. Who takes it again soon
     * after uses it, and this process ends.
     */
    const mayTakeBack = Effect.gen(function* () {
      const described = yield* Effect.result(cluster.describeGroups([plan.group]))
      const group = described._tag === "Success" ? described.success[0] : undefined
      if (!group?.members.some(({ memberId }) => memberId === known?.memberId)) return true
      const now = yield* Clock.currentTimeMillis
      const again = now - taken < settings.transactionTimeout
      taken = now
      return !again
    })
    const writer = yield* Writer.make(cluster, leaders, {
      ...settings,
      transactionalId,
      requestTimeout: settings.deliveryTimeout,
      limits: Writer.limitsOf(plan),
      mayTakeBack,
    }).pipe(Effect.mapError(asPipelineError))

    const identity = ({ generation, memberId }: Membership): GroupIdentity => ({
      group: plan.group,
      generation,
      memberId,
    })

    /**
     * How a commit ended whose outcome is unknown: the positions carry the name of the commit that moved them last. Asks
     * for as long as nobody answers: until it is known nothing can be committed, and nothing be given back.
     */
    const wasCommitted = (task: TaskId, commit: string): Effect.Effect<boolean, KafkaError> =>
      Effect.gen(function* () {
        yield* writer.ready
        const fence = fencing(cluster, plan.group, settings.transactionTimeout, transactionalId)
        const positions = yield* stablePositions(cluster, plan.group, partitionsOf(plan, task), fence)
        return positions.some((position) => ownerOf(position)?.commit === commit)
      }).pipe(
        Effect.tapError((error) =>
          Effect.logWarning(`${plan.name}: whether a commit was carried out is not known`, error)
        ),
        Effect.retry({
          schedule: spread(Schedule.spaced("1 second")),
          while: ({ code }) => retriable.has(code),
        }),
      )

    const commit = Effect.fnUntraced(function* (
      prepared: ReadonlyArray<Prepared>,
      member: Membership,
      refused: ReadonlyArray<Refused>,
    ): Effect.fn.Return<Committed, KafkaError | PipelineError> {
      const commitId = `${transactionalId}:${++commits}`
      if (prepared.length === 0) return { commit: commitId, refused }
      const owner = { txn: transactionalId, member: member.memberId, commit: commitId, epoch }
      const outcome = yield* Transaction.run(cluster, transactionalId, writer, {
        records: prepared.flatMap(({ outputs, changes }) => [...outputs, ...changes]),
        member: identity(member),
        offsets: prepared.flatMap(({ work }) => toCommit(work, owner, before)),
      }, settings.deliveryTimeout)
      switch (outcome._tag) {
        case "committed":
          return { commit: commitId, refused }
        case "stale":
          return yield* moved(plan, outcome.error)
        case "unknown":
          if (yield* wasCommitted(prepared[0]!.work.task, commitId)) return { commit: commitId, refused }
          return yield* outcome.error
        case "undelivered": {
          const found = yield* culprits(plan, prepared, outcome.batches)
          return yield* commit(without(prepared, found), member, [...refused, ...found])
        }
      }
    })

    return {
      claim: Effect.fnUntraced(function* (tasks, member) {
        // What we left open ourselves would be waited for.
        yield* writer.ready
        const takeover = { plan, transactionalId, ...settings, patience: settings.deliveryTimeout }
        const claimed = yield* claim(cluster, takeover, tasks, identity(member))
        known = identity(member)
        epoch = claimed.epoch
        const fence = fencing(cluster, plan.group, settings.transactionTimeout, transactionalId)
        const others = distinct([...claimed.claims.flatMap(({ previous }) => previous), ...before])
        before = others
        const end = Effect.andThen(
          Abandoned.end(cluster, plan, others, fence),
          Effect.sync(() => before = before.filter((one) => !others.includes(one))),
        )
        yield* Effect.forkIn(Effect.ignore(end), scope)
        return claimed.claims
      }, Effect.mapError(ofCommit(plan))),
      commit: (work, member) => {
        const { prepared, refused } = prepare(plan, work)
        return Effect.mapError(commit(prepared, member, refused), asPipelineError)
      },
    } satisfies Committer<unknown>
  }),
})
