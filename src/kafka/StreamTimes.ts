/** How far pipelines have come in stream time, as their changelogs say. */
import { Effect, Result } from "effect"
import { changelogTopic } from "../Pipeline.ts"
import type { PipelineError } from "../Task.ts"
import type { Topic } from "../Topic.ts"
import { Cluster, KafkaError, type TopicPartition } from "./Cluster.ts"
import { loggedStreamTime } from "./Changelog.ts"
import { asPipelineError } from "./Errors.ts"
import * as Leaders from "./Leaders.ts"
import { readable } from "./ReadCommitted.ts"
import { patiently } from "./Retry.ts"

const patience = 30_000

/**
 * The latest stream time that any task of a pipeline has committed in a store, in milliseconds since 1970; `undefined`
 * where there is none. Records older than that by more than a stage's grace would be late there.
 */
export const latest = (pipeline: string, store: string): Effect.Effect<number | undefined, PipelineError, Cluster> =>
  newest(changelogTopic(pipeline, store), loggedStreamTime)

/**
 * The highest event time among the last records of each of a topic's partitions (at least 64 of each), processed or not,
 * in milliseconds since 1970; `undefined` where there is none.
 */
export const written = <A>(topic: Topic<A>): Effect.Effect<number | undefined, PipelineError, Cluster> => {
  const eventTime = topic.eventTime as ((value: A) => number) | undefined
  return newest(topic.name, (_key, bytes, timestamp) => {
    const decoded = topic.decode(bytes)
    return Result.isFailure(decoded) ? undefined : eventTime === undefined ? timestamp : eventTime(decoded.success)
  })
}

const unanswered = (operation: string, { topic, partition }: TopicPartition, code: string) =>
  Effect.fail(
    new KafkaError({
      code,
      operation,
      message: `topic ${topic} partition ${partition}: how far it has come in time cannot be read (${code})`,
    }),
  )

/** What a record tells of time, if it does. */
type TimeOf = (key: Uint8Array | null, bytes: Uint8Array | null, timestamp: number) => number | undefined

const newest = Effect.fn("StreamTimes.newest")(function* (
  topic: string,
  timeOf: TimeOf,
): Effect.fn.Return<number | undefined, PipelineError, Cluster> {
  const leaders = yield* Leaders.make
  const cluster = yield* Cluster
  const work = Effect.gen(function* () {
    yield* patiently(leaders.ensure([topic]), patience)
    const partitions = Array.from({ length: leaders.partitions(topic) ?? 0 }, (_, partition) => ({ topic, partition }))
    if (partitions.length === 0) return undefined
    const offsets = (at: "earliest" | "latest") =>
      patiently(
        Effect.flatMap(cluster.listOffsets(partitions, at, "read_committed"), (listed) => {
          const failed = listed.find(({ error }) => error !== null)
          return failed === undefined ? Effect.succeed(listed) : unanswered("ListOffsets", failed, failed.error!)
        }),
        patience,
      )
    const [ends, starts] = yield* Effect.all([offsets("latest"), offsets("earliest")])
    const times = yield* Effect.forEach(
      partitions,
      (where, i) => last(cluster, leaders, where, starts[i]!.offset, ends[i]!.offset, timeOf),
      { concurrency: 4 },
    )
    const known = times.filter((time) => time !== undefined)
    return known.length === 0 ? undefined : Math.max(...known)
  })
  return yield* Effect.mapError(work, asPipelineError)
})

/** Reads backwards in growing steps until something tells. */
const last = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  leaders: Leaders.Leaders,
  where: TopicPartition,
  start: number,
  end: number,
  timeOf: TimeOf,
): Effect.fn.Return<number | undefined, KafkaError> {
  for (let back = 64; end > start; back *= 16) {
    const from = Math.max(start, end - back)
    let found = -Infinity
    for (let offset = from; offset < end;) {
      const fetching = Effect.suspend(() =>
        cluster.fetch({
          node: leaders.of(where.topic, where.partition),
          maxWait: 500,
          maxBytes: 4_000_000,
          partitions: [{ ...where, offset, maxBytes: 4_000_000 }],
        })
      )
      const fetched = yield* patiently(
        Effect.flatMap(fetching, ([fetched]) => {
          if (fetched!.error === null) return Effect.succeed(fetched!)
          return Effect.andThen(Effect.ignore(leaders.refresh), unanswered("Fetch", where, fetched!.error))
        }),
        patience,
      )
      const { keys, bytes, timestamps, next } = readable(fetched, offset)
      for (let i = 0; i < keys.length; i++) {
        found = Math.max(found, timeOf(keys[i]!, bytes[i]!, timestamps[i]!) ?? found)
      }
      if (next === offset) break
      offset = next
    }
    if (found > -Infinity) return found
    if (from === start) return undefined
  }
  return undefined
})
