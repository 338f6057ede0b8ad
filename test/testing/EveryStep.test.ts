/** The same test many times: with a crash at every step, and from many seeds. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Batch, Decode, Deliver, Failures, Flow, Guarantee, Ingest, Pipeline } from "../../src/index.ts"
import { atEveryStep, atRandom, type Dice, Driver, Faults } from "../../src/testing/index.ts"
import {
  atLeast,
  ByPage,
  type Click,
  click,
  Clicks,
  type Count,
  Counts,
  exactly,
  Late,
  later,
  popular,
  Refused,
  some,
} from "../support/ClickCounts.ts"
import { failure } from "../support/DriverFailure.ts"

const observe = (driver: Driver.Driver) =>
  Effect.gen(function* () {
    return {
      counts: yield* driver.latest(Counts),
      windows: [...yield* driver.store(exactly, "minutes")].toSorted(),
      late: (yield* driver.letters(Late)).map(({ value }) => value).toSorted(),
      refused: (yield* driver.letters(Refused)).map(({ reason, value }) => [reason, value]).toSorted(),
    }
  })

describe("every step", () => {
  const test = (driver: Driver.Driver) =>
    Effect.gen(function* () {
      for (const clicks of [some, later, some]) {
        yield* driver.feed(Clicks, clicks)
        yield* driver.settle
      }
      return yield* observe(driver)
    })

  it.effect("can be crashed at under exactly-once without a trace", () =>
    Effect.gen(function* () {
      const options = { pipelines: exactly, cluster: { markerDelay: "20 millis" } } as const
      const runs = yield* atEveryStep(options, (driver) =>
        Effect.tap(test(driver), ({ counts, late }) =>
          Effect.sync(() => {
            assert.deepStrictEqual(counts.get("/a@0"), { page: "/a", start: 0, clicks: 2, final: true })
            assert.strictEqual(late.length, 3)
          })))
      assert.isAbove(runs, 60)
    }), 120_000)

  it.effect("takes other faults, other steps and fewer of them", () =>
    Effect.gen(function* () {
      const options = { pipelines: exactly, faults: { "no answer to": Faults.loseAnswer } }
      const produce = yield* atEveryStep({ ...options, steps: ({ operation }) => operation === "Produce" }, test)
      const few = yield* atEveryStep({ ...options, most: 5 }, test)
      assert.isAtLeast(produce, 3)
      assert.strictEqual(few, 5)
    }), 60_000)

  const doubled = (driver: Driver.Driver) =>
    Effect.gen(function* () {
      yield* driver.feed(Clicks, some)
      yield* driver.settle
      return (yield* driver.read(ByPage)).length
    })

  it.effect("names the step where the outcome is another, and replays it", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(atEveryStep({ pipelines: atLeast }, doubled))
      failure("instead of 3", { reason: "Differs" })(error)
      const only = /only: "(.*)"/.exec(error.message)![1]!
      assert.match(only, /^a crash (before|after) \w+ \d+$/)
      const again = yield* Effect.flip(atEveryStep({ pipelines: atLeast, only }, doubled))
      assert.strictEqual(again.message, error.message)
      const runs = yield* atEveryStep({ pipelines: atLeast, same: (n, whole) => n >= whole }, doubled)
      assert.isAbove(runs, 20)
      failure("there is no step", { reason: "Unknown" })(
        yield* Effect.flip(atEveryStep({ pipelines: atLeast, only: "a crash at noon" }, doubled)),
      )
    }), 60_000)

  it.effect("says at which step the test itself fails, and that one which differs each time proves nothing", () =>
    Effect.gen(function* () {
      let runs = 0
      const thrown = yield* Effect.flip(
        atEveryStep(
          { pipelines: exactly, most: 2 },
          (driver) => Effect.tap(doubled(driver), () => Effect.sync(() => assert.isBelow(runs++, 1, "my own check"))),
        ),
      )
      failure("my own check", { reason: "Differs" })(thrown)
      failure("a crash before Metadata 1")(thrown)
      runs = 0
      const other = yield* Effect.flip(
        atEveryStep(
          { pipelines: exactly, only: "a crash after EndTxn 1" },
          (driver) => runs++ === 0 ? doubled(driver) : Effect.succeed(3),
        ),
      )
      failure("the call was not made")(other)
    }))
})

describe("many seeds", () => {
  /** Clicks per page, computed without the library. */
  const reference = (clicks: ReadonlyArray<Click>) => {
    const counts: Record<string, number> = {}
    for (const { page } of clicks) counts[`${page}@0`] = (counts[`${page}@0`] ?? 0) + 1
    return counts
  }
  const draw = (dice: Dice) =>
    dice.list(1, 60, () => click(dice.pick(["ann", "ben", "cho"]), dice.pick(["/a", "/b", "/c"]), dice.int(0, 59)))

  it.effect(
    "hold over cuts, crashes and requests that fail",
    () =>
      atRandom({ pipelines: [exactly, popular], runs: 25 }, (driver, dice) =>
        Effect.gen(function* () {
          const clicks = draw(dice)
          yield* driver.feed(Clicks, clicks)
          yield* driver.settle
          const counts = Array.from(yield* driver.latest(Counts), ([key, { clicks }]) => [key, clicks] as const)
          assert.deepStrictEqual(Object.fromEntries(counts), reference(clicks))
        })),
    60_000,
  )

  it.effect("cut alone repeat nothing under at-least-once", () =>
    atRandom({ pipelines: atLeast, runs: [5, 6], crashes: false }, (driver, dice) =>
      Effect.gen(function* () {
        const clicks = draw(dice)
        yield* driver.feed(Clicks, clicks)
        yield* driver.settle
        assert.strictEqual((yield* driver.read(ByPage)).length, clicks.length)
        assert.strictEqual((yield* driver.members).length, 1)
      })))

  it.effect("name the one that fails", () =>
    Effect.gen(function* () {
      const failing = (runs: ReadonlyArray<number>) =>
        Effect.flip(atRandom(
          { pipelines: exactly, runs },
          (_, dice) => Effect.sync(() => assert.isBelow(dice.next(), 0.5, "mine")),
        ))
      const error = yield* failing(Array.from({ length: 50 }, (_, i) => i))
      failure("mine", { reason: "Differs" })(error)
      const seed = Number(/SEED=(\d+) fails/.exec(error.message)![1])
      assert.strictEqual((yield* failing([seed])).message, error.message)
    }))
})

