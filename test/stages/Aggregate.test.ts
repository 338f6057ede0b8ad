import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Aggregate, Decode, Ingest, Topic, Window } from "../../src/index.ts"
import { run, sources } from "../support/FlowRunner.ts"

const Events = Topic.make({
  name: "events",
  description: "Test input",
  owner: "tests",
  schema: Schema.Int,
  eventTime: (at: number) => at,
  partitions: 1,
})

/** What a count per key and window of 100 ms with 50 ms grace emits, and which rows were late. */
const counted = (
  records: ReadonlyArray<readonly [key: string | null, at: number]>,
  emit: "updates" | "final" = "final",
  cuts: ReadonlyArray<number> = [],
) =>
  Effect.gen(function* () {
    const window = Window.tumbling({ size: 100, grace: 50 })
    const flow = Ingest.topic(Events).pipe(Decode.schema, Aggregate.count({ name: "counts", window, emit }))
    const all = records.map(([key, at]) => ({ key, value: String(at), timestamp: at }))
    const { batches, stores } = yield* run(flow, new Map([[Events as Topic.Any, sources(Events, all, cuts)]]))
    return {
      emitted: batches.flatMap((batch) =>
        batch.values.map(({ key, start, value, final }) => `${key}@${start}=${value}${final ? "!" : ""}`)
      ),
      failed: batches.flatMap((batch) =>
        batch.failed.map((failed) => `${batch.source.offsets[failed.row]} ${failed.reason._tag}`)
      ),
      open: stores.get("counts")!.size,
    }
  })

describe("Aggregate.windowed", () => {
  it.effect("puts a record that is exactly on an edge into the window that starts there", () =>
    Effect.gen(function* () {
      const { emitted } = yield* counted([["a", 99], ["a", 100], ["b", 250], ["b", 400]])
      assert.deepStrictEqual(emitted, ["a@0=1!", "a@100=1!", "b@200=1!"])
    }))

  it.effect("closes a window when stream time reaches its end plus grace, not before", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* counted([["a", 0], ["b", 149]])).emitted, [])
      assert.deepStrictEqual((yield* counted([["a", 0], ["b", 150]])).emitted, ["a@0=1!"])
    }))

  it.effect("takes a record within grace, and calls it late once its window has closed", () =>
    Effect.gen(function* () {
      const within = yield* counted([["a", 0], ["b", 149], ["a", 1], ["b", 150]])
      assert.deepStrictEqual(within, { emitted: ["a@0=2!"], failed: [], open: 1 })
      const after = yield* counted([["a", 0], ["b", 150], ["a", 99], ["a", 100]])
      assert.deepStrictEqual(after, { emitted: ["a@0=1!"], failed: ["2 Late"], open: 2 })
    }))

  it.effect("emits the last update of each key per batch, and the final once", () =>
    Effect.gen(function* () {
      const records = [["a", 0], ["a", 1], ["b", 2], ["a", 3], ["b", 150]] as const
      assert.deepStrictEqual((yield* counted(records, "updates", [3])).emitted, [
        "a@0=2",
        "b@0=1",
        "a@0=3!",
        "b@0=1!",
        "b@100=1",
      ])
    }))

  it.effect("fails a record that has no key, and keeps what its time closed", () =>
    Effect.gen(function* () {
      const { emitted, failed } = yield* counted([["a", 0], [null, 150]])
      assert.deepStrictEqual([emitted, failed], [["a@0=1!"], ["1 Keyless"]])
    }))

  it("refuses a window that makes no sense", () => {
    assert.throws(() => Window.tumbling({ size: 0 }), /size/)
    assert.throws(() => Window.tumbling({ size: "1 minute", grace: "Infinity" }), /grace/)
  })
})
