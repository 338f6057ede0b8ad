/** Tables: flows of changes, of which the last one says what the row of a key is. */
import type { Schema } from "effect"
import type { RecordContext } from "../Batch.ts"
import { type Flow, fromStream, input, map as mapFlow } from "../Flow.ts"
import type { PipelineError, Task } from "../Task.ts"
import type { Topic } from "../Topic.ts"
import { type Change, deletion, upsert } from "./Change.ts"
import * as Decode from "./Decode.ts"
import * as Ingest from "./Ingest.ts"

export type { Change }
export { deletion, upsert }

/**
 * A flow of changes of rows, with the schema of the rows: what keeps them logs them by it. The key of a row is its
 * record's. A table holds nothing itself: joins keep the rows that they need, per partition.
 */
export interface Table<out A, out F = never, out E = never, out R = never> extends Flow<Change<A>, F, E, R> {
  readonly row: Schema.Codec<A, unknown>
}

/** A flow of changes as a table of rows of `row`: for tables that went through stages for flows. */
export const changes =
  <A>(row: Schema.Codec<A, unknown>) => <F, E, R>(flow: Flow<Change<A>, F, E, R>): Table<A, F, E, R> =>
    Object.assign(fromStream(input(flow), { stage: "table", inputs: [flow] }), { row })

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
