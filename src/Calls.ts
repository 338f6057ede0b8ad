/** Effects for the values of a batch: which of them run at the same time, how often they start, and how long they may take. */
import { Buffer } from "node:buffer"
import { Cause, Duration, Effect, Result, Schema } from "effect"
import type { Batch } from "./Batch.ts"
import { keyBytes, RecordContext, RecordDefect } from "./Batch.ts"
import { millis, monotonic, Pace, type Rate } from "./Pace.ts"
import { Waiting } from "./Waiting.ts"

export interface Options {
  /** How many effects run at the same time within one batch, 1 unless given. */
  readonly concurrency?: number | "unbounded"
  /**
   * With concurrency: `key` (the default) runs the effects of one key one after the other, in order, and those of
   * different keys at the same time; `none` runs them as they come. Records without a key have no order among each other.
   */
  readonly order?: "key" | "none"
  /**
   * How long an effect may take. One that takes longer is interrupted, and fails with `TimedOut`; one that cannot be
   * interrupted is waited for.
   */
  readonly timeout?: Duration.Input | undefined
  /** How often effects start, per task. They wait for their turn, and fail nothing. */
  readonly rate?: Rate
  /**
   * `safe` says that the effect may run again for a record that was processed before: it changes nothing elsewhere, or
   * nothing that the first run has not changed. Replays are refused to a pipeline whose effects do not say so.
   */
  readonly onReplay?: "safe"
}

/** No answer came in time. What the effect has done until then stands. */
export class TimedOut extends Schema.TaggedError<TimedOut>()("TimedOut", {
  message: Schema.String,
  /** Milliseconds. */
  after: Schema.Number,
}) {}

/** Options without a time-out. */
export interface Patient {
  readonly timeout?: undefined
}

/** What a stage with these options can fail with besides: nothing where they surely have no time-out. */
export type TimedOutOf<O> = "timeout" extends keyof O ? [O["timeout"]] extends [undefined] ? never : TimedOut : never

/**
 * A throw in what makes or runs the effect of value `i` stops the task, and names the record. So does an effect that was
 * interrupted by anybody but its task, as where it waits for a fiber that was: it never comes to anything.
 */
const blamed = <A, E, R>(effect: Effect.Effect<A, E, R>, batch: Batch<unknown, unknown>, i: number) =>
  Effect.catchCauseIf(
    effect,
    (cause) => Cause.hasDies(cause) || Cause.hasInterruptsOnly(cause),
    (cause) => Effect.die(new RecordDefect(batch, i, Cause.hasDies(cause) ? Cause.squash(cause) : interrupted)),
  )

const interrupted = new Error("its effect was interrupted, and not by its task")

/** The options of a stage, checked when it is made. */
export class Calls {
  readonly concurrency: number
  readonly #ordered: boolean
  readonly #timeout: number | undefined
  readonly #pace: Pace | undefined

  /** Throws a `RangeError` where an option makes no sense. `stage` names the stage in it. */
  constructor({ concurrency = 1, order = "key", timeout, rate }: Options, stage: string) {
    if (concurrency !== "unbounded" && !(Number.isSafeInteger(concurrency) && concurrency >= 1)) {
      throw new RangeError(`${stage}: concurrency is a whole number of at least 1 or "unbounded", not ${concurrency}`)
    }
    this.concurrency = concurrency === "unbounded" ? Infinity : concurrency
    this.#ordered = order === "key"
    this.#timeout = timeout === undefined ? undefined : millis(timeout, `${stage}: timeout`)
    this.#pace = rate === undefined ? undefined : new Pace(rate, stage)
  }

