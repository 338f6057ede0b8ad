import { Effect } from "effect"
import { Aggregate, DeadLetter, Deliver, Failures, Pipeline, Postgres, Window } from "../../src/index.ts"
import { checked, Dlt, Paths } from "./support.ts"

const counted = checked.pipe(
  Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }) }),
  Failures.routeAll(DeadLetter.to(Dlt)),
)
const rows = Postgres.exactlyOnce({ write: (_rows: ReadonlyArray<unknown>) => Effect.void })
// Rows and positions in one database transaction leave no place for a changelog.
//! this guarantee keeps no changelog, but the flow has logged state
export const stateful = Pipeline.make("stateful", counted, rows)

const other = Postgres.exactlyOnce({ write: (_rows: ReadonlyArray<{ readonly other: number }>) => Effect.void })
// The writer's rows are the flow's values.
//! Property 'other' is missing
export const otherRows = Pipeline.make("rows", checked.pipe(Failures.routeAll(DeadLetter.to(Dlt))), other)

// A topic takes only what its contract says.
//! Property 'path' is missing
export const undelivered = checked.pipe(Deliver.to(Paths))

// Nor what is derived from a value.
//! Property 'path' is missing
export const underived = checked.pipe(Deliver.derived(Paths, ({ userId }) => ({ userId })))
