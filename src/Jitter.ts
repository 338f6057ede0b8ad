/** Waits of different lengths, so that those who met one failure at one moment do not all come back at one moment. */
import { Duration, Effect, Random, Schedule } from "effect"

/**
 * Half of `millis` at least and all of it at most, drawn evenly from Effect's `Random`: "equal jitter" of
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter. Whole milliseconds, at least 1.
 */
export const jittered = (millis: number): Effect.Effect<number> =>
  Effect.map(Random.next, (lot) => Math.max(1, Math.ceil(millis * (1 + lot) / 2)))

/** Waits so long. */
export const pause = (millis: number): Effect.Effect<void> => Effect.flatMap(jittered(millis), Effect.sleep)

/** The longest wait before another try, after so many that have failed (from 1): doubled each time. Milliseconds. */
export const backoff = (first: number, last: number, failed: number): number =>
  Math.min(last, first * 2 ** Math.min(failed - 1, 30))

/** As `Schedule.jittered`, a fifth more or less, in whole milliseconds. */
export const spread = <O, I, E, R>(schedule: Schedule.Schedule<O, I, E, R>): Schedule.Schedule<O, I, E, R> =>
  Schedule.modifyDelay(
    schedule,
    ({ duration }) =>
      Effect.map(Random.next, (lot) => Duration.millis(Math.ceil(Duration.toMillis(duration) * (0.8 + 0.4 * lot)))),
  )