  /** For one task. */
  readonly open: Effect.Effect<OpenCalls> = Effect.suspend(() =>
    Effect.map(Waiting.make, (waiting) => new OpenCalls(this, waiting, this.#timeout, this.#pace))
  )

  /**
   * Values in lanes: the effects of one lane run one after the other, and no more lanes at the same time than there may be
   * effects. In the order of their first values.
   */
  lanes(batch: Batch<unknown, unknown>): ReadonlyArray<ReadonlyArray<number>> {
    const lanes: Array<Array<number>> = []
    const byKey = new Map<string, Array<number>>()
    for (let i = 0; i < batch.values.length; i++) {
      const key = this.#ordered ? laneKey(batch, i) : null
      const lane = key === null ? undefined : byKey.get(key)
      if (lane !== undefined) {
        lane.push(i)
        continue
      }
      const fresh = [i]
      lanes.push(fresh)
      if (key !== null) byKey.set(key, fresh)
    }
    return lanes
  }

  /** As `lanes`, but several keys to a lane, so that a lane's values can go together `size` at a time. */
  chunks(batch: Batch<unknown, unknown>, size: number): ReadonlyArray<ReadonlyArray<ReadonlyArray<number>>> {
    const wanted = Math.min(this.concurrency, Math.ceil(batch.values.length / size))
    const chunked = (lane: ReadonlyArray<number>) =>
      Array.from({ length: Math.ceil(lane.length / size) }, (_, n) => lane.slice(n * size, (n + 1) * size))
    const all = batch.values.map((_, i) => i)
    if (wanted <= 1) return [chunked(all)]
    if (!this.#ordered) return chunked(all).map((chunk) => [chunk])
    const lanes = Array.from({ length: wanted }, (): Array<number> => [])
    const byKey = new Map<string, Array<number>>()
    for (const i of all) {
      const key = laneKey(batch, i)
      let lane = key === null ? undefined : byKey.get(key)
      if (lane === undefined) {
        lane = lanes.reduce((least, other) => other.length < least.length ? other : least)
        if (key !== null) byKey.set(key, lane)
      }
      lane.push(i)
    }
    return lanes.filter((lane) => lane.length > 0).map(chunked)
  }
}

const laneKey = (batch: Batch<unknown, unknown>, i: number): string | null => {
  const key = keyBytes(batch, i)
  return key === null ? null : latin1(key)
}

const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1")

/** The calls of a stage as one task makes them. */
export class OpenCalls {
  readonly #calls: Calls
  readonly waiting: Waiting
  readonly #timeout: number | undefined
  readonly #pace: Pace | undefined
  #bucket = Pace.full

  constructor(calls: Calls, waiting: Waiting, timeout: number | undefined, pace: Pace | undefined) {
    this.#calls = calls
    this.waiting = waiting
    this.#timeout = timeout
    this.#pace = pace
  }

  /** One answer per value, in their order. */
  forValues<B, R>(
    batch: Batch<unknown, unknown>,
    call: (i: number) => Effect.Effect<B, never, R>,
  ): Effect.Effect<ReadonlyArray<B>, never, R> {
    if (this.#calls.concurrency === 1) return Effect.forEach(batch.values, (_, i) => call(i))
    const answers = new Array<B>(batch.values.length)
    const one = (i: number) => Effect.map(call(i), (answer) => void (answers[i] = answer))
    return Effect.as(
      Effect.forEach(
        this.#calls.lanes(batch),
        (lane) => lane.length === 1 ? one(lane[0]!) : Effect.forEach(lane, one, { discard: true }),
        { concurrency: this.#calls.concurrency, discard: true },
      ),
      answers,
    )
  }

  /** What an effect of every value comes to. */
  each<A, B, G, R>(
    batch: Batch<A, unknown>,
    f: (value: A, record: RecordContext) => Effect.Effect<B, G, R>,
  ): Effect.Effect<ReadonlyArray<Result.Result<B, G | TimedOut>>, never, R> {
    return this.forValues(
      batch,
      (i) => this.attempt(batch, i, () => f(batch.values[i]!, new RecordContext(batch, i))),
    )
  }

  /** What effects of up to `size` values each come to, per value. */
  together<A, B, G, G2, R>(
    batch: Batch<A, unknown>,
    size: number,
    f: (
      values: readonly [A, ...Array<A>],
      records: ReadonlyArray<RecordContext>,
    ) => Effect.Effect<ReadonlyArray<Result.Result<B, G>>, G2, R>,
  ): Effect.Effect<ReadonlyArray<Result.Result<B, G | G2 | TimedOut>>, never, R> {
    const results = new Array<Result.Result<B, G | G2 | TimedOut>>(batch.values.length)
    const call = (chunk: ReadonlyArray<number>) => {
      const values = chunk.map((i) => batch.values[i]!) as [A, ...Array<A>]
      const answer = () =>
        Effect.map(f(values, chunk.map((i) => new RecordContext(batch, i))), (answers) => {
          if (answers.length === chunk.length) return answers
          throw new Error(`the effect answered ${answers.length} results for ${chunk.length} values`)
        })
      return Effect.map(this.attempt(batch, chunk[0]!, answer), (answers) => {
        for (let k = 0; k < chunk.length; k++) {
          results[chunk[k]!] = Result.isSuccess(answers) ? answers.success[k]! : Result.fail(answers.failure)
        }
      })
    }
    return Effect.as(
      Effect.forEach(
        this.#calls.chunks(batch, size),
        (lane) => Effect.forEach(lane, call, { discard: true }),
        { concurrency: this.#calls.concurrency, discard: true },
      ),
      results,
    )
  }

  /** One call, for value `i` or from it on: in its turn, in time, and with a defect that names the record. */
  attempt<B, G, R>(
    batch: Batch<unknown, unknown>,
    i: number,
    call: () => Effect.Effect<B, G, R>,
  ): Effect.Effect<Result.Result<B, G | TimedOut>, never, R> {
    const timeout = this.#timeout
    const inTime: Effect.Effect<B, G | TimedOut, R> = timeout === undefined
      ? Effect.suspend(call)
      : Effect.timeoutOrElse(Effect.suspend(call), { duration: timeout, orElse: () => Effect.fail(timedOut(timeout)) })
    const attempt = this.waiting.work(Effect.result(blamed(inTime, batch, i)))
    const pace = this.#pace
    if (pace === undefined) return attempt
    const turn = Effect.clockWith((clock) => {
      const now = monotonic(clock)
      this.#bucket = pace.take(this.#bucket, now)
      const wait = pace.wait(this.#bucket, now)
      return wait === 0 ? Effect.void : this.waiting.wait(Effect.sleep(wait))
    })
    return Effect.andThen(turn, attempt)
  }
}

const timedOut = (after: number): TimedOut =>
  new TimedOut({ message: `no answer within ${Duration.format(Duration.millis(after))}`, after })
