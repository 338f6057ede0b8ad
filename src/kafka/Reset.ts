/**
 * Moving a group's positions and its pipeline's state together: one transaction, made as the group's only member, so that
 * whoever starts meanwhile or afterwards finds all of it done or nothing.
 */
import { Buffer } from "node:buffer"
import { Effect, Schedule, type Scope } from "effect"
import { changelogTopic, type Plan, type Replayed, type TaskId } from "../Pipeline.ts"
import { PipelineError } from "../Task.ts"
import * as Changelog from "./Changelog.ts"
import { Cluster, type CommittedOffset, type KafkaError, retriable, type TopicPartition } from "./Cluster.ts"
import type { ProducerRecord } from "./Delivery.ts"
import { asPipelineError, moved } from "./Errors.ts"
import * as Exclusive from "./Exclusive.ts"
import * as Fetcher from "./Fetcher.ts"
import * as Leaders from "./Leaders.ts"
import {
  claim,
  committedOrStart,
  fencing,
  metadataOf,
  named,
  type Owner,
  ownerOf,
  stablePositions,
  topicIdsOf,
} from "./Positions.ts"
import { patiently } from "./Retry.ts"
import * as Transaction from "./Transaction.ts"
import * as Writer from "./Writer.ts"

/** Where a position is to stand. */
export interface PositionReset extends TopicPartition {
  readonly offset: number
  /** The clock there, as a position's metadata has it. */
  readonly clock?: string | undefined
  readonly replay?: Replayed | undefined
}

/** What a store is to hold. */
export interface StoreReset {
  readonly store: string
  readonly flow: number
  /** The changelog whose content it gets; nothing without. */
  readonly from?: string | undefined
  /** The topic that what it holds now is kept in. */
  readonly backup?: string | undefined
}

export interface Reset {
  /** Names the commit in the positions' metadata. */
  readonly id: string
  /** Of every partition that the pipeline reads. */
  readonly positions: ReadonlyArray<PositionReset>
  /** Every store of the pipeline, or none where its state stays. */
  readonly stores: ReadonlyArray<StoreReset>
}

/** A group that is held. */
export interface Held {
  /** Stable positions as they were found, and the metadata they had. */
  readonly before: ReadonlyArray<CommittedOffset>
  /** Moves everything at once. May be called again with the same reset where its outcome is not known. */
  apply(reset: Reset): Effect.Effect<void, PipelineError>
  /** Moves positions alone, for tools to see: those of pipelines that keep theirs elsewhere. */
  show(positions: ReadonlyArray<PositionReset>): Effect.Effect<void, PipelineError>
}

const patience = 60_000

/** State is written whole: a transaction may take longer than a pipeline's. */
const transactionTimeout = 300_000

/** The tasks of a pipeline. */
export const tasksOf = (partitions: ReadonlyArray<number>): ReadonlyArray<TaskId> =>
  partitions.flatMap((count, flow) => Array.from({ length: count }, (_, partition) => ({ flow, partition })))

/** What the tasks of a pipeline read. */
export const readsOf = (plan: Plan, partitions: ReadonlyArray<number>): ReadonlyArray<TopicPartition> =>
  plan.flows.flatMap(({ reads }, flow) =>
    reads.flatMap(({ name }) =>
      Array.from({ length: partitions[flow]! }, (_, partition) => ({ topic: name, partition }))
    )
  )

/**
 * Becomes the only member of the pipeline's group, ends what owners who are gone have left open, and takes all positions
 * over under its own name, unchanged: whoever comes after a replay that died here ends its transaction as any other's.
 * Fails with `GroupActive` where programs are at work.
 */
