/** Tables: flows of changes, of which the last one says what the row of a key is. */
import type { Schema } from "effect"
import type { RecordContext } from "../Batch.ts"
import { type Flow, map as mapFlow } from "../Flow.ts"
import type { PipelineError, Task } from "../Task.ts"
import type { Topic } from "../Topic.ts"
import { type Change, changes, deletion, type Table, upsert } from "./Change.ts"
import * as Decode from "./Decode.ts"
import * as Ingest from "./Ingest.ts"
import { through } from "./Repartition.ts"

export type { Change, Table }
export { changes, deletion, through, upsert }

/**
 * A topic as a table, usually a compacted one: a value is the row of its key from its event time on, a tombstone deletes
 * it (`Decode.table` says when). Order, delivery and bad records are as in a stream; a record without a key fails.
 */
export const topic = <A>(
  topic: Topic<A>,
  options?: Ingest.Options,
): Table<A, Decode.DecodeError, PipelineError, Task> =>
  Ingest.topic(topic, options).pipe(Decode.table, changes(topic.schema))

/** A flow of values as a table: every value is the row of its key from its event time on. */
export const of = <A>(row: Schema.Codec<A, unknown>) => <F, E, R>(flow: Flow<A, F, E, R>): Table<A, F, E, R> =>
  flow.pipe(mapFlow((value): Change<A> => upsert(value)), changes(row))

/** Changes every row. Deletions go on. */
export const map =
  <A, B>(row: Schema.Codec<B, unknown>, f: (row: A, record: RecordContext) => B) =>
  <F, E, R>(table: Flow<Change<A>, F, E, R>): Table<B, F, E, R> =>
    table.pipe(
      mapFlow(({ row }, record): Change<B> => row === undefined ? deletion : upsert(f(row, record))),
      changes(row),
    )

/** Keeps the rows for which `is` holds: a row for which it holds no more is deleted. */
export const filter =
  <A>(is: (row: A, record: RecordContext) => boolean) => <F, E, R>(table: Table<A, F, E, R>): Table<A, F, E, R> =>
    table.pipe(
      mapFlow((change, record): Change<A> => change.row === undefined || is(change.row, record) ? change : deletion),
      changes(table.row),
    )
