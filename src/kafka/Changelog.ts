/**
 * Changelogs: compacted topics from which a task's stores are rebuilt. Each commit writes the last change of every key,
 * and for every store one record that says which source positions the log stands at.
 */
import { Buffer } from "node:buffer"
import { Clock, Duration, Effect, Option, Result, Schema } from "effect"
import type { Headers } from "../Batch.ts"
import { taskKey } from "./Assignment.ts"
import type { ProducerRecord } from "./Delivery.ts"
import { type Cluster, type ErrorCode, KafkaError, type TopicPartition } from "./Cluster.ts"
import type { Fetcher } from "./Fetcher.ts"
import { changelogTopic, type Claim, type Guarantee, type Plan, type Positions, type Work } from "../Pipeline.ts"
import { monotonic } from "../Pace.ts"
import { PipelineError } from "../Task.ts"
import { text } from "../Topic.ts"
import type { JournaledStore } from "../state/Store.ts"
import { patiently } from "./Retry.ts"
import { unstuck } from "./Stuck.ts"

/** The key of the positions record: a byte that no UTF-8 text contains, so that no store's key can be equal to it. */
const positionsKey = Buffer.from([0xff])

/** Whether a changelog's record says where the log stands, and is no entry of the store. */
export const isPositions = (key: Uint8Array): boolean => key.length === 1 && key[0] === positionsKey[0]

const Logged = Schema.fromJsonString(Schema.Struct({
  positions: Schema.Record(Schema.String, Schema.Int),
  /** Null where the store has seen no time yet. */
  streamTime: Schema.NullOr(Schema.Finite),
  shape: Schema.optionalKey(Schema.String),
  /** By topic: the id of the one that the position is in. */
  topicIds: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  /** Where the changelog began when the store was restored: compaction leaves it there. */
  logStart: Schema.optionalKey(Schema.Int),
}))
const encodeLogged = Schema.encodeSync(Logged)

/** What a changelog's positions record says. */
export type LoggedPositions = typeof Logged.Type

/** A changelog's positions record. */
export const positionsRecord = (
  { topic, partition }: TopicPartition,
  logged: LoggedPositions,
  headers: Headers,
): ProducerRecord => ({ topic, partition, key: positionsKey, value: Buffer.from(encodeLogged(logged)), headers })

/** Everything that a changelog's partition holds, whatever store it belongs to: in memory, for tools. */
export interface Entries {
  /** By key, in latin1. */
  readonly values: ReadonlyMap<string, Uint8Array>
  /** Where the log stands; `undefined` where nothing was logged yet. */
  readonly logged: LoggedPositions | undefined
}

/** Reads a changelog's partition up to its end. Nobody may be writing it. */
export const entries = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  fetcher: Fetcher,
  where: TopicPartition,
): Effect.fn.Return<Entries, KafkaError | PipelineError> {
  const offset = (at: "earliest" | "latest") =>
    patiently(
      Effect.flatMap(cluster.listOffsets([where], at, "read_uncommitted"), ([listed]) =>
        listed?.error === null ? Effect.succeed(listed.offset) : Effect.fail(unlisted(where, listed?.error))),
      Duration.toMillis(listedWithin),
    )
  const end = yield* offset("latest")
  let position = yield* offset("earliest")
  const values = new Map<string, Uint8Array>()
  const deleted = new Set<string>()
  let logged: LoggedPositions | undefined
  let newest: Uint8Array | undefined
  const reading = Effect.gen(function* () {
    const reading = yield* fetcher.read(where, position)
    while (position < end) {
      const { length, keys, bytes, headers, next, size, offsets } = yield* unstuck(reading.next, where, position)
      for (let i = 0; i < length; i++) {
        const key = keys[i]!
        if (key === null) return yield* broken(where, `the record at offset ${offsets[i]} has no key`, false)
        const stamp = stampOf(headers[i]!)
        const age = stamp === undefined || newest === undefined ? 0 : Buffer.compare(stamp, newest)
        if (stamp !== undefined && (newest === undefined || age > 0)) newest = stamp
        if (isPositions(key)) {
          if (age < 0 && logged !== undefined) continue
          const decoded = bytes[i] === null ? Option.none() : decodeLogged(text(bytes[i]!))
          if (Option.isNone(decoded)) {
            return yield* broken(where, `the positions at offset ${offsets[i]} cannot be read`, false)
          }
          logged = decoded.value
          continue
        }
        const name = Buffer.from(key).toString("latin1")
        if (age < 0 && (values.has(name) || deleted.has(name))) continue
        if (bytes[i] === null) {
          values.delete(name)
          deleted.add(name)
        } else values.set(name, bytes[i]!)
      }
      position = next
      reading.release(size)
    }
  })
  yield* Effect.scoped(reading)
  return { values, logged }
})

