/** Law 5 for records that wait in retry topics: programs die at any step of their work, and come and go. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Guarantee } from "../../src/index.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Charging from "../support/Charging.ts"
import { Dice, forSeeds } from "../support/Seeds.ts"
import * as Simulation from "../support/Simulation.ts"

/** Long polls and heartbeats are many and change nothing. */
const matters = ({ operation }: Faults.Call) => operation !== "Fetch" && operation !== "Heartbeat"

const orders = Charging.input(new Dice(1), 40)
const steps = Array.from({ length: 8 }, (_, i) => orders.slice(i * 5, i * 5 + 5))

const through = (
  guarantee: typeof exactly,
  order: "kept" | "free",
  seed: number,
  faults: ReadonlyArray<(kill: Effect.Effect<void>) => Faults.Plan>,
) =>
  Simulation.throughSteps(
    Charging.pipeline(guarantee, order, Charging.service(new Dice(seed)), 2_000),
    Charging.topics,
    steps,
    faults,
  )

const exactly = Guarantee.exactlyOnce()

describe.each(["kept", "free"] as const)("order %s, exactly once", (order) => {
  it.effect("loses and repeats nothing when a program dies at any one step", () =>
    Effect.gen(function* () {
      const { calls, read } = yield* through(exactly, order, 1, [])
      Charging.exactlyOnce(orders, read, order, "no fault")
      let seed = 2
      for (const { operation, count } of calls.filter(matters)) {
        for (const crash of [Faults.crash, Faults.crashAfter]) {
          const at = `${crash === Faults.crash ? "before" : "after"} ${operation} ${count}, SEED=${++seed}`
          const { read } = yield* through(exactly, order, seed, [(kill) => Faults.at(operation, count, crash(kill))])
          Charging.exactlyOnce(orders, read, order, at)
        }
      }
    }), 240_000)

  it.effect(
    "loses and repeats nothing when programs come and go over a network that fails",
    () =>
      forSeeds(20, (dice, seed) =>
        Effect.gen(function* () {
          const given = Charging.input(dice, dice.int(20, 120))
          const pipeline = Charging.pipeline(exactly, order, Charging.service(dice), dice.pick([1, 1_000_000]))
          const { read, ended } = yield* Simulation.inChaos(pipeline, Charging.topics, given, dice)
          Charging.exactlyOnce(given, read, order, `SEED=${seed}`)
          assert.deepStrictEqual(ended, [], `SEED=${seed}`)
        })),
    240_000,
  )
})

describe.each(["kept", "free"] as const)("order %s, at least once", (order) => {
  it.effect(
    "misses nothing when programs come and go over a network that fails",
    () =>
      forSeeds(20, (dice, seed) =>
        Effect.gen(function* () {
          const given = Charging.input(dice, dice.int(20, 120))
          const pipeline = Charging.pipeline(Guarantee.atLeastOnce(), order, Charging.service(dice))
          const { read } = yield* Simulation.inChaos(pipeline, Charging.topics, given, dice)
          Charging.atLeastOnce(given, read, `SEED=${seed}`)
        })),
    240_000,
  )
})
