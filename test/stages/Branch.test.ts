/** What comes out of a branch is what its stages answered. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import { Aggregate, Branch, Check, Decode, Ingest, Topic, Window } from "../../src/index.ts"
import { run, sources } from "../support/FlowRunner.ts"

const Events = Topic.make({
  name: "events",
  description: "",
  owner: "",
  schema: Schema.Struct({ at: Schema.Int, good: Schema.Boolean }),
  eventTime: (event) => event.at,
  partitions: 1,
})

class Bad extends Schema.TaggedError<Bad>()("Bad", { message: Schema.String }) {}

const checked = Ingest.topic(Events).pipe(
  Decode.schema,
  Check.with((event) => event.good ? Result.succeed(event) : Result.fail(new Bad({ message: "not good" }))),
)
const finals = Aggregate.count({ name: "tens", window: Window.tumbling({ size: 10 }), emit: "final" })

describe("Branch.when", () => {
  it.effect("keeps windows that closed at a record that had failed before", () =>
    Effect.gen(function* () {
      const records = [[1, true], [25, false], [26, true], [50, false]].map(([at, good]) => ({
        key: "k",
        value: JSON.stringify({ at, good }),
        timestamp: 0,
      }))
      for (const flow of [checked.pipe(finals), checked.pipe(Branch.when(() => true, (all) => all.pipe(finals)))]) {
        const { batches } = yield* run(flow, new Map([[Events, sources(Events, records, [])]]))
        const [batch] = batches
        const counted = batch!.values.map((value) => "start" in value ? [value.start, value.value] : [])
        assert.deepStrictEqual(counted, [[0, 1], [20, 1]])
        assert.deepStrictEqual(batch!.failed.map(({ row }) => row), [1, 3])
      }
    }))
})
