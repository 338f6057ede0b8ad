/** The pipelines of orders over random commands, crashes included, against what a computation by hand makes of the same. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Random, Result } from "effect"
import { orderTopics } from "../../schemas/orders/index.ts"
import { Decider } from "../../src/index.ts"
import { averages } from "../../src/orders/Averages.ts"
import { order, type OrderEvent } from "../../src/orders/Order.ts"
import { orders } from "../../src/orders/Orders.ts"
import * as Traffic from "../../src/orders/Traffic.ts"
import { Driver, Faults } from "../../src/testing/index.ts"
import { byHand } from "../support/OrdersByHand.ts"
import { forSeeds } from "../support/Seeds.ts"

const naming = { prefix: "" }
const to = orderTopics(naming)
const pipelines = [orders(naming), averages(naming)]

const traffic = (seed: number, count: number) =>
  Effect.gen(function* () {
    const next = yield* Traffic.records(to, seed)
    return yield* Effect.all(Array.from({ length: count }, () => next))
  }).pipe(Random.withSeed(seed))

const present = <A>(values: ReadonlyArray<A | null>) => values.filter((value) => value !== null)

/** Every event in the topics, as the decider knows it. */
const events = Effect.fnUntraced(function* (driver: Driver.Driver) {
  const all = [
    ...present(yield* driver.values(to.created)),
    ...present(yield* driver.values(to.updated)),
    ...present(yield* driver.values(to.payments)),
  ]
  return all.map(({ orderId: key, version, commandId, ...event }): Decider.Recorded<OrderEvent> => (
    { key, version, commandId, event }
  ))
})

const check = Effect.fnUntraced(function* (driver: Driver.Driver) {
  const commands = yield* driver.readBytes(to.commands)
  const expected = byHand(commands.map(({ value }) => ({ value: String(value) })))
  const averages = yield* driver.latest(to.averages)
  assert.deepStrictEqual(
    new Map(Array.from(averages, ([user, { averages }]) => [user, averages])),
    new Map(expected.averages),
  )
  const published = yield* events(driver)
  const byOrder = new Map<string, Array<string>>()
  for (const { key, version, event } of published.toSorted((a, b) => a.version - b.version)) {
    byOrder.set(key, [...byOrder.get(key) ?? [], `${version} ${event.type}`])
  }
  assert.deepStrictEqual(byOrder, new Map(expected.events) as typeof byOrder)

  const accepted = present(yield* driver.values(to.accepted))
  const rejected = present(yield* driver.values(to.rejected))
  assert.strictEqual(accepted.filter(({ repeated }) => repeated).length, expected.repeated)
  assert.strictEqual(accepted.filter(({ repeated }) => !repeated).length, expected.accepted)
  const reasons = Map.groupBy(rejected, ({ reason }) => reason)
  assert.deepStrictEqual(
    Object.fromEntries(Array.from(reasons, ([reason, { length }]) => [reason, length])),
    expected.rejected as Record<string, number>,
  )
  assert.strictEqual((yield* driver.readBytes(to.dlt)).length, expected.damaged)

  // What the three topics tell together is what the store holds.
  const rebuilt = Result.getOrThrow(Decider.rebuild(order, published))
  const stored = Array.from(yield* driver.store(pipelines[0]!, "orders"), ([key, aggregate]) => {
    const { state, version } = aggregate as Decider.Rebuilt<unknown>
    return [key, { state, version }] as const
  })
  assert.deepStrictEqual(new Map<string, unknown>(rebuilt), new Map(stored.filter(([, { version }]) => version > 0)))
  return expected
})

describe("orders and average payments", () => {
  it.effect(
    "are as computed by hand, over programs that come and go",
    () =>
      forSeeds(
        20,
        (dice, seed) =>
          Driver.run({ pipelines, seed, logLevel: "Fatal" }, (driver) =>
            Effect.gen(function* () {
              const records = yield* traffic(seed, dice.int(50, 300))
              for (let fed = 0; fed < records.length;) {
                const next = fed + dice.int(5, 60)
                yield* driver.feedBytes(to.commands, records.slice(fed, next))
                fed = next
                yield* driver.advance(dice.pick([20, 100, 300]))
                const what = dice.pick(["crash", "disturb", "start", "wait", "wait"])
                if (what === "crash") {
                  yield* driver.crash
                }
                if (what === "start") yield* driver.start(dice.pick(pipelines))
                if (what === "disturb") {
                  yield* driver.inject(Faults.random(dice.int(1, 1e9), { refuse: 0.05, loseAnswer: 0.05, delay: 0.1 }))
                }
                yield* driver.restart
              }
              yield* driver.inject(Faults.none)
              yield* driver.settle
              yield* check(driver)
            })),
      ),
    120_000,
  )

  it.effect("have commands of every kind to decide", () =>
    Driver.run({ pipelines }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feedBytes(to.commands, yield* traffic(1, 1_500))
        yield* driver.settle
        const { accepted, repeated, rejected, damaged, averages } = yield* check(driver)
        assert.isAbove(accepted, 700)
        assert.isAbove(repeated, 50)
        assert.isAbove(damaged, 5)
        assert.sameMembers(Object.keys(rejected), [
          "UnknownOrder",
          "EmptyOrder",
          "AlreadyPaid",
          "Cancelled",
          "WrongCurrency",
          "WrongAmount",
        ])
        assert.strictEqual(averages.size, 12)
      })))
})
