/** Partitions whose last stable offset is behind their end, and the transactions that hold it there. */
import { Effect } from "effect"
import { type ActiveProducer, Cluster, KafkaError, type TopicPartition } from "../../kafka/Cluster.ts"
import { patiently } from "../../kafka/Retry.ts"

/** How long requests are repeated while the brokers cannot answer, in milliseconds. */
export const patience = 30_000

export interface HeldPartition extends TopicPartition {
  readonly lastStable: number
  readonly high: number
  /** Those with a transaction open here. */
  readonly open: ReadonlyArray<ActiveProducer>
}

/** Of all topics, or of these partitions, those that hold records which readers of committed records do not get. */
export const heldUp = Effect.fnUntraced(function* (
  among?: ReadonlyArray<TopicPartition>,
): Effect.fn.Return<ReadonlyArray<HeldPartition>, KafkaError, Cluster> {
  const cluster = yield* Cluster
  const partitions = among ??
    (yield* patiently(cluster.metadata(), patience)).topics.flatMap(({ topic, partitions }) =>
      partitions.filter(({ leader }) => leader >= 0).map(({ partition }): TopicPartition => ({ topic, partition }))
    )
  if (partitions.length === 0) return []
  // Stable offsets first: what is decided in between is then not taken for held up for longer than it is.
  const stable = yield* patiently(cluster.listOffsets(partitions, "latest", "read_committed"), patience)
  const high = yield* patiently(cluster.listOffsets(partitions, "latest", "read_uncommitted"), patience)
  const held = partitions.flatMap((where, i) => {
    const [lastStable, end] = [stable[i]!, high[i]!]
    return lastStable.error === null && end.error === null && lastStable.offset < end.offset
      ? [{ ...where, lastStable: lastStable.offset, high: end.offset }]
      : []
  })
  const described = yield* producersOf(held)
  return held.map((one, i) => ({ ...one, open: described[i]! })).filter(({ open }) => open.length > 0)
})

/** The producers with a transaction open in each of these partitions; fails where one of them cannot be asked. */
export const producersOf = Effect.fnUntraced(function* (
  partitions: ReadonlyArray<TopicPartition>,
): Effect.fn.Return<ReadonlyArray<ReadonlyArray<ActiveProducer>>, KafkaError, Cluster> {
  if (partitions.length === 0) return []
  const cluster = yield* Cluster
  const where = partitions.map(({ topic, partition }) => ({ topic, partition }))
  const described = yield* patiently(
    Effect.flatMap(cluster.describeProducers(where), (answers) => {
      const failed = answers.find(({ error }) => error !== null)
      return failed === undefined ? Effect.succeed(answers) : Effect.fail(
        new KafkaError({
          code: failed.error!,
          operation: "DescribeProducers",
          message:
            `topic ${failed.topic} partition ${failed.partition}: its producers cannot be listed (${failed.error})`,
        }),
      )
    }),
    patience,
  )
  return described.map(({ producers }) => producers.filter(({ transactionStart }) => transactionStart >= 0))
})

/**
 * Open transactions as their coordinators know them. Fails where one of them cannot be described: it would be taken for a
 * transaction that no coordinator knows, which anybody may end by a marker.
 */
export const known = Effect.gen(function* () {
  const cluster = yield* Cluster
  const listed = yield* patiently(cluster.listTransactions(), patience)
  const open = listed.filter(({ state }) => !ended.has(state))
  const described = yield* patiently(
    Effect.flatMap(
      cluster.describeTransactions(open.map(({ transactionalId }) => transactionalId)),
      (answers) => {
        const failed = answers.find(({ error }) => error !== null && !gone.has(error))
        return failed === undefined ? Effect.succeed(answers) : Effect.fail(
          new KafkaError({
            code: failed.error!,
            operation: "DescribeTransactions",
            message: `transactional id ${failed.transactionalId} cannot be described (${failed.error})`,
          }),
        )
      },
    ),
    patience,
  )
  return described.filter(({ error, state }) => error === null && !ended.has(state))
})

/** Answers for ids that the coordinator has forgotten meanwhile. */
const gone: ReadonlySet<string> = new Set(["TRANSACTIONAL_ID_NOT_FOUND"])

/** States in which nothing is open; whatever else brokers name is taken for open. */
export const ended: ReadonlySet<string> = new Set(["Empty", "CompleteCommit", "CompleteAbort", "Dead"])
