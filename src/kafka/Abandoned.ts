/**
 * Transactions that died with their process before it had told the group of them. Nothing of them counts, but until they
 * are ended no read_committed reader gets past them: for as long as their time-out, a minute.
 */
import { Effect } from "effect"
import { changelogTopic, type Plan } from "../Pipeline.ts"
import type { Cluster, KafkaError, TopicPartition } from "./Cluster.ts"
import type { Fence, Predecessor } from "./Positions.ts"

/** How long a partition must stand still before its transaction counts as abandoned: those of the living are shorter. */
const stillFor = "1 second"

/**
 * Ends the open transactions of previous owners who have left the group, where partitions that the pipeline writes are
 * held up. A transaction of somebody else's that holds them up is left alone.
 */
export const end = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  plan: Plan,
  owners: ReadonlyArray<Predecessor>,
  fence: Fence,
): Effect.fn.Return<void, KafkaError> {
  if (owners.length === 0) return
  const before = yield* heldUp(cluster, plan)
  if (before.size === 0) return
  yield* Effect.sleep(stillFor)
  const after = yield* heldUp(cluster, plan)
  if (!Array.from(before).some(([where, offset]) => after.get(where) === offset)) return
  yield* fence(owners)
})

/** The last stable offsets of partitions that hold records above them. */
const heldUp = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  plan: Plan,
): Effect.fn.Return<ReadonlyMap<string, number>, KafkaError> {
  const names = plan.flows.flatMap(({ writes, stores }) => [
    ...writes.map(({ name }) => name),
    ...stores.map(({ name }) => changelogTopic(plan.name, name)),
  ])
  const { topics } = yield* cluster.metadata([...new Set(names)])
  const partitions = topics.flatMap(({ topic, partitions }) =>
    partitions.map(({ partition }): TopicPartition => ({ topic, partition }))
  )
  const [stable, high] = yield* Effect.all([
    cluster.listOffsets(partitions, "latest", "read_committed"),
    cluster.listOffsets(partitions, "latest", "read_uncommitted"),
  ])
  return new Map(
    stable.flatMap(({ topic, partition, offset, error }, i) =>
      error === null && high[i]!.error === null && offset < high[i]!.offset ? [[`${topic}/${partition}`, offset]] : []
    ),
  )
})
