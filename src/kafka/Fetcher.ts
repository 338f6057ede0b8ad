/**
 * Reads partitions ahead of the tasks that work on them: one long poll per broker at a time, the next one sent before the
 * last answer is worked on.
 *
 * Bytes in flight are bounded: by `maxBytes`, of which every partition is asked for its share of what is left, and beyond
 * it by `leastFetchBytes` (or one batch of records, where it is larger) for each partition. No partition holds more than
 * `maxBytesPerPartition` and as much beyond it: a hot one cannot take what all may hold. Nobody waits for bytes that
 * others hold: a partition that holds nothing is always read. Where several brokers answer at once, each may add what was
 * left when it was asked.
 *
 * Partitions that are read aside, whose records may wait for long before they are worked on, hold `leastFetchBytes` each
 * (or one batch) beside all that, and take nothing from the others.
 */
import { Cause, Clock, Deferred, Effect, Exit, FiberMap, Metric, Queue, type Scope } from "effect"
import { Cluster, type FetchedPartition, KafkaError, retriable, type TopicPartition } from "./Cluster.ts"
import { backoff, pause } from "../Jitter.ts"
import { monotonic } from "../Pace.ts"
import { lost } from "./Counters.ts"
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
  /** The pipeline that reads, for the figure of what is in flight; without it there is none. */
  readonly pipeline?: string
}

/** Bytes of keys and values that are fetched and not yet committed, by `pipeline`: bounded as this file says. */
export const bytesInFlight = Metric.gauge("millrace_bytes_in_flight", {
  description: "Bytes of records that are fetched and not yet committed, by pipeline",
})

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
  /** The end of the log as last heard (at most some seconds ago, also while the partition is paused); -1 before. */
  readonly end: () => number
}

/** What a position is worth. */
export interface Standing {
  /** The id of the topic that it belongs to; of the one that is there unless given. */
  readonly topicId?: string | undefined
  /** What to do where it is not in the log: as the fetcher's options say, unless given. */
  readonly reset?: Reset
  /**
   * Whether a position above the end of the log is a failure whatever the policy says: what was read has been cut off, and
   * by no policy would each record be read once.
   */
  readonly failsAbove?: boolean
}

export interface Fetcher {
  /**
   * Reads a partition from `offset` on, until the scope ends. At most one reading of a partition at a time.
   *
   * Fails where its position is not in the log (OFFSET_OUT_OF_RANGE) and the policy has no other, where the topic was
   * deleted and created again (TOPIC_REPLACED), and where records cannot be read however often they are fetched
   * (UNREADABLE). Nothing is passed over but what the log does not hold any more, which is logged and counted.
   */
  read(
    partition: TopicPartition,
    offset: number,
    aside?: boolean,
    standing?: Standing,
  ): Effect.Effect<Reading, never, Scope.Scope>
}

interface Partition extends TopicPartition, Standing {
  readonly isAside: boolean
  topicId: string | undefined
  position: number
  /** Answers in a row that brought it no further, for one reason. */
  refusals: number
  reason: string | undefined
  held: number
  end: number
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
  /** By node, the request that it has not answered. */
  const asking = new Map<number, { readonly since: number; readonly partitions: ReadonlyArray<Partition> }>()
  const reading = new Set<Partition>()
  let total = 0
  const context = yield* Effect.context<never>()
  const figure = options.pipeline === undefined
    ? undefined
    : Metric.withAttributes(bytesInFlight, { pipeline: options.pipeline })
  const hold = (one: Partition, bytes: number) => {
    one.held += bytes
    if (!one.isAside) total += bytes
    figure?.modifyUnsafe(bytes, context)
  }
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

