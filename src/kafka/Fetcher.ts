/**
 * Reads partitions ahead of the tasks that work on them: one long poll per broker at a time, the next one sent before the
 * last answer is worked on.
 *
 * Bytes in flight are bounded: by `maxBytes`, of which every partition is asked for its share of what is left, and beyond
 * it by `leastFetchBytes` (or one batch of records, where it is larger) for each partition. Nobody waits for bytes that
 * others hold: a partition that holds nothing is always read. Where several brokers answer at once, each may add what was
 * left when it was asked.
 *
 * Partitions that are read aside, whose records may wait for long before they are worked on, hold `leastFetchBytes` each
 * (or one batch) beside all that, and take nothing from the others.
 */
import { Cause, Clock, Deferred, Effect, Exit, FiberMap, Queue, type Scope } from "effect"
import { Cluster, type FetchedPartition, KafkaError, retriable, type TopicPartition } from "./Cluster.ts"
import { monotonic } from "../Pace.ts"
import type { Leaders } from "./Leaders.ts"
import { type Readable, readable } from "./ReadCommitted.ts"

/** What to do when a position is no longer (or not yet) in the log, or was never committed. */
export type Reset = "earliest" | "latest" | "fail"

export interface Options {
  readonly reset: Reset
  /** Bytes in flight (fetched and not yet committed) at which a task's partition is paused. */
  readonly maxBytesPerPartition: number
  /** The same for all partitions together; those that hold nothing are read all the same, a little at a time. */
  readonly maxBytes: number
  /** The most bytes asked of one partition at a time. */
  readonly fetchBytes: number
  /** The least: what a partition that holds nothing is asked for when the others hold all that they may. */
  readonly leastFetchBytes: number
  /** How long the broker waits for data when there is none, in milliseconds. */
  readonly maxWait: number
}

export const defaults: Options = {
  reset: "earliest",
  maxBytesPerPartition: 1024 * 1024,
  maxBytes: 6 * 1024 * 1024,
  fetchBytes: 256 * 1024,
  leastFetchBytes: 32 * 1024,
  maxWait: 250,
}

/** One partition being read. */
export interface Reading {
  /** Waits for the next fetch that moves the position. */
  readonly next: Effect.Effect<Readable, KafkaError>
  /** Bytes that are no longer in flight. */
  release(bytes: number): void
  /** Whether the broker has said that there is no more, and all that came has been taken. */
  readonly isDry: () => boolean
}

export interface Fetcher {
  /** Reads a partition from `offset` on, until the scope ends. At most one reading of a partition at a time. */
  read(partition: TopicPartition, offset: number, aside?: boolean): Effect.Effect<Reading, never, Scope.Scope>
}

interface Partition extends TopicPartition {
  readonly isAside: boolean
  position: number
  held: number
  isAtEnd: boolean
  heard: number
  readonly fetched: Queue.Queue<Readable, KafkaError>
}

