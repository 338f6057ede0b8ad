/** Where redriven records come in again, and what the stages they pass make of that. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import {
  DeadLetter,
  Deduplicate,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Pipeline,
  type Retry,
  Topic,
} from "../../src/index.ts"
import * as Redrive from "../../src/ops/Redrive.ts"
import { Driver } from "../../src/testing/index.ts"
import {
  Charged,
  common,
  decoded,
  Malformed,
  type Order,
  Orders,
  retryTopics,
  TimedOut,
} from "../support/RetryCases.ts"
import * as Simulation from "../support/Simulation.ts"

const Dlt = Topic.bytes({ ...common, name: "orders.dlt" })
const dead = DeadLetter.to(Dlt)

/** A service that fails while it is broken: orders with an odd number for good. */
const service = () => {
  const asked: Array<string> = []
  const state = { isBroken: true, isSeen: 0 }
  const charge = (order: Order): Effect.Effect<Order, TimedOut | Malformed> =>
    Effect.suspend(() => {
      asked.push(order.id)
      if (!state.isBroken) return Effect.succeed(order)
      return Effect.fail(order.n % 2 === 1 ? new Malformed({ message: "odd" }) : new TimedOut({ message: "slow" }))
    })
  const seen = Flow.map((order: Order) => {
    state.isSeen++
    return order
  })
  return { asked, state, charge, seen }
}

const orders = Array.from({ length: 6 }, (_, n): Order => ({ id: `order-${n}`, n, at: 1_000 * n }))

const redrive = (options?: Redrive.Options) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Redrive.send(Dlt.name, {}, options))
    yield* Simulation.until("a redrive", Effect.sync(() => fiber.pollUnsafe() !== undefined))
    return yield* Fiber.join(fiber)
  })

const ids = (driver: Driver.Driver) =>
  Effect.map(driver.values(Charged), (all) => all.map((order) => order!.id).toSorted())

const everyOne = orders.map(({ id }) => id)

const once = Deduplicate.by<Order>({ name: "seen", id: (order) => order.id })

describe("A redriven record", () => {
  for (const order of ["free", "kept"] satisfies ReadonlyArray<Retry.Order>) {
    it.effect(`comes in at the stage that gave it up, with order ${order}, and at none before it`, () => {
      const { asked, state, charge, seen } = service()
      const retries = retryTopics(order)
      const charging = Pipeline.make(
        "charging",
        decoded.pipe(
          seen,
          once,
          Failures.handle({ name: "charge" }, Flow.effect(charge), {
            TimedOut: Failures.later(retries, dead),
            Malformed: dead,
          }),
          Deliver.to(Charged),
          Failures.routeAll(dead),
        ),
        Guarantee.exactlyOnce(),
      )
      return Driver.run({ pipelines: charging, topics: [Dlt], logLevel: "None" }, (driver) =>
        Effect.gen(function* () {
          yield* driver.feed(Orders, orders)
          yield* driver.advance("15 minutes")
          yield* driver.settle
          assert.strictEqual((yield* driver.readBytes(Dlt)).length, 6)
          const [group, other] = yield* Redrive.list(Dlt.name)
          assert.deepStrictEqual([group!.stage, other!.stage, group!.letters + other!.letters], ["charge", "charge", 6])
          // Broken still: all come back, and say so.
          assert.deepStrictEqual(Object.fromEntries((yield* redrive()).sent), { "charge.retry.1": 6 })
          yield* driver.advance("15 minutes")
          yield* driver.settle
          const letters = yield* driver.readBytes(Dlt)
          assert.strictEqual(letters.length, 12)
          const times = letters.map(({ headers }) => new Map(headers.map(([name, value]) => [name, String(value)])))
          assert.deepStrictEqual(
            times.map((said) => said.get("millrace-stage-event-times")).toSorted(),
            orders.flatMap(({ at }) => [String(at), String(at)]).toSorted(),
          )
          assert.isTrue(times.slice(6).every((said) => said.get("millrace-redrive-attempts") === "1"))

          state.isBroken = false
          const before = asked.length
          assert.deepStrictEqual(Object.fromEntries((yield* redrive()).sent), { "charge.retry.1": 6 })
          yield* driver.advance("2 minutes")
          yield* driver.settle
          assert.deepStrictEqual(yield* ids(driver), everyOne)
          assert.strictEqual(asked.length - before, 6)
          assert.strictEqual((yield* redrive()).before, 12)
          yield* driver.settle
          assert.deepStrictEqual(yield* ids(driver), everyOne)
          assert.strictEqual(state.isSeen, 6)
        }))
    })
  }

  it.effect("comes in at its topic where the stage has no retry topics, and is not its own repeat", () => {
    const { state, charge, seen } = service()
    const charging = Pipeline.make(
      "charging",
      decoded.pipe(seen, once, Flow.effect(charge), Deliver.to(Charged), Failures.routeAll(dead)),
      Guarantee.exactlyOnce(),
    )
    return Driver.run({ pipelines: charging, topics: [Dlt], logLevel: "None" }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Orders, orders)
        yield* driver.settle
        for (let attempt = 0; attempt < 2; attempt++) {
          assert.deepStrictEqual(Object.fromEntries((yield* redrive()).sent), { orders: 6 })
          yield* driver.settle
        }
        assert.strictEqual((yield* driver.readBytes(Dlt)).length, 18)
        state.isBroken = false
        // Somebody else sends one of them again, as it was: that is a repeat.
        yield* driver.feed(Orders, [orders[3]!])
        yield* redrive()
        yield* driver.settle
        yield* redrive()
        yield* driver.settle
        assert.deepStrictEqual(yield* ids(driver), everyOne)
        assert.strictEqual((yield* driver.counts(charging)).dropped["repeat"], 1)
        // Everything above the stage has seen every attempt.
        assert.strictEqual(state.isSeen, 6 * 4 + 1)
      }))
  })
})