  /** Whether it was refused for a while. */
  const accept = Effect.fnUntraced(function* (partition: Partition, answer: FetchedPartition, isGap: boolean) {
    if (!reading.has(partition)) return false
    partition.isAtEnd = false
    if (answer.error === null) {
      const read = readable(answer, partition.position)
      const records = isGap ? { ...read, next: Math.max(read.next, answer.lastStableOffset) } : read
      if (records.next === partition.position && answer.batches.length > 0) {
        // Brokers look at what is decided before they read: meanwhile more may have been.
        if (partition.reason === undefined) {
          partition.reason = early
          return false
        }
        return yield* refuse(partition, "CORRUPT_MESSAGE", displaced(answer))
      }
      partition.refusals = 0
      partition.reason = undefined
      partition.isAtEnd = records.next >= answer.highWatermark
      partition.heard = monotonic(clock)
      partition.end = answer.highWatermark
      if (records.next === partition.position) return false
      partition.position = records.next
      hold(partition, records.size)
      Queue.offerUnsafe(partition.fetched, records)
      return false
    }
    if (answer.error === "OFFSET_OUT_OF_RANGE") return yield* outOfRange(partition)
    if (retriable.has(answer.error) || damages.has(answer.error)) {
      return yield* refuse(partition, answer.error, answer.message)
    }
    return fail(partition, answer.error, refusedFor(partition, answer.error))
  })

  /** What may pass is asked again: records that do not get readable, and topics that stay another, only for a while. */
  const refuse = Effect.fnUntraced(function* (partition: Partition, code: string, problem: string | undefined) {
    const reason = damages.has(code) ? "damage" : code
    partition.refusals = reason === partition.reason ? partition.refusals + 1 : 1
    partition.reason = reason
    if (damages.has(code) && partition.refusals >= rereads) {
      return fail(partition, "UNREADABLE", unreadable(partition, problem ?? code))
    }
    if (code === "INCONSISTENT_TOPIC_ID" && partition.refusals >= rereads) {
      return fail(partition, "TOPIC_REPLACED", replaced(partition, leaders.id(partition.topic)))
    }
    if (partition.refusals === rereads || partition.refusals === 1 && damages.has(code)) {
      yield* Effect.logWarning(`${where(partition)}: ${problem ?? `it cannot be read (${code})`}; it is read again`)
    }
    return true
  })

  const fail = (partition: Partition, code: string, message: string) => {
    reading.delete(partition)
    Queue.failCauseUnsafe(partition.fetched, Cause.fail(new KafkaError({ code, operation: "Fetch", message })))
    return false
  }

  const outOfRange = Effect.fnUntraced(function* (partition: Partition) {
    const list = (at: "earliest" | "latest", isolation: "read_committed" | "read_uncommitted") =>
      Effect.map(
        cluster.listOffsets([partition], at, isolation),
        ([listed]) => listed?.error === null ? listed.offset : -1,
      )
    const start = yield* list("earliest", "read_committed")
    const end = yield* list("latest", "read_uncommitted")
    const from = partition.position
    if (start < 0 || end < 0 || from >= start && from <= end) {
      return yield* refuse(partition, "OFFSET_NOT_AVAILABLE", undefined)
    }
    const reset = partition.reset ?? options.reset
    const isAbove = from > end
    if (reset === "fail" || isAbove && partition.failsAbove === true) {
      return fail(partition, "OFFSET_OUT_OF_RANGE", isAbove ? above(partition, end) : below(partition, start))
    }
    const to = reset === "earliest" ? start : yield* list("latest", "read_committed")
    if (to < 0) return yield* refuse(partition, "OFFSET_NOT_AVAILABLE", undefined)
    partition.refusals = 0
    partition.reason = undefined
    partition.position = to
    const missed = isAbove ? 0 : to - from
    if (missed > 0) yield* Metric.update(Metric.withAttributes(lost, { topic: partition.topic }), missed)
    const log = isAbove
      ? `is above its end ${end}: what was read has been cut off`
      : `is below its start ${start}: up to ${missed} records were deleted before they were read`
    yield* Effect.logWarning(
      `${where(partition)}: position ${from} ${log}; going on at ${to} as the reset policy "${reset}" says`,
    )
    return false
  })

  const refreshed = (failed: number) =>
    Effect.ignore(leaders.refresh).pipe(Effect.andThen(pause(backoff(retries.first, retries.last, failed))))

