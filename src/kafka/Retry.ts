/** Asking again while the answer may change. */
import { Clock, Effect } from "effect"
import { type KafkaError, retriable } from "./Cluster.ts"

/**
 * Repeats a request that can be repeated without harm: at once at first, then up to twice a second, for at most
 * `milliseconds`. Answers the last failure when the time is up, and any other at once.
 */
export const patiently = <A, R>(
  request: Effect.Effect<A, KafkaError, R>,
  milliseconds: number,
): Effect.Effect<A, KafkaError, R> =>
  Effect.gen(function* () {
    const deadline = (yield* Clock.currentTimeMillis) + milliseconds
    for (let attempt = 0;; attempt++) {
      const answer = yield* Effect.result(request)
      if (answer._tag === "Success") return answer.success
      const late = (yield* Clock.currentTimeMillis) >= deadline
      if (late || !retriable.has(answer.failure.code)) return yield* answer.failure
      yield* Effect.sleep(Math.min(500, 2 ** Math.min(attempt, 9)))
    }
  })
