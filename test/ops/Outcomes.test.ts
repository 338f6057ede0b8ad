/** What was done with letters, in a few bits each: the same as a map of them would say. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Outcome, Outcomes } from "../../src/ops/letters/Outcomes.ts"
import { forSeeds } from "../support/Seeds.ts"

describe("outcomes", () => {
  it.effect("are those that were set last", () =>
    forSeeds(20, (dice) =>
      Effect.sync(() => {
        const outcomes = new Outcomes()
        const expected = new Map<string, Outcome | undefined>()
        const where = () => ({ topicId: dice.pick(["a", "b"]), partition: dice.int(0, 1), offset: dice.int(0, 2_999) })
        for (let i = 0; i < 4_000; i++) {
          const one = where()
          const outcome = dice.pick(["sent", "quarantined", undefined] as const)
          outcomes.set(one, outcome)
          expected.set(JSON.stringify(one), outcome)
        }
        for (const [one, outcome] of expected) assert.strictEqual(outcomes.get(JSON.parse(one)), outcome)
        const gone = outcomes.stale("a", [1_500, 0], Infinity).map((one) => JSON.stringify(one)).toSorted()
        const isGone = (one: string) =>
          /"a","partition":0/.test(one) ? JSON.parse(one).offset < 1_500 : !/"a"/.test(one)
        const has = [...expected].flatMap(([one, outcome]) => outcome !== undefined && isGone(one) ? [one] : [])
        assert.deepStrictEqual(gone, has.toSorted())
        assert.lengthOf(outcomes.stale("a", [1_500, 0], 7), Math.min(7, has.length))
      })))

  it("of ten million letters take little room", () => {
    const before = process.memoryUsage()
    const outcomes = new Outcomes()
    for (let offset = 0; offset < 10_000_000; offset++) outcomes.set({ topicId: "a", partition: 0, offset }, "sent")
    const after = process.memoryUsage()
    assert.isBelow(after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers, 100_000_000)
    assert.strictEqual(outcomes.get({ topicId: "a", partition: 0, offset: 9_999_999 }), "sent")
    assert.isUndefined(outcomes.get({ topicId: "a", partition: 0, offset: 10_000_000 }))
  })
})
