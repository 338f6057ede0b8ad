/** Tasks that wait: for a service that is away, and for records that are not due. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Logger, Metric, References, type Scope } from "effect"
import { TestClock } from "effect/testing"
import {
  Admin,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  Retry,
} from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { heldTasks } from "../../src/stages/failures/Held.ts"
import { parkedRecords } from "../../src/stages/failures/Handling.ts"
import { missedRecords } from "../../src/stages/failures/Missing.ts"
import { withLot } from "../support/Lots.ts"
import { append, copied, Copies, copies, Dlt, Reading, readings, running } from "../support/Readings.ts"
import { TimedOut, Unavailable } from "../support/RetryCases.ts"
import { stop, until } from "../support/Simulation.ts"

const In = readings("in", 2)

/** Copies what a service has seen. */
const visiting = (
  visit: (reading: Reading) => Effect.Effect<Reading, Unavailable | TimedOut>,
  order: Retry.Order = "free",
  parkedBytes = 1_000_000,
) =>
  Pipeline.make(
    "visiting",
    Ingest.topic(In).pipe(
      Decode.schema,
      Failures.handle({ name: "visit" }, Flow.effect(visit), {
        Unavailable: Failures.hold(),
        TimedOut: Failures.later(
          Retry.topics({ name: "visit", of: In, value: Reading, delays: ["1 hour"], order, parkedBytes }),
          DeadLetter.to(Dlt),
        ),
      }),
      Deliver.to(Copies),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    Guarantee.exactlyOnce(),
  )

const { topics: retryTopics } = Retry.topics({
  name: "visit",
  of: In,
  value: Reading,
  delays: ["1 hour"],
  order: "kept",
})

const members = Effect.flatMap(
  Cluster,
  (cluster) =>
    Effect.map(
      cluster.describeGroups(["visiting"]),
      ([group]) => group!.state === "Stable" ? group!.members.length : 0,
    ),
)

const gauge = (of: typeof heldTasks, labels: Record<string, string>) =>
  Effect.map(Metric.value(Metric.withAttributes(of, { stage: "visit", ...labels })), ({ value }) => Number(value))

const warnings: Array<string> = []
const logger = Logger.make(({ logLevel, message }) => {
  if (logLevel === "Warn") warnings.push(String(message))
})

const test = <E>(name: string, body: Effect.Effect<void, E, Cluster | ClusterMemory.Control | Scope.Scope>) =>
  it.effect(name, () =>
    Effect.andThen(Admin.createTopics([In, Copies, Dlt, ...retryTopics]), Effect.scoped(body)).pipe(
      withLot(0.5),
      Effect.provide(ClusterMemory.layer()),
      Effect.provide(Logger.layer([logger])),
      Effect.provideService(References.MinimumLogLevel, "Warn"),
    ))

/** A second program comes and the first one goes, while the task waits. */
const handedOver = Effect.fnUntraced(
  function* (pipeline: ReturnType<typeof visiting>, first: Parameters<typeof stop>[0]) {
    const from = yield* Clock.currentTimeMillis
    const second = yield* running(pipeline)
    yield* until("both in the group", Effect.map(members, (members) => members === 2))
    yield* stop(first)
    assert.isBelow((yield* Clock.currentTimeMillis) - from, 5_000)
    return second
  },
)

describe("A task that is held", () => {
  test(
    "lets others go on, says so once, tells a gauge, and delays neither a rebalance nor a stop",
    Effect.gen(function* () {
      let isAway = true
      let visits = 0
      const pipeline = visiting((reading) => {
        if (reading.id < 10) return Effect.succeed(reading)
        visits++
        return isAway ? Effect.fail(new Unavailable({ message: "away" })) : Effect.succeed(reading)
      })
      const first = yield* running(pipeline)
      yield* append("in", 0, [{ id: 0, at: 1 }, { id: 10, at: 1 }, { id: 1, at: 1 }])
      yield* until("a visit", Effect.sync(() => visits === 1))
      yield* TestClock.adjust("7 seconds")
      assert.strictEqual(visits, 4, "at first, and after 1, 3 and 7 seconds")
      yield* append("in", 1, [{ id: 2, at: 1 }])
      yield* copied(2)
      assert.deepStrictEqual(yield* copies, [2])
      assert.strictEqual(yield* gauge(heldTasks, { reason: "Unavailable" }), 1)
      assert.deepStrictEqual(warnings.splice(0).filter((message) => message.startsWith("stage")), [
        "stage visit holds up partition 0 while it tries again: Unavailable: away",
      ])
      const second = yield* handedOver(pipeline, first)
      yield* until("held again", Effect.map(gauge(heldTasks, { reason: "Unavailable" }), (held) => held === 1))
      isAway = false
      yield* copied(0, 10, 1)
      assert.deepStrictEqual((yield* copies).toSorted((a, b) => a - b), [0, 1, 2, 10])
      assert.strictEqual(yield* gauge(heldTasks, { reason: "Unavailable" }), 0)
      yield* stop(second)
    }),
  )
})

describe("Records that are not due", () => {
  for (const order of ["free", "kept"] as const) {
    test(
      `hold up neither what comes after them, nor a rebalance, nor a stop (order ${order})`,
      Effect.gen(function* () {
        let isSlow = true
        const pipeline = visiting(
          (reading) =>
            isSlow && reading.id >= 10 ? Effect.fail(new TimedOut({ message: "slow" })) : Effect.succeed(reading),
          order,
        )
        const first = yield* running(pipeline)
        for (const partition of [0, 1]) yield* append("in", partition, [{ id: 10 + partition, at: 1 }])
        yield* TestClock.adjust("2 seconds")
        for (const partition of [0, 1]) yield* append("in", partition, [{ id: partition, at: 2 }], "other")
        yield* copied(0, 1)
        assert.deepStrictEqual((yield* copies).toSorted(), [0, 1])
        const second = yield* handedOver(pipeline, first)
        isSlow = false
        yield* TestClock.adjust("1 hour")
        yield* copied(10, 11)
        assert.strictEqual((yield* copies).length, 4)
        yield* stop(second)
      }),
    )
  }

  test(
    "let so much wait behind them and no more, which holds up no rebalance either",
    Effect.gen(function* () {
      const control = yield* ClusterMemory.Control
      let isSlow = true
      const pipeline = visiting(
        (reading) =>
          isSlow && reading.id === 10 ? Effect.fail(new TimedOut({ message: "slow" })) : Effect.succeed(reading),
        "kept",
        1,
      )
      const one = (id: number) =>
        control.append({ topic: "in", partition: 0 }, {
          keys: [Buffer.from("k")],
          values: [Buffer.from(JSON.stringify({ id, at: id }))],
          headers: [[]],
          timestamps: [0],
        })
      const first = yield* running(pipeline)
      yield* one(10)
      yield* until("the first waits", Effect.map(gauge(parkedRecords, {}), (parked) => parked === 1))
      for (let id = 11; id < 20; id++) {
        yield* one(id)
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual(yield* gauge(parkedRecords, {}), 2, "the first, and the one that takes up the room")
      const [lag] = yield* Admin.lag(["visiting"])
      assert.isAbove(lag!.records, 0)
      const second = yield* handedOver(pipeline, first)
      isSlow = false
      yield* TestClock.adjust("1 hour")
      yield* copied(...Array.from({ length: 10 }, (_, i) => 10 + i))
      assert.deepStrictEqual(yield* copies, Array.from({ length: 10 }, (_, i) => 10 + i))
      assert.strictEqual(yield* gauge(parkedRecords, {}), 0)
      yield* stop(second)
    }),
  )

  test(
    "keep nobody for ever when they were deleted while no program ran",
    Effect.gen(function* () {
      const control = yield* ClusterMemory.Control
      const missed = Metric.withAttributes(missedRecords, { stage: "visit" })
      const before = (yield* Metric.value(missed)).count
      const visits: Array<number> = []
      const pipeline = visiting(
        (reading) => {
          visits.push(reading.id)
          return reading.id === 10 ? Effect.fail(new TimedOut({ message: "slow" })) : Effect.succeed(reading)
        },
        "kept",
        1,
      )
      const first = yield* running(pipeline)
      yield* append("in", 0, [{ id: 10, at: 1 }, { id: 11, at: 2 }, { id: 12, at: 3 }])
      yield* until("they wait", Effect.map(gauge(parkedRecords, {}), (parked) => parked === 3))
      yield* TestClock.adjust("1 second")
      yield* stop(first)
      yield* TestClock.setTime((yield* Clock.currentTimeMillis) + Duration.toMillis("8 days"))
      yield* control.expire
      assert.deepStrictEqual(yield* control.records("visit.retry.1"), [])
      yield* append("in", 0, [{ id: 13, at: 4 }])
      const second = yield* running(pipeline)
      yield* copied(11, 12, 13)
      assert.deepStrictEqual(yield* copies, [11, 12, 13])
      assert.deepStrictEqual(visits, [10, 11, 12, 13])
      assert.strictEqual(Number((yield* Metric.value(missed)).count) - Number(before), 1)
      assert.strictEqual(yield* gauge(parkedRecords, {}), 0)
      yield* stop(second)
    }),
  )
})
