import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Pace } from "../src/Pace.ts"
import { forSeeds } from "./support/Seeds.ts"

/** A bucket that is filled as time passes, and counts tokens. */
class Tokens {
  #tokens: number
  #at = 0
  readonly #perSecond: number
  readonly #burst: number
  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#tokens = burst
  }
  has(now: number): boolean {
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) * this.#perSecond / 1_000)
    this.#at = now
    return this.#tokens >= 1
  }
  take(): void {
    this.#tokens--
  }
}

describe("Pace", () => {
  it.effect("lets through what a bucket of tokens does", () =>
    forSeeds(200, (dice) =>
      Effect.sync(() => {
        // Rates whose tokens come at whole milliseconds, so that the reference is exact.
        const perSecond = dice.pick([0.5, 1, 2, 4, 8, 125, 250, 500])
        const burst = dice.int(1, 5)
        const pace = new Pace({ perSecond, burst }, "test")
        const tokens = new Tokens(perSecond, burst)
        let bucket = Pace.full
        let now = 0
        for (let i = 0; i < 100; i++) {
          now += dice.pick([0, 0, 1, 2, 125, 250, 1_000, 10_000])
          const after = pace.take(bucket, now)
          const may = pace.wait(after, now) === 0
          assert.strictEqual(may, tokens.has(now))
          if (!may) continue
          bucket = after
          tokens.take()
        }
      })))

  it.effect("never lets more through than its burst and its rate, whatever waits", () =>
    forSeeds(200, (dice) =>
      Effect.sync(() => {
        const perSecond = dice.pick([0.3, 3, 7, 33.3])
        const burst = dice.int(1, 5)
        const pace = new Pace({ perSecond, burst }, "test")
        const passed: Array<number> = []
        let bucket = Pace.full
        let now = 0
        for (let i = 0; i < 50; i++) {
          now += dice.pick([0, 0, 10, 300])
          bucket = pace.take(bucket, now)
          now += pace.wait(bucket, now)
          passed.push(now)
        }
        for (let from = 0; from < passed.length; from++) {
          for (let to = from; to < passed.length; to++) {
            // Waits are whole milliseconds: the first may have gone one late.
            const most = burst + (passed[to]! - passed[from]! + 1) * perSecond / 1_000
            assert.isAtMost(to - from + 1, most + 1e-6)
          }
        }
      })))

  it("waits no longer than it must", () => {
    const pace = new Pace({ perSecond: 3, burst: 2 }, "test")
    let bucket = Pace.full
    const waits = Array.from({ length: 5 }, () => pace.wait(bucket = pace.take(bucket, 1e9), 1e9))
    assert.deepStrictEqual(waits, [0, 0, 334, 667, 1_000])
  })

  it("has a second's worth at once unless told otherwise, and at least one", () => {
    for (const [perSecond, burst] of [[0.1, 1], [1, 1], [2.5, 3], [100, 100]] as const) {
      const pace = new Pace({ perSecond }, "test")
      let bucket = Pace.full
      let passed = 0
      while (pace.wait(bucket = pace.take(bucket, 0), 0) === 0) passed++
      assert.strictEqual(passed, burst)
    }
  })
})
