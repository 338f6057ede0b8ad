import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, Metric, Schema } from "effect"
import { TestClock } from "effect/testing"
import {
  Admin,
  CircuitBreaker,
  DeadLetter,
  Degrade,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Pipeline,
  Sample,
  Task,
  Topic,
} from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { laws } from "../support/Laws.ts"
import { withLot } from "../support/Lots.ts"
import { type Given, Numbers, numbers, running } from "../support/Numbers.ts"
import { running as program } from "../support/Readings.ts"
import { until } from "../support/Simulation.ts"
import { common, decoded, odd, refuseOdd } from "../support/StageCases.ts"

const now = 1_000_000

/** Numbers in batches of their own, so many milliseconds behind. */
const behind = (...ages: ReadonlyArray<number>): ReadonlyArray<Given> => ages.map((age, i) => [i, "k", now - age])

const full = (flow: Flow.Flow<number>) => flow.pipe(Flow.map((n) => `full ${n}`))
const less = (flow: Flow.Flow<number>) => flow.pipe(Flow.map((n) => ({ n, skipped: "enrichment" as const })))

/** Which numbers went the reduced way. */
const reducedOf = (values: ReadonlyArray<string | { readonly n: number }>) =>
  values.flatMap((value) => typeof value === "string" ? [] : [value.n])

const each = (given: ReadonlyArray<Given>) => given.map((_, i) => i)

const always = Degrade.policy({ name: "always", behind: { above: 1 } })
const never = Degrade.policy({ name: "never", backlog: { above: 1 } })

laws([
  {
    name: "degrade, switched by hand only",
    flow: decoded.pipe(Degrade.by(never, (flow) => flow.pipe(refuseOdd), (flow) => flow.pipe(Flow.filter(odd)))),
  },
])

describe("Degrade.by", () => {
  const gauge = (policy: string) =>
    Effect.map(
      Metric.value(Metric.withAttributes(Degrade.degraded, { policy, partition: "0" })),
      ({ value }) => Number(value),
    )
  const count = (policy: string) =>
    Effect.map(
      Metric.value(Metric.withAttributes(Degrade.degradedRecords, { policy })),
      ({ count }) => Number(count),
    )

  const lines: Array<string> = []
  const logger = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
  const test = <E>(name: string, body: Effect.Effect<void, E>) =>
    it.effect(name, () =>
      Effect.suspend(() => {
        lines.length = 0
        return Effect.andThen(TestClock.setTime(now), body)
      }).pipe(
        Effect.provide(logger),
        Effect.provideService(Metric.MetricRegistry, new Map()),
        Effect.provideService(Degrade.Switches, new Map()),
      ))

  test(
    "does less from above the one bound until below the other, tells each change once, and counts",
    Effect.gen(function* () {
      const policy = Degrade.policy({ name: "geo", behind: { above: 1_000, below: 400 } })
      const given = behind(0, 1_000, 1_001, 999, 400, 399, 1_000, 2_000)
      const { values } = yield* running(numbers.pipe(Degrade.by(policy, full, less)), given, each(given))
      assert.deepStrictEqual(reducedOf(values), [2, 3, 4, 7])
      assert.deepStrictEqual(lines, [
        "policy geo of partition 0 is on: the task is too far behind",
        "policy geo of partition 0 is off: everything is done again",
        "policy geo of partition 0 is on: the task is too far behind",
      ])
      assert.strictEqual(yield* count("geo"), 4)
      assert.strictEqual(yield* gauge("geo"), 0, "of a task that has ended")
    }),
  )

  test(
    "judges by the newest record of a batch, and sends a batch one way as a whole and in order",
    Effect.gen(function* () {
      const policy = Degrade.policy({ name: "geo", behind: { above: 1_000 } })
      const { values } = yield* running(
        numbers.pipe(Degrade.by(policy, full, less)),
        behind(5_000, 4_000, 10, 5_000, 10, 5_000),
        [3],
      )
      assert.deepStrictEqual(values, [
        "full 0",
        "full 1",
        "full 2",
        { n: 3, skipped: "enrichment" },
        { n: 4, skipped: "enrichment" },
        { n: 5, skipped: "enrichment" },
      ])
    }),
  )

  test(
    "goes by what waits for the task",
    Effect.gen(function* () {
      const policy = Degrade.policy({ name: "geo", backlog: { above: 100, below: 10 } })
      const waiting = [50, 100, 101, 50, 10, 9, 50]
      const flow = numbers.pipe(Degrade.by(policy, full, less))
      const given = behind(...waiting.map(() => 0))
      const { values } = yield* running(flow, given, each(given)).pipe(
        Effect.provideService(Task.Backlog, () => waiting.shift()!),
      )
      assert.deepStrictEqual(reducedOf(values), [2, 3, 4])
    }),
  )

  class Down extends Schema.TaggedError<Down>()("Down", { message: Schema.String }) {}

  test(
    "goes by a circuit, and lets it be tried again",
    Effect.gen(function* () {
      let isDown = true
      let calls = 0
      const policy = Degrade.policy({ name: "geo", circuit: "geo" })
      const asked = (flow: Flow.Flow<number>) =>
        flow.pipe(
          CircuitBreaker.effect((n) => {
            calls++
            return isDown ? Effect.fail(new Down({ message: "down" })) : Effect.succeed(`full ${n}`)
          }, { name: "geo", failures: 2, within: "10 seconds", wait: "5 seconds", whileOpen: "fail" }),
        )
      const flow = numbers.pipe(
        Degrade.by(policy, asked, less),
        Flow.effect((value) => Effect.as(Effect.sleep("1 second"), value)),
      )
      const given = behind(...Array.from({ length: 12 }, () => 0))
      const fiber = yield* Effect.forkChild(running(flow, given, each(given)))
      yield* TestClock.adjust("4 seconds")
      isDown = false
      yield* TestClock.adjust("1 minute")
      const { values, failed } = yield* Fiber.join(fiber)
      assert.deepStrictEqual(failed, ["0 Down", "1 Down"])
      // Nothing is called for five seconds, and nothing fails; then one finds out.
      assert.deepStrictEqual(reducedOf(values), [2, 3, 4, 5, 6])
      assert.strictEqual(calls, 2 + 5)
    }).pipe(withLot(0)),
  )

  test(
    "is switched on, off, and left alone again by hand",
    Effect.gen(function* () {
      const flow = numbers.pipe(Degrade.by(always, full, less))
      const run = Effect.map(running(flow, behind(5_000)), ({ values }) => reducedOf(values).length)
      assert.strictEqual(yield* run, 1)
      yield* Degrade.turn("always", "off")
      assert.strictEqual(yield* run, 0)
      yield* Degrade.turn("always", "auto")
      assert.strictEqual(yield* run, 1)
      const manual = numbers.pipe(Degrade.by(never, full, less))
      assert.deepStrictEqual(reducedOf((yield* running(manual, behind(9_000))).values), [])
      yield* Degrade.turn("never", "on")
      assert.deepStrictEqual(reducedOf((yield* running(manual, behind(9_000))).values), [0])
      assert.include(lines, "policy never of partition 0 is on: it was switched on")
    }),
  )

  test(
    "counts what a reduced way drops by its own reason",
    Effect.gen(function* () {
      const sampled = numbers.pipe(
        Degrade.by(always, Degrade.pass, (flow) => flow.pipe(Sample.by({ rate: 0, key: String }))),
      )
      const { values, dropped } = yield* running(sampled, behind(0, 5_000, 0), [1, 2])
      assert.deepStrictEqual([values, dropped], [[0, 2], ["1 sampled"]])
      const shed = numbers.pipe(
        Degrade.by(always, Degrade.pass, (flow) => flow.pipe(Flow.filter((n) => n === 2, "spared"))),
      )
      const out = yield* running(shed, behind(5_000, 5_000, 5_000))
      assert.deepStrictEqual([out.values, out.dropped], [[2], ["0 spared", "1 spared"]])
    }),
  )

  it("refuses options that make no sense", () => {
    const name = "geo"
    assert.throws(() => Degrade.policy({ name, behind: { above: 0 } }), RangeError, "Degrade.policy: geo: behind.above")
    assert.throws(() => Degrade.policy({ name, behind: { above: 5, below: 6 } }), RangeError, "behind.below")
    assert.throws(() => Degrade.policy({ name, backlog: { above: NaN } }), RangeError, "backlog.above")
    assert.throws(() => Degrade.policy({ name, backlog: { above: 1, below: 0 } }), RangeError, "backlog.below")
  })
})

