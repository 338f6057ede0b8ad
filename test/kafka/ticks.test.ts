/** Stream time that goes on with the wall clock while a topic is silent. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import {
  Admin,
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Join,
  merge,
  Pipeline,
  Topic,
  Window,
} from "../../src/index.ts"
import type { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { adjustable } from "../support/AdjustableClock.ts"
import * as Simulation from "../support/Simulation.ts"

const common = { description: "Test", owner: "tests", partitions: 1 }
const Times = Topic.make({ ...common, name: "times", schema: Schema.Int, eventTime: (at: number) => at })
const Others = Topic.make({ ...common, name: "others", schema: Schema.Int, eventTime: (at: number) => at })
const Counts = Topic.make({
  ...common,
  name: "counts",
  schema: Schema.Struct({ key: Schema.String, start: Schema.Int, value: Schema.Int }),
})
const Late = Topic.bytes({ ...common, name: "late" })

const read = (topic: typeof Times, options?: Ingest.Options) => Ingest.topic(topic, options).pipe(Decode.schema)

const counting = (options?: Ingest.Options, flow = read(Times, options)) =>
  Pipeline.make(
    "counting",
    flow.pipe(
      Aggregate.count({ name: "tens", window: Window.tumbling({ size: "10 seconds" }), emit: "final" }),
      Flow.map(({ key, start, value }) => ({ key, start, value })),
      Deliver.to(Counts),
      Failures.routeAll(DeadLetter.to(Late)),
    ),
    Guarantee.exactlyOnce(),
  )

const feed = (times: ReadonlyArray<number>, topic = Times) =>
  Effect.flatMap(ClusterMemory.Control, (control) =>
    control.append({ topic: topic.name, partition: 0 }, {
      keys: times.map(() => Buffer.from("k")),
      values: times.map((at) => Buffer.from(String(at * 1_000))),
      headers: times.map(() => []),
      timestamps: times.map(() => 0),
    }))

const results = Effect.gen(function* () {
  const control = yield* ClusterMemory.Control
  const counts = (yield* control.records(Counts.name)).map(({ value }) => JSON.parse(String(value)))
  return counts.map(({ start, value }) => `${start / 1_000}=${value}`)
})

const late = Effect.gen(function* () {
  const control = yield* ClusterMemory.Control
  return (yield* control.records(Late.name)).map(({ value }) => Number(value) / 1_000)
})

const inMemory = <A, E>(test: Effect.Effect<A, E, ClusterMemory.Control | Cluster | Scope.Scope>) =>
  Effect.scoped(Effect.andThen(Admin.createTopics([Times, Others, Counts, Late]), test)).pipe(
    Effect.provide(ClusterMemory.layer()),
  )

const after = { wallClockAfter: "5 seconds" } as const

describe("wallClockAfter", () => {
  it.effect("closes windows although nothing comes any more", () =>
    inMemory(Effect.gen(function* () {
      yield* Simulation.start(counting(after), Faults.none)
      yield* feed([101, 104, 109])
      yield* Simulation.pass(4_900)
      assert.deepStrictEqual(yield* results, [])
      // Stream time was 109 when the record came: a second later the window is over, but silence counts after five.
      yield* Simulation.pass(1_000)
      assert.deepStrictEqual(yield* results, ["100=3"])
    })))

  it.effect("does not, unless it is asked for", () =>
    inMemory(Effect.gen(function* () {
      yield* Simulation.start(counting(), Faults.none)
      yield* feed([101, 104, 109])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* results, [])
    })))

  it.effect("goes on at the pace of the wall clock, from where the last record left it", () =>
    inMemory(Effect.gen(function* () {
      yield* Simulation.start(counting(after), Faults.none)
      yield* feed([101, 139])
      yield* Simulation.until("the first window", Effect.map(results, (all) => all.length === 1))
      yield* feed([121])
      assert.deepStrictEqual(yield* late, [])
      yield* Simulation.pass(20_000)
      assert.deepStrictEqual(yield* results, ["100=1", "130=1"])
      assert.deepStrictEqual(yield* late, [121])
      // 139 and about 20 seconds: 155 is in time, 145 is not.
      yield* feed([145, 155])
      yield* Simulation.pass(20_000)
      assert.deepStrictEqual(yield* results, ["100=1", "130=1", "150=1"])
      assert.deepStrictEqual(yield* late, [121, 145])
    })))

  it.effect("leaves closed what was closed, in the program that takes over", () =>
    inMemory(Effect.gen(function* () {
      const first = yield* Simulation.start(counting(after), Faults.none)
      yield* feed([101])
      yield* Simulation.pass(20_000)
      assert.deepStrictEqual(yield* results, ["100=1"])
      yield* first.use(Faults.every(() => true, Faults.hang))
      yield* Simulation.start(counting(after), Faults.none)
      yield* feed([102, 130])
      yield* Simulation.pass(30_000)
      assert.deepStrictEqual([yield* late, yield* results], [[102], ["100=1", "130=1"]])
    })))

  it.effect("stands still while the brokers do not answer", () =>
    inMemory(Effect.gen(function* () {
      const { network, plan } = Simulation.switched()
      yield* Simulation.start(counting(after), plan)
      yield* feed([101])
      yield* Simulation.pass(2_000)
      network.decide = ({ operation }) => operation === "Fetch" ? Faults.unreachable : undefined
      yield* feed([105])
      yield* Simulation.pass(60_000)
      assert.deepStrictEqual(yield* results, [])
      network.decide = () => undefined
      yield* Simulation.pass(20_000)
      assert.deepStrictEqual([yield* late, yield* results], [[], ["100=2"]])
    })))

  for (const jump of [-3_600_000, 3_600_000]) {
    it.effect(`tells the length of a silence also when the clock is put by ${jump} ms meanwhile`, () =>
      inMemory(Effect.gen(function* () {
        const clock = yield* adjustable
        const merged = read(Times, after).pipe(merge(read(Others, after), { idle: "10 seconds" }))
        yield* Effect.provideService(Simulation.start(counting(undefined, merged), Faults.none), Clock.Clock, clock)
        for (const topic of [Times, Others]) yield* feed([101, 104, 109], topic)
        yield* Simulation.pass(2_000)
        clock.offset = jump
        yield* Simulation.pass(20_000)
        assert.deepStrictEqual(yield* results, ["100=6"])
        yield* feed([135, 140])
        yield* Simulation.pass(6_000)
        clock.offset = 0
        yield* Simulation.pass(20_000)
        assert.deepStrictEqual(yield* results, ["100=6", "130=1", "140=1"])
        assert.deepStrictEqual(yield* late, [])
      })))
  }

  it.effect("closes each window once when a program dies at any one step", () =>
    Effect.gen(function* () {
      const through = (plan: (kill: Effect.Effect<void>) => Faults.Plan) =>
        inMemory(Effect.gen(function* () {
          let alive = true
          const first = yield* Simulation.start(counting(after), plan(Effect.sync(() => alive = false)))
          yield* feed([101, 104, 115])
          yield* Simulation.until(
            "a death or the end",
            Effect.map(results, (all) => !alive || all.length === 2),
          )
          if (!alive) yield* Simulation.start(counting(after), Faults.none)
          yield* Simulation.pass(40_000)
          assert.deepStrictEqual(yield* results, ["100=2", "110=1"])
          return yield* first.calls
        }))
      const calls = yield* through(() => Faults.none)
      const steps = calls.filter(({ operation }) => operation === "EndTxn" || operation === "Produce")
      assert.isAtLeast(steps.length, 4)
      for (const { operation, count } of steps) {
        yield* through((kill) => Faults.at(operation, count, Faults.crash(kill)))
        yield* through((kill) => Faults.at(operation, count, Faults.crashAfter(kill)))
      }
    }), 60_000)

  it.effect(
    "lets a join of two streams give up once on each record, also where a program dies at any one step",
    () =>
      Effect.gen(function* () {
        const joining = () =>
          Pipeline.make(
            "counting",
            read(Times, after).pipe(
              Join.stream(read(Others, after), {
                name: "pairs",
                kind: "outer",
                within: "3 seconds",
                grace: "2 seconds",
                left: Schema.Int,
                right: Schema.Int,
                join: (left, right) => ({
                  key: "",
                  start: (left ?? 0) + (right ?? 0),
                  value: left === undefined ? 2 : 1,
                }),
              }),
              Deliver.to(Counts),
              Failures.routeAll(DeadLetter.to(Late)),
            ),
            Guarantee.exactlyOnce(),
          )
        const through = (plan: (kill: Effect.Effect<void>) => Faults.Plan) =>
          inMemory(Effect.gen(function* () {
            let alive = true
            const first = yield* Simulation.start(joining(), plan(Effect.sync(() => alive = false)))
            yield* feed([101, 104, 110])
            yield* feed([106, 117], Others)
            const isOver = Effect.map(results, (all) => !alive || all.length === 4)
            yield* Simulation.until("a death or the end", isOver)
            if (!alive) yield* Simulation.start(joining(), Faults.none)
            yield* Simulation.pass(60_000)
            // 104 and 106 are partners, and no others.
            assert.deepStrictEqual((yield* results).toSorted(), ["101=1", "110=1", "117=2", "210=1"])
            assert.deepStrictEqual(yield* late, [])
            return yield* first.calls
          }))
        const calls = yield* through(() => Faults.none)
        const steps = calls.filter(({ operation }) => operation === "EndTxn" || operation === "Produce")
        assert.isAtLeast(steps.length, 4)
        for (const { operation, count } of steps) {
          yield* through((kill) => Faults.at(operation, count, Faults.crash(kill)))
          yield* through((kill) => Faults.at(operation, count, Faults.crashAfter(kill)))
        }
      }),
    60_000,
  )

  it.effect("lets go on what a merge holds back for a silent topic: once its clock is there, or it is idle", () =>
    inMemory(Effect.gen(function* () {
      const merged = read(Times, after).pipe(merge(read(Others, after), { idle: "20 seconds" }))
      yield* Simulation.start(counting(undefined, merged), Faults.none)
      yield* feed([101, 102], Others)
      yield* feed([101, 108, 111])
      yield* Simulation.pass(5_500)
      assert.deepStrictEqual(yield* results, [])
      // Both have been silent for more than five seconds: 111 has gone on when the other clock was there.
      yield* Simulation.pass(9_500)
      assert.deepStrictEqual(yield* results, ["100=4"])
      // The clock that goes on by seconds does not get there, but for the idle time.
      yield* feed([90_000])
      yield* Simulation.pass(19_000)
      assert.deepStrictEqual(yield* results, ["100=4", "110=1"])
      yield* feed([90_010])
      yield* Simulation.pass(3_000)
      assert.deepStrictEqual(yield* results, ["100=4", "110=1", "90000=1"])
      assert.deepStrictEqual(yield* late, [])
    })))

  it("is refused where it makes no sense", () => {
    assert.throws(() => Ingest.topic(Times, { wallClockAfter: 0 }), /at least a second/)
    assert.throws(() => Ingest.topic(Times, { wallClockAfter: "Infinity" }), /at least a second/)
  })
})
