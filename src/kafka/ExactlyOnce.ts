/** Outputs, dead letters, state changes and positions in one Kafka transaction. */
import { Effect } from "effect"
import * as Identifier from "../Identifier.ts"
import type { Committed, Committer, Guarantee, Membership, Plan, Refused, Work } from "../Pipeline.ts"
import * as Changelog from "./Changelog.ts"
import type { PipelineError } from "../Task.ts"
import { Cluster, type GroupIdentity, type KafkaError } from "./Cluster.ts"
import type { ProducerRecord } from "./Delivery.ts"
import { asPipelineError, moved, ofCommit } from "./Errors.ts"
import * as Leaders from "./Leaders.ts"
import { claim, fencing, ownerOf, partitionsOf, stablePositions, toCommit } from "./Positions.ts"
import * as Transaction from "./Transaction.ts"
import * as Writer from "./Writer.ts"

export interface Options {
  /** After this long the brokers abort a transaction that was left open. */
  readonly transactionTimeout: number
  /** How long a commit's requests are repeated while the brokers cannot answer them. */
  readonly deliveryTimeout: number
  readonly compression: Writer.Options["compression"]
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
    const settings = { ...defaults, ...options }
    const leaders = yield* Leaders.make
    const transactionalId = `${plan.name}-${yield* Identifier.make}`
    const writer = yield* Writer.make(cluster, leaders, {
      ...settings,
      transactionalId,
      requestTimeout: settings.deliveryTimeout,
    }).pipe(Effect.mapError(asPipelineError))
    let commits = 0

    const identity = ({ generation, memberId }: Membership): GroupIdentity => ({
      group: plan.group,
      generation,
      memberId,
    })

    const recordsOf = (work: Work): ReadonlyArray<ProducerRecord> => [
      ...work.batches.flatMap((batch) => batch.outgoing),
      ...Changelog.records(plan, work),
    ]

    /** After an unknown outcome the positions tell: they carry the name of the commit that moved them last. */
    const wasCommitted = Effect.fnUntraced(function* (work: Work, commit: string) {
      const partitions = partitionsOf(plan, work.task)
      const fence = fencing(cluster, plan.group, settings.transactionTimeout)
      const positions = yield* stablePositions(cluster, plan.group, partitions, fence)
      return positions.some((position) => ownerOf(position)?.commit === commit)
    })

    const commit = Effect.fnUntraced(function* (
      work: ReadonlyArray<Work>,
      member: Membership,
      refused: ReadonlyArray<Refused>,
    ): Effect.fn.Return<Committed, KafkaError | PipelineError> {
      const commitId = `${transactionalId}:${++commits}`
      if (work.length === 0) return { commit: commitId, refused }
      const owner = { txn: transactionalId, member: member.memberId, commit: commitId }
      const records = work.map(recordsOf)
      const outcome = yield* Transaction.run(cluster, transactionalId, writer, {
        records: records.flat(),
        member: identity(member),
        offsets: work.flatMap((one) => toCommit(one, owner)),
      }, settings.deliveryTimeout)
      switch (outcome._tag) {
        case "committed":
          return { commit: commitId, refused }
        case "stale":
          return yield* moved(plan, outcome.error)
        case "unknown":
          if (yield* wasCommitted(work[0]!, commitId)) return { commit: commitId, refused }
          return yield* commit(work, member, refused)
        case "refused": {
          const culprits = culpritsOf(work, records, outcome.partitions, writer)
          const healthy = work.filter(({ task }) => !culprits.some((culprit) => culprit.task === task))
          if (healthy.length === work.length) return yield* outcome.partitions[0]!.error
          return yield* commit(healthy, member, [...refused, ...culprits])
        }
      }
    })

    return {
      claim: (tasks, member) =>
        claim(
          cluster,
          { plan, transactionalId, ...settings, patience: settings.deliveryTimeout },
          tasks,
          identity(member),
        )
          .pipe(Effect.mapError(ofCommit(plan))),
      commit: (work, member) => Effect.mapError(commit(work, member, []), asPipelineError),
    } satisfies Committer<unknown>
  }),
})

/** The tasks whose records the brokers refuse. */
const culpritsOf = (
  work: ReadonlyArray<Work>,
  records: ReadonlyArray<ReadonlyArray<ProducerRecord>>,
  refused: ReadonlyArray<Transaction.Refusal>,
  { partitionOf }: Writer.Writer,
): ReadonlyArray<Refused> =>
  work.flatMap(({ task }, i) => {
    const refusal = refused.find(({ topic, partition }) =>
      records[i]!.some((record) => record.topic === topic && partitionOf(record) === partition)
    )
    return refusal === undefined ? [] : [{ task, error: asPipelineError(refusal.error) }]
  })
