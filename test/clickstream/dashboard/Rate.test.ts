import { assert, describe, it } from "@effect/vitest"
import * as Rate from "../../../src/clickstream/dashboard/Rate.ts"

describe("Rate", () => {
  it("is what a count gained per second, though it counts in steps", () => {
    const rate = Rate.make()
    assert.isNull(rate(0, 5_000))
    assert.isNull(rate(1_000, 5_300))
    const rates: Array<number> = []
    // 300 a second, told by a database once in 1.3 seconds.
    for (let at = 2_000; at < 60_000; at += 1_000) {
      const told = rate(at, 5_000 + 300 * 1.3 * Math.floor(at / 1_300))
      if (at >= 10_000) rates.push(told!)
    }
    for (const one of rates) assert.approximately(one, 300, 30)
  })

  it("is high while a backlog is stored, and nothing when nothing is", () => {
    const rate = Rate.make()
    for (let at = 0; at < 20_000; at += 1_000) rate(at, at * 50)
    assert.approximately(rate(20_000, 1_000_000)!, 50_000, 1)
    for (let at = 21_000; at < 32_000; at += 1_000) rate(at, 1_000_000)
    assert.strictEqual(rate(32_000, 1_000_000), 0)
  })

  it("begins anew after a silence, and where the count does", () => {
    const rate = Rate.make()
    for (let at = 0; at < 10_000; at += 1_000) rate(at, at)
    assert.isNull(rate(60_000, 60_000))
    assert.isNull(rate(61_000, 10))
    for (let at = 62_000; at < 66_000; at += 1_000) rate(at, at - 61_000 + 10)
    assert.approximately(rate(66_000, 5_010)!, 1_000, 1)
  })
})
