/** Outputs, then state changes, then positions: nothing is missing after a crash, and some may be there twice. */
import { Effect } from "effect"
import * as Identifier from "../Identifier.ts"
import type { Committed, Committer, Guarantee, Membership, Plan, Refused, Work } from "../Pipeline.ts"
import type { PipelineError } from "../Task.ts"
import * as Changelog from "./Changelog.ts"
import { Cluster, type GroupIdentity, type KafkaError } from "./Cluster.ts"
import type { ProducerRecord } from "./Delivery.ts"
import { asPipelineError, ofCommit } from "./Errors.ts"
import { defaults, type Options } from "./ExactlyOnce.ts"
import * as Leaders from "./Leaders.ts"
import { claim, toCommit } from "./Positions.ts"
import { patiently } from "./Retry.ts"
import * as Writer from "./Writer.ts"

/**
 * Every output is acknowledged by all in-sync replicas before the changelog is written, and the changelog before the
 * position is committed. After a crash the records since the last commit are processed again: outputs may repeat, and
 * counts may run over.
 */
export const atLeastOnce = (options?: Partial<Omit<Options, "transactionTimeout">>): Guarantee<unknown, Cluster> => ({
  name: "atLeastOnce",
  state: "ahead",
  writes: "outgoing",
  open: Effect.fnUntraced(function* (plan: Plan) {
    const cluster = yield* Cluster
    const settings = { ...defaults, ...options, transactionalId: null }
    const patience = settings.deliveryTimeout
    const leaders = yield* Leaders.make
    const run = yield* Identifier.make
    const writer = yield* Writer.make(cluster, leaders, { ...settings, requestTimeout: patience }).pipe(
      Effect.mapError(asPipelineError),
    )
    let commits = 0

    const identity = ({ generation, memberId }: Membership): GroupIdentity => ({
      group: plan.group,
      generation,
      memberId,
    })

    /** Writes for many tasks at once, and answers what the brokers refuse for good. */
    const write = Effect.fnUntraced(function* (
      work: ReadonlyArray<Work>,
      recordsOf: (work: Work) => ReadonlyArray<ProducerRecord>,
    ): Effect.fn.Return<ReadonlyArray<Refused>, KafkaError> {
      const records = work.map(recordsOf)
      const failed = yield* writer.write(records.flat(), () => Effect.void)
      if (failed.length === 0) return []
      yield* writer.renew
      const waiting = failed.find(({ error }) => error.code === "TIMEOUT")
      if (waiting !== undefined) return yield* waiting.error
      return work.flatMap(({ task }, i) => {
        const culprit = failed.find(({ batch }) =>
          records[i]!.some((record) => record.topic === batch.topic && writer.partitionOf(record) === batch.partition)
        )
        return culprit === undefined ? [] : [{ task, error: asPipelineError(culprit.error) }]
      })
    })

    const commit = Effect.fnUntraced(function* (
      work: ReadonlyArray<Work>,
      member: Membership,
    ): Effect.fn.Return<Committed, KafkaError | PipelineError> {
      const commitId = `${run}:${++commits}`
      const owner = { txn: null, member: member.memberId, commit: commitId }
      const steps = [
        (one: Work) => one.batches.flatMap((batch) => batch.outgoing),
        (one: Work) => Changelog.records(plan, one),
      ]
      let left = work
      const refused: Array<Refused> = []
      for (const recordsOf of steps) {
        for (;;) {
          const culprits = yield* write(left, recordsOf)
          if (culprits.length === 0) break
          refused.push(...culprits)
          left = left.filter(({ task }) => !culprits.some((culprit) => culprit.task === task))
        }
      }
      const offsets = left.flatMap((one) => toCommit(one, owner))
      if (offsets.length > 0) yield* patiently(cluster.offsetCommit(identity(member), offsets), patience)
      return { commit: commitId, refused }
    })

    return {
      claim: (tasks, member) =>
        claim(cluster, { plan, ...settings, patience }, tasks, identity(member)).pipe(Effect.mapError(ofCommit(plan))),
      commit: (work, member) => Effect.mapError(commit(work, member), ofCommit(plan)),
    } satisfies Committer<unknown>
  }),
})
