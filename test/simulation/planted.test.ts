/** That the simulation can fail: each of these defects is put in on purpose, and found. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Guarantee } from "../../src/index.ts"
import { Dice } from "../support/Seeds.ts"
import { attempt, type Case, problemOf, smallest } from "./Case.ts"
import { messages } from "./clickstream/Input.ts"
import * as Clickstream from "./clickstream/System.ts"
import type { Decision } from "./Decision.ts"
import { chaos } from "./Draw.ts"
import * as Planted from "./Planted.ts"
import { run, type System } from "./World.ts"

const clickstream = Clickstream.clickstream("patient")

const planted = Clickstream.atLeastOnce(Planted.commitBeforeProduce(Guarantee.atLeastOnce()))

/** The pipelines without a defect in their guarantee. */
const soundly = (system: System) => (system === planted ? Clickstream.atLeastOnce() : system).pipelines

/** `skipped` cases are not tried by CI: many of them never end, which costs, and they say nothing of data. */
const defects: ReadonlyArray<readonly [name: string, system: System, skipped?: number]> = [
  ["commit before produce", planted],
  ["positions of a revoked partition committed late", { ...clickstream, plant: Planted.committedByAnybody }],
  ["changelog outside the transaction", {
    ...clickstream,
    plant: Planted.outsideTheTransaction((topic) => topic.endsWith("-changelog")),
  }, 230],
  ["aborted records let through", { ...clickstream, plant: Planted.abortedLetThrough }],
  ["dead letter outside the transaction", {
    ...clickstream,
    plant: Planted.outsideTheTransaction((topic) => topic === "user.clicks.dlt"),
  }],
  ["missing fence: Kafka", { ...clickstream, plant: Planted.notFenced }, 230],
]

/** So many random runs are allowed to miss a defect. */
const most = 300

const caseOf = (name: string, system: System, seed: number): Case => {
  const dice = new Dice(seed)
  return {
    system,
    decisions: chaos(dice, system, messages(dice, 50), Clickstream.writers),
    options: { seed },
    replay: `SEED=${seed} npx vitest run test/simulation/planted.test.ts -t "${name}"`,
  }
}

describe("a planted defect is found", () => {
  for (const [name, system, skipped = 0] of defects) {
    it.effect(name, () =>
      Effect.gen(function* () {
        // To look at: it fails as it was told.
        const only = process.env["SEED"]
        if (only !== undefined) return void (yield* attempt(caseOf(name, system, Number(only))))
        let stuck: string | undefined
        for (let seed = process.env["SHRINK"] === undefined ? 1 + skipped : 1; seed <= most; seed++) {
          const tried = caseOf(name, system, seed)
          const problem = problemOf(yield* Effect.exit(run(system, tried.decisions, tried.options)))
          if (problem === undefined) continue
          // It is the defect that fails, and nothing else.
          const { plant: _, ...sound } = system
          yield* run({ ...sound, pipelines: soundly(system) }, tried.decisions, tried.options)
          const [first] = problem.message.split("\n")
          // What does not end is a failure as well, but data that is wrong is what the defect is about.
          if (problem.message.startsWith("not done") && seed < most) {
            stuck ??= `case ${seed}: ${first}`
            continue
          }
          const before = stuck === undefined ? "" : ` (not done before: ${stuck})`
          const text = process.env["SHRINK"] === undefined ? first : (yield* smallest(tried, problem)).text
          console.log(`${name}: found by case ${seed}: ${text}${before}`)
          return
        }
        assert.fail(`not found in ${most} runs${stuck === undefined ? "" : `, but not done: ${stuck}`}`)
      }), 600_000)
  }

  it.effect("missing fence: database", () =>
    Effect.gen(function* () {
      const system = Clickstream.clicksInTable(Planted.positionsTaken)
      const [enrich, store] = system.pipelines.map(({ name }) => name) as [string, string]
      const wait = (millis: number): Decision => ({ do: "wait", millis })
      for (let n = 1; n <= 40; n++) {
        const input = messages(new Dice(n), 30).map((record): Decision => ({ do: "feed", record }))
        const who = { pipeline: store, nth: 1 + n % 2 }
        // One of two writers freezes before its n-th transaction, and wakes when the other has gone on.
        const decisions: ReadonlyArray<Decision> = [
          { do: "fault", who, call: "Begin", n: 2 + (n >> 1) % 8, kind: "frozen", millis: 5_000 },
          ...[enrich, store, store].map((pipeline): Decision => ({ do: "start", pipeline })),
          wait(1_500),
          ...input.slice(0, 10),
          wait(500),
          ...input.slice(10, 20),
          wait(4_000),
          ...input.slice(20),
          wait(4_000),
        ]
        const problem = problemOf(yield* Effect.exit(run(system, decisions, { seed: n })))
        if (problem === undefined) continue
        console.log(`missing fence: database: found by case ${n}: ${problem.message}`)
        assert.notMatch(problem.message, /not done/)
        yield* run({ ...system, ...Clickstream.clicksInTable() }, decisions, { seed: n })
        return
      }
      assert.fail("not found in 40 runs")
    }), 600_000)
})
