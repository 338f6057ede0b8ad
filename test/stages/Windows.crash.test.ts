/** Windows of every kind in pipelines whose process dies at each of its requests: the results are those of a calm run. */
import { assert, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import {
  Aggregate,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  Topic,
  type Window,
} from "../../src/index.ts"
import { atEveryStep, Driver } from "../../src/testing/index.ts"
import { Readings } from "../support/StageCases.ts"
import { ids, windows as all } from "../support/WindowCases.ts"

const Results = Topic.make({
  name: "results",
  description: "",
  owner: "",
  partitions: 1,
  schema: Schema.String,
  key: ["the result's window", (result) => result.split(" ")[0]!],
})

type AnyResult =
  & Window.Windowed<ReadonlyArray<string>>
  & Partial<Window.SessionResult<unknown> & Window.Counted<unknown>>

const named = ({ key, start, number, end, value, final }: AnyResult) =>
  `${key}@${number ?? start} ${end} ${value.join(",")}${final ? "!" : ""}`

const pipeline = (window: Window.Any, emit: Aggregate.Emit) =>
  Pipeline.make(
    "windows",
    Ingest.topic(Readings).pipe(
      Decode.schema,
      Aggregate.windowed({ name: "w", window: window as Window.Session, fold: ids, emit }),
      Flow.map((result): AnyResult => result),
      emit === "updates"
        ? Deliver.latest(Results, named, { isDeleted: ({ retracted }) => retracted === true })
        : Deliver.derived(Results, named),
      Failures.routeAll(Failures.skip),
    ),
    Guarantee.exactlyOnce(),
  )

const reading = (key: string, id: string, seconds: number) =>
  Driver.record({ key, value: { id, n: 0, at: seconds * 1_000 } })

const parts = [
  [reading("a", "1", 60), reading("b", "2", 61), reading("a", "3", 95), reading("a", "4", 75)],
  [reading("a", "5", 50), reading("b", "6", 81), reading("a", "7", 30), reading("a", "8", 100)],
  [reading("b", "9", 170), reading("a", "0", 171), reading("b", "x", 400)],
]

for (const [name, window] of Object.entries(all)) {
  for (const emit of ["updates", "final", { every: "45 seconds" }] as const) {
    it.effect(`${name}, ${typeof emit === "string" ? emit : "by periods"}`, () =>
      Effect.gen(function* () {
        const windows = pipeline(window, emit)
        const seen = new Set<number>()
        const crashes = yield* atEveryStep({ pipelines: windows }, (driver: Driver.Driver) =>
          Effect.gen(function* () {
            for (const part of parts) {
              yield* driver.feed(Readings, part)
              yield* driver.settle
            }
            const results = yield* driver.read(Results)
            seen.add(results.length)
            return emit === "updates" ? [...yield* driver.latest(Results)].sort() : results.map(({ value }) => value)
          }))
        assert.isAbove(crashes, 20)
        assert.isAbove(Math.max(...seen), 2)
      }), 60_000)
  }
}
