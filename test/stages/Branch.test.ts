/** What comes out of a branch is what its stages answered. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import { Buffer } from "node:buffer"
import { Aggregate, Branch, Check, DeadLetter, Decode, Failures, Fold, Ingest, Topic, Window } from "../../src/index.ts"
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

const event = (at: number, good: boolean): string => JSON.stringify({ at, good })

const decoded = Ingest.topic(Events).pipe(Decode.schema)
const checked = decoded.pipe(
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

  it.effect("keeps the time of a fold's results, so that they can be folded again", () =>
    Effect.gen(function* () {
      const again = Aggregate.windowed({
        name: "hundreds",
        window: Window.tumbling({ size: 100 }),
        emit: "final",
        fold: Fold.count,
      })
      const records = [5, 95, 105, 205, 305].map((at) => ({ key: "k", value: event(at, true), timestamp: 0 }))
      for (const flow of [decoded.pipe(finals), decoded.pipe(Branch.when(() => true, (all) => all.pipe(finals)))]) {
        const { batches } = yield* run(flow.pipe(again), new Map([[Events, sources(Events, records, [1, 2, 3, 4])]]))
        const counted = batches.flatMap(({ values }) => values.map(({ start, value }) => [start, value]))
        assert.deepStrictEqual(counted, [[0, 2], [100, 1]])
        assert.deepStrictEqual(batches.flatMap(({ failed }) => failed), [])
      }
    }))

  it.effect("leaves records that pass it as they are, for dead letters too", () =>
    Effect.gen(function* () {
      const Refused = Topic.bytes({ name: "refused", description: "", owner: "", partitions: 1 })
      const headers = [["h", Buffer.from("1")]] as const
      const records = [[5, true], [6, false]] as const
      const flow = decoded.pipe(
        Branch.when((event) => event.good, (good) => good.pipe(finals)),
        Check.with((value) => Result.fail(new Bad({ message: "start" in value ? "folded" : "passed" }))),
        Failures.routeAll(DeadLetter.to(Refused)),
      )
      const all = records.map(([at, good]) => ({ key: "k", value: event(at, good), timestamp: 0, headers }))
      const { batches } = yield* run(flow, new Map([[Events, sources(Events, all, [])]]))
      const [letter] = batches.flatMap(({ outgoing }) => outgoing)
      assert.strictEqual(String(letter!.value), event(6, false))
      assert.deepStrictEqual(letter!.headers![0], headers[0])
    }))
})
