/**
 * Enrichment: adding to every value what a table elsewhere knows of it. The table is asked through a cache that all tasks of
 * a process share, and an answer that does not come in time is a value like any other.
 */
import { Clock, Duration, Effect, FiberSet, type Scope } from "effect"
import type { Batch, Failed, Failure } from "../Batch.ts"
import { fail, failing, gather, RecordContext, RecordDefect } from "../Batch.ts"
import { perTask, type Stage } from "../Flow.ts"
import { pause } from "../Jitter.ts"
import { Waiting } from "../Waiting.ts"
import {
  type Answer,
  type Cached,
  type Found,
  type Lookup,
  LookupFailed,
  type Missing,
  type Unavailable,
  type Undecodable,
} from "./lookups/LookupAnswer.ts"
import { LookupCache } from "./lookups/LookupCache.ts"
import { Figures } from "./lookups/LookupFigures.ts"

export * from "./lookups/LookupAnswer.ts"
export * as metrics from "./lookups/LookupFigures.ts"
export { reference, type ReferenceOptions } from "./lookups/LookupReference.ts"

export interface Caching {
  /** The most keys that are remembered, the least recently used forgotten first: 10,000 unless given; 0 remembers none. */
  readonly size?: number
  /** How long a value is answered without asking again; a minute unless given. */
  readonly ttl?: Duration.Input
  /** The same for a key that the source does not have; 10 seconds unless given. */
  readonly missingTtl?: Duration.Input
  /** How long a key that could not be asked for is not asked for again; a second unless given. */
  readonly failureTtl?: Duration.Input
  /**
   * The share of `ttl`, above 0 and below 1, after which a value that is asked for is answered and refreshed meanwhile.
   * Never unless given: the first one to ask after `ttl` then waits.
   */
  readonly refreshAhead?: number
  /** How long after `ttl` a value is answered as `stale` where the source cannot be asked; not at all unless given. */
  readonly staleFor?: Duration.Input
}

interface Common<V> {
  /** Names the lookup in metrics and messages. */
  readonly name: string
  readonly cache?: Caching
  /** How long one request may take, from when it is its turn; 5 seconds unless given. */
  readonly timeout?: Duration.Input
  /** Requests at a time, of all tasks together, and as many more for refreshes; 4 unless given. */
  readonly concurrency?: number
  /** What is answered in the place of `Unavailable`, if anything. */
  readonly fallback?: (key: string, why: Unavailable) => V | undefined
}

/** One key per request. */
export interface One<V, E extends Failure, R> extends Common<V> {
  readonly get: (key: string) => Effect.Effect<V | Undecodable | undefined, E, R>
  readonly getAll?: never
  readonly batchSize?: never
}

