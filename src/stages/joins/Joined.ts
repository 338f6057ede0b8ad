/** What joins have in common: two flows in one, told apart by their values. */
import { Duration } from "effect"
import type { Batch } from "../../Batch.ts"
import { each, type Flow } from "../../Flow.ts"
import type { Task } from "../../Task.ts"
import type { Change } from "../Change.ts"
import { merge } from "../Merge.ts"

/** Whether what has no match on the other side goes on without (`left`), or is dropped and counted (`inner`). */
export type Kind = "inner" | "left"

/** The other side's row as a join's function gets it. */
export type Match<Row, K extends string> = K extends "inner" ? Row : Row | undefined

/** A change of the table beside a flow, on its way through the merge of both. */
export class Beside<out A> {
  readonly change: Change<A>
  constructor(change: Change<A>) {
    this.change = change
  }
}

/**
 * A flow and the table beside it in the order of stream time; where it is equal the table's changes come first, so that a
 * record meets the row that changed at its own time.
 */
export const beside =
  <Row, F2, E2, R2>(table: Flow<Change<Row>, F2, E2, R2>, idle: Duration.Input | undefined) =>
  <A, F, E, R>(flow: Flow<A, F, E, R>): Flow<A | Beside<Row>, F | F2, E | E2, R | R2 | Task> =>
    marked(table).pipe(merge(flow, idle === undefined ? undefined : { idle }))

const marked = <A, F, E, R>(table: Flow<Change<A>, F, E, R>): Flow<Beside<A>, F, E, R> =>
  each<Change<A>, Beside<A>>(
    <G>(batch: Batch<Change<A>, G>): Batch<Beside<A>, G> => ({
      ...batch,
      values: batch.values.map((change) => new Beside(change)),
    }),
    { stage: "beside" },
  )(table)

/** How long a deletion is remembered, unless told. */
export const deletionsByDefault: Duration.Input = "1 day"

/** A whole number of milliseconds, at least `least`. */
export const millis = (join: string, name: string, of: Duration.Input, least: number): number => {
  const millis = Duration.toMillis(of)
  if (Number.isInteger(millis) && millis >= least) return millis
  throw new RangeError(
    `join ${join}: ${name} is a whole number of milliseconds, at least ${least}; it was ${millis}`,
  )
}
