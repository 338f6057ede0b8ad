import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Timers } from "../../../src/kafka/memory/Timers.ts"
import { forSeeds } from "../../support/Seeds.ts"

describe("Timers", () => {
  it("runs what is due, each at its own time, and tells the next deadline", () => {
    const timers = new Timers()
    const ran: Array<string> = []
    const run = (name: string) => (now: number) => void ran.push(`${name}@${now}`)
    timers.schedule(30, run("c"))
    timers.schedule(10, run("a"))
    timers.cancel(timers.schedule(5, run("never")))
    timers.schedule(20, (now) => {
      run("b")(now)
      timers.schedule(now + 5, run("b2"))
      timers.schedule(now - 15, run("b1"))
    })
    assert.strictEqual(timers.next, 10)
    assert.strictEqual(timers.advance(9), 9)
    assert.deepStrictEqual(ran, [])
    assert.strictEqual(timers.advance(29), 29)
    assert.deepStrictEqual(ran, ["a@10", "b@20", "b1@20", "b2@25"])
    assert.strictEqual(timers.next, 30)
    assert.strictEqual(timers.advance(15), 29, "time does not go back")
    timers.advance(30)
    assert.deepStrictEqual(ran.at(-1), "c@30")
    assert.strictEqual(timers.next, Infinity)
  })

  it.effect("keeps the order of deadlines, and of setting where they are equal", () =>
    forSeeds(50, (dice) =>
      Effect.sync(() => {
        const timers = new Timers()
        const ran: Array<number> = []
        const set = dice.list(0, 60, (i) => ({ at: dice.int(0, 20), i, cancelled: dice.int(0, 4) === 0 }))
        for (const { at, i, cancelled } of set) {
          const timer = timers.schedule(at, () => ran.push(i))
          if (cancelled) timers.cancel(timer)
        }
        for (let now = 0; now <= 20; now += dice.int(1, 5)) timers.advance(now)
        timers.advance(20)
        const expected = set.filter(({ cancelled }) => !cancelled).toSorted((a, b) => a.at - b.at || a.i - b.i)
        assert.deepStrictEqual(ran, expected.map(({ i }) => i))
      })))
})
