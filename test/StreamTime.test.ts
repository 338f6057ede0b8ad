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

describe("the stream time of an input that several tasks write", () => {
  const minute = 60_000
  /** Stream time after each record: who wrote it, at which stream time of its own, and when it arrived. */
  const after = (...records: ReadonlyArray<readonly [writer: string, time: number, arrival: number]>) => {
    const clock = new StreamTime()
    return records.map(([writer, time, arrival]) => clock.advance(writer, time, arrival, 2))
  }

  it("is that of the writer that is behind", () => {
    assert.deepStrictEqual(after(["0", 100, 0], ["1", 70, 1], ["0", 120, 2], ["1", 150, 3], ["1", 90, 4]), [
      -Infinity,
      70,
      70,
      120,
      120,
    ])
  })

  it("waits for a writer that is silent until exactly a minute after it was last heard, or has not been heard of", () => {
    assert.deepStrictEqual(
      after(["1", 70, 0], ["0", 100, 1], ["0", 200, minute - 1], ["0", 300, minute], ["1", 80, minute + 1]),
      [-Infinity, 70, 70, 300, 300],
    )
    assert.deepStrictEqual(after(["0", 100, 5], ["0", 200, minute + 4], ["0", 300, minute + 5]), [
      -Infinity,
      -Infinity,
      300,
    ])
  })

  it("waits again for one that speaks again, and never goes back", () => {
    assert.deepStrictEqual(
      after(["1", 70, 0], ["0", 300, minute], ["1", 310, minute + 1], ["0", 400, minute + 2], ["0", 500, 2 * minute]),
      [-Infinity, 300, 300, 310, 310],
    )
  })
})
