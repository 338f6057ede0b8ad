/** Averages are exact: against integers of any size. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { average } from "../../src/orders/Averages.ts"
import { forSeeds } from "../support/Seeds.ts"

const exact = (total: number, payments: number) =>
  Number((2n * BigInt(total) + BigInt(payments)) / (2n * BigInt(payments)))

describe("the average payment", () => {
  it.effect("is rounded half up, also where floating point cannot tell which side of a half it is on", () =>
    forSeeds(2_000, (dice) =>
      Effect.sync(() => {
        const payments = dice.int(1, 9_000)
        // Next to a half, and up to the largest sum there can be.
        const total = dice.int(0, 1_000_000_000_000 - 1) * payments + (payments >> 1) + dice.int(-1, 1)
        assert.strictEqual(average(Math.max(0, total), payments), exact(Math.max(0, total), payments))
      })).pipe(Effect.andThen(Effect.sync(() => {
        assert.strictEqual(average(8_876_109_364_092_316, 8_943), 992_520_335_915)
        assert.notStrictEqual(Math.round(8_876_109_364_092_316 / 8_943), 992_520_335_915)
      }))))
})