const decodeLogged = Schema.decodeOption(Logged)

/** The stream time that a changelog's record tells, where it is a record that tells one. */
export const loggedStreamTime = (key: Uint8Array | null, value: Uint8Array | null): number | undefined => {
  if (key === null || !isPositions(key) || value === null) return undefined
  return Option.getOrUndefined(decodeLogged(text(value)))?.streamTime ?? undefined
}

/**
 * What a commit writes into the changelogs of one task, with `headers` in every record; the failure of reason `State` says
 * which store holds a value that its schema refuses, without the value.
 */
export const records = (
  plan: Plan,
  { task, changes, positions, topicIds }: Work,
  headers: Headers = [],
): Result.Result<ReadonlyArray<ProducerRecord>, PipelineError> => {
  const { partition } = task
  const records: Array<ProducerRecord> = []
  for (const { store, entries, streamTime, shape, logStart, encode } of changes) {
    const topic = changelogTopic(plan.name, store)
    try {
      for (const [key, value] of entries) {
        const encoded = value === undefined ? null : encode(value)
        records.push({ topic, partition, key: Buffer.from(key), value: encoded, headers })
      }
    } catch (error) {
      const problem = error instanceof Error ? error.message : "it was refused"
      return Result.fail(
        new PipelineError({
          reason: "State",
          retriable: false,
          message: `store ${store} of task ${taskKey(task)} holds a value that its schema refuses: ${problem}`,
        }),
      )
    }
    const logged = encodeLogged({
      positions: Object.fromEntries(positions),
      streamTime: streamTime === -Infinity ? null : streamTime,
      ...shape !== undefined && { shape },
      ...topicIds !== undefined && { topicIds: Object.fromEntries(topicIds) },
      ...logStart !== undefined && { logStart },
    })
    records.push({ topic, partition, key: positionsKey, value: Buffer.from(logged), headers })
  }
  return Result.succeed(records)
}

/** The header in which records that are written without a transaction carry their age. */
const stampHeader = "epoch"

/**
 * Who wrote records and when, in the order in which they count: without transactions a request may arrive after its writer
 * gave it up, or lost the task to another. `epoch` is that of the claim, `commit` counts the attempts.
 */
export const stamp = (epoch: number, commit: number): Headers => {
  const bytes = Buffer.alloc(12)
  bytes.writeBigUInt64BE(BigInt(epoch))
  bytes.writeUInt32BE(commit, 8)
  return [[stampHeader, bytes]]
}

/** Compares as bytes: the higher is the newer. */
export const stampOf = (headers: Headers): Uint8Array | undefined => headers.find(([name]) => name === stampHeader)?.[1]

/** The configuration of a changelog topic. */
export const config = {
  "cleanup.policy": "compact",
  "segment.bytes": String(64 * 1024 * 1024),
  "max.compaction.lag.ms": String(Duration.toMillis("10 minutes")),
} as const

export interface Restoring {
  readonly plan: Plan
  readonly partition: number
  readonly claim: Claim
  /** Whether logged positions must equal the group's or may be ahead of them. */
  readonly state: Guarantee<never, never>["state"]
  /** Ends what the previous owner left undecided, if it is gone. */
  readonly endPrevious: Effect.Effect<void, KafkaError>
}

/** How long a changelog that was just created may take to have leaders that know of it. */
const listedWithin = Duration.seconds(30)

/** How long undecided records in a changelog are waited for before the previous owner is looked at. */
const undecidedFor = Duration.seconds(1)

export interface Restored {
  /** Records read. */
  readonly read: number
  /** Where the task must begin instead, because the log is behind the group's positions and the input is still there. */
  readonly replay: Positions | undefined
}