  const poll = Effect.fnUntraced(function* (node: number) {
    const partitions = wanted(node)
    if (partitions.length === 0) return yield* Deferred.await(changed)
    // Brokers fill an answer from the front: whoever was served goes to the back.
    for (const partition of partitions) if (reading.delete(partition)) reading.add(partition)
    const most = share()
    const asked = partitions.map((one) => {
      const { topic, partition, position, isAside, held } = one
      one.topicId ??= leaders.id(topic)
      return {
        topic,
        partition,
        offset: position,
        maxBytes: isAside
          ? options.leastFetchBytes
          : Math.max(options.leastFetchBytes, Math.min(most, options.maxBytesPerPartition - held)),
        ...one.topicId !== undefined && { topicId: one.topicId },
      }
    })
    const maxBytes = asked.reduce((sum, { maxBytes }) => sum + maxBytes, 0)
    asking.set(node, { since: monotonic(clock), partitions })
    const answers = yield* Effect.ensuring(
      cluster.fetch({ node, maxWait: options.maxWait, maxBytes, partitions: asked }),
      Effect.sync(() => asking.delete(node)),
    )
    // Compaction may have removed the last records of a log, or their marker: then a whole answer is empty below the end.
    const isEmpty = answers.every(({ error, batches }) => error === null && batches.length === 0)
    let isRefused = false
    for (const answer of answers) {
      const partition = partitions.find((one) => one.topic === answer.topic && one.partition === answer.partition)
      if (partition !== undefined && (yield* accept(partition, answer, isEmpty))) isRefused = true
    }
    if (isRefused) yield* refreshed(1)
  })

  /** A broker that does not answer may have more. */
  const unknown = (node: number) => {
    for (const one of reading) if (leaders.of(one.topic, one.partition) === node) one.isAtEnd = false
  }

  const pollForEver = (node: number) =>
    Effect.suspend(() => {
      let failed = 0
      return poll(node).pipe(
        Effect.tap(Effect.sync(() => failed = 0)),
        Effect.tapError(() => Effect.sync(() => unknown(node))),
        Effect.catch((error) => retriable.has(error.code) ? refreshed(++failed) : failAll(node, error)),
        Effect.andThen(Effect.suspend(() => startNodes)),
        Effect.forever,
      )
    })

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

  /** A broker that hangs, or is cut off without a word, leads nothing after a while: then it is not waited for. */
  const leaveSilent = Effect.gen(function* () {
    const late = [...asking].filter(([, { since }]) => monotonic(clock) - since > options.maxWait + silence)
    if (late.length === 0) return
    yield* Effect.ignore(leaders.refresh)
    for (const [node, request] of late) {
      const { partitions } = request
      if (asking.get(node) !== request) continue
      if (partitions.every(({ topic, partition }) => leaders.of(topic, partition) === node)) continue
      for (const one of partitions) one.isAtEnd = false
      yield* FiberMap.remove(nodes, node)
    }
  })

