/** Clocks as they stand in a position's metadata. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { decodeClock, encodeClock, StreamTime, unheard } from "../src/StreamTime.ts"
import { forSeeds } from "./support/Seeds.ts"

const now = 1_700_000_000_000

describe("a clock", () => {
  it("comes back as it was written", () => {
    const several = new StreamTime()
    several.advance("0", now, now + 5, 3)
    several.advance("2", -Infinity, now + 6, 3)
    several.advance("1", now - 0.5, now + 7, 3)
    for (const clock of [unheard, { ...unheard, now }, { ...unheard, now: now + 0.25 }, several.clock]) {
      assert.deepStrictEqual(decodeClock(encodeClock(clock, 3_000)), clock)
    }
  })

  it("holds some 140 writers in the room that a position has", () => {
    const clock = new StreamTime()
    for (let writer = 0; writer < 140; writer++) clock.advance(String(writer), now + writer, now, 140)
    assert.deepStrictEqual(decodeClock(encodeClock(clock.clock, 3_000)), clock.clock)
  })

  it("leaves a writer out that is silent for a minute while others write", () => {
    const clock = new StreamTime()
    clock.advance("a", now, now, 2)
    assert.strictEqual(clock.advance("b", now + 5, now, 2), now)
    for (let second = 10; second < 60; second += 10) {
      assert.strictEqual(clock.advance("b", now + second, now + second * 1_000, 2), now)
    }
    assert.strictEqual(clock.advance("b", now + 60, now + 60_000, 2), now + 60)
  })

  it("waits for all writers after a time in which none wrote, for half a minute", () => {
    const clock = new StreamTime()
    clock.advance("a", now, now, 2)
    clock.advance("b", now + 5, now, 2)
    const after = now + 3_600_000
    const whole = clock.clock
    assert.strictEqual(clock.advance("b", now + 10, after, 2), now)
    assert.strictEqual(clock.advance("b", now + 20, after + 29_999, 2), now)
    assert.strictEqual(clock.advance("b", now + 30, after + 30_000, 2), now + 30)
    // Also one that was never heard of.
    const unheardOf = new StreamTime({ ...whole, writers: new Map([["b", { time: now + 5, arrival: now }]]) })
    assert.strictEqual(unheardOf.advance("b", now + 10, after, 2), now)
    assert.strictEqual(unheardOf.advance("b", now + 20, after + 29_999, 2), now)
    assert.strictEqual(unheardOf.advance("b", now + 30, after + 30_000, 2), now + 30)
  })

  it.effect("is the same wherever it is written and read", () =>
    forSeeds(200, (dice) =>
      Effect.sync(() => {
        const whole = new StreamTime()
        let cut = new StreamTime()
        let arrival = now
        for (let i = 0; i < 200; i++) {
          arrival += dice.pick([-5, 0, 1_000, 20_000, 40_000, 70_000, 3_600_000])
          const said = [String(dice.int(0, 2)), now + i * 1_000 + dice.int(0, 9_000), arrival] as const
          assert.strictEqual(cut.advance(...said, 3), whole.advance(...said, 3))
          if (dice.int(0, 4) === 0) cut = new StreamTime(decodeClock(encodeClock(cut.clock, 3_000)))
        }
      })))

  it.effect("is never ahead of the one that it was written from, where its writers do not fit", () =>
    forSeeds(200, (dice) =>
      Effect.sync(() => {
        const writers = 4
        let clock = new StreamTime()
        let cut = new StreamTime()
        for (let i = 0; i < 200; i++) {
          const said = [
            String(dice.int(0, writers - 1)),
            now + i * 1_000 + dice.int(0, 9_000),
            now + i * 2_000,
          ] as const
          clock.advance(...said, writers)
          cut.advance(...said, writers)
          assert.isAtMost(cut.now, clock.now)
          if (dice.int(0, 19) === 0) {
            clock = new StreamTime(decodeClock(encodeClock(clock.clock, 3_000)))
            cut = new StreamTime(decodeClock(encodeClock(cut.clock, 20)))
          }
        }
        assert.isAbove(cut.now, now)
      })))
})