describe("A task that falls behind", () => {
  const Done = Topic.make({ ...common, name: "done", schema: Schema.String })
  const Dlt = Topic.bytes({ ...common, name: "dlt" })

  it.effect("does less until it has caught up, by what the brokers have of its topics", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics([Numbers, Done, Dlt])
      const control = yield* ClusterMemory.Control
      const policy = Degrade.policy({ name: "slow", backlog: { above: 40, below: 5 } })
      const slowly = (flow: Flow.Flow<number>) =>
        flow.pipe(Flow.effect((n) => Effect.as(Effect.sleep("100 millis"), `full ${n}`)))
      const quickly = (flow: Flow.Flow<number>) => flow.pipe(Flow.map((n) => `less ${n}`))
      const pipeline = Pipeline.make(
        "slow",
        numbers.pipe(Degrade.by(policy, slowly, quickly), Deliver.to(Done), Failures.routeAll(DeadLetter.to(Dlt))),
        Guarantee.exactlyOnce(),
      )
      const append = (from: number, to: number) =>
        Effect.forEach(Array.from({ length: (to - from) / 5 }, (_, i) => from + 5 * i), (n) =>
          control.append({ topic: "numbers", partition: 0 }, {
            // So large that a fetch brings one batch.
            keys: Array.from({ length: 5 }, () =>
              Buffer.alloc(8_000, 1)),
            values: Array.from({ length: 5 }, (_, i) => Buffer.from(String(n + i))),
            headers: Array.from({ length: 5 }, () => []),
            timestamps: Array.from({ length: 5 }, () => 0),
          }))
      const done = (n: number) =>
        until(
          `${n} are done`,
          Effect.map(control.records("done"), (records) =>
            records.length === n),
        )
      yield* program(pipeline, { maxBytesPerTask: 10 })
      yield* append(0, 5)
      yield* done(5)
      yield* append(5, 150)
      yield* done(150)
      yield* append(150, 155)
      yield* done(155)
      const values = (yield* control.records("done")).map(({ value }) => String(value))
      const reduced = values.filter((value) => value.startsWith('"less'))
      assert.isAbove(reduced.length, 50)
      assert.isTrue(values.slice(0, 5).every((value) => value.startsWith('"full')))
      assert.isTrue(values.slice(-5).every((value) => value.startsWith('"full')), "it has caught up")
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
})
