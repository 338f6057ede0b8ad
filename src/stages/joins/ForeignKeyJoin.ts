/** A table whose rows refer to rows of another by a key that is in their values. */
import type { Duration } from "effect"
import type { Failure } from "../../Batch.ts"
import { type Route, routeAll } from "../../Failures.ts"
import type { Flow } from "../../Flow.ts"
import type { Logged, PipelineError, Task } from "../../Task.ts"
import { type Change, changes, type Table } from "../Change.ts"
import type { DecodeError } from "../Decode.ts"
import { answers } from "./ForeignKeyAnswers.ts"
import { newest } from "./ForeignKeyNewest.ts"
import { references } from "./ForeignKeyReferences.ts"
import type { ForeignKeyTopics } from "./ForeignKeyTopics.ts"
import { beside, deletionsByDefault, type Kind, type Match, millis } from "./Joined.ts"
import { repartition } from "../Repartition.ts"

export interface ForeignKeyOptions<A, in B, C, K extends Kind = Kind> {
  /** Names the stores `<name>-references`, `-right`, `-subscriptions` and `-newest`, and with them the changelog topics. */
  readonly name: string
  /** The topics between the tasks: `Join.foreignKeyTopics`. */
  readonly via: ForeignKeyTopics<A, C>
  /** The key of the right row that a left row refers to, if any. */
  foreignKey(row: A): string | null | undefined
  /** `inner` unless told. */
  readonly kind?: K
  join(left: A, right: Match<B, K>): C
  /** Where records go that fail on the way: what is left unrouted of both tables, and what the topics cannot hold. */
  readonly failed: Route
  /** How long a deletion is remembered in stream time, so that an older row that comes after it loses; 1 day by default. */
  readonly deletions?: Duration.Input
  /** The silence after which one input stops holding the other back, as in `merge`; 5 seconds by default. */
  readonly idle?: Duration.Input
}

/**
 * Joins every row of a table with the row of another one that it refers to, into a table with the keys of the left one.
 * Results change with either side: a left row may come to refer to another row, many may refer to one, and both may be
 * deleted.
 *
 * Left rows go to the task of the right row through one topic, results come back through another: three kinds of tasks of
 * one pipeline, which commit each on its own. The results of one left row may come back from several tasks and out of
 * order; each says which change of the left row it is of, and one that is older than what was seen is dropped as
 * `superseded`. In the end every row is the join of the latest rows by event time, whatever the order in which tasks came
 * to them; between, a result may be of rows that have changed since.
 *
 * The right table has no stage with state before it. Memory and changelog: of each left row its key and reference where it
 * comes from, all of it where it is joined, and its version where it ends; each right row; and every deletion of the last
 * `deletions`.
 */
export const foreignKey = <A, B, C, F2 extends Failure, E2, R2, K extends Kind = "inner">(
  right: Table<B, F2, E2, R2>,
  options: ForeignKeyOptions<A, B, C, K>,
) => {
  const { name, via, failed, idle } = options
  const deletions = millis(name, "deletions", options.deletions ?? deletionsByDefault, 0)
  const rows = { left: via.left, right: right.row }
  return <F extends Failure, E, R>(
    left: Flow<Change<A>, F, E, R>,
  ): Table<C, DecodeError, E | E2 | PipelineError, R | R2 | Task | Logged> =>
    left.pipe(
      references(options, deletions),
      routeAll<Failure>(failed),
      repartition(via.subscriptions, { undeliverable: failed }),
      beside(right, idle),
      answers(rows, options, deletions),
      routeAll<Failure>(failed),
      repartition(via.responses, { undeliverable: failed }),
      newest<C>(name, deletions),
      changes(via.row),
    )
}
