/**
 * A compacted topic as a table that every process has whole, whatever partitions its tasks have: for reference data that is
 * small and wanted everywhere.
 */
import { isUtf8 } from "node:buffer"
import { Cause, Deferred, Duration, Effect, Exit, Metric, Option, Result, type Scope } from "effect"
import type { Batch } from "../Batch.ts"
import { RecordContext, RecordDefect } from "../Batch.ts"
import { perTask, type Stage } from "../Flow.ts"
import { pause } from "../Jitter.ts"
import type { Cluster, KafkaError } from "../kafka/Cluster.ts"
import { asPipelineError } from "../kafka/Errors.ts"
import type { Readable } from "../kafka/ReadCommitted.ts"
import * as WholeTopic from "../kafka/WholeTopic.ts"
import { PipelineError } from "../Task.ts"
import { text, type Topic } from "../Topic.ts"

/** The latest committed value of every key, as far as it has been read. */
export interface GlobalTable<out V> {
  readonly topic: string
  readonly size: number
  get(key: string): V | undefined
  /** All entries, in no particular order. */
  entries(): IterableIterator<[string, V]>
  /** Why it is not kept up to date any more, if it is not: stages that join it then stop their tasks. */
  readonly failure: PipelineError | undefined
}

export interface Options {
  /** How long the first reading may take; a minute unless given. */
  readonly readyWithin?: Duration.Input
  /**
   * What becomes of a record whose value the contract refuses, or whose key is not text: it is told and counted and the
   * value before it stays (`keep`, the default), or the table is kept up to date no more and its tasks stop (`stop`).
   */
  readonly onUndecodable?: "keep" | "stop"
}

export const entries = Metric.gauge("millrace_global_table_entries", { description: "Keys in a table, by topic" })

export const records = Metric.counter("millrace_global_table_records_total", {
  description: "Records read into a table, by topic",
  incremental: true,
})

export const undecodable = Metric.counter("millrace_global_table_undecodable_total", {
  description: "Records of a table's topic whose key or value could not be used, by topic",
  incremental: true,
})

class Table<V> implements GlobalTable<V> {
  readonly topic: string
  values: ReadonlyMap<string, V> = new Map()
  failure: PipelineError | undefined = undefined

  constructor(topic: string) {
    this.topic = topic
  }

  get size(): number {
    return this.values.size
  }

  get(key: string): V | undefined {
    return this.values.get(key)
  }

  entries(): IterableIterator<[string, V]> {
    return this.values.entries()
  }
}

/** How long a reading that failed waits before the next one, in milliseconds: doubled each time, up to the last. */
const backoff = { first: 250, last: 30_000 }

/**
 * Reads a whole topic into memory and follows it until the scope ends: all partitions from their beginning, committed
 * records only, in no consumer group and without any position. A null value deletes its key. Memory is all keys of the
 * topic and their values, in every process.
 *
 * Answers when everything has been read that stood in the topic when reading began. Where that takes longer than
 * `readyWithin`, fails with a `PipelineError`; but where only transactions are waited for that were open then, it says so
 * in the log and answers. Later failures of brokers do not show, except in that the table is old. Where records that were
 * to be read are gone (the topic was cut or made anew), all of it is read again, and the table is swapped when that is done.
 */
export const topic = <V>(
  contract: Topic<V>,
  options: Options = {},
): Effect.Effect<GlobalTable<V>, PipelineError, Cluster | Scope.Scope> => {
  const { name } = contract
  if (contract.cleanup !== "compact") {
    throw new RangeError(
      `topic ${name} is not a table: its contract must say that it is kept by key alone (cleanup: "compact"), ` +
        "or keys would be gone after a restart that were there before",
    )
  }
  const readyWithin = Duration.fromInputUnsafe(options.readyWithin ?? "1 minute")
  return Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const table = new Table<V>(name)
    const ready = yield* Deferred.make<void, PipelineError>()
    let isReady = false
    let isDecided = false
    let trouble: string | undefined

    const reading = Effect.suspend(() => {
      const values = new Map<string, V>()
      isDecided = false
      if (!isReady) table.values = values
      return WholeTopic.read(name, {
        take: (partition, records) => taken(contract, values, partition, records, options.onUndecodable ?? "keep"),
        reached: (what) => {
          isDecided = true
          table.values = values
          if (what === "all") Deferred.doneUnsafe(ready, Exit.void)
        },
      })
    })
    const stopped = (error: PipelineError) => {
      table.failure = error
      return Effect.andThen(
        Effect.logError(`global table ${name}: it is not kept up to date any more`, error),
        Deferred.fail(ready, error),
      )
    }
    const following = (delay: number): Effect.Effect<unknown, never, Cluster> =>
      Effect.catchCause(reading, (cause) => {
        if (Cause.hasInterruptsOnly(cause)) return Effect.void
        const error = Cause.findErrorOption(cause)
        if (Option.isNone(error)) return stopped(threw(name, cause))
        if (!mayPass(error.value, isReady)) return stopped(asPipelineError(error.value))
        trouble = error.value.message
        return Effect.logWarning(`global table ${name}: ${trouble}; all of it is read again within ${delay} ms`).pipe(
          Effect.andThen(pause(delay)),
          Effect.andThen(
            Effect.suspend(() => following(isDecided ? backoff.first : Math.min(delay * 2, backoff.last))),
          ),
        )
      })
    yield* Effect.forkScoped(following(backoff.first))

    const late = Effect.suspend(() => {
      const within = Duration.format(readyWithin)
      if (isDecided) {
        return Effect.logWarning(
          `global table ${name}: a transaction that was open when it was read is still not decided after ${within}; ` +
            "going on without its records",
        )
      }
      return Effect.fail(
        new PipelineError({
          reason: "Kafka",
          retriable: true,
          message: `global table ${name} could not be read within ${within}: ${trouble ?? "there is too much of it"}`,
        }),
      )
    })
    yield* Effect.timeoutOrElse(Deferred.await(ready), { duration: readyWithin, orElse: () => late })
    isReady = true

    const series = Metric.registerUnsafe(Metric.withAttributes(entries, { topic: name }), context, {
      get: () => ({ value: table.size }),
      update: () => {},
      modify: () => {},
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => series.remove()))
    return table
  })
}

