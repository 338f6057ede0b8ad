/** Failing cases become small, replay exactly, and are told so that they can be read. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Dice, forSeeds } from "../support/Seeds.ts"
import { problemOf, smallest } from "./Case.ts"
import { messages } from "./clickstream/Input.ts"
import * as Clickstream from "./clickstream/System.ts"
import { chaos } from "./Draw.ts"
import { plan } from "./Plan.ts"
import * as Planted from "./Planted.ts"
import { placesOf, shrink, textOf } from "./Shrink.ts"
import { run } from "./World.ts"

it("CI makes 10,000 runs in which a program dies", () => {
  assert.isAtLeast(Object.values(plan).reduce((sum, { deaths }) => sum + deaths, 0), 10_000)
})

describe("shrinking", () => {
  it.effect("leaves what a failure needs, and nothing else", () =>
    forSeeds(200, (dice) =>
      Effect.gen(function* () {
        const all = Array.from({ length: dice.int(1, 80) }, (_, i) => i)
        const needed = new Set(dice.list(1, 5, () => dice.pick(all)))
        const fails = (some: ReadonlyArray<number>) => Effect.succeed([...needed].every((one) => some.includes(one)))
        const left = yield* shrink(all, fails)
        assert.deepStrictEqual(left, [...needed].sort((a, b) => a - b))
        assert.deepStrictEqual([...placesOf(textOf(left))], left)
      })))

  it.effect("makes a case with a planted defect small, and the same every time", () =>
    Effect.gen(function* () {
      const dice = new Dice(5)
      const system = { ...Clickstream.clickstream("patient"), plant: Planted.abortedLetThrough }
      const decisions = chaos(dice, system, messages(dice, 30))
      // A fault in the middle of a transaction: what was written before it must not count.
      const failing = {
        system,
        options: { seed: 5 },
        replay: "SEED=5",
        decisions: [
          { do: "fault", who: { pipeline: "clickstream-enrich", nth: 1 }, call: "EndTxn", n: 2, kind: "crash before" },
          ...decisions.filter((one) => one.do !== "fault"),
        ],
      } as const
      const told: Array<string> = []
      for (let time = 0; time < 2; time++) {
        const problem = problemOf(yield* Effect.exit(run(system, failing.decisions, failing.options)))
        assert.isDefined(problem)
        const { text, decisions: left } = yield* smallest(failing, problem!, 120)
        assert.isAtMost(left.length, 8, text)
        told.push(text)
      }
      assert.strictEqual(told[0], told[1])
      assert.match(told[0]!, /clickstream-enrich 1, EndTxn 2: crash before\n[^]*feed user.clicks.raw[^]*KEEP=0/)
    }), 300_000)
})