/**
 * Reads a store's changelog up to its end, as it was when the task was claimed. Fails with a `PipelineError` of reason
 * `State` where the log does not stand at the group's positions.
 *
 * Records that are older than ones before them came late, from a writer that was cut off. They are ignored, and what they
 * cover is logged again, so that compaction does not keep them; only where nothing else is left do they count.
 */
export const restore = Effect.fnUntraced(function* <V>(
  cluster: Cluster["Service"],
  fetcher: Fetcher,
  store: JournaledStore<V>,
  { plan, partition, claim, state, endPrevious }: Restoring,
): Effect.fn.Return<Restored, KafkaError | PipelineError> {
  const where = { topic: changelogTopic(plan.name, store.name), partition }
  const offset = (at: "earliest" | "latest") =>
    patiently(
      Effect.flatMap(cluster.listOffsets([where], at, "read_uncommitted"), ([listed]) =>
        listed?.error === null ? Effect.succeed(listed.offset) : Effect.fail(unlisted(where, listed?.error))),
      Duration.toMillis(listedWithin),
    )
  const end = yield* offset("latest")
  const start = yield* offset("earliest")
  store.logStart = start
  let position = start
  let read = 0
  let logged: typeof Logged.Type | undefined
  let newest: Uint8Array | undefined
  const deleted = new Set<string>()
  const covered = new Set<string>()
  const restoring = Effect.gen(function* () {
    // By no other policy would all of it be read.
    const reading = yield* fetcher.read(where, position, false, { reset: "fail" })
    const clock = yield* Clock.clockWith(Effect.succeed)
    let heard = monotonic(clock)
    while (position < end) {
      const fetched = yield* Effect.timeoutOption(reading.next, undecidedFor)
      if (Option.isNone(fetched)) {
        if (monotonic(clock) - heard >= Duration.toMillis(undecidedFor)) {
          yield* Effect.ignore(endPrevious)
          const now = yield* offset("latest")
          if (now < end) return yield* broken(where, `its end ${end} was cut off at ${now} while it was read`, true)
        }
        continue
      }
      heard = monotonic(clock)
      const { length, keys, bytes, headers, next, size, offsets } = fetched.value
      for (let i = 0; i < length; i++) {
        const key = keys[i]!
        if (key === null) return yield* broken(where, `the record at offset ${offsets[i]} has no key`, false)
        const stamp = stampOf(headers[i]!)
        const age = stamp === undefined || newest === undefined ? 0 : Buffer.compare(stamp, newest)
        if (stamp !== undefined && (newest === undefined || age > 0)) newest = stamp
        if (isPositions(key)) {
          if (age < 0 && logged !== undefined) continue
          const decoded = decodeLogged(text(bytes[i]!))
          if (Option.isNone(decoded)) {
            return yield* broken(where, `the positions at offset ${offsets[i]} cannot be read`, false)
          }
          logged = decoded.value
        } else {
          const name = text(key)
          if (age < 0 && (store.get(name) !== undefined || deleted.has(name))) {
            covered.add(name)
            continue
          }
          if (stamp !== undefined) {
            if (bytes[i] === null) deleted.add(name)
            else deleted.delete(name)
          }
          try {
            store.restore(name, bytes[i]!)
          } catch {
            return yield* broken(
              where,
              `the value at offset ${
                offsets[i]
              } is not what store ${store.name} holds: it was written by a program whose ` +
                "state had another schema; let the store's codec read that too, or give the pipeline a new name",
              false,
            )
          }
        }
      }
      read += length
      position = next
      reading.release(size)
    }
  })
  yield* Effect.catchIf(
    Effect.scoped(restoring),
    (error): error is KafkaError => error instanceof KafkaError && error.code === "OFFSET_OUT_OF_RANGE",
    () => broken(where, "it was cut off while it was read", true),
  )
  const { shape = store.shape } = logged ?? {}
  if (shape !== store.shape) {
    return yield* broken(
      where,
      `it holds ${shape}, and store ${store.name} ${store.shape ?? "something else"}: it was written by another ` +
        "version of the program; give the pipeline a new name",
      false,
    )
  }
  for (const [topic, was] of Object.entries(logged?.topicIds ?? {})) {
    const now = claim.topicIds?.get(topic)
    if (now === undefined || now === was) continue
    return yield* broken(
      where,
      `it is of records of topic ${topic} with the id ${was}, which was deleted and created again as ${now}`,
      false,
    )
  }
  if (start > (logged?.logStart ?? start)) {
    return yield* broken(
      where,
      `what it held below offset ${start} was deleted, and with it entries of store ${store.name}: its cleanup.policy must ` +
        "be compact and nothing else",
      false,
    )
  }
  if (logged !== undefined && logged.streamTime !== null) store.restoreStreamTime(logged.streamTime)
  for (const name of covered) store.relog(name)
  const behind = yield* Effect.catch(agree(where, logged?.positions, claim, state), (error) =>
    Effect.gen(function* () {
      const inputs = Array.from(claim.positions.keys(), (topic) => ({ topic, partition }))
      const now = yield* patiently(cluster.offsetFetch(plan.group, inputs, false), Duration.toMillis(listedWithin))
      if (now.every(({ topic, offset }) => offset === claim.positions.get(topic))) return yield* error
      return yield* broken(where, "its group has moved on since the task was taken over", true)
    }))
  return {
    read,
    replay: behind === undefined ? undefined : yield* replayable(cluster, where, partition, claim, behind),
  }
})