export const make = Effect.fnUntraced(function* (
  leaders: Leaders,
  options: Options,
): Effect.fn.Return<Fetcher, never, Cluster | Scope.Scope> {
  const cluster = yield* Cluster
  const clock = yield* Clock.clockWith(Effect.succeed)
  const nodes = yield* FiberMap.make<number>()
  const reading = new Set<Partition>()
  let total = 0
  /** Partitions that are not read aside. */
  let sharing = 0
  let changed = Deferred.makeUnsafe<void>()
  const wake = () => {
    const waiting = changed
    changed = Deferred.makeUnsafe()
    Deferred.doneUnsafe(waiting, Exit.void)
  }

  const isWanted = ({ held, isAside }: Partition) =>
    held === 0 ||
    (isAside ? held < options.leastFetchBytes : held < options.maxBytesPerPartition && total < options.maxBytes)

  const wanted = (node: number) =>
    [...reading].filter((partition) => isWanted(partition) && leaders.of(partition.topic, partition.partition) === node)

  /** A partition's share of the bytes that are left. */
  const share = () =>
    Math.max(
      options.leastFetchBytes,
      Math.min(options.fetchBytes, Math.floor((options.maxBytes - total) / sharing)),
    )

  const accept = Effect.fnUntraced(function* (partition: Partition, answer: FetchedPartition, isGap: boolean) {
    if (!reading.has(partition)) return
    partition.isAtEnd = false
    if (answer.error === null) {
      const read = readable(answer, partition.position)
      const records = isGap ? { ...read, next: Math.max(read.next, answer.lastStableOffset) } : read
      partition.isAtEnd = records.next >= answer.highWatermark
      partition.heard = monotonic(clock)
      if (records.next === partition.position) return
      partition.position = records.next
      partition.held += records.size
      if (!partition.isAside) total += records.size
      return void Queue.offerUnsafe(partition.fetched, records)
    }
    if (answer.error === "OFFSET_OUT_OF_RANGE" && options.reset !== "fail") {
      const from = partition.position
      const offsets = yield* cluster.listOffsets([partition], options.reset, "read_committed")
      const offset = offsets[0]!.offset
      if (offsets[0]!.error !== null || offset < 0) return
      partition.position = offset
      return yield* Effect.logWarning(
        `${where(partition)}: position ${from} is not in the log (it begins at ${answer.logStartOffset}); ` +
          `going on at ${offset} as the reset policy "${options.reset}" says`,
      )
    }
    if (retriable.has(answer.error)) return yield* refreshed
    reading.delete(partition)
    Queue.failCauseUnsafe(partition.fetched, Cause.fail(refused(partition, answer.error)))
  })

  const refreshed = Effect.ignore(leaders.refresh).pipe(Effect.andThen(Effect.sleep(retryAfter)))

  const poll = Effect.fnUntraced(function* (node: number) {
    const partitions = wanted(node)
    if (partitions.length === 0) return yield* Deferred.await(changed)
    // Brokers fill an answer from the front: whoever was served goes to the back.
    for (const partition of partitions) if (reading.delete(partition)) reading.add(partition)
    const most = share()
    const asked = partitions.map(({ topic, partition, position, isAside }) => ({
      topic,
      partition,
      offset: position,
      maxBytes: isAside ? options.leastFetchBytes : most,
    }))
    const maxBytes = asked.reduce((sum, { maxBytes }) => sum + maxBytes, 0)
    const answers = yield* cluster.fetch({ node, maxWait: options.maxWait, maxBytes, partitions: asked })
    // Compaction may have removed the last records of a log, or their marker: then a whole answer is empty below the end.
    const isEmpty = answers.every(({ error, batches }) => error === null && batches.length === 0)
    for (const answer of answers) {
      const partition = partitions.find((one) => one.topic === answer.topic && one.partition === answer.partition)
      if (partition !== undefined) yield* accept(partition, answer, isEmpty)
    }
  })

  /** A broker that does not answer may have more. */
  const unknown = (node: number) => {
    for (const one of reading) if (leaders.of(one.topic, one.partition) === node) one.isAtEnd = false
  }

  const pollForEver = (node: number) =>
    poll(node).pipe(
      Effect.tapError(() => Effect.sync(() => unknown(node))),
      Effect.catch((error) => retriable.has(error.code) ? refreshed : failAll(node, error)),
      Effect.andThen(Effect.suspend(() => startNodes)),
      Effect.forever,
    )

  const failAll = (node: number, error: KafkaError) =>
    Effect.sync(() => {
      for (const partition of [...reading]) {
        if (leaders.of(partition.topic, partition.partition) !== node) continue
        reading.delete(partition)
        Queue.failCauseUnsafe(partition.fetched, Cause.fail(error))
      }
    })

  const startNodes: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach(
      new Set([...reading].map(({ topic, partition }) => leaders.of(topic, partition)).filter((node) => node >= 0)),
      (node) => FiberMap.run(nodes, node, pollForEver(node), { onlyIfMissing: true }),
      { discard: true },
    )
  )

  /** While a partition has no leader nobody polls for it: ask until it has one. */
  const findLeaders = Effect.suspend(() => {
    const missing = [...reading].filter(({ topic, partition }) => leaders.of(topic, partition) < 0)
    if (missing.length === 0) return Effect.void
    return Effect.ignore(leaders.ensure(missing.map(({ topic }) => topic))).pipe(Effect.andThen(refreshed))
  }).pipe(
    Effect.andThen(startNodes),
    Effect.tap(Effect.sync(wake)),
    Effect.andThen(Effect.sleep("1 second")),
    Effect.forever,
  )
  yield* Effect.forkScoped(findLeaders)

  return {
    read: Effect.fnUntraced(function* ({ topic, partition }, offset, isAside = false) {
      yield* Effect.ignore(leaders.ensure([topic]))
      const fetched = yield* Queue.unbounded<Readable, KafkaError>()
      const one: Partition = {
        topic,
        partition,
        isAside,
        position: offset,
        held: 0,
        isAtEnd: false,
        heard: -Infinity,
        fetched,
      }
      const release = (bytes: number) => {
        const released = Math.min(bytes, one.held)
        if (released === 0) return
        const full = !isWanted(one)
        one.held -= released
        if (!isAside) total -= released
        if (full || one.held === 0) wake()
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          reading.add(one)
          if (!isAside) sharing++
        }),
        () =>
          Effect.sync(() => {
            reading.delete(one)
            if (!isAside) sharing--
            release(one.held)
          }),
      )
      yield* startNodes
      wake()
      return {
        next: Queue.take(fetched),
        release,
        isDry: () =>
          one.isAtEnd && monotonic(clock) - one.heard <= 4 * options.maxWait &&
          Queue.sizeUnsafe(fetched) === 0,
      }
    }),
  }
})

const retryAfter = "100 millis"

const where = ({ topic, partition }: TopicPartition): string => `topic ${topic} partition ${partition}`

const refused = (partition: Partition, code: string): KafkaError =>
  new KafkaError({
    code,
    operation: "Fetch",
    message: code === "OFFSET_OUT_OF_RANGE"
      ? `${where(partition)}: position ${partition.position} is not in the log and the reset policy is "fail": ` +
        `the records were deleted, or the topic was created again; choose "earliest" or "latest", or reset the group`
      : `${where(partition)}: the broker refuses to be read from (${code})`,
  })
