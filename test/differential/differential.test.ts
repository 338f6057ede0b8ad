/**
 * Random pipelines over random input, cut into batches anywhere and ended after any of them, come to what a naive
 * computation over the whole input says that they must.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { forSeeds } from "../support/Seeds.ts"
import { run } from "./Case.ts"

it.effect(
  "random pipelines come to what a naive computation says",
  () =>
    forSeeds(10_000, (dice) =>
      Effect.gen(function* () {
        const { topology, actual, expected } = yield* run(dice)
        assert.deepStrictEqual(actual, expected, topology.name)
      })),
  240_000,
)
