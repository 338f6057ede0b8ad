import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Aggregate, Decode, type Flow, Ingest, type Task, Topic, Window } from "../../src/index.ts"
import { committed, run, sources } from "../support/FlowRunner.ts"

const Events = Topic.make({
  name: "events",
  description: "Test",
  owner: "tests",
  schema: Schema.Struct({ at: Schema.NullOr(Schema.Number) }),
  eventTime: ({ at }) => at ?? NaN,
  partitions: 1,
})
const Plain = Topic.make({ name: "plain", description: "Test", owner: "tests", schema: Schema.Unknown, partitions: 1 })

interface Options {
  readonly topic?: Topic.Topic<unknown>
  readonly arrival?: number
  readonly cuts?: ReadonlyArray<number>
}

/** What becomes of records with the given values, that arrive at one time: values, failures, and stream time after each. */
const decoded = <A, F extends { readonly _tag: string; readonly message: string }>(
  flow: Flow.Flow<A, F, Task.PipelineError, Task.Task | Task.Logged>,
  values: ReadonlyArray<string | null>,
  { topic = Events, arrival = 1_000, cuts = [] }: Options = {},
) =>
  Effect.map(
    run(
      flow,
      new Map([[
        topic as Topic.Any,
        sources(topic, values.map((value) => ({ key: "k", value, timestamp: arrival })), cuts),
      ]]),
    ),
    ({ batches }) => ({
      batches,
      values: batches.flatMap(({ values }) => values),
      failed: batches.flatMap(({ failed, source }) =>
        failed.map(({ row, reason }) => `${source.offsets[row]} ${reason._tag}: ${reason.message}`)
      ),
      clock: batches.flatMap(({ time }) => [...time!.rowClock]),
    }),
  )

const at = (time: unknown) => JSON.stringify({ at: time })

describe("Decode.schema", () => {
  it.effect("fails records whose event time is missing, negative or no number, and leaves stream time where it is", () =>
    Effect.gen(function* () {
      const { failed, clock, values } = yield* decoded(Ingest.topic(Events).pipe(Decode.schema), [
        at(5),
        at(null),
        at(-1),
        '{"at":1e999}',
        "{}",
        null,
        at(0),
        at(7.5),
      ])
      assert.deepStrictEqual(failed.map((one) => one.replace(/ms .*/, "")), [
        "1 DecodeError: is not a time since 1970",
        "2 DecodeError: is not a time since 1970",
        "3 DecodeError: Expected a finite number",
        "4 DecodeError: Missing key",
        "5 DecodeError: the value is null (a tombstone)",
      ])
      assert.deepStrictEqual(clock, [5, 5, 5, 5, 5, 5, 5, 7.5])
      assert.deepStrictEqual(values, [{ at: 5 }, { at: 0 }, { at: 7.5 }])
    }))

  it.effect("fails records whose event time is no date any more", () =>
    Effect.gen(function* () {
      const counted = Ingest.topic(Events).pipe(
        Decode.schema,
        Aggregate.count({ name: "c", window: Window.tumbling({ size: 60_000 }), emit: "final" }),
      )
      // The first would be in windows without end: a minute before it is the same number.
      const { failed, values } = yield* decoded(counted, [
        at(9.23080244777148e24),
        at(8.64e15 + 1),
        at(8.64e15),
        at(1e300),
      ])
      assert.deepStrictEqual(failed, [
        "0 DecodeError: is after the year 275760: it is in milliseconds",
        "1 DecodeError: is after the year 275760: it is in milliseconds",
        "3 DecodeError: is after the year 275760: it is in milliseconds",
      ])
      assert.deepStrictEqual(values, [])
    }))

  it.effect("fails records without a Kafka timestamp where the contract has no event time", () =>
    Effect.gen(function* () {
      const { failed, clock } = yield* decoded(Ingest.topic(Plain).pipe(Decode.schema), ["1"], {
        topic: Plain,
        arrival: -1,
      })
      assert.deepStrictEqual([failed, clock], [["0 DecodeError: is not a time since 1970"], [-Infinity]])
    }))

  it.effect("takes event time from the future where it is not told otherwise", () =>
    Effect.gen(function* () {
      const { failed, clock } = yield* decoded(Ingest.topic(Events).pipe(Decode.schema), [at(1e15)])
      assert.deepStrictEqual([failed, clock], [[], [1e15]])
    }))
})

describe("Decode.within", () => {
  const bounded = Ingest.topic(Events).pipe(Decode.within({ ahead: 500 }))

  it.effect("fails records that are later than their arrival by more than is taken, and by no less", () =>
    Effect.gen(function* () {
      const { failed, clock, values } = yield* decoded(bounded, [at(1_500), at(1_501), at(3), at(1e15), at(1_499)])
      assert.deepStrictEqual(failed, [
        "1 FromTheFuture: is 501 ms later than the record's arrival, and 500 ms are taken",
        "3 FromTheFuture: is 999999999999000 ms later than the record's arrival, and 500 ms are taken",
      ])
      assert.deepStrictEqual(clock, [1_500, 1_500, 1_500, 1_500, 1_500])
      assert.deepStrictEqual(values, [{ at: 1_500 }, { at: 3 }, { at: 1_499 }])
    }))

  it.effect("keeps one wild record from closing windows for all, also over a restart", () =>
    Effect.gen(function* () {
      const counted = bounded.pipe(
        Aggregate.count({ name: "c", window: Window.tumbling({ size: 100 }), emit: "final" }),
      )
      const records = [at(1_000), at(9e12), at(1_001), at(1_100)]
      const { values, batches } = yield* decoded(counted, records, { cuts: [2] })
      assert.deepStrictEqual(values.map(({ start, value }) => [start, value]), [[1_000, 2]])
      const { clocks } = committed(batches.slice(0, 1))
      assert.strictEqual(clocks.get(Events)!.now, 1_000)
    }))

  it.effect("takes everything of a topic without event time", () =>
    Effect.gen(function* () {
      const flow = Ingest.topic(Plain).pipe(Decode.within({ ahead: 0 }))
      const { failed, clock } = yield* decoded(flow, ["1", "2"], { topic: Plain, arrival: 9e12 })
      assert.deepStrictEqual([failed, clock], [[], [9e12, 9e12]])
    }))

  it("refuses a bound that is none", () => {
    assert.throws(() => Decode.within({ ahead: Infinity }), RangeError, "Decode.within")
    assert.throws(() => Decode.within({ ahead: -1 }), RangeError, "Decode.within")
  })
})
