import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import {
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  repartition,
  Topic,
  Window,
} from "../../src/index.ts"
import type { AnyFlow } from "../../src/Flow.ts"
import { atEveryStep, Driver } from "../../src/testing/index.ts"
import { writtenBy } from "../../src/WriterHeaders.ts"
import { run, sources } from "../support/FlowRunner.ts"
import { forSeeds } from "../support/Seeds.ts"

const events = (name: string) =>
  Topic.make({
    name,
    description: "Test input",
    owner: "tests",
    schema: Schema.Int,
    key: ["parity", (at: number) => String(at % 2)],
    eventTime: (at: number) => at,
    partitions: 1,
  })
const Events = events("events")
const ByParity = events("by-parity")
const Refused = Topic.bytes({ name: "refused", description: "Test output", owner: "tests", partitions: 1 })

const decoded: AnyFlow = Ingest.topic(Events).pipe(
  Decode.schema,
  Failures.route({ DecodeError: DeadLetter.to(Refused) }),
  repartition(ByParity, { undeliverable: DeadLetter.to(Refused) }),
)
const written = decoded.node.inputs[0]!.node.feeds[0] as Flow.Flow<number>

describe("repartition", () => {
  it.effect("writes each record with the stream time that its task had at it, however the input is cut", () =>
    forSeeds(50, (dice) =>
      Effect.gen(function* () {
        const all = dice.list(1, 30, () => dice.int(0, 1000))
        const records = all.map((at) => ({ key: "a", value: String(at), timestamp: 0 }))
        const cuts = dice.list(0, 10, () => dice.int(1, 30))
        const { batches } = yield* run(written, new Map([[Events as Topic.Any, sources(Events, records, cuts)]]))
        assert.deepStrictEqual(
          batches.flatMap(({ outgoing }) => outgoing.map(({ headers }) => writtenBy(headers!, -1))),
          all.map((_, i) => ["0", Math.max(...all.slice(0, i + 1))] as const),
        )
      })))
})

describe("windows behind a repartition", () => {
  const about = { description: "", owner: "" }
  const Event = Schema.Struct({ house: Schema.String, at: Schema.Int })
  const event = { ...about, schema: Event, eventTime: ({ at }: typeof Event.Type) => at }
  const Openings = Topic.make({ ...event, name: "openings", partitions: 2 })
  const ByHouse = Topic.make({
    ...event,
    name: "by-house",
    partitions: 2,
    schema: Schema.Struct({ ...Event.fields, house: Schema.NonEmptyString }),
    key: ["house", ({ house }) => house],
  })
  const Counts = Topic.make({ ...about, name: "counts", partitions: 1, schema: Schema.String })
  const counting = Pipeline.make(
    "counting",
    Ingest.topic(Openings).pipe(
      Decode.schema,
      Failures.routeAll(DeadLetter.to(Refused)),
      repartition(ByHouse, { undeliverable: DeadLetter.to(Refused) }),
      Aggregate.count({ name: "w", window: Window.tumbling({ size: 10_000 }), emit: "final" }),
      Flow.map(({ key, start, value }) => `${key} ${start / 1_000}: ${value}`),
      Deliver.to(Counts),
      Failures.routeAll(DeadLetter.to(Refused)),
    ),
    Guarantee.exactlyOnce(),
  )
  const feed = (driver: Driver.Driver, partition: number, ...seconds: ReadonlyArray<number>) =>
    driver.feed(
      Openings,
      seconds.map((at) => Driver.record({ value: { house: "home", at: at * 1_000 }, partition })),
    )

  it.effect("wait for the partition that is behind, whose records are not late", () =>
    Driver.run({ pipelines: counting }, (driver) =>
      Effect.gen(function* () {
        yield* feed(driver, 0, 1, 25)
        yield* feed(driver, 1, 2)
        yield* driver.settle
        assert.deepStrictEqual(yield* driver.values(Counts), [])
        yield* feed(driver, 1, 10)
        yield* driver.settle
        assert.deepStrictEqual(yield* driver.values(Counts), ["home 0: 2"])
        yield* feed(driver, 1, 9)
        yield* driver.settle
        assert.deepStrictEqual((yield* driver.letters(Refused)).map(({ reason }) => reason), ["Late"])
      })))

  it.effect("find nothing late of what came while the program was down, whichever task goes on first", () =>
    Driver.run({ pipelines: counting }, (driver) =>
      Effect.gen(function* () {
        yield* feed(driver, 0, 1)
        yield* feed(driver, 1, 2)
        yield* driver.settle
        for (const first of [0, 1]) {
          yield* driver.crash
          yield* driver.advance("10 minutes")
          const from = 100 * (first + 1)
          yield* feed(driver, first, from, from + 50)
          yield* driver.restart
          yield* driver.settle
          yield* feed(driver, 1 - first, from + 1, from + 51)
          yield* driver.settle
        }
        assert.deepStrictEqual(yield* driver.letters(Refused), [])
        assert.deepStrictEqual(yield* driver.values(Counts), ["home 0: 2", "home 100: 2", "home 150: 2", "home 200: 2"])
      })))

  it.effect("send on its way what does not fit between, and tombstones", () =>
    Driver.run({ pipelines: counting }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Openings, [{ house: "", at: 1 }])
        yield* driver.feedBytes(Openings, [{ key: "x", value: null }])
        yield* driver.settle
        assert.deepStrictEqual((yield* driver.letters(Refused)).map(({ reason }) => reason).toSorted(), [
          "DecodeError",
          "Undeliverable",
        ])
      })))

  it.effect(
    "count the same whatever request the program dies at, in the middle of a window",
    () =>
      Effect.gen(function* () {
        const crashes = yield* atEveryStep({ pipelines: counting, most: 40 }, (driver) =>
          Effect.gen(function* () {
            yield* feed(driver, 0, 1, 12)
            yield* feed(driver, 1, 2, 3)
            yield* driver.settle
            yield* feed(driver, 1, 11, 15, 31)
            yield* feed(driver, 0, 13, 32)
            yield* driver.settle
            return [...yield* driver.values(Counts)].sort()
          }))
        assert.isAbove(crashes, 30)
      }),
    60_000,
  )
})
