/**
 * The clickstream's programs die at every step, and live through everything else that can happen to them; what stands in its
 * topics in the end is what an independent computation says.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Operation } from "../../src/kafka/Faults.ts"
import { forSeeds } from "../support/Seeds.ts"
import { attempt } from "./Case.ts"
import { messages } from "./clickstream/Input.ts"
import * as Clickstream from "./clickstream/System.ts"
import type { Decision } from "./Decision.ts"
import { calm, chaos } from "./Draw.ts"
import { Figures } from "./Figures.ts"
import { crashes } from "./Steps.ts"
import type { System } from "./World.ts"

const file = "npx vitest run test/simulation/clickstream.test.ts"

/** What a commit consists of. */
const commit: ReadonlyArray<Operation> = [
  "AddPartitionsToTxn",
  "Produce",
  "AddOffsetsToTxn",
  "TxnOffsetCommit",
  "EndTxn",
]

/** Runs each case without a fault, and then with a crash before and after every call of its first programs. */
const atEveryStep = (name: string, system: System, seeds: number) =>
  Effect.gen(function* () {
    const figures = new Figures(name)
    const steps = new Map<Operation, number>()
    yield* forSeeds(seeds, (dice, seed) =>
      Effect.gen(function* () {
        const decisions = calm(system, messages(dice, 24))
        const of = (more: ReadonlyArray<Decision>, step: string) => ({
          system,
          decisions: [...more, ...decisions],
          options: { seed },
          replay: `${step === "" ? "" : `STEP="${step}" `}SEED=${seed} ${file}`,
        })
        const whole = yield* attempt(of([], ""))
        for (const { fault, step } of crashes(system, whole)) {
          const ran = yield* attempt(of([fault], step))
          assert.strictEqual(ran.tally.total > 0, true, `${step} is never met`)
          figures.add(ran)
          steps.set(fault.call as Operation, (steps.get(fault.call as Operation) ?? 0) + 1)
        }
      }))
    figures.print()
    return steps
  })

describe("the clickstream, exactly once", () => {
  it.effect("dies at every step of its life, and of every commit", () =>
    Effect.gen(function* () {
      const steps = yield* atEveryStep("clickstream, every step", Clickstream.clickstream("patient"), 12)
      if (process.env["SEED"] !== undefined) return
      for (const operation of commit) assert.isAtLeast(steps.get(operation) ?? 0, 40, operation)
    }), 240_000)

  it.effect("lives through everything at once", () =>
    Effect.gen(function* () {
      const figures = new Figures("clickstream, chaos")
      yield* forSeeds(400, (dice, seed) =>
        Effect.gen(function* () {
          const system = Clickstream.clickstream(dice.pick(["patient", "hasty"]))
          const decisions = chaos(dice, system, messages(dice, 50))
          figures.add(yield* attempt({ system, decisions, options: { seed }, replay: `SEED=${seed} ${file}` }))
        }))
      figures.print()
    }), 240_000)
})

describe("the clickstream with its tables, exactly once", () => {
  it.effect("lives through everything at once", () =>
    Effect.gen(function* () {
      const figures = new Figures("clickstream with tables, chaos")
      yield* forSeeds(100, (dice, seed) =>
        Effect.gen(function* () {
          const system = Clickstream.whole(dice.pick(["patient", "hasty"]))
          const decisions = chaos(dice, system, messages(dice, 40), Clickstream.writers)
          figures.add(yield* attempt({ system, decisions, options: { seed }, replay: `SEED=${seed} ${file}` }))
        }))
      figures.print()
    }), 240_000)
})

describe("the clickstream, at least once", () => {
  it.effect("misses nothing", () =>
    Effect.gen(function* () {
      const figures = new Figures("clickstream at least once, chaos")
      const system = Clickstream.atLeastOnce()
      yield* forSeeds(150, (dice, seed) =>
        Effect.gen(function* () {
          const decisions = chaos(dice, system, messages(dice, 50))
          figures.add(yield* attempt({ system, decisions, options: { seed }, replay: `SEED=${seed} ${file}` }))
        }))
      figures.print()
    }), 240_000)
})
