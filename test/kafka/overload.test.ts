/** Too much to do: what is in flight stays bounded, others go on, the rest waits in the log, and all of it comes through. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Metric, Random, References, Result, Schema, type Scope } from "effect"
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
  Lookup,
  Pipeline,
  Task,
  Topic,
} from "../../src/index.ts"
import type { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Fetcher from "../../src/kafka/Fetcher.ts"
import { lag } from "../../src/kafka/TaskRunner.ts"
import { running } from "../support/Readings.ts"
import { pass, until } from "../support/Simulation.ts"

const partitions = 4
const about = { description: "", owner: "" }
const In = Topic.make({ ...about, name: "in", partitions, schema: Schema.String })
const Out = Topic.make({ ...about, name: "out", partitions, schema: Schema.Int })
const Dlt = Topic.bytes({ ...about, name: "dlt", partitions: 1 })

/** A record batch: five records of four kilobytes, keyed by their partition. */
const inBatch = 5
const batch = inBatch * 4_000

const append = Effect.fnUntraced(function* (partition: number, batches: number) {
  const control = yield* ClusterMemory.Control
  for (let i = 0; i < batches; i++) {
    yield* control.append({ topic: "in", partition }, {
      keys: Array.from({ length: inBatch }, () => Buffer.from(String(partition))),
      values: Array.from({ length: inBatch }, () => Buffer.from(JSON.stringify("x".repeat(3_997)))),
      headers: Array.from({ length: inBatch }, () => []),
      timestamps: Array.from({ length: inBatch }, () => 0),
    })
  }
})

const bounds = { maxBytesPerTask: 256 * 1024, maxBytes: 512 * 1024 }

/** What `Fetcher` says: its bound, and for each partition the least that is asked for, or a batch where it is larger. */
const most = bounds.maxBytes + partitions * (Fetcher.defaults.leastFetchBytes + batch)

/** The same for one. */
const mostOfOne = bounds.maxBytesPerTask + Fetcher.defaults.leastFetchBytes + batch

const held = Effect.map(
  Metric.value(Metric.withAttributes(Fetcher.bytesInFlight, { pipeline: "busy" })),
  ({ value }) => Number(value),
)

/** Records that are to be done, as the gauge tells. */
const behind = (partition: number) =>
  Effect.map(
    Metric.value(Metric.withAttributes(lag, { pipeline: "busy", topic: "in", partition: String(partition) })),
    ({ value }) => Number(value),
  )

const allOf = (numbers: ReadonlyArray<number>) => Effect.forEach(numbers, behind)

/** Whether nothing is left to do in partitions. */
const done = (...numbers: ReadonlyArray<number>) => Effect.map(allOf(numbers), (left) => left.every((n) => n === 0))

/** Something that the pipeline needs, and whether it works for a partition. */
interface Trouble {
  affects(partition: number): boolean
}

/** A guarantee whose sink is away for some tasks: their work is postponed, or nothing is committed where it is all of it. */
const sink = (trouble: Trouble, calls: Array<number>): Pipeline.Guarantee<unknown, Cluster> => ({
  ...Guarantee.atLeastOnce(),
  open: (plan) =>
    Effect.map(Guarantee.atLeastOnce().open(plan), (committer) => ({
      claim: committer.claim,
      commit: Effect.fnUntraced(function* (work, member) {
        const postponed = work.filter(({ task }) => trouble.affects(task.partition)).map(({ task }) => ({
          task,
          error: away,
        }))
        if (postponed.length > 0) calls.push(postponed.length)
        const good = work.filter(({ task }) => !trouble.affects(task.partition))
        if (good.length === 0 && work.length > 1) return yield* away
        return { ...yield* committer.commit(good, member), postponed }
      }),
    })),
})

const away = new Task.PipelineError({ reason: "Sink", retriable: true, message: "the sink is away" })

const pipelineOf = <E, R>(
  body: (flow: Flow.Flow<string, Decode.DecodeError, Task.PipelineError, Task.Task>) => Flow.Flow<
    number,
    Decode.DecodeError | Lookup.LookupFailed,
    E,
    R
  >,
  guarantee: Pipeline.Guarantee<unknown, Cluster> = Guarantee.exactlyOnce(),
): Made =>
  Pipeline.make(
    "busy",
    body(Ingest.topic(In).pipe(Decode.schema)).pipe(Deliver.to(Out), Failures.routeAll(DeadLetter.to(Dlt))),
    guarantee,
  ) as Made

