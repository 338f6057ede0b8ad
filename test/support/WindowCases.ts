/** All kinds of windows with all ways of emission, in flows for the laws. */
import { Schema } from "effect"
import { Aggregate, Branch, Decode, Deliver, Flow, Fold, Ingest, merge, Topic, Window } from "../../src/index.ts"
import {
  type Case,
  common,
  decoded,
  moved,
  Others,
  read,
  Reading,
  refuseOdd,
  routed,
  Sums,
  twice,
} from "./StageCases.ts"

/** Tells values apart, and in which order they were folded. */
export const ids = Fold.contramap(Fold.collect(Schema.String, { atMost: 100 }), ({ id, n }: Reading) => `${id}=${n}`)

export const windows = {
  tumbling: Window.tumbling({ size: "1 minute", grace: "30 seconds" }),
  hopping: Window.hopping({ size: "1 minute", every: "25 seconds", grace: "30 seconds" }),
  sliding: Window.sliding({ difference: "30 seconds", grace: "20 seconds" }),
  session: Window.session({ gap: "20 seconds", grace: "40 seconds" }),
  count: Window.count({ size: 3 }),
  "overlapping count": Window.count({ size: 4, every: 3 }),
  "count with a timeout": Window.count({ size: 4, every: 2, timeout: "50 seconds" }),
} satisfies Record<string, Window.Any>

const each = Object.entries(windows) as ReadonlyArray<readonly [name: string, window: Window.Session]>

const at = (value: Window.Windowed<unknown> & { readonly number?: number }) =>
  `${value.key}@${value.number ?? value.start}`

const small = Window.tumbling({ size: "20 seconds" })

export const Visits = Topic.make({
  ...common,
  name: "latest",
  schema: Schema.Struct({ key: Schema.String, start: Schema.Int, ids: Schema.Array(Schema.String) }),
  key: ["key and start", ({ key, start }) => `${key}@${start}`],
})

const total = Fold.sum(({ value }: Window.Windowed<ReadonlyArray<string>>) => value.length)

/** Readings of which some are later than their arrival. */
const Ahead = Topic.make({
  ...common,
  name: "ahead",
  schema: Reading,
  eventTime: ({ at }: Reading) => at + 100 * 60_000,
})

export const windowCases: ReadonlyArray<Case> = [
  ...each.flatMap(([name, window]): ReadonlyArray<Case> => {
    const numbered = name === "count with a timeout"
    const flow = (emit: Aggregate.Emit) => decoded.pipe(Aggregate.windowed({ name: "w", window, fold: ids, emit }))
    return [
      // After a timeout numbers begin again, and windows of one number follow each other.
      ...numbered ? [] : [{ name: `${name}, updates`, flow: flow("updates"), table: at, fansOut: true } as const],
      { name: `${name}, finals`, flow: flow("final"), fansOut: true },
      { name: `${name}, every 45 seconds`, flow: flow({ every: "45 seconds" }), fansOut: true },
      { name: `${name}, every 10 minutes`, flow: flow({ every: "10 minutes" }), fansOut: true },
      {
        name: `${name}, of many values in a record, some of which fail, in a branch, then windows of the finals`,
        flow: decoded.pipe(
          twice,
          refuseOdd,
          Branch.when((r) => r.n > 2, (flow) =>
            flow.pipe(
              Aggregate.windowed({ name: "w", window, fold: ids, emit: "final" }),
              Aggregate.windowed({ name: "again", window: small, fold: total, emit: "final" }),
              Flow.map(({ key, value }) => ({ key, value })),
              Deliver.to(Sums),
            )),
        ),
        fansOut: true,
      },
    ]
  }),
  {
    name: "sessions of a merge, the latest delivered with tombstones",
    flow: decoded.pipe(
      merge(read(Others)),
      Aggregate.windowed({ name: "w", window: windows.session, fold: ids }),
      Deliver.latest(Visits, ({ key, start, value }) => ({ key, start, ids: value }), {
        isDeleted: ({ retracted }) => retracted,
      }),
    ),
    table: at,
    fansOut: true,
  },
  {
    name: "decode within a bound, then sessions",
    flow: Ingest.topic(Ahead).pipe(
      Decode.within({ ahead: "10 seconds" }),
      Aggregate.windowed({ name: "w", window: windows.session, fold: ids, emit: "final" }),
    ),
  },
  {
    name: "sliding windows of a repartition",
    flow: moved(routed).pipe(Aggregate.windowed({ name: "w", window: windows.sliding, fold: ids, emit: "final" })),
    upstream: 3,
    fansOut: true,
  },
  {
    name: "running aggregate, every 45 seconds",
    flow: decoded.pipe(Aggregate.running({ name: "w", fold: ids, emit: { every: "45 seconds" } })),
  },
  {
    name: "running aggregate, every 45 seconds, then windows",
    flow: decoded.pipe(
      Aggregate.running({ name: "w", fold: ids, emit: { every: "45 seconds" } }),
      Aggregate.count({ name: "again", window: small, emit: "final" }),
    ),
    fansOut: true,
  },
]
