/** What topics hold, read from outside of any consumer group: for tools, tables in a terminal, and states from events. */
import { Cause, Effect, Result, type Scope, Stream } from "effect"
import type { Headers } from "../Batch.ts"
import { PipelineError } from "../Task.ts"
import { text, type Topic } from "../Topic.ts"
import { Cluster, KafkaError, type TopicPartition } from "./Cluster.ts"
import { asPipelineError } from "./Errors.ts"
import * as Fetcher from "./Fetcher.ts"
import * as Leaders from "./Leaders.ts"
import type { Readable } from "./ReadCommitted.ts"
import { patiently } from "./Retry.ts"

/** A committed record, decoded by its topic's contract. */
export interface Content<out A> {
  readonly partition: number
  readonly offset: number
  readonly key: string | null
  /** Null where the record is a tombstone. */
  readonly value: A | null
  /** The Kafka timestamp, in milliseconds since 1970. */
  readonly timestamp: number
  readonly headers: Headers
}

/**
 * Reads the committed records of a topic from its beginning to its end, as that is when reading begins. Those of one
 * partition come in order, partitions in none. About 1 MiB of each partition is in memory, and 6 MiB of all together.
 *
 * Fails with `PipelineError` where the brokers do not answer for 30 seconds, or, of reason `Definition`, at a record that
 * the contract does not describe.
 */
export const read = <A>(topic: Topic<A>): Stream.Stream<Content<A>, PipelineError, Cluster> => contents(topic, false)

/** Like `read`, and goes on with what is committed later, for ever. */
export const follow = <A>(topic: Topic<A>): Stream.Stream<Content<A>, PipelineError, Cluster> => contents(topic, true)

/** The last value of each key of a topic, without those that were deleted. */
export const latest = <A>(topic: Topic<A>): Effect.Effect<ReadonlyMap<string, A>, PipelineError, Cluster> =>
  Stream.runFold(read(topic), () => new Map<string, A>(), (last, { key, value }) => {
    if (key === null) return last
    if (value === null) last.delete(key)
    else last.set(key, value)
    return last
  })

const patience = 30_000

const contents = <A>(topic: Topic<A>, goesOn: boolean): Stream.Stream<Content<A>, PipelineError, Cluster> =>
  Stream.unwrap(Effect.mapError(open(topic, goesOn), asPipelineError))

const open = Effect.fnUntraced(function* <A>(
  topic: Topic<A>,
  goesOn: boolean,
): Effect.fn.Return<Stream.Stream<Content<A>, PipelineError>, KafkaError | PipelineError, Cluster | Scope.Scope> {
  const leaders = yield* Leaders.make
  const fetcher = yield* Fetcher.make(leaders, { ...Fetcher.defaults })
  yield* patiently(leaders.ensure([topic.name]), patience)
  const count = leaders.partitions(topic.name)
  if (count === undefined) return yield* missing(topic.name)
  const partitions = Array.from({ length: count }, (_, partition) => ({ topic: topic.name, partition }))
  const starts = yield* offsets(partitions, "earliest")
  const ends = goesOn ? partitions.map(() => Infinity) : yield* offsets(partitions, "latest")
  return Stream.mergeAll(
    partitions.map((where, i) => ofPartition(fetcher, topic, where, starts[i]!, ends[i]!)),
    { concurrency: "unbounded" },
  )
})

const missing = (topic: string): PipelineError =>
  new PipelineError({ reason: "Definition", retriable: false, message: `topic ${topic} does not exist` })

const offsets = Effect.fnUntraced(function* (partitions: ReadonlyArray<TopicPartition>, at: "earliest" | "latest") {
  const cluster = yield* Cluster
  const listing = Effect.flatMap(cluster.listOffsets(partitions, at, "read_committed"), (listed) => {
    const failed = listed.find(({ error }) => error !== null)
    return failed === undefined ? Effect.succeed(listed) : Effect.fail(
      new KafkaError({
        code: failed.error!,
        operation: "ListOffsets",
        message: `topic ${failed.topic} partition ${failed.partition}: its offsets cannot be listed (${failed.error})`,
      }),
    )
  })
  return (yield* patiently(listing, patience)).map(({ offset }) => offset)
})

const ofPartition = <A>(
  fetcher: Fetcher.Fetcher,
  topic: Topic<A>,
  where: TopicPartition,
  start: number,
  end: number,
): Stream.Stream<Content<A>, PipelineError> =>
  Stream.unwrap(Effect.map(fetcher.read(where, start), (reading) => {
    let position = start
    const pull: Effect.Effect<readonly [Content<A>, ...Array<Content<A>>], PipelineError | Cause.Done> = Effect.suspend(
      () => {
        if (position >= end) return Cause.done()
        return Effect.flatMap(Effect.mapError(reading.next, asPipelineError), (fetched) => {
          position = fetched.next
          reading.release(fetched.size)
          const decoded = decode(topic, where.partition, fetched, end)
          if (decoded instanceof PipelineError) return Effect.fail(decoded)
          return decoded.length === 0 ? pull : Effect.succeed(decoded as [Content<A>, ...Array<Content<A>>])
        })
      },
    )
    return Stream.fromPull(Effect.succeed(pull))
  }))

const decode = <A>(
  topic: Topic<A>,
  partition: number,
  { length, keys, bytes, offsets, timestamps, headers }: Readable,
  end: number,
): ReadonlyArray<Content<A>> | PipelineError => {
  const decoded: Array<Content<A>> = []
  for (let i = 0; i < length && offsets[i]! < end; i++) {
    const value = bytes[i] === null ? Result.succeed(null) : topic.decode(bytes[i]!)
    if (Result.isFailure(value)) {
      const { field, message } = value.failure
      return new PipelineError({
        reason: "Definition",
        retriable: false,
        message: `topic ${topic.name} partition ${partition} offset ${offsets[i]}${
          field && ` at ${field}`
        }: ${message}`,
      })
    }
    decoded.push({
      partition,
      offset: offsets[i]!,
      key: keys[i]! && text(keys[i]!),
      value: value.success,
      timestamp: timestamps[i]!,
      headers: headers[i]!,
    })
  }
  return decoded
}
