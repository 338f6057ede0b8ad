/** Which broker leads which partition, as last heard. */
import { Effect, Semaphore } from "effect"
import { Cluster, type KafkaError, type TopicMetadata } from "./Cluster.ts"

export interface Leaders {
  /** The leader's node, or -1 while none is known. */
  of(topic: string, partition: number): number
  /** The number of partitions; `undefined` for a topic that is not known. */
  partitions(topic: string): number | undefined
  /** The id of the topic; `undefined` for one that is not known. */
  id(topic: string): string | undefined
  /** Asks for topics that are not known yet. */
  readonly ensure: (topics: Iterable<string>) => Effect.Effect<void, KafkaError>
  /** Asks again for all topics known: after an answer that says that a leader has moved. */
  readonly refresh: Effect.Effect<void, KafkaError>
}

export const make: Effect.Effect<Leaders, never, Cluster> = Effect.gen(function* () {
  const cluster = yield* Cluster
  const known = new Map<string, TopicMetadata>()
  const asking = yield* Semaphore.make(1)
  const ask = (topics: ReadonlyArray<string>) =>
    topics.length === 0 ? Effect.void : Effect.map(cluster.metadata(topics), (metadata) => {
      for (const topic of metadata.topics) {
        if (topic.error === null || topic.partitions.length > 0) known.set(topic.topic, topic)
        else known.delete(topic.topic)
      }
    })
  return {
    of: (topic, partition) => known.get(topic)?.partitions[partition]?.leader ?? -1,
    partitions: (topic) => known.get(topic)?.partitions.length,
    id: (topic) => known.get(topic)?.id || undefined,
    ensure: (topics) =>
      Semaphore.withPermits(asking, 1)(
        Effect.suspend(() => ask([...new Set(topics)].filter((topic) => !known.has(topic)))),
      ),
    refresh: Semaphore.withPermits(asking, 1)(Effect.suspend(() => ask([...known.keys()]))),
  }
})
