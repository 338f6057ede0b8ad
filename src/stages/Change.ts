/** Tables are flows of changes: what happens to their rows. */
import type { Schema } from "effect"
import { type Flow, fromStream, input } from "../Flow.ts"

/** What became of the row of a record's key: its value from now on, `undefined` where it was deleted. */
export interface Change<out A> {
  readonly row: A | undefined
}

export const upsert = <A>(row: A): Change<A> => ({ row })

export const deletion: Change<never> = { row: undefined }

/**
 * The header that holds when a change happened, in milliseconds since 1970 as text: a tombstone has no value to hold it, and
 * the value of a row that was joined tells of one side only.
 */
export const timeHeader = "millrace-time"

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
