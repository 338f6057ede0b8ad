/** How the outputs of a shadow differ from the live ones, key by key. */
import { Effect } from "effect"
import { plan as planOf } from "../../Pipeline.ts"
import { placeOf } from "../../kafka/Bounded.ts"
import { Cluster, type KafkaError, type TopicPartition } from "../../kafka/Cluster.ts"
import { PipelineError } from "../../Task.ts"
import { Comparison } from "./Comparison.ts"
import { fits, over } from "./InPlace.ts"
import type { Entry } from "./Journal.ts"
import * as From from "./From.ts"
import type { Any, Needs } from "./Plan.ts"
import { type ByKey, gathered, type Part, shown } from "./Gathered.ts"
import { asFailure, type ReplayFailure } from "./ReplayError.ts"
import { liveGroupOf, outputsOf } from "./Shadow.ts"

/** One key whose records are not the same. */
export interface Difference {
  /** The key, or, unless `show` was asked for, the first digits of its SHA-256. */
  readonly key: string
  readonly what: "differs" | "only live" | "only shadow"
  /** The first record that differs, as text; only where `show` was asked for. */
  readonly live?: string
  readonly shadow?: string
}

export interface TopicDiff {
  readonly topic: string
  /** `table`: the last value per key counts; `stream`: all records of a key, in their order. */
  readonly compared: "table" | "stream"
  readonly keys: number
  readonly same: number
  readonly differing: number
  readonly onlyLive: number
  readonly onlyShadow: number
  /** Records, as far as they were compared. */
  readonly records: { readonly live: number; readonly shadow: number }
  readonly first: ReadonlyArray<Difference>
}

export interface Diff {
  readonly topics: ReadonlyArray<TopicDiff>
  /** Keys that are not the same. Those that only live topics have do not count where the shadow began later than they. */
  readonly differences: number
  /** Whether the live outputs were those of the very records that the shadow has read. */
  readonly isExact: boolean
  readonly isWhole: boolean
}

export interface DiffOptions {
  /** Whether keys and values are told: they can be personal data. */
  readonly show?: boolean | undefined
  /** How many differences of each topic are told; 10 unless given. */
  readonly first?: number | undefined
}

/**
 * Compares what a shadow has written with what the live group had written when it stood at the shadow's end. Of compacted
 * topics the last value of each key counts, of others the sequence of its records; headers and times do not count, nor how
 * a JSON value is laid out. Dead letters of other pipelines in the same topic are left out.
 *
 * Of one partition of one topic at a time, live and shadow, digests are in memory: some 150 bytes for each key, and 50 for each
 * record of a stream; keys are at most 16 million in a partition. Records without a key
 * are compared as a set, over all partitions of a topic, and their values are not told. Other values that are shown are read again.
 */
export const diff = <R>(
  pipeline: Any<R>,
  entry: Entry,
  options?: DiffOptions,
): Effect.Effect<Diff, ReplayFailure, Needs<R>> =>
  Effect.mapError(
    Effect.gen(function* () {
      yield* fits(pipeline, entry, "shadow")
      if (entry.step !== "finished") return yield* over(entry)
      const plan = planOf(pipeline, { group: liveGroupOf(entry) })
      const cluster = yield* Cluster
      const outputs = yield* outputsOf(plan)
      const reads = new Set(plan.flows.flatMap(({ reads }) => reads.map(({ name }) => name)))
      const { isExact, isWhole, ends } = entry.live!
      const liveEnds = new Map(ends.map((end) => [placeOf(end), end.offset]))
      const liveStarts = yield* From.listed(cluster, outputs, "earliest")
      const shadows = outputs.map((where) => ({ ...where, topic: entry.renamed![where.topic]! }))
      const shadowStarts = yield* From.listed(cluster, shadows, "earliest")
      const shadowEnds = yield* settledEnds(cluster, shadows)
      const topics: Array<TopicDiff> = []
      for (const [name, partitions] of Map.groupBy(outputs, ({ topic }) => topic)) {
        const contract = plan.flows.flatMap(({ writes }) => writes).find((topic) => topic.name === name)!
        const isTable = contract.cleanup !== "delete"
        const topic = new Comparison(isTable, options)
        /** Records without a key stand in any partition: they are compared when all of them are known. */
        const keyless = { live: [] as Array<string>, shadow: [] as Array<string> }
        const bounds = (partitions: ReadonlyArray<TopicPartition>) => ({
          // Records of the live topic that the shadow cannot have, before and after its own.
          isHeadFree: !isWhole,
          isTailFree: !isExact,
          isCut: !isTable && partitions.some((where) => liveStarts.get(placeOf(where))! > 0),
        })
        for (const where of partitions) {
          const shadow = { ...where, topic: entry.renamed![name]! }
          const ours: Part = {
            ...{ where, reads, isTable },
            from: liveStarts.get(placeOf(where))!,
            to: liveEnds.get(placeOf(where)) ?? 0,
          }
          const theirs: Part = {
            ...{ where: shadow, reads, isTable },
            from: shadowStarts.get(placeOf(shadow))!,
            to: shadowEnds.get(placeOf(shadow))!,
          }
          const [live, other] = [yield* gathered(ours), yield* gathered(theirs)]
          topic.count(live.records, other.records)
          for (const digest of live.keyless) keyless.live.push(digest)
          for (const digest of other.keyless) keyless.shadow.push(digest)
          const told = topic.compare(live.byKey, other.byKey, bounds([where]))
          const values = (part: Part, side: "live" | "shadow") => {
            const wanted = told.flatMap((one) => one[side] === undefined ? [] : [[one.key, one[side]] as const])
            return options?.show === true && wanted.length > 0 ? shown(part, new Map(wanted)) : Effect.succeed(nothing)
          }
          const [liveValues, shadowValues] = [yield* values(ours, "live"), yield* values(theirs, "shadow")]
          for (const one of told) topic.tell(one, liveValues.get(one.key), shadowValues.get(one.key))
        }
        const [live, shadow] = [byNoKey(keyless.live), byNoKey(keyless.shadow)]
        for (const one of topic.compare(live, shadow, bounds(partitions))) topic.tell(one, undefined, undefined)
        topics.push({ topic: name, ...topic.result() })
      }
      return {
        topics,
        isExact,
        isWhole,
        differences: topics.reduce(
          (sum, { differing, onlyLive, onlyShadow }) =>
            sum + differing + onlyShadow + (isWhole && isExact ? onlyLive : 0),
          0,
        ),
      } satisfies Diff
    }),
    asFailure,
  ) as Effect.Effect<Diff, ReplayFailure, Needs<R>>

/** The ends of partitions, once no transaction is open in them: one that died with a shadow is until its time-out. */
const settledEnds = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  partitions: ReadonlyArray<TopicPartition>,
): Effect.fn.Return<ReadonlyMap<string, number>, KafkaError | PipelineError> {
  for (let tries = 0; tries < 450; tries++) {
    const ends = yield* From.listed(cluster, partitions, "latest")
    const all = yield* From.listed(cluster, partitions, "latest", "read_uncommitted")
    if (Array.from(ends).every(([place, end]) => all.get(place) === end)) return ends
    yield* Effect.sleep("200 millis")
  }
  return yield* new PipelineError({
    reason: "Kafka",
    retriable: true,
    message:
      "a transaction is open in the shadow's topics for longer than its time-out: what it holds cannot be compared",
  })
})

const nothing: ReadonlyMap<string | null, string> = new Map()

const byNoKey = (digests: ReadonlyArray<string>): ByKey => new Map(digests.length === 0 ? [] : [[null, digests]])
