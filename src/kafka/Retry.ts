/** Asking again while the answer may change. */
import { Effect } from "effect"
import { backoff, pause } from "../Jitter.ts"
import { elapsed } from "../Pace.ts"
import { type KafkaError, retriable } from "./Cluster.ts"

/**
 * Repeats a request that can be repeated without harm: at once at first, then two to four times a second, for at
 * most `milliseconds`. No two ask at the same moments (see `Jitter`). Answers the last failure when the time is up, and any other at once.
 */
export const patiently = <A, R>(
  request: Effect.Effect<A, KafkaError, R>,
  milliseconds: number,
): Effect.Effect<A, KafkaError, R> =>
  Effect.gen(function* () {
    const deadline = (yield* elapsed) + milliseconds
    for (let attempt = 0;; attempt++) {
      const answer = yield* Effect.result(request)
      if (answer._tag === "Success") return answer.success
      const late = (yield* elapsed) >= deadline
      if (late || !retriable.has(answer.failure.code)) return yield* answer.failure
      yield* pause(backoff(1, 500, attempt + 1))
    }
  })
