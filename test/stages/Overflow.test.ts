import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Metric, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import {
  Admin,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Overflow,
  Pipeline,
  Topic,
} from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { atEveryStep, Driver } from "../../src/testing/index.ts"
import { committed } from "../support/FlowRunner.ts"
import { laws } from "../support/Laws.ts"
import { type Given, Numbers, numbers, running } from "../support/Numbers.ts"
import { running as program } from "../support/Readings.ts"
import { until } from "../support/Simulation.ts"
import { common, decoded, Reading } from "../support/StageCases.ts"

const Lane = Topic.make({ ...common, name: "lane", schema: Schema.Int.pipe(Schema.check(Schema.isLessThan(1_000))) })
const ReadingLane = Topic.make({ ...common, name: "reading-lane", schema: Reading })

const keyed = { key: (_: number, { key }: { readonly key: string | null }) => key! }
const byKey = { name: "overflow", ...keyed, to: Lane }

const who = ({ id }: Reading) => id.slice(0, 3)

laws([
  {
    name: "overflow",
    flow: decoded.pipe(Overflow.by({ name: "overflow", key: who, perSecond: 1 / 30, burst: 2, to: ReadingLane })),
  },
  {
    name: "overflow that remembers one key",
    flow: decoded.pipe(
      Overflow.by({ name: "overflow", key: who, perSecond: 1 / 30, burst: 2, to: ReadingLane, atMostKeys: 1 }),
    ),
  },
])

/** Values of one key that arrive at these seconds. */
const at = (key: string, ...seconds: ReadonlyArray<number>): ReadonlyArray<Given> =>
  seconds.map((second) => [second, key, second * 1_000])

const inOrder = (...given: ReadonlyArray<ReadonlyArray<Given>>): ReadonlyArray<Given> =>
  given.flat().toSorted((a, b) => Number((a as ReadonlyArray<unknown>)[2]) - Number((b as ReadonlyArray<unknown>)[2]))

