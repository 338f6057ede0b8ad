/** A cluster whose topics end where a replay ends, and whose input comes no faster than it may. */
import { Clock, Effect } from "effect"
import type { Cluster, FetchedBatch, FetchedPartition, TopicPartition } from "./Cluster.ts"

export interface Bounds {
  /** By `topic/partition`: the offset at which reading ends. Partitions that are not named have no end. */
  readonly ends: ReadonlyMap<string, number>
  /** Records per second, together, of the topics that are named; as fast as they come without. */
  readonly rate?: { readonly perSecond: number; readonly topics: ReadonlySet<string> } | undefined
}

/** The name of a partition in `Bounds.ends`. */
export const placeOf = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`

/**
 * The same cluster, seen only up to the bounds: a partition ends there as a log does. The rate holds on average: of each
 * partition about a second's worth is asked for at a time, or one batch of records where that is more.
 */
export const bounded = (cluster: Cluster["Service"], { ends, rate }: Bounds): Cluster["Service"] => {
  const endOf = (where: TopicPartition) => ends.get(placeOf(where)) ?? Infinity
  let due = 0
  const slowly = (answers: ReadonlyArray<FetchedPartition>) => {
    if (rate === undefined) return Effect.void
    let records = 0
    for (const { topic, batches } of answers) {
      if (!rate.topics.has(topic)) continue
      for (const { control, keys } of batches) if (control === null) records += keys.length
    }
    if (records === 0) return Effect.void
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      due = Math.max(due, now) + records / rate.perSecond * 1000
      return Effect.sleep(due - now)
    })
  }
  return {
    ...cluster,
    listOffsets: (partitions, at, isolation) =>
      Effect.map(
        cluster.listOffsets(partitions, at, isolation),
        (listed) =>
          at === "earliest" ? listed : listed.map((one) => ({ ...one, offset: Math.min(one.offset, endOf(one)) })),
      ),
    fetch: (request) =>
      Effect.gen(function* () {
        const most = rate === undefined ? Infinity : Math.max(1_024, Math.round(rate.perSecond * 512))
        const asked = request.partitions.filter((one) => one.offset < endOf(one)).map((one) =>
          rate?.topics.has(one.topic) ? { ...one, maxBytes: Math.min(one.maxBytes, most) } : one
        )
        const over = request.partitions.filter((one) => one.offset >= endOf(one)).map(atEnd)
        if (asked.length === 0) {
          yield* Effect.sleep(request.maxWait)
          return over
        }
        const answers = yield* cluster.fetch({ ...request, partitions: asked })
        const cut = answers.map((answer) => upTo(answer, endOf(answer)))
        yield* slowly(cut)
        return [...cut, ...over]
      }),
  }
}

/** What a broker answers at the end of a log. */
const atEnd = ({ topic, partition, offset }: TopicPartition & { readonly offset: number }): FetchedPartition => ({
  topic,
  partition,
  error: null,
  highWatermark: offset,
  lastStableOffset: offset,
  logStartOffset: 0,
  aborted: [],
  batches: [],
})

const upTo = (answer: FetchedPartition, end: number): FetchedPartition =>
  end === Infinity ? answer : {
    ...answer,
    highWatermark: Math.min(answer.highWatermark, end),
    lastStableOffset: Math.min(answer.lastStableOffset, end),
    batches: answer.batches.flatMap((batch) =>
      batch.baseOffset >= end ? [] : batch.lastOffset < end ? [batch] : [cut(batch, end)]
    ),
  }

const cut = (batch: FetchedBatch, end: number): FetchedBatch => {
  const beyond = batch.offsets.findIndex((offset) => offset >= end)
  const length = beyond < 0 ? batch.offsets.length : beyond
  return {
    ...batch,
    lastOffset: end - 1,
    keys: batch.keys.slice(0, length),
    values: batch.values.slice(0, length),
    headers: batch.headers.slice(0, length),
    offsets: batch.offsets.slice(0, length),
    timestamps: batch.timestamps.slice(0, length),
  }
}