/** Once there is a table it stays while brokers refuse or have lost the topic, for whoever runs them may change that. */
const mayPass = (error: PipelineError | KafkaError, isReady: boolean): boolean => {
  if (error instanceof PipelineError) return error.retriable || isReady && error.reason === "Definition"
  return isReady || begunAnew.has(error.code) || asPipelineError(error).retriable
}

/** What was read is of no use any more, and reading begins anew. */
const begunAnew: ReadonlySet<string> = new Set(["OFFSET_OUT_OF_RANGE", "TOPIC_REPLACED"])

const threw = (topic: string, cause: Cause.Cause<unknown>): PipelineError =>
  new PipelineError({
    reason: "State",
    retriable: false,
    message: `global table ${topic}: reading it threw`,
    cause: Cause.squash(cause),
  })

/** Puts records into the table; a record that cannot be used is told without its content. */
const taken = <V>(
  contract: Topic<V>,
  values: Map<string, V>,
  partition: number,
  { length, keys, bytes, offsets }: Readable,
  onUndecodable: "keep" | "stop",
): Effect.Effect<void, PipelineError> => {
  const { name } = contract
  let unusable = 0
  let first = ""
  for (let i = 0; i < length; i++) {
    const problem = put(contract, values, keys[i]!, bytes[i]!)
    if (problem !== undefined && unusable++ === 0) first = `at offset ${offsets[i]}: ${problem}`
    if (problem !== undefined && onUndecodable === "stop") break
  }
  const counted = Metric.update(Metric.withAttributes(records, { topic: name }), length)
  if (unusable === 0) return counted
  const message = `global table ${name}: partition ${partition} has a record that cannot be used ${first}`
  return Effect.andThen(
    Effect.andThen(counted, Metric.update(Metric.withAttributes(undecodable, { topic: name }), unusable)),
    onUndecodable === "stop"
      ? Effect.fail(new PipelineError({ reason: "State", retriable: false, message }))
      : Effect.logWarning(
        `${message}; what its key had before stays${unusable === 1 ? "" : `; ${unusable - 1} after it cannot either`}`,
      ),
  )
}

/** Answers what is wrong with the record, if anything is. */
const put = <V>(
  contract: Topic<V>,
  values: Map<string, V>,
  key: Uint8Array | null,
  bytes: Uint8Array | null,
): string | undefined => {
  if (key === null) return "it has no key"
  if (!isUtf8(key)) return "its key is not UTF-8 text"
  if (bytes === null) {
    values.delete(text(key))
    return
  }
  const decoded = contract.decode(bytes)
  if (Result.isSuccess(decoded)) {
    values.set(text(key), decoded.success)
    return
  }
  const { field, message } = decoded.failure
  return field === "" ? message : `${field}: ${message}`
}

export interface JoinOptions<in A, in V, out B> {
  /** What to look for; a value without a key finds nothing. */
  key(value: A, record: RecordContext): string | undefined
  /** The value that goes on; `undefined` where the table does not have the key. */
  join(value: A, found: V | undefined, record: RecordContext): B
}

/**
 * Adds to every value what the table has for its key at that moment: without any waiting, in order, one value for one.
 * `table` is where the table comes from when a task starts: a service that holds what `topic` has opened.
 *
 * What is found depends on how far the table has been read, so this is the exception to the law that cuts do not matter, as
 * every join with the latest row is: a record that is read again after a crash may find a newer value.
 */
export const join = <A, V, B, E2 = never, R2 = never>(
  table: Effect.Effect<GlobalTable<V>, E2, R2>,
  options: JoinOptions<A, V, B>,
): Stage<A, B, never, E2 | PipelineError, R2> =>
  perTask<A, B, never, PipelineError, never, E2, R2>(
    Effect.map(table, (table) => <F>(batch: Batch<A, F>) =>
      Effect.suspend(() =>
        table.failure === undefined ? Effect.succeed(joined(batch, table, options)) : Effect.fail(table.failure)
      )),
    { stage: "global join" },
  )

const joined = <A, V, B, F>(
  batch: Batch<A, F>,
  table: GlobalTable<V>,
  { key, join }: JoinOptions<A, V, B>,
): Batch<B, F> => {
  const values = new Array<B>(batch.values.length)
  let i = 0
  try {
    for (; i < values.length; i++) {
      const value = batch.values[i]!
      const record = new RecordContext(batch, i)
      const wanted = key(value, record)
      values[i] = join(value, wanted === undefined ? undefined : table.get(wanted), record)
    }
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
  return { ...batch, values }
}