export const hold = Effect.fnUntraced(function* (
  plan: Plan,
  options: {
    readonly transactionalId: string
    /** By flow. */
    readonly partitions: ReadonlyArray<number>
    /** Whether the changelogs' records bear their age. */
    readonly isStamped: boolean
  },
): Effect.fn.Return<Held, KafkaError | PipelineError | Exclusive.GroupActive, Cluster | Scope.Scope> {
  const { transactionalId, partitions, isStamped } = options
  const cluster = yield* Cluster
  const topics = plan.flows.flatMap(({ reads }) => reads.map(({ name }) => name))
  const member = yield* Exclusive.hold(plan.group, topics)
  const leaders = yield* Leaders.make
  const writer = yield* Writer.make(cluster, leaders, {
    transactionalId,
    transactionTimeout,
    deliveryTimeout: patience,
    requestTimeout: patience,
    compression: "none",
    maxBatchBytes: 1_000_000,
    mayTakeBack: Effect.succeed(true),
  })
  const takeover = { transactionalId, transactionTimeout, patience }
  const all = readsOf(plan, partitions)
  const before = yield* committedOrStart(cluster, plan, all, takeover)
  const { epoch, claims } = yield* claim(cluster, { plan, ...takeover }, tasksOf(partitions), member)
  yield* fencing(cluster, plan.group, transactionTimeout, transactionalId)(claims.flatMap(({ previous }) => previous))
  const fetcher = yield* Fetcher.make(leaders, Fetcher.defaults)
  const headers = isStamped ? Changelog.stamp(epoch, 1) : []

  const topicIds = yield* topicIdsOf(cluster, all, patience)

  const metadata = (id: string, { topic, clock, replay }: PositionReset): string => {
    const owner: Owner = {
      txn: null,
      member: member.memberId,
      commit: id,
      epoch,
      ...named(topicIds.get(topic)),
      ...clock !== undefined && { clock },
      ...replay !== undefined && { replay },
    }
    return metadataOf(owner, [])
  }
  const offsets = ({ id, positions }: Pick<Reset, "id" | "positions">) =>
    positions.map((one) => ({
      topic: one.topic,
      partition: one.partition,
      offset: one.offset,
      metadata: metadata(id, one),
    }))

  /** What one partition of a changelog must be told to hold what it is to hold. */
  const changes = Effect.fnUntraced(function* (
    { store, flow, from, backup }: StoreReset,
    partition: number,
    positions: ReadonlyArray<PositionReset>,
  ) {
    const topic = changelogTopic(plan.name, store)
    const where = { topic, partition }
    const held = yield* Changelog.entries(cluster, fetcher, where)
    const wanted = from === undefined
      ? { values: new Map<string, Uint8Array>(), logged: undefined }
      : yield* Changelog.entries(cluster, fetcher, { topic: from, partition })
    const records: Array<ProducerRecord> = []
    const put = (topic: string, key: string, value: Uint8Array | null, headers: ProducerRecord["headers"] = []) =>
      records.push({ topic, partition, key: Buffer.from(key, "latin1"), value, headers })
    if (backup !== undefined) {
      for (const [key, value] of held.values) put(backup, key, value)
      if (held.logged !== undefined) {
        records.push(Changelog.positionsRecord({ topic: backup, partition }, held.logged, []))
      }
    }
    for (const key of held.values.keys()) if (!wanted.values.has(key)) put(topic, key, null, headers)
    for (const [key, value] of wanted.values) {
      if (held.values.get(key) === undefined || Buffer.compare(held.values.get(key)!, value) !== 0) {
        put(topic, key, value, headers)
      }
    }
    const reads = new Set(plan.flows[flow]!.reads.map(({ name }) => name))
    const { shape, streamTime = null } = wanted.logged ?? {}
    records.push(Changelog.positionsRecord(where, {
      positions: Object.fromEntries(
        positions.filter((one) => one.partition === partition && reads.has(one.topic)).map((one) => [
          one.topic,
          one.offset,
        ]),
      ),
      streamTime,
      ...shape !== undefined && { shape },
    }, headers))
    return records
  })

  const isApplied = Effect.fnUntraced(function* (id: string) {
    yield* writer.ready
    const fence = fencing(cluster, plan.group, transactionTimeout, transactionalId)
    const positions = yield* stablePositions(cluster, plan.group, all, fence)
    return positions.some((one) => ownerOf(one)?.commit === id)
  })

  const run = Effect.fnUntraced(function* (reset: Reset): Effect.fn.Return<void, KafkaError | PipelineError> {
    const records: Array<ProducerRecord> = []
    for (const store of reset.stores) {
      for (let partition = 0; partition < partitions[store.flow]!; partition++) {
        for (const record of yield* changes(store, partition, reset.positions)) records.push(record)
      }
    }
    const outcome = yield* Transaction.run(cluster, transactionalId, writer, {
      records,
      member,
      offsets: offsets(reset),
    }, patience)
    switch (outcome._tag) {
      case "committed":
        return
      case "stale":
        return yield* moved(plan, outcome.error)
      case "undelivered":
        return yield* outcome.batches[0]!.error
      case "unknown": {
        const isDone = yield* isApplied(reset.id).pipe(
          Effect.retry({ schedule: Schedule.spaced("1 second"), times: 60, while: ({ code }) => retriable.has(code) }),
        )
        if (!isDone) return yield* outcome.error
      }
    }
  })

  return {
    before,
    apply: (reset) => Effect.mapError(run(reset), asPipelineError),
    show: (positions) =>
      Effect.mapError(
        patiently(cluster.offsetCommit(member, offsets({ id: transactionalId, positions })), patience),
        asPipelineError,
      ),
  }
})
