/** What stages with state and event time have in common: values one by one, and stream time between them. */
import { Effect, type Scope } from "effect"
import type { Batch, Dropped, Failed } from "../Batch.ts"
import { addFailed, failing, RecordDefect, row, units, withoutRows } from "../Batch.ts"
import { perTask, type Stage, type Uses } from "../Flow.ts"
import type { Logged, LoggedStore, PipelineError } from "../Task.ts"

/** A stage at work in one task. It is asked in the order of rows, wherever batches are cut. */
export interface Timed<in A, B, G> {
  /** Stream time of what is emitted: nothing that is emitted later is earlier than this. */
  readonly clock: number
  /** Stream time has gone on to `now`. */
  advance(now: number, step: Step<B, G>): void
  /** Value `i` of the batch has come; stream time is at least its own where it is not late. */
  add(value: A, timestamp: number, i: number, batch: Batch<A, unknown>, step: Step<B, G>): void
  /** The batch is through: for tables, of which only the last value per key counts. */
  end?(step: Step<B, G>): void
}

/** What comes of one batch. */
export class Step<B, G> {
  readonly values: Array<B> = []
  readonly keys: Array<Uint8Array | null> = []
  readonly rows: Array<number> = []
  readonly timestamps: Array<number> = []
  readonly clocks: Array<number> = []
  readonly late: Array<Failed<G>> = []
  readonly failed: Array<Failed<G>> = []
  readonly dropped: Array<Dropped> = []
  /** How many values went into the state. */
  folded = 0
  /** The source row at hand. */
  row = 0

  /** A result, caused by the row at hand unless told, at the stage's stream time `clock`. */
  emit(value: B, key: Uint8Array | null, timestamp: number, clock: number, row = this.row): void {
    this.values.push(value)
    this.keys.push(key)
    this.rows.push(row)
    this.timestamps.push(timestamp)
    this.clocks.push(clock)
  }

  /** Something that was in the state comes to nothing, because of the row at hand: counted by reason. */
  drop(reason: string): void {
    this.dropped.push({ row: this.row, reason })
  }

  /** Value `i` is not in any result, or not in all: what else its row has caused stays. */
  isLate(batch: Batch<unknown, unknown>, i: number, reason: G): void {
    addFailed(this.late, { ...failing(batch, i, reason), kept: true })
  }

  fail(batch: Batch<unknown, unknown>, i: number, reason: G): void {
    addFailed(this.failed, failing(batch, i, reason))
  }
}

/**
 * A stage whose results are made of many records: each has a time and a unit of its own. Stream time is kept in the first
 * store that `open` answers.
 */
export const timed = <A, B, G>(
  name: string,
  open: Effect.Effect<readonly [LoggedStore<unknown>, Timed<A, B, G>], PipelineError, Logged | Scope.Scope>,
  uses: Uses,
): Stage<A, B, G, PipelineError, Logged> =>
  perTask<A, B, G, never, never, PipelineError, Logged>(
    Effect.map(open, ([store, stage]) => (batch) => Effect.sync(() => through(name, store, stage, batch))),
    uses,
  )

const through = <A, B, G, F>(
  name: string,
  store: LoggedStore<unknown>,
  stage: Timed<A, B, G>,
  batch: Batch<A, F>,
): Batch<B, F | G> => {
  const { source, values, time } = batch
  const step = new Step<B, G>()
  const rowClock = new Float64Array(source.length)
  let passed = 0
  const advance = (now: number) => {
    if (!(now > store.streamTime)) return
    store.streamTime = now
    stage.advance(now, step)
  }
  const pass = (end: number) => {
    for (; passed < end; passed++) {
      step.row = passed
      if (time !== undefined) advance(time.rowClock[passed]!)
      rowClock[passed] = stage.clock
    }
  }
  try {
    for (let i = 0; i < values.length; i++) {
      const at = row(batch, i)
      if (passed < at) pass(Math.min(at, source.length))
      step.row = at
      const timestamp = time === undefined ? source.timestamps[at]! : time.timestamps[i]!
      advance(time === undefined ? timestamp : time.clock[i]!)
      stage.add(values[i]!, timestamp, i, batch, step)
    }
    pass(source.length)
    if (time !== undefined) advance(time.now)
    stage.end?.(step)
  } catch (cause) {
    // Also from a fold's result, where no value is at hand but the row whose time has closed a window.
    throw cause instanceof RecordDefect ? cause : new RecordDefect({ ...batch, rows: undefined }, step.row, cause)
  }
  return {
    ...batch,
    outgoing: withoutRows(batch.outgoing, step.failed),
    ...columns(step),
    units: units(step.values.length),
    time: time && { ...timesOf(step), rowClock, now: stage.clock },
    failed: [...batch.failed, ...step.late, ...step.failed],
    dropped: step.dropped.length === 0 ? batch.dropped : [...batch.dropped, ...step.dropped],
    folded: [...batch.folded, { stage: name, count: step.folded }],
  }
}

const timesOf = <B>({ rows, timestamps, clocks }: Step<B, unknown>) => {
  const order = inOrder(rows)
  return {
    timestamps: Float64Array.from(order ? order.map((i) => timestamps[i]!) : timestamps),
    clock: Float64Array.from(order ? order.map((i) => clocks[i]!) : clocks),
  }
}

const columns = <B>({ values, keys, rows }: Step<B, unknown>) => {
  const order = inOrder(rows)
  if (order === undefined) return { values, keys, rows: Uint32Array.from(rows) }
  return {
    values: order.map((i) => values[i]!),
    keys: order.map((i) => keys[i]!),
    rows: Uint32Array.from(order, (i) => rows[i]!),
  }
}

/** The order that puts rows in sequence, keeping that of equal ones; `undefined` where they are. */
const inOrder = (rows: ReadonlyArray<number>): ReadonlyArray<number> | undefined => {
  for (let i = 1; i < rows.length; i++) {
    if (rows[i]! < rows[i - 1]!) return Array.from(rows.keys()).sort((a, b) => rows[a]! - rows[b]! || a - b)
  }
  return undefined
}
