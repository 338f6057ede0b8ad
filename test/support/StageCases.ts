/** Every stage in flows that a single task runs, and random records for the topics that they read. */
import { Duration, Effect, Result, Schema } from "effect"
import {
  Aggregate,
  Branch,
  Check,
  DeadLetter,
  Decode,
  Deduplicate,
  Deliver,
  Failures,
  Flow,
  Fold,
  Ingest,
  merge,
  repartition,
  Topic,
  Topology,
  Window,
} from "../../src/index.ts"
import * as Sessions from "../../src/clickstream/Sessions.ts"
import { writerHeaders } from "../../src/WriterHeaders.ts"
import type { Logged, PipelineError, Task } from "../../src/Task.ts"
import type { Rec } from "./FlowRunner.ts"
import type { Dice } from "./Seeds.ts"

export const common = { description: "Test", owner: "tests", partitions: 1 }

export const Reading = Schema.Struct({ id: Schema.String, n: Schema.Int, at: Schema.Int })
export type Reading = typeof Reading.Type
export const readings = (name: string) =>
  Topic.make({ ...common, name, schema: Reading, eventTime: (reading: Reading) => reading.at })

export const Readings = readings("readings")
export const Others = readings("others")
export const Thirds = readings("thirds")
const ByParity = Topic.make({
  ...common,
  name: "by-parity",
  schema: Reading,
  eventTime: (reading: Reading) => reading.at,
  key: ["parity", (reading) => String(reading.n % 2)],
  maxMessageBytes: 172,
})
export const Results = Topic.make({
  ...common,
  name: "results",
  schema: Schema.Struct({ id: Schema.String, n: Schema.Int }),
  maxMessageBytes: 160,
})
export const Latest = Topic.make({
  ...common,
  name: "latest",
  schema: Schema.Struct({ id: Schema.String, n: Schema.Int }),
  key: ["id", (result) => result.id],
  maxMessageBytes: 163,
})
export const Sums = Topic.make({
  ...common,
  name: "sums",
  schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
})
export const Counted = Topic.make({
  ...common,
  name: "counted",
  schema: Schema.Struct({ key: Schema.String, start: Schema.Int, value: Schema.Int }),
})
export const Dlt = Topic.bytes({ ...common, name: "dlt" })

export class Odd extends Schema.TaggedError<Odd>()("Odd", { message: Schema.String }) {}

export const read = (topic: typeof Readings) => Ingest.topic(topic).pipe(Decode.schema)
export const decoded = read(Readings)
export const odd = (reading: Reading) => reading.n % 2 === 1
export const refuseOdd = Check.with((reading: Reading) =>
  odd(reading) ? Result.fail(new Odd({ message: "odd" })) : Result.succeed(reading)
)
export const twice = Flow.flatMap((reading: Reading) => [reading, { ...reading, n: reading.n + 1 }])
const minutes = Aggregate.count({
  name: "counts",
  window: Window.tumbling({ size: "1 minute", grace: "30 seconds" }),
})
const finals = Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }), emit: "final" })
const sessions = Sessions.by({ name: "sessions", gap: "30 seconds", grace: "30 seconds" })
const clicks = Flow.map(({ id, at }: Reading) => ({ eventId: id, eventTime: at, path: `/${id}` }))
const sums = Aggregate.running({
  name: "sums",
  fold: Fold.make({ state: Schema.Int, initial: () => 0, add: (sum, reading: Reading) => sum + reading.n }),
})
export const routed = decoded.pipe(Failures.route({ DecodeError: DeadLetter.to(Dlt) }))
export const moved = (flow: typeof routed) => repartition(ByParity, { undeliverable: DeadLetter.to(Dlt) })(flow)

export interface Case {
  readonly name: string
  readonly flow: Flow.Flow<unknown, unknown, PipelineError, Task | Logged>
  /** Streams keep every value; of a table the last value per key counts. */
  readonly table?: (value: never) => string
  /** A row may have any number of values, and values of a failed row may have been folded. */
  readonly fansOut?: true
  /** Some values are folded into state, and others go on. */
  readonly foldsSome?: true
  /** Topics that records go to instead of going on, beside that of dead letters. */
  readonly aside?: ReadonlyArray<string>
  /** What the stores hold depends on the cuts, and nothing else does. */
  readonly storesByBatch?: true
  /** How many tasks write the input. */
  readonly upstream?: number
}

export const windowOf = (value: Window.Windowed<number>) => `${value.key}@${value.start}`
export const keyOf = (value: { readonly key: string }) => value.key