type Made = Pipeline.Pipeline<unknown, Cluster | Task.Task | Task.Logged>

/** What a pipeline can wait for, by name. */
const needs: Readonly<
  Record<string, (trouble: Trouble, calls: Array<number>) => Effect.Effect<Made, never, Scope.Scope>>
> = {
  "a slow database": (trouble, calls) =>
    Effect.succeed(
      pipelineOf(
        Flow.effectAll((values, [record]) =>
          Effect.gen(function* () {
            calls.push(values.length)
            if (trouble.affects(record!.partition)) yield* Effect.sleep("20 seconds")
            return values.map(() => Result.succeed(1))
          }), { size: 1_000 }),
      ),
    ),
  "a lookup that is away": (trouble, calls) =>
    Effect.map(
      Lookup.make({
        name: "people",
        timeout: "3 seconds",
        cache: { ttl: "1 millis", failureTtl: 0 },
        get: (partition: string) => {
          calls.push(1)
          return trouble.affects(Number(partition)) ? Effect.never : Effect.succeed(1)
        },
      }),
      (lookup) =>
        pipelineOf((flow) =>
          flow.pipe(
            Lookup.by(Effect.succeed(lookup), {
              key: (_: string, { partition }) => String(partition),
              join: (_, found) => found._tag === "Found" ? found.value : 0,
              onUnavailable: "hold",
            }),
          )
        ),
    ),
  "a dead sink": (trouble, calls) => Effect.succeed(pipelineOf(Flow.map(() => 1), sink(trouble, calls))),
}

const test = <E>(name: string, body: Effect.Effect<void, E, Cluster | ClusterMemory.Control | Scope.Scope>) =>
  it.effect(name, () =>
    Effect.andThen(Admin.createTopics([In, Out, Dlt]), Effect.scoped(body)).pipe(
      Effect.provide(ClusterMemory.layer()),
      Effect.provideService(References.MinimumLogLevel, "None"),
      Effect.provideService(Metric.MetricRegistry, new Map()),
      Random.withSeed("overload"),
    ))

/** Bytes in flight at their most while time passes. */
const highest = (millis: number) =>
  Effect.gen(function* () {
    let highest = 0
    for (let passed = 0; passed < millis; passed += 250) {
      yield* pass(250, 50)
      highest = Math.max(highest, yield* held)
    }
    return highest
  })

/** As many record batches as are twice what one partition may hold. */
const backlog = 28

describe.each(Object.keys(needs))("%s", (name) => {
  test(
    "stops one partition: what it holds is bounded and the rest waits in the log, while others go on at full speed",
    Effect.gen(function* () {
      const calls: Array<number> = []
      const pipeline = yield* needs[name]!({ affects: (partition) => partition === 0 }, calls)
      yield* append(0, backlog)
      yield* running(pipeline, bounds)
      yield* until("it is behind", Effect.map(behind(0), (n) => n === backlog * inBatch))
      const first = yield* highest(3_000)
      assert.isTrue(first > bounds.maxBytesPerTask - batch && first <= mostOfOne, `${first}`)
      for (let i = 0; i < 5; i++) {
        for (let partition = 0; partition < partitions; partition++) yield* append(partition, backlog)
        const from = yield* Clock.currentTimeMillis
        yield* pass(500, 50)
        yield* until("others", done(1, 2, 3))
        // More than half a megabyte for each of the others.
        assert.isBelow((yield* Clock.currentTimeMillis) - from, 1_500)
      }
      assert.strictEqual(yield* highest(4_000), first, "flat")
      assert.strictEqual(yield* behind(0), 6 * backlog * inBatch, "lag grows")
    }),
  )

  test(
    "stops all partitions: what is held is bounded, lag grows, and what waited comes through at full speed",
    Effect.gen(function* () {
      let isTroubled = true
      const calls: Array<number> = []
      const pipeline = yield* needs[name]!({ affects: () => isTroubled }, calls)
      const appendAll = Effect.forEach([0, 1, 2, 3], (partition) => append(partition, backlog))
      yield* appendAll
      yield* running(pipeline, bounds)
      yield* until("all are behind", Effect.map(allOf([0, 1, 2, 3]), (left) => left.every((n) => n > 0)))
      const first = yield* highest(3_000)
      assert.isTrue(first >= bounds.maxBytes - partitions * batch && first <= most, `${first}`)
      yield* appendAll
      const second = yield* highest(10_000)
      assert.isAtMost(second, most, "flat")
      const before = yield* allOf([0, 1, 2, 3])
      // A database that is slow has done a batch or two.
      for (const left of before) assert.isAbove(left, backlog * inBatch, "lag grows")
      isTroubled = false
      const from = yield* Clock.currentTimeMillis
      yield* until(
        "all go on",
        Effect.map(allOf([0, 1, 2, 3]), (now) => now.every((left, i) => left < before[i]!)),
      )
      const at = yield* Clock.currentTimeMillis
      assert.isBelow(at - from, 25_000)
      calls.length = 0
      yield* until("all of it", done(0, 1, 2, 3))
      // Four megabytes, half a megabyte at a time, in commits that wait for nothing but their interval.
      assert.isBelow((yield* Clock.currentTimeMillis) - at, 3_000)
      assert.strictEqual(yield* held, 0)
    }),
  )
})

