import { Effect, Schedule, Schema } from "effect"
import { DeadLetter, Failures, Flow, Guarantee, Pipeline, Postgres, Retry } from "../../src/index.ts"
import { checked, Click, Clicks, Dlt, Slow } from "./support.ts"

const visit = Flow.effect((click: typeof Click.Type): Effect.Effect<typeof Click.Type, Slow | Gone> =>
  Effect.succeed(click)
)
export class Gone extends Schema.TaggedError<Gone>()("Gone", { message: Schema.String }) {}
const topics = Retry.topics({ name: "visit", of: Clicks, value: Click, delays: ["1 minute"], order: "kept" })
const rest = { DecodeError: Failures.skip, InvalidClick: Failures.skip }

// What the table does not name must be routed behind it.
const unnamed = checked.pipe(Failures.handle({ name: "visit" }, visit, { Slow: Failures.hold() }), Failures.route(rest))
//! "unrouted failures": "Gone"
export const one = Pipeline.make("one", unnamed, Guarantee.exactlyOnce())

// So must what a schedule gives up without a route.
const ended = checked.pipe(
  Failures.handle({ name: "visit" }, visit, { Slow: Failures.retry(Schedule.recurs(3)), Gone: Failures.skip }),
  Failures.route(rest),
)
//! "unrouted failures": "Slow"
export const two = Pipeline.make("two", ended, Guarantee.exactlyOnce())

// Records of a retry topic may be damaged, and what has failed in the last one has failed.
const through = checked.pipe(
  Failures.handle({ name: "visit" }, visit, { Slow: Failures.later(topics), Gone: Failures.skip }),
  Failures.route(rest),
)
//! "unrouted failures": "Slow" | "Unretriable"
export const three = Pipeline.make("three", through, Guarantee.exactlyOnce())

// A tag that cannot occur does not compile, alone
//! Did you mean to write 'Slow'?
export const misspelt = checked.pipe(Failures.handle({ name: "visit" }, visit, { Slw: Failures.hold() }))

// or beside others.
//! "the stages inside do not fail with": "InvalidClick"
export const before = checked.pipe(
  Failures.handle({ name: "visit" }, visit, { Slow: Failures.hold(), InvalidClick: Failures.skip }),
)

// Retry topics take what the stage is given.
const numbers = Retry.topics({ name: "n", of: Clicks, value: Schema.Number, delays: ["1 minute"], order: "free" })
//! Type 'number' is not assignable to type
export const otherValues = checked.pipe(
  Failures.handle({ name: "visit" }, visit, { Slow: Failures.later(numbers, DeadLetter.to(Dlt)) }),
)

// Order is kept in logged state, which rows and positions in one database transaction have no place for.
const rows = Postgres.exactlyOnce({ write: (_rows: ReadonlyArray<unknown>) => Effect.void })
const kept = checked.pipe(
  Failures.handle({ name: "visit" }, visit, { Slow: Failures.later(topics, Failures.skip), Gone: Failures.skip }),
  Failures.routeAll(DeadLetter.to(Dlt)),
)
//! this guarantee keeps no changelog, but the flow has logged state
export const stateful = Pipeline.make("stateful", kept, rows)

// What a table perhaps names, or perhaps gives up without a route, has failed.
declare const perhaps: { readonly Gone?: Failures.Route }
declare const route: Failures.Route | undefined
const half = checked.pipe(
  Failures.handle({ name: "visit" }, visit, { Slow: Failures.retry(Schedule.recurs(3), route), ...perhaps }),
  Failures.route(rest),
)
//! "unrouted failures": "Gone" | "Slow"
export const optional = Pipeline.make("optional", half, Guarantee.exactlyOnce())
