/** No more than so many values a second: of a task, or of each key. */
import { Effect, Schema } from "effect"
import { ask, type Batch, drop, fail, failing, type RecordContext } from "../Batch.ts"
import { perTask, type Stage } from "../Flow.ts"
import { monotonic, Pace, type Rate } from "../Pace.ts"
import { type Linked, LruMap } from "../state/LruMap.ts"
import { Waiting } from "../Waiting.ts"

/** A value came faster than its rate allows. */
export class Throttled extends Schema.TaggedError<Throttled>()("Throttled", { message: Schema.String }) {}

export type Excess = "delay" | "drop" | "fail"

export interface Options<in A, out X extends Excess> extends Rate {
  /** Whose rate it is; without it the rate is that of the task as a whole. */
  key?(value: A, record: RecordContext): string
  /** The most keys that one task remembers, 10,000 unless given (about 100 bytes each). */
  readonly atMostKeys?: number
  /**
   * What becomes of values beyond the rate: `delay` (the default) holds their batch back until the last of them may go,
   * `drop` drops and counts them as `throttled`, `fail` fails them with `Throttled`, to be routed.
   */
  readonly excess?: X
}

/**
 * Lets through at most `perSecond` values a second, per task or per key, and `burst` at once after a rest.
 *
 * Values of a batch leave together, when the last of them may: what leaves at one moment can be as much as a batch. To
 * start effects at a rate, tell the effect (`Flow.effect`, `rate`). With `delay` order is kept, and a key beyond its rate
 * delays all that is in its batch and behind it; with `drop` and `fail` it takes nothing from others. A batch that waits
 * here does not keep its task from being let go: it is read again wherever the task goes on.
 *
 * What came lately is remembered in memory, by a clock that never goes back: after a restart a key may have a burst once
 * more. Beyond `atMostKeys` the keys that came least recently are forgotten, and may too.
 */
export const by = <A, const X extends Excess = "delay">(
  options: Options<A, X>,
): Stage<A, A, X extends "fail" ? Throttled : never> => {
  const { excess = "delay", perSecond, key, atMostKeys = 10_000 } = options
  const pace = new Pace(options, "Throttle.by")
  if (!(Number.isSafeInteger(atMostKeys) && atMostKeys >= 1)) {
    throw new RangeError(`Throttle.by: atMostKeys is a whole number of at least 1, not ${atMostKeys}`)
  }
  const nameOf = key === undefined
    ? () => ""
    : (batch: Batch<A, unknown>, i: number) => ask((value: A, record) => options.key!(value, record), batch, i)
  const throttled = new Throttled({
    message: `faster than ${perSecond} a second${key === undefined ? "" : " for its key"}`,
  })

  /** How long a batch has to wait. */
  const waitOf = (batch: Batch<A, unknown>, buckets: Buckets, now: number): number => {
    let longest = 0
    for (let i = 0; i < batch.values.length; i++) {
      const bucket = buckets.of(nameOf(batch, i))
      bucket.level = pace.take(bucket.level, now)
      longest = Math.max(longest, pace.wait(bucket.level, now))
    }
    return longest
  }

  /** The values that are beyond the rate: they leave the others what is in the bucket. */
  const excessOf = (batch: Batch<A, unknown>, buckets: Buckets, now: number): ReadonlyArray<number> => {
    const beyond: Array<number> = []
    for (let i = 0; i < batch.values.length; i++) {
      const bucket = buckets.of(nameOf(batch, i))
      const level = pace.take(bucket.level, now)
      if (pace.wait(level, now) === 0) bucket.level = level
      else beyond.push(i)
    }
    return beyond
  }

  return perTask<A, A, Throttled, never, never, never, never>(
    Effect.map(Waiting.make, (waiting) => {
      const buckets = new Buckets(atMostKeys)
      return <F>(batch: Batch<A, F>): Effect.Effect<Batch<A, F | Throttled>> =>
        Effect.clockWith((clock) => {
          const now = monotonic(clock)
          if (excess === "delay") {
            const wait = waitOf(batch, buckets, now)
            return wait === 0 ? Effect.succeed(batch) : Effect.as(waiting.wait(Effect.sleep(wait)), batch)
          }
          const beyond = excessOf(batch, buckets, now)
          return Effect.succeed(
            excess === "drop"
              ? drop(batch, beyond, "throttled")
              : fail(batch, beyond.map((i) => failing(batch, i, throttled))),
          )
        })
    }),
    { stage: "throttle" },
  ) as Stage<A, A, X extends "fail" ? Throttled : never>
}

class Bucket implements Linked {
  readonly key: string
  level: number = Pace.full
  newer: this | undefined
  older: this | undefined

  constructor(key: string) {
    this.key = key
  }
}

/** The buckets of the keys that came last. */
class Buckets {
  readonly #byKey: LruMap<Bucket>

  constructor(atMost: number) {
    this.#byKey = new LruMap(atMost)
  }

  of(key: string): Bucket {
    const known = this.#byKey.get(key)
    if (known !== undefined) return known
    const bucket = new Bucket(key)
    this.#byKey.add(bucket)
    return bucket
  }
}
