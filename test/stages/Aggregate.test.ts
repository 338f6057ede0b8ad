import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Buffer } from "node:buffer"
import { Aggregate, DeadLetter, Decode, Deliver, Failures, Flow, Fold, Ingest, Topic, Window } from "../../src/index.ts"
import { run, sources } from "../support/FlowRunner.ts"
import { forSeeds } from "../support/Seeds.ts"

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

  it.effect("fails one result alone, with itself in the dead letter", () =>
    Effect.gen(function* () {
      const Small = Topic.make({
        name: "small",
        description: "Test output",
        owner: "tests",
        schema: Schema.Struct({ key: Schema.String, value: Schema.Int.check(Schema.isLessThan(3)) }),
        partitions: 1,
      })
      const Refused = Topic.bytes({ name: "refused", description: "Test output", owner: "tests", partitions: 1 })
      const flow = Ingest.topic(Events).pipe(
        Decode.schema,
        Aggregate.count({ name: "counts", window: Window.tumbling({ size: 100 }), emit: "final" }),
        Flow.map(({ key, value }) => ({ key, value })),
        Deliver.to(Small),
        Failures.routeAll(DeadLetter.to(Refused)),
      )
      const all = ["bad", "bad", "bad", "ann", "ben"].map((key, i) => ({ key, value: String(i), timestamp: i }))
      const closing = { key: "cho", value: "150", timestamp: 150 }
      const { batches } = yield* run(flow, new Map([[Events as Topic.Any, sources(Events, [...all, closing], [])]]))
      assert.deepStrictEqual(
        batches.flatMap(({ outgoing }) => outgoing.map(({ topic, key, value }) => `${topic} ${key} ${value}`)),
        [
          'small ann {"key":"ann","value":1}',
          'small ben {"key":"ben","value":1}',
          'refused bad {"key":"bad","value":3}',
        ],
      )
    }))

  it.effect("can be folded again: what is emitted has a time of its own, however the input is cut", () =>
    forSeeds(50, (dice) =>
      Effect.gen(function* () {
        const flow = Ingest.topic(Events).pipe(
          Decode.schema,
          Aggregate.count({ name: "small", window: Window.tumbling({ size: 10 }), emit: "final" }),
          Aggregate.windowed({
            name: "large",
            window: Window.tumbling({ size: 50 }),
            emit: "final",
            fold: Fold.make({
              state: Schema.Int,
              initial: () => 0,
              add: (sum, { value }: Window.Windowed<number>) => sum + value,
            }),
          }),
        )
        const all = Array.from({ length: 31 }, (_, i) => ({ key: "a", value: String(i * 10), timestamp: 0 }))
        const cuts = dice.list(0, 10, () => dice.int(1, 30))
        const { batches } = yield* run(flow, new Map([[Events as Topic.Any, sources(Events, all, cuts)]]))
        assert.deepStrictEqual(
          batches.flatMap(({ values }) => values.map(({ start, value }) => `${start}=${value}`)),
          ["0=5", "50=5", "100=5", "150=5", "200=5"],
        )
        assert.deepStrictEqual(batches.flatMap(({ failed }) => failed), [])
      })))

  it.effect("can be folded again where one record closes many windows: none of their results is late", () =>
    Effect.gen(function* () {
      const flow = Ingest.topic(Events).pipe(
        Decode.schema,
        Aggregate.count({ name: "small", window: Window.tumbling({ size: 10 }), emit: "final" }),
        Aggregate.count({ name: "large", window: Window.tumbling({ size: 20 }), emit: "final" }),
      )
      const all = [5, 15, 25, 35, 95].map((at) => ({ key: "a", value: String(at), timestamp: 0 }))
      const { batches } = yield* run(flow, new Map([[Events as Topic.Any, sources(Events, all, [])]]))
      assert.deepStrictEqual(
        batches.flatMap(({ values }) => values.map(({ start, value }) => `${start}=${value}`)),
        ["0=2", "20=2"],
      )
      assert.deepStrictEqual(batches.flatMap(({ failed }) => failed), [])
    }))

  it.effect("counts a record in every hopping window that holds it, and says which it came too late for", () =>
    Effect.gen(function* () {
      const flow = Ingest.topic(Events).pipe(
        Decode.schema,
        Aggregate.count({ name: "counts", window: Window.hopping({ size: 100, every: 50 }), emit: "final" }),
      )
      const all = [60, 100, 149, 80, 500].map((at) => ({ key: "a", value: String(at), timestamp: 0 }))
      const { batches } = yield* run(flow, new Map([[Events as Topic.Any, sources(Events, all, [2])]]))
      assert.deepStrictEqual(
        batches.flatMap(({ values }) => values.map(({ start, end, value }) => `${start}-${end}=${value}`)),
        ["0-100=1", "50-150=4", "100-200=2"],
      )
      assert.deepStrictEqual(
        batches.flatMap(({ failed }) =>
          failed.map((
            { row, kept, reason },
          ) => [row, kept, reason._tag === "Late" && [reason.windowEnd, reason.partly]])
        ),
        [[1, true, [100, true]]],
      )
    }))

  it.effect("does not take two keys that are not text for one", () =>
    Effect.gen(function* () {
      const flow = Ingest.topic(Events).pipe(
        Decode.schema,
        Aggregate.running({ name: "all", fold: Fold.count }),
      )
      const [source] = sources(Events, [1, 2].map((at) => ({ key: "a", value: String(at), timestamp: at })), [])
      const keys = [200, 201].map((last) => Buffer.from([0, 0, 0, last]))
      const { batches, stores } = yield* run(flow, new Map([[Events as Topic.Any, [{ ...source!, keys }]]]))
      assert.strictEqual(stores.get("all")!.size, 0)
      assert.deepStrictEqual(
        batches.flatMap(({ failed }) => failed.map(({ reason }) => reason.message)),
        Array(2).fill("all groups by the record's key, and this record has one that is not UTF-8 text"),
      )
    }))

  it.effect("names the record at which its function throws", () =>
    Effect.gen(function* () {
      const flow = Ingest.topic(Events).pipe(
        Decode.schema,
        Aggregate.running({
          name: "all",
          fold: Fold.make({
            state: Schema.Int,
            initial: () => 0,
            add: (_, at: number) => {
              if (at === 7) throw new Error("seven")
              return at
            },
          }),
        }),
      )
      const all = [5, 6, 7].map((at) => ({ key: "a", value: String(at), timestamp: at }))
      const exit = yield* Effect.exit(run(flow, new Map([[Events as Topic.Any, sources(Events, all, [])]])))
      assert.include(String(exit), "topic events partition 0 offset 2: Error: seven")
    }))
})
