import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import { encode } from "../../../src/kafka/internal/RecordBatch.ts"
import { encodedSize } from "../../../src/kafka/memory/RecordSize.ts"
import { type Dice, forSeeds } from "../../support/Seeds.ts"

const bytes = (dice: Dice) => {
  const length = dice.pick([0, 1, 10, 63, 64, 200, 8_191, 8_192, 70_000])
  return dice.int(0, 4) === 0 ? null : Buffer.alloc(length, dice.int(0, 255))
}

describe("encodedSize", () => {
  it.effect("is what a batch takes on the wire", () =>
    forSeeds(100, (dice) =>
      Effect.sync(() => {
        const rows = dice.list(1, 200, () => ({
          key: bytes(dice),
          value: dice.int(0, 9) === 0 ? bytes(dice) : Buffer.alloc(dice.int(0, 100)),
          headers: dice.list(
            0,
            dice.pick([0, 0, 3, 70]),
            () => [dice.pick(["", "name", "größe"]), Buffer.alloc(3)] as const,
          ),
          timestamp: 1_700_000_000_000 + dice.pick([-1, 1]) * dice.pick([0, 50, 64, 9_000, 2_000_000, 40_000_000_000]),
        }))
        const records = {
          keys: rows.map(({ key }) => key),
          values: rows.map(({ value }) => value),
          headers: rows.map(({ headers }) => headers),
          timestamps: rows.map(({ timestamp }) => timestamp),
        }
        const encoded = encode(records, { compression: "none", transactional: false })
        assert.strictEqual(encodedSize(records), encoded.length)
      })))
})
