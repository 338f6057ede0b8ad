/** Clicks per user and minute. */
import type { Duration } from "effect"
import { type Naming, topics } from "../../schemas/index.ts"
import {
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  Window,
} from "../index.ts"
import { pipelines } from "./Names.ts"

export interface Options {
  /** How long a minute stays open for clicks that come late, in stream time. */
  readonly grace: Duration.Input
  /** How long a partition is silent before its minutes close by the wall clock: see `Ingest.Options`. */
  readonly wallClockAfter?: Duration.Input | undefined
}

/**
 * Counts every enriched click once, in the minute that it happened in, per user: an update with every commit and a final
 * mark when the minute closes. Clicks of closed minutes go to `user.clicks.late`.
 */
export const count = (naming: Naming, { grace, wallClockAfter }: Options) => {
  const { enriched, counts, dlt, late } = topics(naming)
  return Pipeline.make(
    pipelines(naming).count,
    Ingest.topic(enriched, wallClockAfter === undefined ? {} : { wallClockAfter }).pipe(
      Decode.schema,
      Aggregate.count({ name: "minutes", window: Window.tumbling({ size: "1 minute", grace }) }),
      Flow.map(({ key, start, value, final }) => ({ user: key, minute: start, clicks: value, final })),
      Deliver.to(counts),
      Failures.route({
        DecodeError: DeadLetter.to(dlt),
        Keyless: DeadLetter.to(dlt),
        Undeliverable: DeadLetter.to(dlt),
        Late: DeadLetter.to(late),
      }),
    ),
    Guarantee.exactlyOnce(),
  )
}