describe("Overflow.by", () => {
  const flow = numbers.pipe(Overflow.by({ ...byKey, perSecond: 1, burst: 3 }))

  it.effect("sends all of a key to the lane from the first value beyond its rate until its bucket is full again", () =>
    Effect.gen(function* () {
      const { values, outgoing, dropped } = yield* running(flow, at("a", 1, 1, 1, 1, 2, 3, 4, 7, 7))
      // Empty at 1 s, and what comes once a second keeps it so; full three seconds after the last.
      assert.deepStrictEqual(values, [1, 1, 1, 7, 7])
      assert.deepStrictEqual(outgoing, ["lane a=1", "lane a=2", "lane a=3", "lane a=4"])
      assert.deepStrictEqual(dropped, ["3 overflowed", "4 overflowed", "5 overflowed", "6 overflowed"])
    }))

  it.effect("takes nothing from other keys", () =>
    Effect.gen(function* () {
      const hot = Array.from({ length: 100 }, (_, i) => 1 + i / 20)
      const given = inOrder(at("a", ...hot.map((at) => Math.floor(at))), at("b", 1, 2, 3, 4, 5))
      const { values, outgoing } = yield* running(flow, given)
      assert.deepStrictEqual(values, [1, 1, 1, 1, 2, 3, 4, 5])
      assert.isTrue(outgoing.every((out) => out.startsWith("lane a=")))
    }))

  it.effect("goes by the records' own times, also where they go back or are far off", () =>
    Effect.gen(function* () {
      const far = 3_600
      const { values } = yield* running(flow, at("a", 1, 1, 1, far, 1, 1, 2, 3, 4, 5, 8, 8))
      // What comes from the future has a full bucket, and the next one none: three seconds of rest are enough again.
      assert.deepStrictEqual(values, [1, 1, 1, far, 8, 8])
    }))

  it.effect("goes on after a restart as without one", () =>
    Effect.gen(function* () {
      const given = at("a", 1, 1, 1, 1, 2, 3)
      const first = yield* running(flow, given.slice(0, 4))
      const second = yield* running(flow, given, [], committed(first.batches))
      assert.deepStrictEqual([...first.values, ...second.values], [1, 1, 1])
    }))

  it.effect("remembers so many keys and no more, forgets those nearest to full, and counts them", () =>
    Effect.gen(function* () {
      const count = Effect.map(
        Metric.value(Metric.withAttributes(Overflow.forgotten, { stage: "overflow" })),
        ({ count }) => Number(count),
      )
      const few = numbers.pipe(Overflow.by({ ...byKey, perSecond: 1, burst: 3, atMostKeys: 2 }))
      const hot = at("hot", 1, 1, 1, 1)
      const others = Array.from({ length: 100 }, (_, i) => at(`other ${i}`, 1)).flat()
      const { values, batches } = yield* running(few, [...hot, ...others, ...at("hot", 1)])
      assert.strictEqual(values.length, 3 + 100)
      assert.strictEqual(yield* count, 99)
      const { stores } = committed(batches)
      assert.strictEqual(stores.get("overflow")!.entries.size, 2)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("keeps nothing of keys that have rested", () =>
    Effect.gen(function* () {
      const many = Array.from({ length: 1_000 }, (_, i) => at(`key ${i}`, i)).flat()
      const { batches } = yield* running(flow, many, [10, 20, 500])
      assert.isAtMost(committed(batches).stores.get("overflow")!.entries.size, 2)
    }))

  it.effect("fails what the lane cannot hold", () =>
    Effect.gen(function* () {
      const { values, failed, outgoing } = yield* running(flow, [[1, "a"], [2, "a"], [3, "a"], [4_000, "a"], [5, "a"]])
      assert.deepStrictEqual([values, failed, outgoing], [[1, 2, 3], ["3 Undeliverable"], ["lane a=5"]])
    }))

  it("refuses options that make no sense", () => {
    assert.throws(() => Overflow.by({ ...byKey, perSecond: 0 }), RangeError, "Overflow.by: overflow: perSecond")
    assert.throws(() => Overflow.by({ ...byKey, perSecond: 1, atMostKeys: 0 }), RangeError, "atMostKeys")
  })
})

describe("A hot key", () => {
  const Done = Topic.make({ ...common, name: "done", schema: Schema.Int })
  const Dlt = Topic.bytes({ ...common, name: "dlt" })

  /** Each value takes ten milliseconds: a hundred a second, of two hundred and more that come. */
  const work = (delays: Map<string, Array<number>>, where: string) =>
    Flow.effect((n: number, { key, arrival }) =>
      Effect.gen(function* () {
        yield* Effect.sleep("10 millis")
        const taken = (yield* Clock.currentTimeMillis) - arrival
        const list = delays.get(`${where} ${key}`) ?? []
        delays.set(`${where} ${key}`, list)
        list.push(taken)
        return n
      })
    )

  const seconds = 12

  /** How long each value took from its arrival, by where it was worked on and key. */
  const delaysOf = (isLaned: boolean) =>
    Effect.gen(function* () {
      yield* Admin.createTopics([Numbers, Lane, Done, Dlt])
      const control = yield* ClusterMemory.Control
      const delays = new Map<string, Array<number>>()
      const ended = Failures.routeAll(DeadLetter.to(Dlt))
      const laned = Overflow.by({ ...byKey, perSecond: 20, burst: 40 })
      const main = isLaned
        ? Pipeline.make(
          "main",
          numbers.pipe(laned, work(delays, "main"), Deliver.to(Done), ended),
          Guarantee.exactlyOnce(),
        )
        : Pipeline.make("main", numbers.pipe(work(delays, "main"), Deliver.to(Done), ended), Guarantee.exactlyOnce())
      const lane = Pipeline.make(
        "lane",
        Ingest.topic(Lane).pipe(Decode.schema, work(delays, "lane"), Deliver.to(Done), ended),
        Guarantee.exactlyOnce(),
      )
      const small = { maxBytesPerTask: 256 }
      yield* program(main, small)
      if (isLaned) yield* program(lane, small)
      yield* until("both at work", Effect.map(Clock.currentTimeMillis, (now) => now > 2_000))
      let sent = 0
      const tenth = Effect.gen(function* () {
        const keys = [...Array.from({ length: 20 }, () => "hot"), "a", "b"]
        const now = yield* Clock.currentTimeMillis
        yield* control.append({ topic: "numbers", partition: 0 }, {
          keys: keys.map((key) => Buffer.from(key)),
          values: keys.map(() => Buffer.from(String(sent++ % 1_000))),
          headers: keys.map(() => []),
          timestamps: keys.map(() => now),
        })
        yield* TestClock.adjust("100 millis")
      })
      for (let i = 0; i < 10 * seconds; i++) yield* tenth
      const during = new Map(Array.from(delays, ([key, list]) => [key, [...list]]))
      const done = Effect.map(control.records("done"), (records) => records.length === sent)
      yield* until("all done", done, 10 * seconds * 10_000)
      const all = yield* control.records("done")
      return { during, sent, done: all.length }
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer()))

  const longest = (delays: ReadonlyMap<string, ReadonlyArray<number>>, key: string) =>
    Math.max(...delays.get(key) ?? [Infinity])

  it.effect("makes others wait longer and longer without a lane, and with one nobody but itself", () =>
    Effect.gen(function* () {
      const without = yield* delaysOf(false)
      assert.isAbove(longest(without.during, "main a"), 5_000)
      const a = without.during.get("main a")!
      assert.isBelow(a.length, 10 * seconds / 2, "most of what others have sent waits behind the hot key")

      const { during, sent, done } = yield* delaysOf(true)
      for (const key of ["a", "b"]) {
        assert.isAtLeast(during.get(`main ${key}`)!.length, 10 * seconds - 5)
        assert.isBelow(longest(during, `main ${key}`), 1_500)
      }
      const before = during.get("main hot")!.length
      assert.isTrue(before >= 40 && before < 50, `a burst, and what came back meanwhile: ${before}`)
      assert.isAbove(longest(during, "lane hot"), 4_000)
      assert.strictEqual(done, sent, "each value once, on one side or the other")
    }))
})

describe("A lane under exactly-once", () => {
  const about = { description: "", owner: "" }
  const In = Topic.make({ ...about, name: "in", partitions: 1, schema: Schema.Int })
  const To = Topic.make({ ...about, name: "to", partitions: 1, schema: Schema.Int })
  const Out = Topic.make({ ...about, name: "out", partitions: 1, schema: Schema.Int })
  const Bad = Topic.bytes({ ...about, name: "bad", partitions: 1 })
  const main = Pipeline.make(
    "main",
    Ingest.topic(In).pipe(
      Decode.schema,
      Overflow.by({ name: "overflow", ...keyed, to: To, perSecond: 1, burst: 3 }),
      Deliver.to(Out),
      Failures.routeAll(DeadLetter.to(Bad)),
    ),
    Guarantee.exactlyOnce(),
  )

  it.effect("has every value once on the same side, whatever request the program dies at", () =>
    Effect.gen(function* () {
      const crashes = yield* atEveryStep({ pipelines: main, most: 40 }, (driver) =>
        Effect.gen(function* () {
          const feed = (...ns: ReadonlyArray<number>) =>
            driver.feed(In, ns.map((n) => Driver.record({ value: n, key: "k", timestamp: n * 100 })))
          yield* feed(1, 2, 3, 4)
          yield* driver.settle
          yield* feed(5, 6, 70)
          yield* driver.settle
          return [yield* driver.values(Out), yield* driver.values(To)]
        }))
      assert.isAbove(crashes, 10)
    }))
})
