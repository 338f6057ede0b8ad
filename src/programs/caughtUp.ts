/** Waiting for pipelines. */
import { Effect } from "effect"
import { Admin, Kafka, Pipeline, type Topic } from "../index.ts"

/** Waits until pipelines have committed all that stands in the topics that they read, and it can be read what they made of it. */
export const caughtUp = (
  pipelines: ReadonlyArray<Pipeline.Pipeline<unknown, unknown>>,
): Effect.Effect<void, never, Kafka.Cluster> => {
  const flows = pipelines.flatMap((pipeline) => Pipeline.plan(pipeline).flows)
  const positions = flows.flatMap(({ reads }) => reads).reduce((sum, { partitions }) => sum + partitions, 0)
  const all = partitionsOf(flows.flatMap(({ reads, writes }) => [...reads, ...writes]))
  const isDone = Effect.gen(function* () {
    const lags = yield* Admin.lag(pipelines.map(({ name }) => name))
    if (lags.length !== positions) return false
    // Brokers show positions that a transaction has moved before they show what it has written.
    const ends = yield* endsOf(all)
    return ends !== undefined && lags.every((lag) => lag.position === ends.get(placeOf(lag)))
  }).pipe(
    // Brokers that are away are what the pipelines have to deal with.
    Effect.orElseSucceed(() => false),
  )
  return Effect.gen(function* () {
    while (!(yield* isDone)) yield* Effect.sleep("100 millis")
  })
}

interface Partition {
  readonly topic: string
  readonly partition: number
}

const placeOf = ({ topic, partition }: Partition): string => `${topic}/${partition}`

/** Of each topic once. */
const partitionsOf = (topics: ReadonlyArray<Topic.Any>): ReadonlyArray<Partition> =>
  Array.from(new Map(topics.map(({ name, partitions }) => [name, partitions]))).flatMap(([topic, partitions]) =>
    Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
  )

/** The ends of partitions; `undefined` while a transaction is open in one of them. */
const endsOf = Effect.fnUntraced(function* (partitions: ReadonlyArray<Partition>) {
  const cluster = yield* Kafka.Cluster
  const stable = yield* cluster.listOffsets(partitions, "latest", "read_committed")
  const all = yield* cluster.listOffsets(partitions, "latest", "read_uncommitted")
  if (all.some(({ offset }, i) => offset !== stable[i]!.offset)) return undefined
  return new Map(all.map((end) => [placeOf(end), end.offset]))
})
