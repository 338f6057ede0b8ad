/** Flows with state whose input has no stream time at first, or whose branches have times of their own. */
import { Schema } from "effect"
import { Aggregate, Branch, Deduplicate, Flow, Join, merge, Table, Window } from "../../src/index.ts"
import { type Case, decoded, moved, Others, read, Reading, routed } from "./StageCases.ts"
import { ids, windows } from "./WindowCases.ts"

const each = Object.entries(windows) as ReadonlyArray<readonly [name: string, window: Window.Session]>

const emits: ReadonlyArray<readonly [name: string, emit: Aggregate.Emit]> = [
  ["finals", "final"],
  ["every 45 seconds", { every: "45 seconds" }],
]

const inputs = [
  ["of a repartition", moved(routed), 3],
  ["of a merge", decoded.pipe(merge(read(Others))), undefined],
] as const

const short = Window.tumbling({ size: "10 seconds" })
const long = Window.tumbling({ size: "5 minutes" })

const shortly = decoded.pipe(
  Aggregate.count({ name: "short", window: short, emit: "final" }),
  Flow.map(({ start }) => start),
)

export const timeCases: ReadonlyArray<Case> = [
  ...inputs.flatMap(([of, flow, upstream]): ReadonlyArray<Case> => [
    ...each.flatMap(([name, window]) =>
      emits.map(([when, emit]): Case => ({
        name: `${name} ${of}, ${when}`,
        flow: flow.pipe(Aggregate.windowed({ name: "w", window, fold: ids, emit })),
        ...upstream && { upstream },
        fansOut: true,
      }))
    ),
    {
      name: `running aggregate ${of}, every 45 seconds, then windows`,
      flow: flow.pipe(
        Aggregate.running({ name: "w", fold: ids, emit: { every: "45 seconds" } }),
        Aggregate.count({ name: "again", window: windows.tumbling, emit: "final" }),
      ),
      ...upstream && { upstream },
      fansOut: true,
    },
  ]),
  {
    name: "windows of results of two branches, one of which is far behind",
    flow: decoded.pipe(
      Branch.when(
        ({ n }) => n > 4,
        (flow) => flow.pipe(Aggregate.count({ name: "short", window: short, emit: "final" })),
      ),
      Branch.when(
        (value): value is Reading => "id" in value,
        (flow) => flow.pipe(Aggregate.count({ name: "long", window: long, emit: "final" })),
      ),
      Aggregate.count({ name: "w", window: short, emit: "final" }),
    ),
    fansOut: true,
  },
  {
    name: "join of window finals with what they were made of",
    flow: shortly.pipe(
      Join.stream(decoded, {
        name: "pairs",
        kind: "outer",
        within: "1 minute",
        grace: "2 minutes",
        left: Schema.Number,
        right: Reading,
        join: (start, reading) => `${start} ${reading?.id}`,
      }),
    ),
    fansOut: true,
  },
  {
    name: "as-of join of window finals with what they were made of",
    flow: shortly.pipe(
      Join.asOf(decoded.pipe(Table.of(Reading)), {
        name: "rows",
        kind: "left",
        history: "5 minutes",
        grace: "2 minutes",
        value: Schema.Number,
        join: (start, reading) => `${start} ${reading?.id}`,
      }),
    ),
    fansOut: true,
  },
  {
    name: "deduplicate window finals",
    flow: shortly.pipe(Deduplicate.by({ name: "seen", id: (start) => String(start % 20_000), window: "2 minutes" })),
    storesByBatch: true,
    fansOut: true,
  },
]