describe("When what was away comes back", () => {
  /** How often something was called in the busiest of so many milliseconds. */
  const busiest = (calls: ReadonlyArray<number>, from: number, millis: number) =>
    Math.max(
      0,
      ...calls.filter((at) => at >= from).map((at) => calls.filter((one) => one >= at && one < at + millis).length),
    )

  const programs = 24
  const outage = 30_000

  /** Programs with groups of their own, all of which need the same thing, and when they asked for it. */
  const many = Effect.fnUntraced(function* (need: (asked: Effect.Effect<boolean>, n: number) => Made) {
    let isAway = true
    const calls: Array<number> = []
    const asked = Effect.map(Clock.currentTimeMillis, (now) => {
      calls.push(now)
      return !isAway
    })
    yield* append(0, 1)
    yield* Effect.forEach(
      Array.from({ length: programs }),
      (_, n) => running(need(asked, n), { group: `group ${n}` }),
    )
    yield* until("all have met it", Effect.sync(() => calls.length >= programs))
    yield* pass(outage, 100)
    const back = yield* Clock.currentTimeMillis
    isAway = false
    const before = calls.length
    yield* until("all have been answered", Effect.sync(() => calls.length >= before + programs))
    return { calls, back }
  })

  const everyone = { affects: () => false }

  test(
    "programs do not commit to it all at once",
    Effect.gen(function* () {
      const { calls, back } = yield* many((asked) =>
        pipelineOf(Flow.map(() => 1), {
          ...sink(everyone, []),
          open: (plan) =>
            Effect.map(Guarantee.atLeastOnce().open(plan), (committer) => ({
              claim: committer.claim,
              commit: (work, member) =>
                Effect.flatMap(asked, (isThere) => isThere ? committer.commit(work, member) : Effect.fail(away)),
            })),
        })
      )
      // At most two seconds and at least one lie between two tries of a program.
      assert.isAtMost(busiest(calls, back - 10_000, 100), programs / 3)
      assert.isAtLeast(calls.filter((at) => at >= back && at < back + 2_500).length, programs)
    }),
  )

  test(
    "tasks that have failed for it do not begin again all at once",
    Effect.gen(function* () {
      const { calls, back } = yield* many((asked) =>
        pipelineOf((flow) =>
          flow.pipe(
            Flow.perTask<string, number, never, Task.PipelineError, never, never, never>(
              Effect.succeed((batch) =>
                Effect.flatMap(asked, (isThere) =>
                  isThere
                    ? Effect.succeed({
                      ...batch,
                      values: batch.values.map(() => 1),
                    })
                    : Effect.fail(away))
              ),
              { stage: "needs" },
            ),
          )
        )
      )
      assert.isAtMost(busiest(calls, back - 20_000, 250), programs / 4)
    }),
  )

  class Away extends Schema.TaggedError<Away>()("Away", { message: Schema.String }) {}

  test(
    "stages that hold do not call it all at once",
    Effect.gen(function* () {
      const { calls, back } = yield* many((asked) =>
        pipelineOf((flow) =>
          flow.pipe(
            Flow.map(() => 1),
            Failures.handle(
              { name: "needs" },
              Flow.effectAll((values) =>
                Effect.flatMap(
                  asked,
                  (isThere) =>
                    isThere
                      ? Effect.succeed(values.map((n) => Result.succeed(n)))
                      : Effect.fail(new Away({ message: "away" })),
                ), { size: 100 }),
              { Away: Failures.hold() },
            ),
          )
        )
      )
      assert.isAtMost(busiest(calls, back - 10_000, 250), programs / 4)
    }),
  )
})
