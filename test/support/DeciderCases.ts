/** A decider over random readings, and its stage in flows for the laws: accounts that are added to and drawn from. */
import { Result, Schema } from "effect"
import {
  Aggregate,
  Branch,
  DeadLetter,
  Decider,
  Deliver,
  Failures,
  Flow,
  Fold,
  Reply,
  Topic,
  Window,
} from "../../src/index.ts"
import { type Case, common, decoded, Dlt, keyOf, type Reading, Results } from "./StageCases.ts"

export const Happened = Schema.Union([
  Schema.Struct({ type: Schema.Literal("Added"), n: Schema.Int }),
  Schema.Struct({ type: Schema.Literal("Drawn"), n: Schema.Int }),
  Schema.Struct({ type: Schema.Literal("Emptied") }),
])
export type Happened = typeof Happened.Type

export class Overdrawn extends Schema.TaggedError<Overdrawn>()("Overdrawn", {
  message: Schema.String,
  by: Schema.Int,
}) {}

/** Readings below 5 are added, 5 does nothing, others draw; 7 is of another account. */
export const rules = {
  name: "accounts",
  state: Schema.Struct({ sum: Schema.Int }),
  event: Happened,
  rejection: Overdrawn,
  initial: { sum: 0 },
  aggregate: ({ id, n }: Reading) => n === 7 ? "nobody" : id.split("-")[0]!,
  commandId: ({ id, n }: Reading) => n === 6 && id.endsWith("-6") ? "" : id,
  decide: ({ sum }: { readonly sum: number }, { n }: Reading): Result.Result<ReadonlyArray<Happened>, Overdrawn> => {
    if (n < 5) return Result.succeed([{ type: "Added", n }])
    if (n === 5) return Result.succeed([])
    const left = sum - (n - 5)
    if (left < 0) return Result.fail(new Overdrawn({ message: "not so much is left", by: -left }))
    const drawn: Happened = { type: "Drawn", n: n - 5 }
    return Result.succeed(left === 0 ? [drawn, { type: "Emptied" }] : [drawn])
  },
  evolve: ({ sum }: { readonly sum: number }, event: Happened) => {
    if (event.type === "Emptied") return { sum: 0 }
    return { sum: event.type === "Added" ? sum + event.n : sum - event.n }
  },
}

export const accounts = Decider.make({ ...rules, remember: { window: "2 minutes", atMost: 3 } })

export const Events = Topic.make({
  ...common,
  name: "events",
  schema: Schema.Struct({ account: Schema.String, version: Schema.Int, command: Schema.String, event: Happened }),
  key: ["account", ({ account }) => account],
  maxMessageBytes: 213,
})
/** Under the name of dead letters: what is sent there accounts for its row. */
const Refusals = Topic.make({
  ...common,
  name: Dlt.name,
  schema: Schema.Struct({ by: Schema.Int, key: Schema.NullOr(Schema.String) }),
})

export const toEvents = Decider.to(
  Events,
  ({ key, version, commandId, event }: Decider.Recorded<Happened>) => (
    { account: key, version, command: commandId, event }
  ),
)

const deciding = Decider.stage(accounts)
const publishing = Decider.stage(accounts, { publish: toEvents })
const sums = Aggregate.running({
  name: "sums",
  fold: Fold.make({
    state: Schema.Int,
    initial: () => 0,
    add: (sum, { event }: Decider.Recorded<Happened>) => sum + (event.type === "Added" ? event.n : 0),
  }),
})

export const cases: ReadonlyArray<Case> = [
  { name: "decider", flow: decoded.pipe(deciding) },
  { name: "decider that publishes", flow: decoded.pipe(publishing) },
  { name: "decider, then its events", flow: decoded.pipe(publishing, Decider.events), fansOut: true },
  {
    name: "decider, then replies",
    flow: decoded.pipe(
      publishing,
      Flow.map(({ command, outcome }) => ({ ...command, outcome })),
      Deliver.derived(Results, ({ id, n }) => ({ id, n })),
      Failures.route({
        Overdrawn: Reply.to(Refusals, ({ by }, { key }) => ({ by, key: key && String(key) })),
        Keyless: DeadLetter.to(Dlt),
      }),
    ),
    fansOut: true,
  },
  {
    name: "decider in a branch",
    flow: decoded.pipe(Branch.when((r) => r.n !== 3, (flow) => flow.pipe(deciding, Flow.map((d) => d.command)))),
  },
  {
    name: "decider of many commands in a record",
    flow: decoded.pipe(
      Flow.flatMap((r) => [r, { ...r, id: `${r.id}-b` }, r]),
      deciding,
      Decider.events,
    ),
    fansOut: true,
  },
  {
    name: "decider behind a fold",
    flow: decoded.pipe(
      Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }), emit: "final" }),
      Flow.map(({ key, start, value }) => ({ id: `${key}-${start}`, n: value, at: start })),
      publishing,
    ),
    fansOut: true,
  },
  { name: "decider, then a fold", flow: decoded.pipe(deciding, Decider.events, sums), table: keyOf, fansOut: true },
]
