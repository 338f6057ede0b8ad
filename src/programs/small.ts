/** Kafka in memory that stays small. */
import type { Topic } from "../index.ts"

const topicBytes = 16 * 1024 * 1024

/** Topics that hold 16 MiB each at most, those that are compacted too: what is only in memory can run for weeks. */
export const small = (topics: Iterable<Topic.Any>): ReadonlyArray<Topic.Any> =>
  Array.from(topics, (topic): Topic.Any => ({
    ...topic,
    cleanup: topic.cleanup === "compact" ? "compact,delete" : topic.cleanup,
    config: { ...topic.config, "retention.bytes": String(Math.floor(topicBytes / topic.partitions)) },
  }))
