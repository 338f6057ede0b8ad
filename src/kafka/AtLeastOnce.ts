/** Outputs, then state changes, then positions: nothing is missing after a crash, and some may be there twice. */
import { Effect } from "effect"
import * as Identifier from "../Identifier.ts"
import type { Committed, Committer, Guarantee, Membership, Plan, Work } from "../Pipeline.ts"
import type { PipelineError } from "../Task.ts"
import * as Changelog from "./Changelog.ts"
import { Cluster, type GroupIdentity, type KafkaError } from "./Cluster.ts"
import { asPipelineError, ofCommit } from "./Errors.ts"
import { defaults, type Options } from "./ExactlyOnce.ts"
import * as Leaders from "./Leaders.ts"
import { claim, toCommit } from "./Positions.ts"
import { culprits, prepare, without } from "./Prepared.ts"
import { patiently } from "./Retry.ts"
import * as Writer from "./Writer.ts"

/**
 * Every output is acknowledged by all in-sync replicas before the changelog is written, and the changelog before the
 * position is committed. After a crash the records since the last commit are processed again: outputs may repeat, and
 * counts may run over. A request of a process that was cut off may arrive late: its changes are told by their age and
 * ignored, its outputs stand after newer ones.
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
    const writer = yield* Writer.make(cluster, leaders, {
      ...settings,
      requestTimeout: patience,
      limits: Writer.limitsOf(plan),
    }).pipe(Effect.mapError(asPipelineError))
    let commits = 0
    let epoch = 0

    const identity = ({ generation, memberId }: Membership): GroupIdentity => ({
      group: plan.group,
      generation,
      memberId,
    })

    const commit = Effect.fnUntraced(function* (
      work: ReadonlyArray<Work>,
      member: Membership,
    ): Effect.fn.Return<Committed, KafkaError | PipelineError> {
      const commitId = `${run}:${++commits}`
      const owner = { txn: null, member: member.memberId, commit: commitId, epoch }
      let { prepared, refused } = prepare(plan, work, Changelog.stamp(epoch, commits))
      for (const step of ["outputs", "changes"] as const) {
        for (;;) {
          const failed = yield* writer.write(prepared.flatMap((one) => one[step]), () => Effect.void)
          if (failed.length === 0) break
          const found = yield* culprits(plan, prepared, failed)
          refused = [...refused, ...found]
          prepared = without(prepared, found)
        }
      }
      const offsets = prepared.flatMap(({ work }) => toCommit(work, owner))
      if (offsets.length > 0) yield* patiently(cluster.offsetCommit(identity(member), offsets), patience)
      return { commit: commitId, refused }
    })

    return {
      claim: Effect.fnUntraced(function* (tasks, member) {
        const claimed = yield* claim(cluster, { plan, ...settings, patience }, tasks, identity(member))
        epoch = claimed.epoch
        return claimed.claims
      }, Effect.mapError(ofCommit(plan))),
      commit: (work, member) => Effect.mapError(commit(work, member), ofCommit(plan)),
    } satisfies Committer<unknown>
  }),
})