describe("a pipeline that keeps state where a crash loses it", () => {
  const forgetful = Pipeline.make(
    "forgetful",
    Ingest.topic(Clicks).pipe(
      Decode.schema,
      Flow.perTask<Click, Count, never, never, never, never, never>(
        Effect.sync(() => {
          const seen = new Map<string, number>()
          return <F>(batch: Batch.Batch<Click, F>) =>
            Effect.sync(() => ({
              ...batch,
              values: batch.values.map(({ page }) => {
                seen.set(page, (seen.get(page) ?? 0) + 1)
                return { page, start: 0, clicks: seen.get(page)!, final: true }
              }),
            }))
        }),
        { stage: "forgetful" },
      ),
      Deliver.to(Counts),
      Failures.routeAll(Failures.stop),
    ),
    Guarantee.exactlyOnce(),
  )
  const clicks = Array.from({ length: 9 }, () => click("ann", "/a", 1))
  const highest = (driver: Driver.Driver) =>
    Effect.gen(function* () {
      yield* driver.feed(Clicks, clicks)
      yield* driver.settle
      yield* driver.feed(Clicks, clicks)
      yield* driver.settle
      return (yield* driver.latest(Counts)).get("/a@0")?.clicks
    })

  it.effect("is right without a crash", () =>
    Effect.map(Driver.run({ pipelines: forgetful }, highest), (count) => assert.strictEqual(count, 18)))

  it.effect("is found by a crash at every step", () =>
    Effect.map(
      Effect.flip(atEveryStep({ pipelines: forgetful }, highest)),
      failure("it is 9 instead of 18", { reason: "Differs" }),
    ))

  it.effect("is found by a few seeds", () =>
    Effect.map(
      Effect.flip(atRandom({ pipelines: forgetful, runs: 10 }, (driver) =>
        Effect.map(highest(driver), (count) =>
          assert.strictEqual(count, 18)))),
      failure("to equal 18", { reason: "Differs" }),
    ))
})
