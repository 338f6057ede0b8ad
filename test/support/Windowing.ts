/** Runs windows over records of which only key and event time matter. */
import { Effect, Schema } from "effect"
import type { Batch } from "../../src/Batch.ts"
import { keyBytes } from "../../src/Batch.ts"
import { Aggregate, Decode, Fold, Ingest, Topic, type Window } from "../../src/index.ts"
import { text } from "../../src/Topic.ts"
import { committed, run, sources, type Start } from "./FlowRunner.ts"

/** A record's value is its number in the input and its event time. */
export const Events = Topic.make({
  name: "events",
  description: "Test input",
  owner: "tests",
  schema: Schema.Struct({ id: Schema.String, at: Schema.Finite }),
  eventTime: ({ at }: { readonly at: number }) => at,
  partitions: 1,
})

/** Tells what a window holds, and in which order it was put together. */
export const ids = Fold.contramap(
  Fold.collect(Schema.String, { atMost: 1_000 }),
  ({ id }: { readonly id: string }) => id,
)

/** Keys and event times; without a time it is a tombstone. */
export type Records = ReadonlyArray<readonly [key: string | null, at: number | null]>

export interface Options {
  readonly window: Window.Any
  readonly emit?: Aggregate.Emit
  readonly cuts?: ReadonlyArray<number>
  /** The batches that are committed before the task begins anew with what was logged. */
  readonly restartAfter?: number
}

type AnyBatch = Batch<
  Window.Counted<ReadonlyArray<string>> & Partial<Window.SessionResult<unknown>>,
  Window.Failure<Window.Aligned>
>

/** Everything that comes out of windows over records, by batch. */
export const batches = (
  records: Records,
  { window, emit = "final", cuts = [], restartAfter }: Options,
) =>
  Effect.gen(function* () {
    const aggregate = Aggregate.windowed({ name: "w", window: window as Window.Session, fold: ids, emit })
    const flow = Ingest.topic(Events).pipe(Decode.schema, aggregate)
    const all = records.map(([key, at], i) => ({
      key,
      value: at === null ? null : JSON.stringify({ id: `${i}`, at }),
      timestamp: 0,
    }))
    const from = (start?: Start) => {
      const position = start?.positions.get(Events) ?? 0
      return run(flow, new Map([[Events as Topic.Any, sources(Events, all, cuts, { position })]]), start)
    }
    const whole = yield* from()
    if (restartAfter === undefined) {
      return { batches: whole.batches as ReadonlyArray<unknown> as ReadonlyArray<AnyBatch>, stores: whole.stores }
    }
    const before = whole.batches.slice(0, restartAfter)
    const after = yield* from(committed(before))
    return {
      batches: [...before, ...after.batches] as ReadonlyArray<unknown> as ReadonlyArray<AnyBatch>,
      stores: after.stores,
    }
  })

/** The results as text, `!` marks what is final and `-` what is retracted; failures by record; and how much is kept. */
export const windowed = (records: Records, options: Options) =>
  Effect.map(batches(records, options), ({ batches, stores }) => ({
    emitted: batches.flatMap(({ values }) =>
      values.map(({ key, start, end, value, final, retracted }) =>
        `${retracted === true ? "-" : ""}${key} ${start}..${end} ${value.join(" ")}${final ? "!" : ""}`
      )
    ),
    failed: batches.flatMap(({ source, failed }) =>
      failed.map(({ row, reason }) =>
        `${source.offsets[row]} ${reason._tag}` +
        (reason._tag === "Late" ? ` ${reason.windowEnd}${reason.partly === true ? " partly" : ""}` : "")
      )
    ),
    kept: stores.get("w")!.size,
  }))

/** When results are of, and the clock beside them. */
export const times = (records: Records, options: Options) =>
  Effect.map(
    batches(records, options),
    ({ batches }) =>
      batches.flatMap((batch) =>
        batch.values.map((_, i) => [text(keyBytes(batch, i)!), batch.time!.timestamps[i], batch.time!.clock[i]])
      ),
  )
