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
        let last = -Infinity
        let lowest = -Infinity
        for (let i = 0; i < 100; i++) {
          const writer = String(Math.min(dice.int(0, writers - 1), dice.int(0, writers - 1)))
          const time = dice.int(0, 19) === 0 ? -Infinity : now + i * 1_000 + dice.int(-20_000, 20_000)
          const arrival = now + i * dice.pick([1_000, 5_000]) + dice.int(-5_000, 5_000)
          // A time in which nobody wrote counts for 20 seconds.
          const pause = arrival - last - 20_000
          if (pause > 0 && pause < Infinity) {
            since += pause
            for (const one of heard.values()) one.arrival += pause
          }
          last = Math.max(last, arrival)
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

  it("leaves a writer out that is silent for a minute while others write", () => {
    const clock = new StreamTime()
    clock.advance("a", now, now, 2)
    assert.strictEqual(clock.advance("b", now + 5, now, 2), now)
    for (let second = 10; second < 60; second += 10) {
      assert.strictEqual(clock.advance("b", now + second, now + second * 1_000, 2), now)
    }
    assert.strictEqual(clock.advance("b", now + 60, now + 60_000, 2), now + 60)
  })

  it("waits for all writers after a time in which none wrote, of which 20 seconds count", () => {
    const clock = new StreamTime()
    clock.advance("a", now, now, 2)
    clock.advance("b", now + 5, now, 2)
    const after = now + 3_600_000
    const whole = clock.clock
    assert.strictEqual(clock.advance("b", now + 10, after, 2), now)
    assert.strictEqual(clock.advance("b", now + 20, after + 20_000, 2), now)
    assert.strictEqual(clock.advance("b", now + 30, after + 39_999, 2), now)
    assert.strictEqual(clock.advance("b", now + 40, after + 40_000, 2), now + 40)
    // Also one that was never heard of.
    const unheardOf = new StreamTime({ ...whole, writers: new Map([["b", { time: now + 5, arrival: now }]]) })
    assert.strictEqual(unheardOf.advance("b", now + 10, after, 2), now)
    assert.strictEqual(unheardOf.advance("b", now + 20, after + 20_000, 2), now)
    assert.strictEqual(unheardOf.advance("b", now + 30, after + 39_999, 2), now)
    assert.strictEqual(unheardOf.advance("b", now + 40, after + 40_000, 2), now + 40)
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

  /** The first writer goes on every 20 seconds until `arrival`. */
  const busy = (from: number, arrival: number) =>
    Array.from({ length: Math.ceil((arrival - from) / 20_000) }, (_, i) => ["0", 100, from + i * 20_000] as const)

  it("waits for a writer that is silent until exactly a minute after it was last heard, or has not been heard of", () => {
    for (const [arrival, time] of [[minute - 1, 70], [minute, 300]] as const) {
      const times = after(["1", 70, 0], ...busy(1, arrival), ["0", 300, arrival], ["1", 80, arrival + 1])
      assert.deepStrictEqual(times.slice(-2), [time, time === 70 ? 80 : 300])
    }
    for (const [arrival, time] of [[minute + 4, -Infinity], [minute + 5, 300]] as const) {
      assert.strictEqual(after(...busy(5, arrival), ["0", 300, arrival]).at(-1), time)
    }
  })

  it("counts 20 seconds at most of a time in which nobody writes: a program that was down makes nothing late", () => {
    const down = 3_600_000
    const backlog = [["1", 70, 0], ["0", 80, 1], ["0", 9_000, down], ["1", 71, down + 1_000]] as const
    assert.deepStrictEqual(after(...backlog), [-Infinity, 70, 70, 71])
    assert.deepStrictEqual(after(["1", 70, 0], ["0", 80, 0], ["0", 200, down], ["0", 300, down + 39_999]), [
      -Infinity,
      70,
      70,
      70,
    ])
    assert.deepStrictEqual(
      after(["1", 70, 0], ["0", 80, 0], ["0", 200, down], ["0", 210, 2 * down], ["0", 300, 3 * down]),
      [
        -Infinity,
        70,
        70,
        70,
        300,
      ],
    )
    // Nor does it matter where the clock was committed meanwhile.
    const clock = new StreamTime()
    for (const [writer, time, arrival] of backlog.slice(0, 2)) clock.advance(writer, time, arrival, 2)
    const restored = new StreamTime(decodeClock(encodeClock(clock.clock, 3_000)))
    assert.deepStrictEqual(
      backlog.slice(2).map(([writer, time, arrival]) => restored.advance(writer, time, arrival, 2)),
      [
        70,
        71,
      ],
    )
  })

  it("waits again for one that speaks again, and never goes back", () => {
    assert.deepStrictEqual(
      after(
        ["1", 70, 0],
        ...busy(0, minute),
        ["0", 300, minute],
        ["1", 310, minute + 1],
        ["0", 400, minute + 2],
        ["0", 500, minute + 3],
      ).slice(-4),
      [300, 300, 310, 310],
    )
  })
})
