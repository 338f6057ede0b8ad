/** Since when brokers do not do what is asked of them, until they are heard again. */
import { Clock, Deferred, Effect, Exit, Option, type Scope } from "effect"
import type { KafkaError } from "./Cluster.ts"

export interface Trouble {
  /** Milliseconds since 1970; undefined while there is none. */
  readonly since: () => number | undefined
  /** A request has failed, or must be repeated. */
  readonly met: () => void
  readonly over: () => void
  /** Tells of every failure of a request, and not only when its repetitions are over. */
  noticed<A>(request: Effect.Effect<A, KafkaError>): Effect.Effect<A, KafkaError>
}

/** How often brokers are asked, in milliseconds. */
const interval = 1_000

/**
 * While there is trouble and nothing is under way that would tell of its end, makes the request `ask` every second, until
 * it succeeds.
 */
export const make = (
  isIdle: () => boolean,
  ask: Effect.Effect<unknown, KafkaError>,
): Effect.Effect<Trouble, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.clockWith(Effect.succeed)
    let since: number | undefined
    let last = 0
    let begun = Deferred.makeUnsafe<void>()
    const met = () => {
      last = clock.currentTimeMillisUnsafe()
      since ??= last
      Deferred.doneUnsafe(begun, Exit.void)
    }
    const over = () => {
      since = undefined
    }
    const watch = Effect.gen(function* () {
      yield* Deferred.await(begun)
      yield* Effect.sleep(interval)
      if (since === undefined) {
        begun = Deferred.makeUnsafe()
        return
      }
      const before = last
      if (!isIdle() || clock.currentTimeMillisUnsafe() - before < interval) return
      const answer = yield* Effect.option(Effect.timeoutOption(ask, 10 * interval))
      if (Option.isSome(Option.flatten(answer)) && isIdle() && last === before) over()
    })
    yield* Effect.forkScoped(Effect.forever(watch))
    return {
      since: () => since,
      met,
      over,
      noticed: (request) => Effect.tapError(request, () => Effect.sync(met)),
    }
  })
