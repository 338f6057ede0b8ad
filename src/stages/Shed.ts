/** Leaving work out while there is too much of it. */
import { type Duration, Effect, Schema } from "effect"
import { ask, type Batch, drop, fail, failing, type RecordContext, row } from "../Batch.ts"
import { perTask, type Stage } from "../Flow.ts"
import { millis } from "../Pace.ts"
import { sampler } from "./Sample.ts"

/** A value was left out because its task was too far behind. */
export class Shed extends Schema.TaggedError<Shed>()("Shed", { message: Schema.String }) {}

export interface Options<in A, out X extends "drop" | "fail"> {
  /** How far behind a record makes the task leave values out: the time since its Kafka timestamp. */
  readonly above: Duration.Input
  /** How far behind a record may be for that to end: half of `above` unless given. */
  readonly below?: Duration.Input
  /** Values that always go on, such as those of high priority. */
  keep?(value: A, record: RecordContext): boolean
  /** The share of the others that goes on all the same, drawn as by `Sample`: none unless given. */
  readonly rate?: number
  /** What is kept or left out as a whole; see `Sample`. */
  key?(value: A, record: RecordContext): string
  /** Whether what is left out is dropped, counted as `shed` (the default), or fails with `Shed`, to be routed. */
  readonly excess?: X
}

/**
 * Leaves values out while the task is behind. It begins with a record that is more than `above` old, and ends with one
 * that is less than `below` old, both told from Kafka timestamps and the clock when the batch is at hand; in between it
 * stays as it was. What goes on keeps its order.
 *
 * A task begins with all values going on, also after a restart. Put it before the work that is to be saved: what comes
 * after this stage sees only what goes on.
 */
export const by = <A, const X extends "drop" | "fail" = "drop">(
  options: Options<A, X>,
): Stage<A, A, X extends "fail" ? Shed : never> => {
  const { rate = 0, excess = "drop" } = options
  const above = millis(options.above, "Shed.by: above")
  const below = options.below === undefined ? above / 2 : millis(options.below, "Shed.by: below")
  if (below > above) throw new RangeError("Shed.by: below is at most above")
  const sampled = sampler({ ...options, rate }, "Shed.by")
  const isKept = options.keep === undefined
    ? () => false
    : (batch: Batch<A, unknown>, i: number) => ask((value: A, record) => options.keep!(value, record), batch, i)
  const shed = new Shed({ message: `left out because the task was more than ${above} ms behind` })
  return perTask<A, A, Shed, never, never, never, never>(
    Effect.sync(() => {
      let shedding = false
      return <F>(batch: Batch<A, F>): Effect.Effect<Batch<A, F | Shed>> =>
        Effect.clockWith((clock) => {
          const now = clock.currentTimeMillisUnsafe()
          const { timestamps } = batch.source
          const gone: Array<number> = []
          for (let i = 0; i < batch.values.length; i++) {
            // What a tick has caused is of now.
            const behind = now - (timestamps[row(batch, i)] ?? now)
            shedding = shedding ? behind >= below : behind > above
            if (shedding && !isKept(batch, i) && !sampled(batch, i)) gone.push(i)
          }
          return Effect.succeed(
            excess === "drop" ? drop(batch, gone, "shed") : fail(batch, gone.map((i) => failing(batch, i, shed))),
          )
        })
    }),
    { stage: "shed" },
  ) as Stage<A, A, X extends "fail" ? Shed : never>
}