/**
 * Under exactly-once the log stands where the group stands; under at-least-once a crash may leave it ahead. Behind it is
 * where brokers lost its end, or where a writer that was cut off had the last word: answers where it stands.
 */
const agree = (
  where: TopicPartition,
  logged: Readonly<Record<string, number>> | undefined,
  { positions, commit }: Claim,
  state: "same" | "ahead",
): Effect.Effect<Positions | undefined, PipelineError> => {
  if (logged === undefined) {
    return commit === undefined ? Effect.succeed(undefined) : broken(
      where,
      "it holds no positions, but its group has committed some: the log was deleted, or the store is new",
      false,
    )
  }
  const behind = new Map<string, number>()
  for (const [topic, position] of positions) {
    const at = logged[topic]
    if (at === undefined || state === "same" && at !== position) return disagree(where, topic, at, position)
    if (at < position) behind.set(topic, at)
  }
  return Effect.succeed(behind.size === 0 ? undefined : behind)
}

/** Where a log is behind, the input is processed again from there on, as long as it is kept. */
const replayable = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  where: TopicPartition,
  partition: number,
  { positions }: Claim,
  behind: Positions,
): Effect.fn.Return<Positions, KafkaError | PipelineError> {
  const inputs = Array.from(behind.keys(), (topic) => ({ topic, partition }))
  const starts = yield* patiently(
    Effect.flatMap(cluster.listOffsets(inputs, "earliest", "read_committed"), (listed) => {
      const failed = listed.find(({ error }) => error !== null)
      return failed === undefined ? Effect.succeed(listed) : Effect.fail(unlisted(failed, failed.error!))
    }),
    Duration.toMillis(listedWithin),
  )
  for (const { topic, offset } of starts) {
    const at = behind.get(topic)!
    if (offset > at) return yield* disagree(where, topic, at, positions.get(topic)!)
  }
  return behind
})

const disagree = (where: TopicPartition, topic: string, at: number | undefined, position: number) =>
  broken(where, `it stands at offset ${at} of topic ${topic}, but its group stands at ${position}`, false)

const unlisted = ({ topic, partition }: TopicPartition, code: ErrorCode | undefined): KafkaError =>
  new KafkaError({
    code: code ?? "UNKNOWN_SERVER_ERROR",
    operation: "ListOffsets",
    message: `topic ${topic} partition ${partition}: its offsets cannot be listed (${code})`,
  })

const broken = (
  { topic, partition }: { readonly topic: string; readonly partition: number },
  problem: string,
  retriable: boolean,
): Effect.Effect<never, PipelineError> =>
  Effect.fail(
    new PipelineError({
      reason: "State",
      retriable,
      message: `changelog ${topic} partition ${partition}: ${problem}` +
        (retriable ? "" : ". State cannot be trusted: reset positions and state together"),
    }),
  )
