/** How often something may happen: the arithmetic of token buckets. */
import { Clock, Duration, Effect } from "effect"

export interface Rate {
  /** On average at most so many a second. Above 0; less than 1 where it is less than once a second. */
  readonly perSecond: number
  /** How many may come at once after a rest: a second's worth unless given, at least 1. */
  readonly burst?: number
}

/** Smaller than any time that matters, larger than what rounding can do to one: milliseconds. */
const nothing = 1e-3

/**
 * A token bucket as one number, the time when it will be full again (the generic cell rate algorithm of ITU-T I.371).
 * Times are milliseconds of a clock that never goes back; a bucket that was never used is `full`.
 */
export class Pace {
  static readonly full = -Infinity
  readonly #interval: number
  readonly #allowance: number

  /** Throws a `RangeError` where the rate makes no sense. `what` names the stage in it. */
  constructor({ perSecond, burst = Math.max(1, Math.ceil(perSecond)) }: Rate, what: string) {
    if (!(perSecond > 0 && perSecond < Infinity)) {
      throw new RangeError(`${what}: perSecond is a finite number above 0, not ${perSecond}`)
    }
    if (!(Number.isSafeInteger(burst) && burst >= 1)) {
      throw new RangeError(`${what}: burst is a whole number of at least 1, not ${burst}`)
    }
    this.#interval = 1_000 / perSecond
    this.#allowance = burst * this.#interval
  }

  /** The bucket after one more was taken, also where it had none left. */
  take(bucket: number, now: number): number {
    return Math.max(bucket, now) + this.#interval
  }

  /** A bucket that has nothing left. */
  emptyAt(now: number): number {
    return now + this.#allowance
  }

  /** How long what was taken last must wait, in whole milliseconds; 0 where it need not. */
  wait(bucket: number, now: number): number {
    return Math.max(0, Math.ceil(bucket - this.#allowance - now - nothing))
  }
}

/** Milliseconds of a clock that never goes back. */
export const monotonic = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** The same of the clock at hand: for waits and deadlines, which a clock that is put must not make longer or shorter. */
export const elapsed: Effect.Effect<number> = Clock.clockWith((clock) => Effect.sync(() => monotonic(clock)))

/** A duration of a stage's options in milliseconds, which must be finite and more than nothing. */
export const millis = (duration: Duration.Input, what: string): number => {
  const millis = Duration.toMillis(duration)
  if (millis > 0 && millis < Infinity) return millis
  throw new RangeError(`${what} is a finite time above 0`)
}
