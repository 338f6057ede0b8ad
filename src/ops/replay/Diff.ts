/** How the outputs of a shadow differ from the live ones, key by key. */
import { createHash } from "node:crypto"
import { Effect } from "effect"
import { plan as planOf } from "../../Pipeline.ts"
import { placeOf } from "../../kafka/Bounded.ts"
import { Cluster, type KafkaError, type TopicPartition } from "../../kafka/Cluster.ts"
import { PipelineError } from "../../Task.ts"
import { text } from "../../Topic.ts"
import { fits, over } from "./InPlace.ts"
import type { Entry } from "./Journal.ts"
import * as From from "./From.ts"
import type { Any, Needs } from "./Plan.ts"
import { read } from "./Records.ts"
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
 * One partition of one topic is in memory at a time, live and shadow.
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
        for (const where of partitions) {
          const shadow = { ...where, topic: entry.renamed![name]! }
          const live = yield* gathered(where, liveStarts.get(placeOf(where))!, liveEnds.get(placeOf(where)) ?? 0, reads)
          const other = yield* gathered(
            shadow,
            shadowStarts.get(placeOf(shadow))!,
            shadowEnds.get(placeOf(shadow))!,
            reads,
          )
          topic.compare(live, other, {
            // Records of the live topic that the shadow cannot have, before and after its own.
            isHeadFree: !isWhole,
            isTailFree: !isExact,
            isCut: !isTable && liveStarts.get(placeOf(where))! > 0,
          })
        }
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

/** By key, in latin1; records without one together. */
type ByKey = ReadonlyMap<string | null, ReadonlyArray<Uint8Array | null>>

const gathered = Effect.fnUntraced(function* (
  where: TopicPartition,
  from: number,
  to: number,
  reads: ReadonlySet<string>,
): Effect.fn.Return<ByKey, KafkaError, Cluster> {
  const found = new Map<string | null, Array<Uint8Array | null>>()
  yield* read(where, from, to, ({ keys, bytes, headers }, length) => {
    for (let i = 0; i < length; i++) {
      const origin = headers[i]!.find(([name]) => name === "kafka_dlt-original-topic")?.[1]
      if (origin !== undefined && !reads.has(text(origin))) continue
      const key = keys[i]!
      const name = key === null ? null : Buffer.from(key).toString("latin1")
      const values = found.get(name)
      if (values === undefined) found.set(name, [bytes[i]!])
      else values.push(bytes[i]!)
    }
  })
  return found
})

interface Bounds {
  readonly isHeadFree: boolean
  readonly isTailFree: boolean
  /** Whether retention may have taken the beginning of what is live. */
  readonly isCut: boolean
}

/** What a topic's partitions come to, one after the other. */
class Comparison {
  readonly #isTable: boolean
  readonly #show: boolean
  readonly #most: number
  #keys = 0
  #same = 0
  #differing = 0
  #onlyLive = 0
  #onlyShadow = 0
  #live = 0
  #shadow = 0
  readonly #first: Array<Difference> = []

  constructor(isTable: boolean, { show = false, first = 10 }: DiffOptions = {}) {
    this.#isTable = isTable
    this.#show = show
    this.#most = first
  }

  compare(live: ByKey, shadow: ByKey, bounds: Bounds): void {
    for (const key of new Set([...live.keys(), ...shadow.keys()])) {
      const [ours, theirs] = [this.#counted(live.get(key)), this.#counted(shadow.get(key))]
      this.#live += live.get(key)?.length ?? 0
      this.#shadow += shadow.get(key)?.length ?? 0
      if (ours.length === 0 && theirs.length === 0) continue
      this.#keys++
      if (theirs.length === 0) {
        this.#onlyLive++
        if (!bounds.isHeadFree && !bounds.isTailFree) this.#tell(key, "only live", ours[0]!, undefined)
      } else if (ours.length === 0 && !bounds.isCut) {
        this.#onlyShadow++
        this.#tell(key, "only shadow", undefined, theirs[0]!)
      } else if (key === null ? sameUnordered(ours, theirs, bounds) : sameSequence(ours, theirs, bounds)) this.#same++
      else {
        this.#differing++
        const at = ours.findIndex((one, i) => one !== theirs[i])
        const i = at < 0 ? ours.length : at
        this.#tell(key, "differs", ours[i], theirs[i])
      }
    }
  }

  /** What counts of a key's records: all of them, or the last, which may be a deletion. */
  #counted(values: ReadonlyArray<Uint8Array | null> | undefined): ReadonlyArray<string> {
    if (values === undefined) return []
    if (!this.#isTable) return values.map(comparable)
    const last = values.at(-1)!
    return last === null ? [] : [comparable(last)]
  }

  #tell(key: string | null, what: Difference["what"], live: string | undefined, shadow: string | undefined): void {
    if (this.#first.length >= this.#most) return
    const bytes = key === null ? undefined : Buffer.from(key, "latin1")
    this.#first.push({
      key: bytes === undefined
        ? "(no key)"
        : this.#show
        ? bytes.toString("utf8")
        : `sha256:${createHash("sha256").update(bytes).digest("hex").slice(0, 12)}`,
      what,
      ...this.#show && live !== undefined && { live },
      ...this.#show && shadow !== undefined && { shadow },
    })
  }

  result(): Omit<TopicDiff, "topic"> {
    return {
      compared: this.#isTable ? "table" : "stream",
      keys: this.#keys,
      same: this.#same,
      differing: this.#differing,
      onlyLive: this.#onlyLive,
      onlyShadow: this.#onlyShadow,
      records: { live: this.#live, shadow: this.#shadow },
      first: this.#first,
    }
  }
}

/** A value as text that is the same where the value is: JSON with its fields in one order. */
const comparable = (value: Uint8Array | null): string => {
  if (value === null) return "(deleted)"
  const as = text(value)
  if (as[0] !== "{" && as[0] !== "[") return as
  try {
    return JSON.stringify(
      JSON.parse(as),
      (_, inner) =>
        typeof inner !== "object" || inner === null || Array.isArray(inner)
          ? inner
          : Object.fromEntries(Object.entries(inner).sort(([a], [b]) => a < b ? -1 : 1)),
    )
  } catch {
    return as
  }
}

const sameSequence = (live: ReadonlyArray<string>, shadow: ReadonlyArray<string>, bounds: Bounds): boolean => {
  const matches = (all: ReadonlyArray<string>, part: ReadonlyArray<string>, from: number) =>
    part.every((one, i) => one === all[from + i])
  if (live.length === shadow.length && matches(live, shadow, 0)) return true
  if (bounds.isCut && live.length <= shadow.length && matches(shadow, live, shadow.length - live.length)) return true
  const last = live.length - shadow.length
  for (let from = bounds.isHeadFree ? 0 : Math.min(0, last); from <= last; from++) {
    if (!bounds.isHeadFree && from > 0) return false
    if (!bounds.isTailFree && from !== last) continue
    if (matches(live, shadow, from)) return true
  }
  return false
}

const sameUnordered = (live: ReadonlyArray<string>, shadow: ReadonlyArray<string>, bounds: Bounds): boolean => {
  const left = new Map<string, number>()
  for (const one of live) left.set(one, (left.get(one) ?? 0) + 1)
  for (const one of shadow) {
    const n = left.get(one) ?? 0
    if (n === 0) return bounds.isCut
    left.set(one, n - 1)
  }
  return bounds.isHeadFree || bounds.isTailFree || Array.from(left.values()).every((n) => n === 0)
}
