/** Topics as their contracts declare them, and how far groups are behind. */
import { Duration, Effect } from "effect"
import type { Any as AnyTopic } from "../Topic.ts"
import { PipelineError } from "../Task.ts"
import { Cluster, KafkaError, type NewTopic, type TopicPartition } from "./Cluster.ts"
import { asPipelineError } from "./Errors.ts"
import { patiently } from "./Retry.ts"

export interface CreateOptions {
  /** -1, the default, for the cluster's own. */
  readonly replicationFactor?: number
  /** Configuration on top of the contracts', by Kafka's names. */
  readonly config?: Readonly<Record<string, string>>
}

const patience = 30_000

/**
 * Creates the topics that do not exist, as their contracts declare them, and waits until they have leaders. Changes
 * nothing on those that exist; fails with `PipelineError` of reason `Definition` where one has another number of partitions.
 */
export const createTopics = Effect.fn("Admin.createTopics")(function* (
  topics: Iterable<AnyTopic>,
  options?: CreateOptions,
): Effect.fn.Return<void, PipelineError, Cluster> {
  const cluster = yield* Cluster
  const byName = new Map(Array.from(topics, (topic) => [topic.name, topic]))
  if (byName.size === 0) return
  const created = yield* Effect.mapError(
    patiently(cluster.createTopics(Array.from(byName.values(), (topic) => newTopic(topic, options))), patience),
    asPipelineError,
  )
  for (const { topic, error, message } of created) {
    if (error === null || error === "TOPIC_ALREADY_EXISTS") continue
    return yield* misfit(`topic ${topic} cannot be created: ${error}${message === undefined ? "" : ` (${message})`}`)
  }
  const known = yield* Effect.mapError(patiently(withLeaders(cluster, [...byName.keys()]), patience), asPipelineError)
  for (const { topic, partitions } of known) {
    const declared = byName.get(topic)!.partitions
    if (partitions.length === declared) continue
    return yield* misfit(`topic ${topic} has ${partitions.length} partitions, and its contract declares ${declared}`)
  }
})

const newTopic = (topic: AnyTopic, options: CreateOptions | undefined): NewTopic => ({
  topic: topic.name,
  partitions: topic.partitions,
  replicationFactor: options?.replicationFactor ?? -1,
  config: {
    "cleanup.policy": topic.cleanup,
    "max.message.bytes": String(topic.maxMessageBytes),
    ...topic.retention === undefined ? {} : { "retention.ms": String(Duration.toMillis(topic.retention)) },
    ...topic.config,
    ...options?.config,
  },
})

const withLeaders = (cluster: Cluster["Service"], topics: ReadonlyArray<string>) =>
  Effect.flatMap(cluster.metadata(topics), ({ topics }) => {
    const waiting = topics.find(({ error, partitions }) =>
      error !== null || partitions.some(({ leader }) => leader < 0)
    )
    return waiting === undefined ? Effect.succeed(topics) : Effect.fail(
      new KafkaError({
        code: "LEADER_NOT_AVAILABLE",
        operation: "Metadata",
        message: `topic ${waiting.topic} has no leader yet (${waiting.error})`,
      }),
    )
  })

const misfit = (message: string): PipelineError =>
  new PipelineError({ reason: "Definition", retriable: false, message })

/** How far a group is behind in one partition. */
export interface Lag extends TopicPartition {
  readonly group: string
  /** The next offset the group will read; -1 where it has committed none. */
  readonly position: number
  /** The end of what read_committed readers can see. */
  readonly end: number
  /** Records between the two; markers count, so that up to one per transaction may be no record at all. */
  readonly records: number
}

/** The lag of groups in everything they have positions in. */
export const lag = Effect.fn("Admin.lag")(function* (
  groups: ReadonlyArray<string>,
): Effect.fn.Return<ReadonlyArray<Lag>, KafkaError, Cluster> {
  const cluster = yield* Cluster
  const positions = yield* Effect.forEach(groups, (group) =>
    Effect.map(
      cluster.offsetFetch(group, undefined, false),
      (committed) => committed.filter(({ error }) => error === null).map((one) => ({ ...one, group })),
    ), { concurrency: 4 })
  const all = positions.flat()
  if (all.length === 0) return []
  const unique = new Map(all.map(({ topic, partition }) => [`${topic}/${partition}`, { topic, partition }]))
  const ends = yield* cluster.listOffsets([...unique.values()], "latest", "read_committed")
  const endOf = new Map(ends.map(({ topic, partition, offset }) => [`${topic}/${partition}`, offset]))
  return all.map(({ group, topic, partition, offset }) => {
    const end = endOf.get(`${topic}/${partition}`) ?? -1
    return { group, topic, partition, position: offset, end, records: Math.max(0, end - Math.max(0, offset)) }
  })
})
