/**
 * Random pipelines over random input, cut into batches anywhere and ended after any of them, come to what a naive
 * computation over the whole input says that they must.
 *
 * A failure names its seed: `SEED=17 npx vitest run test/differential/differential.test.ts` runs that case alone, and
 * `SEED=20000..30000` others than usual.
 */
import { assert, it } from "@effect/vitest"
import { Effect, References } from "effect"
import { forSeeds } from "../support/Seeds.ts"
import { run } from "./Case.ts"
import { Coverage, expectedEvents, expectedOperators } from "./Coverage.ts"

it.effect(
  "random pipelines come to what a naive computation says",
  () =>
    Effect.gen(function* () {
      const coverage = new Coverage()
      yield* forSeeds(10_000, (dice) =>
        Effect.gen(function* () {
          const outcome = yield* run(dice)
          const { topology, actual, expected } = outcome
          coverage.add(outcome)
          assert.deepStrictEqual(actual, expected, topology.name)
        }))
      if (process.env["SEED"] !== undefined) return
      console.log(coverage.table)
      for (const name of expectedOperators) assert.isAtLeast(coverage.operators.get(name) ?? 0, 200, name)
      for (const name of expectedEvents) assert.isAtLeast(coverage.events.get(name) ?? 0, 100, name)
    }).pipe(Effect.provideService(References.MinimumLogLevel, "None")),
  240_000,
)