export const cases: ReadonlyArray<Case> = [
  { name: "decode", flow: decoded },
  { name: "map", flow: decoded.pipe(Flow.map((reading) => ({ ...reading, twice: reading.n * 2 }))) },
  { name: "filter", flow: decoded.pipe(Flow.filter((reading) => reading.n > 3, "small")) },
  {
    name: "flatMap",
    flow: decoded.pipe(Flow.flatMap((reading) => Array.from({ length: reading.n % 4 }, (_, i) => ({ ...reading, i })))),
    fansOut: true,
  },
  { name: "check", flow: decoded.pipe(refuseOdd) },
  { name: "check after flatMap", flow: decoded.pipe(twice, refuseOdd), fansOut: true },
  {
    name: "effect",
    flow: decoded.pipe(
      Flow.effect((reading) => odd(reading) ? Effect.fail(new Odd({ message: "odd" })) : Effect.succeed(reading.n), {
        concurrency: 4,
      }),
    ),
  },
  {
    name: "branch",
    flow: decoded.pipe(
      Branch.when(
        odd,
        (flow) => flow.pipe(Flow.map((reading) => ({ ...reading, odd: true })), Flow.filter((r) => r.n > 3)),
      ),
    ),
  },
  {
    name: "branch that fails",
    flow: decoded.pipe(twice, Branch.when(odd, (flow) => flow.pipe(refuseOdd))),
    fansOut: true,
  },
  {
    name: "branch in a branch",
    flow: decoded.pipe(
      Branch.when((r) => r.n > 2, (outer) =>
        outer.pipe(
          Deliver.to(Results),
          Branch.when((r) => r.n > 5, (inner) => inner.pipe(Flow.filter((r) => r.n !== 8), refuseOdd)),
          Flow.map((r) => ({ ...r, n: r.n * 10 })),
        )),
    ),
  },
  {
    name: "branch with state",
    flow: decoded.pipe(clicks, Branch.when(({ path }) => !path.startsWith("/ben"), (flow) => flow.pipe(sessions))),
  },
  {
    name: "branch with windows, after rows that failed",
    flow: decoded.pipe(refuseOdd, Branch.when((r) => r.n > 2, (flow) => flow.pipe(finals, Deliver.to(Counted)))),
    fansOut: true,
  },
  {
    name: "merge of two branches",
    flow: decoded.pipe(Flow.filter(odd), Flow.map((r) => r.id), merge(decoded.pipe(refuseOdd, Flow.map((r) => r.n)))),
    fansOut: true,
  },
  {
    name: "merge of two branches of a flow that drops, sends and fails",
    flow: (() => {
      const prefix = decoded.pipe(Flow.filter((r) => r.n > 1), Deliver.to(Results), refuseOdd)
      return prefix.pipe(Flow.filter((r) => r.n > 3), merge(prefix.pipe(Flow.filter((r) => r.n <= 3))))
    })(),
    fansOut: true,
  },
  { name: "merge of two topics", flow: decoded.pipe(merge(read(Others))) },
  {
    name: "merge of two topics that drop, send and fail",
    flow: decoded.pipe(
      Deliver.to(Results),
      Flow.filter((r) => r.n !== 4),
      refuseOdd,
      merge(read(Others).pipe(Flow.filter((r) => r.n > 3), twice, Deliver.latest(Latest, (r) => r))),
    ),
    fansOut: true,
  },
  { name: "merge of two topics, then windows", flow: decoded.pipe(merge(read(Others)), finals) },
  { name: "merge of two topics, then sessions", flow: decoded.pipe(merge(read(Others)), clicks, sessions) },
  {
    name: "merge of three topics, then a branch",
    flow: decoded.pipe(
      Flow.filter((r) => r.n > 1),
      merge(read(Others)),
      merge(read(Thirds).pipe(refuseOdd)),
      Branch.when(odd, (flow) => flow.pipe(Flow.filter((r) => r.n > 3))),
    ),
  },
  { name: "deliver", flow: decoded.pipe(Deliver.to(Results)) },
  { name: "deliver what is derived", flow: decoded.pipe(Deliver.derived(Results, ({ id, n }) => ({ id, n: -n }))) },
  { name: "deliver the latest", flow: decoded.pipe(Deliver.latest(Latest, (r) => r)), fansOut: true },
  { name: "deliver, then check", flow: decoded.pipe(Deliver.to(Results), refuseOdd) },
  {
    name: "deliver twice to one topic",
    flow: decoded.pipe(Deliver.to(Results), Flow.map((r) => ({ ...r, n: -r.n })), Deliver.to(Results)),
  },
  {
    name: "route",
    flow: decoded.pipe(
      Deliver.to(Results),
      refuseOdd,
      Failures.route({ Odd: DeadLetter.to(Dlt), DecodeError: DeadLetter.to(Dlt), Undeliverable: Failures.skip }),
    ),
  },
  { name: "route of some", flow: decoded.pipe(refuseOdd, Failures.route({ Odd: DeadLetter.to(Dlt) })) },
  { name: "routeAll", flow: decoded.pipe(refuseOdd, finals, Failures.routeAll(DeadLetter.to(Dlt))) },
  {
    name: "repartition, the half that writes",
    flow: [...Topology.of(moved(routed)).feeds.values()][0]! as typeof routed,
  },
  {
    name: "repartition of a merge, the half that writes",
    flow: [
      ...Topology.of(
        moved(routed.pipe(merge(read(Others).pipe(Failures.route({ DecodeError: DeadLetter.to(Dlt) }))))),
      ).feeds.values(),
    ][0]! as typeof routed,
  },
  { name: "repartition, the half that reads", flow: moved(routed), upstream: 1 },
  { name: "repartition, the half that reads from many", flow: moved(routed).pipe(finals), upstream: 3 },
  { name: "repartition, then sessions", flow: moved(routed).pipe(clicks, sessions), upstream: 3 },
  {
    name: "merge of a repartition with another topic, then windows",
    flow: moved(routed).pipe(merge(read(Others)), finals),
    upstream: 3,
  },
  { name: "window finals of what a filter left", flow: decoded.pipe(Flow.filter((r) => r.n > 7), finals) },
  {
    name: "deduplicate",
    flow: decoded.pipe(Deduplicate.by({ name: "seen", id: (reading) => reading.id, window: "2 minutes" })),
    storesByBatch: true,
  },
  {
    name: "deduplicate with a cap",
    flow: decoded.pipe(Deduplicate.by({ name: "seen", id: (reading) => reading.id, window: "2 minutes", atMost: 2 })),
    storesByBatch: true,
  },
  { name: "window updates", flow: decoded.pipe(minutes), table: windowOf },
  { name: "window finals", flow: decoded.pipe(finals) },
  {
    name: "windows of window finals",
    flow: decoded.pipe(
      finals,
      Aggregate.count({ name: "again", window: Window.tumbling({ size: "3 minutes" }), emit: "final" }),
    ),
    fansOut: true,
  },
  {
    name: "window finals, delivered",
    flow: decoded.pipe(
      Deliver.to(Results),
      finals,
      Deliver.derived(Sums, ({ key, value }) => ({ key, value })),
    ),
  },
  { name: "sessions", flow: decoded.pipe(clicks, sessions) },
  {
    name: "sessions of what a filter left, delivered before",
    flow: decoded.pipe(Deliver.to(Results), Flow.filter((r) => r.n > 4), clicks, sessions),
  },
  { name: "sessions of many clicks in a record", flow: decoded.pipe(twice, clicks, sessions), fansOut: true },
  { name: "running aggregate", flow: decoded.pipe(sums), table: keyOf },
  {
    name: "running aggregate of a merge, the latest delivered",
    flow: decoded.pipe(merge(read(Others)), sums, Deliver.latest(Latest, ({ key, value }) => ({ id: key, n: value }))),
    table: keyOf,
    fansOut: true,
  },
]

const minute = Duration.toMillis("1 minute")

/** Records whose event time wanders forward, with repeats, gaps, and every kind of bad record. */
export const records = (dice: Dice, upstream: number | undefined): Array<Rec> => {
  let at = 100 * minute
  const clocks = new Map<string, number>()
  return dice.list(0, 60, (i) => {
    const key = dice.pick(["ann", "ben", "cho"])
    const id = `${key}-${dice.int(0, 9)}`
    const n = dice.int(0, 9)
    at += dice.int(-60, 70) * 1_000
    const good = JSON.stringify({ id, n, at })
    const value = dice.pick([good, good, good, good, good, good, "{", JSON.stringify({ id: 1, n, at }), null])
    const record = { key: dice.int(0, 9) === 0 ? null : key, value, timestamp: 200 * minute + i * 5_000 }
    if (upstream === undefined) return record
    const writer = String(Math.min(dice.int(0, upstream - 1), dice.int(0, upstream - 1)))
    const clock = Math.max(clocks.get(writer) ?? -Infinity, at)
    clocks.set(writer, clock)
    return dice.int(0, 19) === 0 ? record : { ...record, headers: writerHeaders(writer, clock) }
  })
}