  /** While a partition has no leader nobody polls for it: ask until it has one. */
  const findLeaders = Effect.suspend(() => {
    const missing = [...reading].filter(({ topic, partition }) => leaders.of(topic, partition) < 0)
    if (missing.length === 0) return Effect.void
    return Effect.ignore(leaders.ensure(missing.map(({ topic }) => topic))).pipe(Effect.andThen(refreshed(1)))
  }).pipe(
    Effect.andThen(startNodes),
    Effect.tap(Effect.sync(wake)),
    Effect.andThen(Effect.sleep("1 second")),
    Effect.forever,
  )
  yield* Effect.forkScoped(findLeaders)
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep("1 second"), leaveSilent)))

  /** A partition that is paused is asked for nothing, and its log goes on growing. */
  const lookAtPaused = Effect.suspend(() => {
    const before = monotonic(clock) - lookEvery
    const paused = [...reading].filter((one) => one.heard < before && !isWanted(one))
    if (paused.length === 0) return Effect.void
    return Effect.ignore(
      Effect.map(
        cluster.listOffsets(paused, "latest", "read_uncommitted"),
        (ends) =>
          ends.forEach(({ error, offset }, i) => {
            if (error === null) paused[i]!.end = Math.max(paused[i]!.end, offset)
          }),
      ),
    )
  }).pipe(Effect.andThen(Effect.sleep(lookEvery)), Effect.forever)
  yield* Effect.forkScoped(lookAtPaused)

  return {
    read: Effect.fnUntraced(function* ({ topic, partition }, offset, isAside = false, standing = {}) {
      yield* Effect.ignore(leaders.ensure([topic]))
      const fetched = yield* Queue.unbounded<Readable, KafkaError>()
      const one: Partition = {
        ...standing,
        topic,
        partition,
        topicId: standing.topicId ?? leaders.id(topic),
        refusals: 0,
        reason: undefined,
        isAside,
        position: offset,
        held: 0,
        end: -1,
        isAtEnd: false,
        heard: -Infinity,
        fetched,
      }
      const release = (bytes: number) => {
        const released = Math.min(bytes, one.held)
        if (released === 0) return
        const full = !isWanted(one)
        hold(one, -released)
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
        end: () => one.end,
        next: Queue.take(fetched),
        release,
        isDry: () =>
          one.isAtEnd && monotonic(clock) - one.heard <= 4 * options.maxWait &&
          Queue.sizeUnsafe(fetched) === 0,
      }
    }),
  }
})

/** How often the ends of paused partitions are asked for, in milliseconds. */
const lookEvery = 2_000

/** How long at most a broker that failed is left alone: doubled each time. Milliseconds. */
const retries = { first: 150, last: 1_000 }

/** How much longer than it was asked to a broker may take before others are asked who leads, in milliseconds. */
const silence = 2_000

const where = ({ topic, partition }: TopicPartition): string => `topic ${topic} partition ${partition}`

/** So often records that cannot be read are read again, and a topic that is another asked for: for 1.4 seconds at least. */
const rereads = 20

/** Of an answer with records of which none is decided by what it says. */
const early = "early"

/** Answers that say that records cannot be read. */
const damages: ReadonlySet<string> = new Set([
  "CORRUPT_MESSAGE",
  "MESSAGE_TOO_LARGE",
  "UNSUPPORTED_COMPRESSION_TYPE",
  "UNSUPPORTED_FOR_MESSAGE_FORMAT",
])

const displaced = ({ batches, lastStableOffset }: FetchedPartition): string =>
  `the batch says that it begins at offset ${batches[0]!.baseOffset}, and the log is decided up to ${lastStableOffset}`

const refusedFor = (partition: Partition, code: string): string =>
  `${where(partition)}: the broker refuses to be read from (${code})`

const unreadable = (partition: Partition, problem: string): string =>
  `${
    where(partition)
  }: from offset ${partition.position} on, ${problem}, and was read ${rereads} times. Another replica ` +
  "may be whole: make it the leader, or let the damaged one be copied anew; else set the group's position behind the batch"

const replaced = ({ topic, topicId }: Partition, now: string | undefined): string =>
  `topic ${topic} was deleted and created again: positions are those of the topic with the id ${topicId}, and ` +
  `${
    now === undefined ? "there is another now" : `now there is ${now}`
  }. Started again, a program reads the new one as ` +
  "its reset policy says; state that it keeps must be reset first"

const above = (partition: Partition, end: number): string =>
  `${
    where(partition)
  }: position ${partition.position} is above the end of the log, ${end}: brokers have lost what was ` +
  "processed already, or positions are of another cluster. Set the position to where the records go on that were not " +
  "processed, and state with it"

const below = (partition: Partition, start: number): string =>
  `${
    where(partition)
  }: position ${partition.position} is not in the log and the reset policy is "fail": it begins at ` +
  `${start}, and what was before is deleted. Choose "earliest" or "latest", or reset the group`
