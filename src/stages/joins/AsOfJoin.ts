/** Records with the rows of a table as they were at the records' own times. */
import { type Duration, Effect, type Schema } from "effect"
import type { Batch } from "../../Batch.ts"
import type { Flow, Stage } from "../../Flow.ts"
import { spec, Versions } from "../../state/Versions.ts"
import { Logged, type PipelineError, type Task } from "../../Task.ts"
import { type AsOf, Lookup, unmatched } from "./AsOfLookup.ts"
import * as Waiting from "./AsOfWaiting.ts"
import type { Table } from "../Change.ts"
import { Beside, beside, deletionsByDefault, type Kind, millis } from "./Joined.ts"
import { type Out, type PerRecord, perRecord } from "./PerRecord.ts"
import { timed } from "../Timed.ts"
import { groupKey, type Keyless, type Late } from "../Window.ts"

/** How long records wait for changes that come out of order. */
export interface Grace<in out A> {
  /** A record waits until stream time is more than this beyond its own; at most `history`. */
  readonly grace: Duration.Input
  /** The schema by which records that wait are logged. */
  readonly value: Schema.Codec<A, unknown>
}

export type { AsOf }

export type AsOfOptions<A, Row, B, K extends Kind = Kind> = AsOf<A, Row, B, K> & (Grace<A> | { readonly grace?: never })

/**
 * Joins every record with the version of its key's row that was valid at the record's event time: the last change that is
 * not later. Changes go to their place by event time, also where they come out of order.
 *
 * Without `grace` a record is joined as it comes, in the order of stream time and after the changes of its own time, so
 * that changes that come in order are always seen; records keep their order. With `grace` records wait until stream time
 * is more than `grace` beyond their time: whatever comes out of order by no more than that is seen, and what a record is
 * joined with is given by the records and changes alone. They then leave in the order of event time, those of one time in
 * the order of their offsets; a record that comes later than `grace` is joined and leaves at once.
 *
 * A record whose time is more than `history` behind stream time is `Late`. One without a match is dropped as `unmatched`
 * (inner), or gets `undefined` (left); one without a key is `Keyless`, on either side. A change that is older than all
 * that can be asked for is dropped as `superseded`. Memory and changelog: per key the versions of the last `history` and
 * the one before them, one entry per deletion of the last `deletions`, and the records that wait.
 */
export const asOf = <A, Row, B, F2, E2, R2, K extends Kind = "inner">(
  table: Table<Row, F2, E2, R2>,
  options: AsOfOptions<A, Row, B, K>,
) => {
  const { name, idle } = options
  const history = millis(name, "history", options.history, 0)
  const deletions = millis(name, "deletions", options.deletions ?? deletionsByDefault, 0)
  const stage: Stage<A | Beside<Row>, B, Keyless | Late, PipelineError, Logged> = options.grace === undefined
    ? atOnce(table.row, history, deletions, options)
    : waiting(table.row, history, deletions, options)
  return <F, E, R>(
    flow: Flow<A, F, E, R>,
  ): Flow<B, F | F2 | Keyless | Late, E | E2 | PipelineError, R | R2 | Task | Logged> =>
    flow.pipe(beside(table, idle), stage)
}

const atOnce = <A, Row, B, K extends Kind>(
  row: Schema.Codec<Row, unknown>,
  history: number,
  deletions: number,
  options: AsOf<A, Row, B, K>,
) => {
  const versions = spec(options.name, row)
  const open = Effect.gen(function* () {
    const store = yield* (yield* Logged).store(versions)
    return [store, new AtOnce(new Lookup(new Versions(store, history, deletions), options))] as const
  })
  return perRecord<A | Beside<Row>, B, Keyless | Late>(options.name, open, { stage: "join", stores: [versions] })
}

class AtOnce<A, Row, B, K extends Kind> implements PerRecord<A | Beside<Row>, B, Keyless | Late> {
  readonly #lookup: Lookup<A, Row, B, K>

  constructor(lookup: Lookup<A, Row, B, K>) {
    this.#lookup = lookup
  }

  advance(now: number): void {
    this.#lookup.versions.advance(now)
  }

  add(
    value: A | Beside<Row>,
    timestamp: number,
    i: number,
    batch: Batch<unknown, unknown>,
    out: Out<B, Keyless | Late>,
  ): void {
    const key = groupKey(batch, i, this.#lookup.name)
    if (typeof key !== "string") return out.fail(batch, i, key)
    if (value instanceof Beside) {
      if (this.#lookup.versions.put(key, timestamp, value.change.row)) out.folded++
      else out.drop(batch, i, "superseded")
      return
    }
    const late = this.#lookup.late(timestamp)
    if (late !== undefined) return out.isLate(batch, i, late)
    const joined = this.#lookup.join(key, timestamp, value, batch, i)
    if (joined === unmatched) out.drop(batch, i, "unmatched")
    else out.emit(joined, i, timestamp)
  }
}

const waiting = <A, Row, B, K extends Kind>(
  row: Schema.Codec<Row, unknown>,
  history: number,
  deletions: number,
  options: AsOf<A, Row, B, K> & Grace<A>,
) => {
  const grace = millis(options.name, "grace", options.grace, 0)
  if (grace > history) {
    throw new RangeError(
      `join ${options.name}: records that wait for ${grace} ms need a history that is at least as long`,
    )
  }
  const versions = spec(options.name, row)
  const records = Waiting.spec(`${options.name}-waiting`, options.value)
  const open = Effect.gen(function* () {
    const logged = yield* Logged
    const store = yield* logged.store(versions)
    const lookup = new Lookup(new Versions(store, history, deletions), options)
    const waiting = new Waiting.Waiting(store.streamTime, yield* logged.store(records), grace, lookup)
    return [store, waiting] as const
  })
  return timed<A | Beside<Row>, B, Keyless | Late>(options.name, open, {
    stage: "join",
    stores: [versions, records],
  })
}
