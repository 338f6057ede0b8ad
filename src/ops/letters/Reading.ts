/** Reading a topic's partitions one after the other, between two offsets. */
import { Effect } from "effect"
import { Cluster, KafkaError, type OffsetAt, type TopicPartition } from "../../kafka/Cluster.ts"
import * as Fetcher from "../../kafka/Fetcher.ts"
import * as Leaders from "../../kafka/Leaders.ts"
import type { Readable } from "../../kafka/ReadCommitted.ts"
import { patiently } from "../../kafka/Retry.ts"
import { unstuck } from "../../kafka/Stuck.ts"

/** How long requests are repeated while the brokers cannot answer, in milliseconds. */
export const patience = 30_000

/** How many partitions a topic has; `undefined` where it does not exist. */
export const partitionsOf = Effect.fnUntraced(
  function* (topic: string): Effect.fn.Return<number | undefined, KafkaError, Cluster> {
    const { topics: [found] } = yield* patiently(Cluster.use((cluster) => cluster.metadata([topic])), patience)
    return found === undefined || found.partitions.length === 0 ? undefined : found.partitions.length
  },
)

/** Offsets of a topic's partitions, by number. */
export const ends = Effect.fnUntraced(function* (
  topic: string,
  partitions: number,
  at: OffsetAt,
  isolation: "read_committed" | "read_uncommitted",
): Effect.fn.Return<ReadonlyArray<number>, KafkaError, Cluster> {
  const cluster = yield* Cluster
  const where = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
  const listed = Effect.flatMap(cluster.listOffsets(where, at, isolation), (listed) => {
    const failed = listed.find(({ error }) => error !== null)
    return failed === undefined
      ? Effect.succeed(listed.map(({ offset }) => offset))
      : Effect.fail(unlisted(failed, failed.error!))
  })
  return yield* patiently(listed, patience)
})

/**
 * Hands the committed records of a partition from `from` on to `take` until it answers `false`, or `end` is reached: the last
 * records handed over can be behind it. At most about 1 MiB is in memory.
 */
export const reading = <E, R>(
  where: TopicPartition,
  from: number,
  end: number,
  take: (records: Readable) => Effect.Effect<boolean | void, E, R>,
): Effect.Effect<void, E | KafkaError, R | Cluster> =>
  from >= end ? Effect.void : Effect.scoped(Effect.gen(function* () {
    const leaders = yield* Leaders.make
    const fetcher = yield* Fetcher.make(leaders, Fetcher.defaults)
    const { next, release } = yield* fetcher.read(where, from)
    for (let position = from; position < end;) {
      const records = yield* unstuck(next, where, position)
      if ((yield* take(records)) === false) return
      release(records.size)
      position = records.next
    }
  }))

const unlisted = ({ topic, partition }: TopicPartition, code: string): KafkaError =>
  new KafkaError({
    code,
    operation: "ListOffsets",
    message: `topic ${topic} partition ${partition}: its offsets cannot be listed (${code})`,
  })
