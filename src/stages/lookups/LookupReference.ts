/** A whole reference set in memory, loaded anew from time to time. */
import { Cause, Clock, Duration, Effect, Exit, Metric, Option, type Scope, Semaphore } from "effect"
import type { Failure } from "../../Batch.ts"
import { pause } from "../../Jitter.ts"
import {
  type Answer,
  LookupFailed,
  missing,
  type Reference,
  type Unavailable,
  unavailable,
  Undecodable,
  undecodable,
} from "./LookupAnswer.ts"
import { age, Figures } from "./LookupFigures.ts"

export interface ReferenceOptions<V, E extends Failure, R> {
  /** Names the lookup in metrics and messages. */
  readonly name: string
  /** The whole set by key. Its memory is held twice while a new one is loaded. */
  readonly load: Effect.Effect<ReadonlyMap<string, V | Undecodable>, E, R>
  /** How long after one load the next one begins. */
  readonly every: Duration.Input
  /** How long after a load that failed the next one begins at the latest; `every`, but at most 10 seconds, unless given. */
  readonly retryEvery?: Duration.Input
  /** How long a load may take; 30 seconds unless given. */
  readonly timeout?: Duration.Input
  /** The age from which a set that could not be loaded anew is `Unavailable`; never unless given. */
  readonly maxAge?: Duration.Input
}

/** What is answered from, swapped as a whole. */
interface Loaded<V> {
  readonly values: ReadonlyMap<string, V | Undecodable>
  /** When its load began. */
  readonly at: number
}

/**
 * Loads a whole set, and again every so often: a lookup that never waits. All keys of a batch are answered from one set.
 * Where a load fails the set before stays, until it is older than `maxAge`.
 *
 * The first load must succeed: what it fails with, this fails with.
 */
export const reference = <V, E extends Failure = never, R = never>(
  options: ReferenceOptions<V, E, R>,
): Effect.Effect<Reference<V>, E | LookupFailed, R | Scope.Scope> => {
  const { name } = options
  const every = positive(name, "every", options.every)
  const retryEvery = positive(name, "retryEvery", options.retryEvery ?? Math.min(every, 10_000))
  const timeout = positive(name, "timeout", options.timeout ?? "30 seconds")
  const maxAge = positive(name, "maxAge", options.maxAge ?? Infinity)
  return Effect.gen(function* () {
    const context = yield* Effect.context<R>()
    const clock = yield* Clock.clockWith(Effect.succeed)
    const figures = new Figures(name, context)
    const loading = yield* Semaphore.make(1)

    const load: Effect.Effect<Loaded<V>, E | LookupFailed, R> = Effect.gen(function* () {
      const at = clock.currentTimeMillisUnsafe()
      figures.started()
      const message = `lookup ${name}: no answer within ${Duration.format(Duration.millis(timeout))}`
      const values = yield* options.load.pipe(
        Effect.timeoutOrElse({
          duration: timeout,
          orElse: () => Effect.fail(new LookupFailed({ lookup: name, reason: "timeout", message })),
        }),
        Effect.tapError((error) =>
          Effect.sync(() => figures.failed(error instanceof LookupFailed ? error.reason : "failed"))
        ),
        Effect.ensuring(Effect.sync(() => figures.ended())),
      )
      return { values, at }
    })
    let loaded = yield* load
    let lastFailure: string | undefined

    /** Answers whether there is a new set. */
    const loadAnew = Effect.gen(function* () {
      const exit = yield* Effect.exit(load)
      if (Exit.isSuccess(exit)) {
        loaded = exit.value
        lastFailure = undefined
        return true
      }
      const error = Cause.findErrorOption(exit.cause)
      if (Option.isNone(error)) yield* Effect.logError(`lookup ${name}: loading its set threw`, exit.cause)
      lastFailure = Option.match(error, { onNone: () => "loading it threw", onSome: ({ message }) => message })
      const seconds = Math.round((clock.currentTimeMillisUnsafe() - loaded.at) / 1_000)
      yield* Effect.logWarning(`lookup ${name}: the set of ${seconds} seconds ago stays: ${lastFailure}`)
      return false
    })
    const refresh = Effect.suspend(() => {
      const before = loaded
      return Semaphore.withPermits(loading, 1)(
        Effect.suspend(() => loaded === before ? loadAnew : Effect.succeed(true)),
      )
    })

    const series = Metric.registerUnsafe(Metric.withAttributes(age, { lookup: name }), context, {
      get: () => ({ value: (clock.currentTimeMillisUnsafe() - loaded.at) / 1_000 }),
      update: () => {},
      modify: () => {},
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => series.remove()))
    yield* Effect.forkScoped(Effect.gen(function* () {
      for (let isNew = true;;) {
        yield* isNew ? Effect.sleep(every) : pause(retryEvery)
        isNew = yield* refresh
      }
    }))

    const outdated = (): Unavailable =>
      unavailable(
        "outdated",
        `lookup ${name}: its set is older than ${Duration.format(Duration.millis(maxAge))}: ${lastFailure}`,
      )
    const answer = ({ values, at }: Loaded<V>, key: string | undefined): Answer<V> => {
      const value = key === undefined ? undefined : values.get(key)
      if (value === undefined) return missing
      return value instanceof Undecodable ? undecodable(name, value) : { _tag: "Found", value, at, origin: "source" }
    }
    const getAll = (keys: ReadonlyArray<string | undefined>): Effect.Effect<ReadonlyArray<Answer<V>>> =>
      Effect.sync(() => {
        const isOutdated = clock.currentTimeMillisUnsafe() - loaded.at > maxAge
        const answers = new Array<Answer<V>>(keys.length)
        let hits = 0
        for (let i = 0; i < keys.length; i++) {
          const found = isOutdated && keys[i] !== undefined ? outdated() : answer(loaded, keys[i])
          if (found._tag === "Found") hits++
          answers[i] = found
        }
        figures.asked(hits, keys.length - hits, 0)
        return answers
      })
    const get = (key: string) => Effect.map(getAll([key]), ([answer]) => answer!)
    return { name, get, getAll, refresh: Effect.provideContext(refresh, context) }
  })
}

const positive = (name: string, option: string, given: Duration.Input): number => {
  const millis = Duration.toMillis(given)
  if (millis > 0) return millis
  throw new RangeError(
    `lookup ${name}: ${option} is longer than nothing; it was ${Duration.format(Duration.fromInputUnsafe(given))}`,
  )
}
