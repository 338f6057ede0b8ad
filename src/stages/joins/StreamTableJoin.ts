/** Records with the rows of a table as they are when the records are processed. */
import { type Duration, Effect } from "effect"
import { type Batch, RecordDefect } from "../../Batch.ts"
import type { Flow } from "../../Flow.ts"
import { Rows, spec } from "../../state/Rows.ts"
import { Logged, type PipelineError, type Task } from "../../Task.ts"
import type { Table } from "../Change.ts"
import { Beside, beside, deletionsByDefault, type Kind, type Match, millis } from "./Joined.ts"
import { type Out, type PerRecord, perRecord } from "./PerRecord.ts"
import { groupKey, type Keyless } from "../Window.ts"

export interface TableOptions<in A, in Row, out B, K extends Kind = Kind> {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  /** `inner` unless told. */
  readonly kind?: K
  join(value: A, row: Match<Row, K>): B
  /** How long a deletion is remembered in stream time, so that an older row that comes after it loses; 1 day by default. */
  readonly deletions?: Duration.Input
  /** The silence after which one input stops holding the other back, as in `merge`; 5 seconds by default. */
  readonly idle?: Duration.Input
}

/**
 * Joins every record with the row of its key, as that is when the record is processed.
 *
 * Records and changes are taken in the order of stream time, changes first where it is equal: what a record meets is given
 * by the logs, except after an input was idle. A join that does not depend on it is `asOf`. Of a row's changes the one of
 * the latest event time counts. Both inputs have the same keys and partitions. Records keep their order, and their time.
 *
 * A record without a match is dropped as `unmatched` (inner), or gets `undefined` (left); one without a key is `Keyless`,
 * on either side. Changes that come to nothing because a later one is known are dropped as `superseded`. Memory and
 * changelog: one entry per row, and one per deletion of the last `deletions`.
 */
export const table = <A, Row, B, F2, E2, R2, K extends Kind = "inner">(
  table: Table<Row, F2, E2, R2>,
  options: TableOptions<A, Row, B, K>,
) => {
  const { name, idle } = options
  const deletions = millis(name, "deletions", options.deletions ?? deletionsByDefault, 0)
  const rows = spec(name, table.row)
  const open = Effect.gen(function* () {
    const store = yield* (yield* Logged).store(rows)
    return [store, new StreamTable(new Rows(store, deletions), options)] as const
  })
  const stage = perRecord<A | Beside<Row>, B, Keyless>(name, open, { stage: "join", stores: [rows] })
  return <F, E, R>(
    flow: Flow<A, F, E, R>,
  ): Flow<B, F | F2 | Keyless, E | E2 | PipelineError, R | R2 | Task | Logged> => flow.pipe(beside(table, idle), stage)
}

class StreamTable<A, Row, B, K extends Kind> implements PerRecord<A | Beside<Row>, B, Keyless> {
  readonly #rows: Rows<Row>
  readonly #options: TableOptions<A, Row, B, K>

  constructor(rows: Rows<Row>, options: TableOptions<A, Row, B, K>) {
    this.#rows = rows
    this.#options = options
  }

  advance(now: number): void {
    this.#rows.advance(now)
  }

  add(
    value: A | Beside<Row>,
    timestamp: number,
    i: number,
    batch: Batch<unknown, unknown>,
    out: Out<B, Keyless>,
  ): void {
    const { name, kind } = this.#options
    const key = groupKey(batch, i, name)
    if (typeof key !== "string") return out.fail(batch, i, key)
    if (value instanceof Beside) {
      if (this.#rows.put(key, timestamp, value.change.row)) out.folded++
      else out.drop(batch, i, "superseded")
      return
    }
    const row = this.#rows.get(key)
    if (row === undefined && kind !== "left") return out.drop(batch, i, "unmatched")
    let joined: B
    try {
      joined = this.#options.join(value, row as Match<Row, K>)
    } catch (cause) {
      throw new RecordDefect(batch, i, cause)
    }
    out.emit(joined, i, timestamp)
  }
}
