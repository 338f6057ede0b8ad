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

  it.effect("is the lowest among those who were heard within a minute, once all were or a minute has passed", () =>
    forSeeds(300, (dice) =>
      Effect.sync(() => {
        const writers = dice.int(2, 5)
        let clock = new StreamTime()
        const heard = new Map<string, { time: number; arrival: number }>()
        let since = Infinity
        let lowest = -Infinity
        for (let i = 0; i < 100; i++) {
          const writer = String(Math.min(dice.int(0, writers - 1), dice.int(0, writers - 1)))
          const time = dice.int(0, 19) === 0 ? -Infinity : now + i * 1_000 + dice.int(-20_000, 20_000)
          const arrival = now + i * dice.pick([1_000, 5_000]) + dice.int(-5_000, 5_000)
          const known = heard.get(writer) ?? { time: -Infinity, arrival: -Infinity }
          heard.set(writer, { time: Math.max(known.time, time), arrival: Math.max(known.arrival, arrival) })
          since = Math.min(since, arrival)
          const active = [...heard.values()].filter((one) => one.arrival > arrival - 60_000)
          if (heard.size === writers || since <= arrival - 60_000) {
            lowest = Math.max(lowest, Math.min(...active.map(({ time }) => time)))
          }
          assert.strictEqual(clock.advance(writer, time, arrival, writers), lowest)
          if (dice.int(0, 9) === 0) clock = new StreamTime(clock.clock)
          if (dice.int(0, 29) === 0) {
            clock.goOn(500)
            lowest += 500
          }
        }
      })))

  it("of thousands of writers moves on quickly where each writes some records at a time", () => {
    const clock = new StreamTime()
    const [writers, records, run] = [5_000, 500_000, 50]
    const names = Array.from({ length: writers }, (_, n) => String(n))
    const from = performance.now()
    for (let i = 0; i < records; i++) {
      clock.advance(names[Math.floor(i / run) % writers]!, now + i, now + i / 10, writers)
    }
    assert.isBelow(performance.now() - from, 4_000)
    assert.strictEqual(clock.now, now + records - writers * run + run - 1)
  })

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