/** Many keys per request: those that the answer does not have are missing. */
export interface Many<V, E extends Failure, R> extends Common<V> {
  readonly get?: never
  readonly getAll: (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, V | Undecodable>, E, R>
  /** The most keys per request; 100 unless given. */
  readonly batchSize?: number
}

export type Options<V, E extends Failure, R> = One<V, E, R> | Many<V, E, R>

/**
 * Opens a lookup until the scope ends. Make it once per process, as a service, so that all tasks share its cache and no key
 * is asked for twice at a time; what a task has asked for goes on where the task is stopped, because others may wait for it.
 *
 * Memory is bounded by `size` keys and their values, and the keys of the batches at hand. A batch waits for at most
 * `timeout` times the requests it needs, divided by `concurrency`, and as long for each other task that asks.
 */
export const make = <V, E extends Failure = never, R = never>(
  options: Options<V, E, R>,
): Effect.Effect<Cached<V>, never, R | Scope.Scope> => {
  const { name, cache = {}, batchSize = 100, concurrency = 4, fallback = () => undefined } = options
  const { size = 10_000, refreshAhead = 1 } = cache
  const millis = (option: string, given: Duration.Input, least: number): number => {
    const millis = Duration.toMillis(given)
    return millis >= least ? millis : refuse(name, `${option} is at least ${least} ms`, millis)
  }
  const whole = (option: string, given: number, least: number): number =>
    Number.isInteger(given) && given >= least ? given : refuse(name, `${option} is a whole number from ${least}`, given)
  if (!(refreshAhead > 0 && refreshAhead <= 1)) {
    return refuse(name, "refreshAhead is a share of ttl, above 0 and below 1", refreshAhead)
  }
  const ttl = millis("ttl", cache.ttl ?? "1 minute", 1)
  const settings = {
    name,
    timeout: Duration.millis(millis("timeout", options.timeout ?? "5 seconds", 1)),
    batchSize: options.get === undefined ? whole("batchSize", batchSize, 1) : 1,
    concurrency: whole("concurrency", concurrency, 1),
    size: whole("size", size, 0),
    ttl,
    missingTtl: millis("missingTtl", cache.missingTtl ?? "10 seconds", 0),
    failureTtl: millis("failureTtl", cache.failureTtl ?? "1 second", 0),
    staleFor: millis("staleFor", cache.staleFor ?? 0, 0),
    refreshAfter: refreshAhead === 1 ? Infinity : ttl * refreshAhead,
    fallback,
  }
  return Effect.gen(function* () {
    const context = yield* Effect.context<R>()
    const clock = yield* Clock.clockWith(Effect.succeed)
    const fork = yield* FiberSet.makeRuntime<never>()
    const load = (keys: ReadonlyArray<string>) => Effect.provideContext(loadOf(options, keys), context)
    return new LookupCache<V>({ ...settings, load }, new Figures(name, context), clock, fork)
  })
}

const loadOf = <V, E extends Failure, R>(
  options: Options<V, E, R>,
  keys: ReadonlyArray<string>,
): Effect.Effect<ReadonlyMap<string, V | Undecodable>, E, R> => {
  if (options.getAll !== undefined) return options.getAll(keys)
  const key = keys[0]!
  return Effect.map(options.get(key), (value) => value === undefined ? new Map() : new Map([[key, value]]))
}

const refuse = (lookup: string, must: string, given: number): never => {
  throw new RangeError(`lookup ${lookup}: ${must}; it was ${given}`)
}

/** What becomes of a record whose lookup is not answered. */
export type OnUnavailable = "value" | "fail" | "hold"

export interface ByOptions<in A, in V, out B, U extends OnUnavailable> {
  /** What to ask for. A value without a key goes on as `Missing`. */
  key(value: A, record: RecordContext): string | undefined
  /** The value that goes on. */
  join(
    value: A,
    found: Found<V> | Missing | (U extends "value" ? Unavailable : never),
    record: RecordContext,
  ): B
  /**
   * `value` (the default): `join` is told. `fail`: the record fails with `LookupFailed`, for the table of routes. `hold`: the
   * task waits and asks again, from within a quarter of a second to within 10, until all of the batch is answered; only what is
   * `undecodable`, which waiting does not change, fails.
   */
  readonly onUnavailable?: U
}

/**
 * Adds to every value what `lookup` answers for its key. One request per key and batch at most; values go on in the order
 * they came, when all of their batch are answered.
 *
 * `lookup` is where the lookup comes from when a task starts: a service that holds what `make` or `reference` has opened.
 * Given `make(...)` itself, every task has a cache of its own.
 *
 * What is answered depends on when it is asked, so of the laws those hold that do not speak of outcomes: order, positions
 * and accounting always; cuts and crashes as far as the source, and the cache before it, answer the same again.
 */
export const by = <A, V, B, U extends OnUnavailable = "value", E2 = never, R2 = never>(
  lookup: Effect.Effect<Lookup<V>, E2, R2>,
  options: ByOptions<A, V, B, U>,
): Stage<A, B, U extends "value" ? never : LookupFailed, E2, Exclude<R2, Scope.Scope>> => {
  type G = U extends "value" ? never : LookupFailed
  return perTask<A, B, G, never, never, E2, Exclude<R2, Scope.Scope>>(
    Effect.gen(function* () {
      const opened = yield* lookup as Effect.Effect<Lookup<V>, E2, Exclude<R2, Scope.Scope> | Scope.Scope>
      const waiting = yield* Waiting.make
      const ask = (keys: ReadonlyArray<string | undefined>, defect: (i: number, cause: unknown) => unknown) =>
        options.onUnavailable === "hold" ? patiently(opened, keys, defect, waiting) : opened.getAll(keys, defect)
      return <F>(batch: Batch<A, F>) =>
        Effect.suspend(() =>
          Effect.map(
            ask(keysOf(batch, options), (i, cause) => new RecordDefect(batch, i, cause)),
            (answers) => joined<A, V, B, F>(batch, answers, options, opened.name) as Batch<B, F | G>,
          )
        )
    }),
    { stage: "lookup" },
  )
}

const keysOf = <A>(
  batch: Batch<A, unknown>,
  { key }: Pick<ByOptions<A, never, unknown, never>, "key">,
): ReadonlyArray<string | undefined> => {
  const { values } = batch
  const keys = new Array<string | undefined>(values.length)
  let i = 0
  try {
    for (; i < values.length; i++) keys[i] = key(values[i]!, new RecordContext(batch, i))
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
  return keys
}

const joined = <A, V, B, F>(
  batch: Batch<A, F>,
  answers: ReadonlyArray<Answer<V>>,
  options: ByOptions<A, V, B, OnUnavailable>,
  lookup: string,
): Batch<B, F | LookupFailed> => {
  const { join, onUnavailable = "value" } = options as ByOptions<A, V, B, "value">
  const failures: Array<Failed<LookupFailed>> = []
  const values: Array<B> = []
  const from = new Uint32Array(answers.length)
  let i = 0
  try {
    for (; i < answers.length; i++) {
      const answer = answers[i]!
      if (answer._tag === "Unavailable" && onUnavailable !== "value") {
        const { reason, message } = answer
        failures.push(failing(batch, i, new LookupFailed({ lookup, reason, message })))
        continue
      }
      from[values.length] = i
      values.push(join(batch.values[i]!, answer, new RecordContext(batch, i)))
    }
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
  return failures.length === 0
    ? { ...batch, values }
    : fail(gather<A, B, F>(batch, values, from.subarray(0, values.length)), failures)
}

const waits = { first: 250, last: 10_000 }

/** Asks until nothing is unavailable that may pass; a task that is to let go does not wait for that. */
const patiently = <V>(
  lookup: Lookup<V>,
  keys: ReadonlyArray<string | undefined>,
  defect: (i: number, cause: unknown) => unknown,
  waiting: Waiting,
): Effect.Effect<ReadonlyArray<Answer<V>>> => {
  const ask = (wait: number): Effect.Effect<ReadonlyArray<Answer<V>>> =>
    Effect.flatMap(lookup.getAll(keys, defect), (answers) => {
      const away = answers.find(mayPass)
      if (away === undefined) return Effect.succeed(answers)
      return Effect.logWarning(`${away.message}; the task waits, and asks again within ${wait} ms`).pipe(
        Effect.andThen(waiting.wait(pause(wait))),
        Effect.andThen(ask(Math.min(wait * 2, waits.last))),
      )
    })
  return ask(waits.first)
}

const mayPass = (answer: Answer<unknown>): answer is Unavailable =>
  answer._tag === "Unavailable" && answer.reason !== "undecodable"
