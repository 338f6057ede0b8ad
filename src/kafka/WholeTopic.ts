/** Reading all of a topic, from its beginning and on as it grows: outside of any consumer group, under read_committed. */
import { Effect } from "effect"
import { PipelineError } from "../Task.ts"
import { Cluster, KafkaError, type OffsetAt } from "./Cluster.ts"
import * as Fetcher from "./Fetcher.ts"
import * as Leaders from "./Leaders.ts"
import type { Readable } from "./ReadCommitted.ts"
import { patiently } from "./Retry.ts"

export interface Reader<E> {
  /** The next records of a partition, in their order: never twice at a time for one partition. */
  take(partition: number, records: Readable): Effect.Effect<void, E>
  /** All that was there when reading began has been taken, or all of it that was decided by then. */
  reached(what: "all" | "decided"): void
}

/** How long requests are repeated while the brokers cannot answer, in milliseconds. */
const patience = 30_000

/** How often partitions are looked for that were added. */
const looking = "1 minute"

/**
 * Hands every record of the topic to `reader`, and those of partitions that are added later. Fails where the topic does not
 * exist or may not be read, and where a position is no longer in the log, because it was cut or made anew: what was read is
 * then of no use, and reading must begin again. Bytes in flight are bounded as those of a pipeline are.
 */
export const read = Effect.fnUntraced(function* <E>(
  topic: string,
  reader: Reader<E>,
): Effect.fn.Return<never, E | KafkaError | PipelineError, Cluster> {
  const cluster = yield* Cluster
  const leaders = yield* Leaders.make
  yield* patiently(leaders.ensure([topic]), patience)
  const partitions = leaders.partitions(topic)
  if (partitions === undefined) {
    return yield* new PipelineError({
      reason: "Definition",
      retriable: false,
      message: `topic ${topic} does not exist: create it before it is read`,
    })
  }
  const offsets = (from: number, to: number, at: OffsetAt, isolation: "read_committed" | "read_uncommitted") => {
    const where = Array.from({ length: to - from }, (_, i) => ({ topic, partition: from + i }))
    const listed = Effect.flatMap(cluster.listOffsets(where, at, isolation), (listed) => {
      const failed = listed.find(({ error }) => error !== null)
      return failed === undefined
        ? Effect.succeed(new Map(listed.map(({ partition, offset }) => [partition, offset])))
        : Effect.fail(unlisted(topic, failed.partition, failed.error!))
    })
    return patiently(listed, patience)
  }
  const starts = yield* offsets(0, partitions, "earliest", "read_committed")
  const ends = yield* offsets(0, partitions, "latest", "read_uncommitted")
  const decided = yield* offsets(0, partitions, "latest", "read_committed")
  const positions = new Map(starts)
  const isBehind = (ends: ReadonlyMap<number, number>) =>
    Array.from(ends).some(([partition, end]) => positions.get(partition)! < end)
  let reached: "none" | "decided" | "all" = "none"
  const tell = () => {
    if (reached === "none" && !isBehind(decided)) reader.reached(reached = "decided")
    if (reached === "decided" && !isBehind(ends)) reader.reached(reached = "all")
  }

  return yield* Effect.scoped(Effect.gen(function* () {
    const fetcher = yield* Fetcher.make(leaders, { ...Fetcher.defaults, reset: "fail" })
    const follow = (partition: number) =>
      Effect.scoped(Effect.gen(function* () {
        const reading = yield* fetcher.read({ topic, partition }, positions.get(partition)!)
        for (;;) {
          const records = yield* reading.next
          yield* reader.take(partition, records)
          reading.release(records.size)
          positions.set(partition, records.next)
          if (reached !== "all") tell()
        }
      }))
    const followFrom = (from: number): Effect.Effect<never, E | KafkaError> =>
      Effect.gen(function* () {
        let next = from
        for (;;) {
          yield* Effect.sleep(looking)
          yield* Effect.ignore(leaders.refresh)
          const now = leaders.partitions(topic) ?? next
          if (now <= next) continue
          for (const [partition, start] of yield* offsets(next, now, "earliest", "read_committed")) {
            positions.set(partition, start)
          }
          const added = Array.from({ length: now - next }, (_, i) => follow(next + i))
          next = now
          return yield* Effect.raceAllFirst([...added, followFrom(now)])
        }
      })
    tell()
    const known = Array.from({ length: partitions }, (_, partition) => follow(partition))
    return yield* Effect.raceAllFirst([...known, followFrom(partitions)])
  }))
})

const unlisted = (topic: string, partition: number, code: string): KafkaError =>
  new KafkaError({
    code,
    operation: "ListOffsets",
    message: `topic ${topic} partition ${partition}: its offsets cannot be listed (${code})`,
  })
