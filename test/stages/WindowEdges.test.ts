/** What every kind of window does with records of one time, with tombstones, over restarts, and where a partition is idle. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import {
  Aggregate,
  Decode,
  Deliver,
  Failures,
  Flow,
  Fold,
  Guarantee,
  Ingest,
  Pipeline,
  Topic,
  Window,
} from "../../src/index.ts"
import { Driver } from "../../src/testing/index.ts"
import { type Records, windowed } from "../support/Windowing.ts"

const kinds = {
  tumbling: Window.tumbling({ size: 10, grace: 5 }),
  hopping: Window.hopping({ size: 10, every: 5, grace: 5 }),
  sliding: Window.sliding({ difference: 10, grace: 5 }),
  session: Window.session({ gap: 10, grace: 5 }),
  count: Window.count({ size: 3, timeout: 30 }),
} satisfies Record<string, Window.Any>
type Kind = keyof typeof kinds
const names = Object.keys(kinds) as ReadonlyArray<Kind>

/** What each kind is expected to emit. */
type Expected = Record<Kind, ReadonlyArray<string>>

/** Closes everything that was open. */
const end = ["z", 1_000] as const

describe.each(names)("%s windows", (name) => {
  const window = kinds[name]

  it.effect("hold records of one time in their order, each key for itself", () =>
    Effect.gen(function* () {
      const expected: Expected = {
        tumbling: ["a 0..10 0 1 3!", "b 0..10 2!"],
        hopping: ["a 0..10 0 1 3!", "b 0..10 2!", "a 5..15 0 1 3!", "b 5..15 2!"],
        sliding: ["a -5..5 0 1 3!", "b -5..5 2!"],
        session: ["a 5..5 0 1 3!", "b 5..5 2!"],
        count: ["a 5..5 0 1 3!", "b 5..5 2!"],
      }
      const { emitted, failed } = yield* windowed([["a", 5], ["a", 5], ["b", 5], ["a", 5], end], { window })
      assert.deepStrictEqual([emitted, failed], [expected[name], []])
    }))

  it.effect("fail a tombstone as a record, and hold the others as if it had not come", () =>
    Effect.gen(function* () {
      const expected: Expected = {
        tumbling: ["a 0..10 0 2!"],
        hopping: ["a -5..5 0!", "a 0..10 0 2!", "a 5..15 2!"],
        sliding: ["a -6..4 0!", "a -4..6 0 2!", "a 5..15 2!"],
        session: ["a 4..6 0 2!"],
        count: ["a 4..6 0 2!"],
      }
      const { emitted, failed } = yield* windowed([["a", 4], ["a", null], ["a", 6], end], { window })
      assert.deepStrictEqual([emitted, failed], [expected[name], ["1 DecodeError"]])
    }))

  // Out of order within grace, on edges, exactly a gap apart, late for some windows and for all.
  const records: Records = [
    ["a", 0],
    ["b", 9],
    ["a", 10],
    ["a", 8],
    ["b", 19],
    ["a", null],
    ["a", 20],
    ["b", 14],
    ["a", 4],
    [null, 21],
    ["a", 41],
    ["b", 22],
    ["a", 41],
    ["b", 70],
    ["a", 3],
    end,
  ]
  const cuts = records.map((_, i) => i)
  it.effect.each([["updates"], ["final"], [{ every: 7 }]] as const)(
    "go on where they were after a restart: %j",
    ([emit]) =>
      Effect.gen(function* () {
        const whole = yield* windowed(records, { window, emit, cuts })
        assert.isAbove(whole.emitted.length, 3)
        assert.strictEqual(whole.failed.some((one) => one.includes("Late")), name !== "count")
        for (let restartAfter = 1; restartAfter < records.length; restartAfter++) {
          const restarted = yield* windowed(records, { window, emit, cuts, restartAfter })
          assert.deepStrictEqual(restarted, whole, `after ${restartAfter}`)
        }
      }),
  )

  const about = { owner: "", description: "", partitions: 2 }
  const Events = Topic.make({
    ...about,
    name: "events",
    schema: Schema.Struct({ at: Schema.Int }),
    eventTime: ({ at }: { readonly at: number }) => at,
  })
  const Results = Topic.make({ ...about, partitions: 1, name: "results", schema: Schema.String })
  const counting = (wallClockAfter?: number) =>
    Pipeline.make(
      "counting",
      Ingest.topic(Events, wallClockAfter === undefined ? {} : { wallClockAfter }).pipe(
        Decode.schema,
        Aggregate.windowed({ name: "w", window: window as Window.Session, fold: Fold.count, emit: "final" }),
        Flow.map(({ key, end, value }) => `${key} ${end}: ${value}`),
        Deliver.to(Results),
        Failures.routeAll(Failures.skip),
      ),
      Guarantee.exactlyOnce(),
    )
  const feed = (driver: Driver.Driver, partition: number, key: string, ...times: ReadonlyArray<number>) =>
    driver.feed(Events, times.map((at) => Driver.record({ value: { at }, key, partition })))
  const results = (driver: Driver.Driver) =>
    Effect.map(driver.take(Results), (all) => all.map(({ value }) => value!).toSorted())
  const of = (key: string): ReadonlyArray<string> =>
    ({
      tumbling: [`${key} 10: 2`],
      hopping: [`${key} 10: 2`, `${key} 5: 1`, `${key} 15: 1`],
      sliding: [`${key} 4: 1`, `${key} 6: 2`, `${key} 15: 1`],
      session: [`${key} 6: 2`],
      count: [`${key} 6: 2`],
    })[name].toSorted()

  const byRecords = counting()
  const byWallClock = counting(5_000)

  it.effect("close in one partition while another is idle, whose records are late by its own clock alone", () =>
    Driver.run({ pipelines: byRecords }, (driver) =>
      Effect.gen(function* () {
        yield* feed(driver, 1, "quiet", 4)
        yield* feed(driver, 0, "busy", 4, 6, 1_000)
        yield* driver.settle
        assert.deepStrictEqual(yield* results(driver), of("busy"))
        // Far behind the other partition, and in time in its own.
        yield* feed(driver, 1, "quiet", 6)
        yield* driver.advance("10 minutes")
        assert.deepStrictEqual(yield* results(driver), [])
        yield* feed(driver, 1, "quiet", 1_000)
        yield* driver.settle
        assert.deepStrictEqual(yield* results(driver), of("quiet"))
        assert.deepStrictEqual((yield* driver.counts(byRecords)).dropped, {})
      })))

  it.effect("close by the wall clock where that is asked for, in the idle partition alone", () =>
    Driver.run({ pipelines: byWallClock }, (driver) =>
      Effect.gen(function* () {
        yield* feed(driver, 1, "quiet", 4, 6)
        yield* driver.advance(4_000)
        assert.deepStrictEqual(yield* results(driver), [])
        yield* driver.advance(4_000)
        assert.deepStrictEqual(yield* results(driver), of("quiet"))
        // The other one has heard nothing, and takes what is as old.
        yield* feed(driver, 0, "busy", 4, 6, 1_000)
        yield* driver.settle
        assert.deepStrictEqual((yield* results(driver)).filter((one) => one.startsWith("busy")), of("busy"))
        assert.deepStrictEqual((yield* driver.counts(byWallClock)).dropped, {})
      })))
})
