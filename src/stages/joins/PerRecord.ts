/** What stages with state have in common whose results are made of one record each: values one by one, and stream time. */
import { Effect, type Scope } from "effect"
import type { Batch, Dropped, Failed } from "../../Batch.ts"
import { addFailed, fail, failing, gather, row } from "../../Batch.ts"
import { perTask, type Stage, type Uses } from "../../Flow.ts"
import type { Logged, LoggedStore, PipelineError } from "../../Task.ts"

/** A stage at work in one task. It is asked in the order of rows, wherever batches are cut. */
export interface PerRecord<in A, B, G> {
  /** Stream time has gone on to `now`. */
  advance(now: number): void
  /** Value `i` of the batch has come. */
  add(value: A, timestamp: number, i: number, batch: Batch<A, unknown>, out: Out<B, G>): void
}

/** What comes of the values of one batch: results stay with the record that they were made of, and fail with it. */
export class Out<B, G> {
  readonly values: Array<B> = []
  readonly from: Array<number> = []
  readonly timestamps: Array<number> = []
  readonly late: Array<Failed<G>> = []
  readonly failed: Array<Failed<G>> = []
  readonly dropped: Array<Dropped> = []
  /** How many values went into the state. */
  folded = 0

  /** A result of value `i`, with its event time. */
  emit(value: B, i: number, timestamp: number): void {
    this.values.push(value)
    this.from.push(i)
    this.timestamps.push(timestamp)
  }

  drop(batch: Batch<unknown, unknown>, i: number, reason: string): void {
    this.dropped.push({ row: row(batch, i), reason })
  }

  /** Value `i` has no result; what else its row has caused stays. */
  isLate(batch: Batch<unknown, unknown>, i: number, reason: G): void {
    addFailed(this.late, { ...failing(batch, i, reason), kept: true })
  }

  fail(batch: Batch<unknown, unknown>, i: number, reason: G): void {
    this.failed.push(failing(batch, i, reason))
  }
}

/** Stream time is kept in the first store that `open` answers, as it stood at the last value. */
export const perRecord = <A, B, G>(
  name: string,
  open: Effect.Effect<readonly [LoggedStore<unknown>, PerRecord<A, B, G>], PipelineError, Logged | Scope.Scope>,
  uses: Uses,
): Stage<A, B, G, PipelineError, Logged> =>
  perTask<A, B, G, never, never, PipelineError, Logged>(
    Effect.map(open, ([store, stage]) => (batch) => Effect.sync(() => through(name, store, stage, batch))),
    uses,
  )

const through = <A, B, G, F>(
  name: string,
  store: LoggedStore<unknown>,
  stage: PerRecord<A, B, G>,
  batch: Batch<A, F>,
): Batch<B, F | G> => {
  const { source, values, time } = batch
  const out = new Out<B, G>()
  for (let i = 0; i < values.length; i++) {
    const timestamp = time === undefined ? source.timestamps[row(batch, i)]! : time.timestamps[i]!
    const now = time === undefined ? timestamp : time.clock[i]!
    if (now > store.streamTime) {
      store.streamTime = now
      stage.advance(now)
    }
    stage.add(values[i]!, timestamp, i, batch, out)
  }
  const made = gather<A, B, F>(batch, out.values, Uint32Array.from(out.from))
  return fail<B, F | G, G>({
    ...made,
    time: made.time && { ...made.time, timestamps: Float64Array.from(out.timestamps) },
    failed: out.late.length === 0 ? batch.failed : [...batch.failed, ...out.late],
    dropped: out.dropped.length === 0 ? batch.dropped : [...batch.dropped, ...out.dropped],
    folded: out.folded === 0 ? batch.folded : [...batch.folded, { stage: name, count: out.folded }],
  }, out.failed)
}
