/** Topics: where they are, how they are set up, and where their logs begin and end. */
import { Effect } from "effect"
import type { Cluster, ListedOffset, Metadata, OffsetAt, TopicMetadata, TopicPartition } from "../Cluster.ts"
import type { Brokers } from "./Brokers.ts"
import { call } from "./Connections.ts"
import { nameOf, refused } from "./Failure.ts"
import { byTopic, inOrder } from "./Partitions.ts"
import { CreateTopics, DeleteTopics, DescribeConfigs, ListOffsets } from "./Protocol.ts"

type Methods = Pick<Cluster["Service"], "createTopics" | "deleteTopics" | "listOffsets" | "metadata" | "topicConfig">

export interface Topics extends Methods {
  /** The id of a topic as last heard; asks for those that are not known. Missing where there is no such topic. */
  ids(
    topics: Iterable<string>,
  ): Effect.Effect<ReadonlyMap<string, string>, Effect.Error<ReturnType<Methods["metadata"]>>>
}

const topicResource = 2

export const make = (brokers: Brokers): Topics => {
  const known = new Map<string, TopicMetadata>()

  const metadata = Effect.fn("Cluster.metadata")(function* (topics?: ReadonlyArray<string>) {
    const response = yield* brokers.metadata(topics)
    const found = response.topics.map((topic): TopicMetadata => ({
      topic: topic.name ?? "",
      id: topic.errorCode === 0 ? topic.topicId : "",
      error: nameOf(topic.errorCode),
      partitions: topic.partitions.map(({ partitionIndex, leaderId, replicaNodes, isrNodes }) => ({
        partition: partitionIndex,
        leader: leaderId,
        replicas: replicaNodes,
        inSync: isrNodes,
      })).sort((a, b) => a.partition - b.partition),
    }))
    for (const topic of found) {
      if (topic.error === null) known.set(topic.topic, topic)
      else known.delete(topic.topic)
    }
    return {
      clusterId: response.clusterId ?? "",
      brokers: response.brokers.map(({ nodeId, host, port }) => ({ node: nodeId, host, port })),
      topics: found,
    } satisfies Metadata
  })

  const ensure = (topics: Iterable<string>) => {
    const missing = [...new Set(topics)].filter((topic) => !known.has(topic))
    return missing.length === 0 ? Effect.void : Effect.asVoid(metadata(missing))
  }

  const leaderOf = ({ topic, partition }: TopicPartition): number =>
    known.get(topic)?.partitions[partition]?.leader ?? -1

  /** Offsets from one leader; those that it could not be asked for have its failure as their error. */
  const listFrom = Effect.fnUntraced(function* (
    node: number,
    partitions: ReadonlyArray<TopicPartition>,
    at: OffsetAt,
    isolation: number,
  ) {
    const unlisted = (error: string) => partitions.map((one): ListedOffset => ({ ...one, error, offset: -1 }))
    if (node < 0) return partitions.map((one) => ({ ...one, error: whyNoLeader(one), offset: -1 }))
    const timestamp = BigInt(at === "earliest" ? -2 : at === "latest" ? -1 : at)
    const response = yield* Effect.result(brokers.node(
      "admin",
      node,
      call(
        ListOffsets,
        -1,
        isolation,
        byTopic(
          partitions,
          (partition) => ({ partitionIndex: partition.partition, currentLeaderEpoch: -1, timestamp }),
        ),
      ),
    ))
    if (response._tag === "Failure") return unlisted(response.failure.code)
    return response.success.topics.flatMap(({ name, partitions }) =>
      partitions.map(({ partitionIndex, errorCode, offset }): ListedOffset => ({
        topic: name,
        partition: partitionIndex,
        error: nameOf(errorCode),
        offset: errorCode === 0 ? Number(offset) : -1,
      }))
    )
  })

  const whyNoLeader = ({ topic, partition }: TopicPartition): string =>
    known.get(topic)?.partitions[partition] === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : "LEADER_NOT_AVAILABLE"

  return {
    metadata,
    ids: (topics) =>
      Effect.map(ensure(topics), () => {
        const ids = new Map<string, string>()
        for (const topic of topics) {
          const found = known.get(topic)
          if (found !== undefined) ids.set(topic, found.id)
        }
        return ids
      }),

    createTopics: Effect.fn("Cluster.createTopics")(function* (topics) {
      const response = yield* brokers.any(call(
        CreateTopics,
        topics.map(({ topic, partitions, replicationFactor, config }) => ({
          name: topic,
          numPartitions: partitions,
          replicationFactor,
          assignments: [],
          configs: Object.entries(config).map(([name, value]) => ({ name, value })),
        })),
        brokers.timeout / 2,
        false,
      ))
      const answers = new Map(response.topics.map((answer) => [answer.name, answer]))
      return topics.map(({ topic }) => {
        const answer = answers.get(topic)
        const error = answer === undefined ? "UNKNOWN_SERVER_ERROR" : nameOf(answer.errorCode)
        return { topic, error, ...typeof answer?.errorMessage === "string" ? { message: answer.errorMessage } : {} }
      })
    }),

    deleteTopics: Effect.fn("Cluster.deleteTopics")(function* (topics) {
      const response = yield* brokers.any(call(DeleteTopics, topics.map((name) => ({ name })), brokers.timeout / 2))
      const answers = new Map(response.responses.map((answer) => [answer.name, answer]))
      return topics.map((topic) => {
        const answer = answers.get(topic)
        known.delete(topic)
        return { topic, error: answer === undefined ? "UNKNOWN_SERVER_ERROR" : nameOf(answer.errorCode) }
      })
    }),

    topicConfig: Effect.fn("Cluster.topicConfig")(function* (topic) {
      const { results: [found] } = yield* brokers.any(
        call(DescribeConfigs, [{ resourceType: topicResource, resourceName: topic }]),
        "repeatable",
      )
      const error = found === undefined ? "UNKNOWN_SERVER_ERROR" : nameOf(found.errorCode)
      if (found === undefined || error !== null) {
        return yield* refused("DescribeConfigs", `topic ${topic}`, error ?? "", found?.errorMessage)
      }
      return Object.fromEntries(
        found.configs.flatMap(({ name, value }) => typeof value === "string" ? [[name, value]] : []),
      )
    }),

    listOffsets: Effect.fn("Cluster.listOffsets")(function* (partitions, at, isolation) {
      yield* ensure(partitions.map(({ topic }) => topic))
      const answers = yield* Effect.forEach(
        Map.groupBy(partitions, leaderOf),
        ([node, led]) => listFrom(node, led, at, isolation === "read_committed" ? 1 : 0),
        { concurrency: "unbounded" },
      )
      const listed = inOrder(
        partitions,
        answers.flat(),
        (one): ListedOffset => ({ ...one, error: "UNKNOWN_SERVER_ERROR", offset: -1 }),
      )
      // Whoever asks again asks the leaders of then.
      for (const { topic, error } of listed) if (error !== null) known.delete(topic)
      return listed
    }),
  }
}
