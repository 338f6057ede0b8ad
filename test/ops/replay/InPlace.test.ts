/** Replays in place: state and positions move as one, whatever happens on the way. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Guarantee, Replay } from "../../../src/index.ts"
import * as ClusterMemory from "../../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../../src/kafka/Faults.ts"
import * as Counting from "../../support/Counting.ts"
import { Dice } from "../../support/Seeds.ts"
import * as Simulation from "../../support/Simulation.ts"
import * as World from "./World.ts"

const records = Counting.input(new Dice(7), 90)
const half = records.slice(0, 60)
const whole = Counting.expected(records)
const exactly = Counting.pipeline(Guarantee.exactlyOnce())
const atLeast = Counting.pipeline(Guarantee.atLeastOnce())
const run = Simulation.options

const results = Effect.gen(function* () {
  const control = yield* ClusterMemory.Control
  const read = new Map<string, ReadonlyArray<ClusterMemory.TopicRecord>>()
  for (const { name } of Counting.topics) read.set(name, yield* control.records(name))
  return Counting.results((topic) => read.get(topic)!)
})

describe("a replay in place", () => {
  it.effect("of a pipeline with state processes everything again from an empty state", () =>
    World.world(Counting.topics)(Effect.gen(function* () {
      yield* Simulation.feed(half)
      yield* World.process(exactly)
      const journal = World.journal()
      const finished = yield* World.passing(
        Replay.run(exactly, { from: Replay.earliest, resetState: true, journal, run }),
      )
      assert.strictEqual(finished.step, "finished")
      yield* Simulation.feed(records.slice(60))
      yield* World.process(exactly)
      const { counts, copies } = yield* results
      assert.deepStrictEqual(counts, whole.counts)
      for (const [key, ids] of Object.entries(Counting.expected(half).copies)) {
        assert.deepStrictEqual(copies[key], [...ids, ...whole.copies[key]!])
      }
    })))

  it.effect(
    "that dies at any step is finished by resuming it, or undone, and programs that start in between are right",
    () =>
      Effect.gen(function* () {
        const faults = [Faults.crash, Faults.crashAfter]
        const matters = ({ operation }: Faults.Call) => !["Fetch", "Heartbeat", "Metadata"].includes(operation)
        const attempt = (
          fault: (kill: Effect.Effect<void>) => Faults.Plan,
          then: "resume" | "undo" | "program",
          pipeline: typeof exactly | typeof atLeast = exactly,
        ) =>
          World.world(Counting.topics)(Effect.gen(function* () {
            yield* Simulation.feed(half)
            yield* World.process(pipeline)
            const before = yield* results
            const journal = World.journal()
            const options = { from: Replay.earliest, resetState: true, journal, run, resetOnly: true }
            const { exit, calls } = yield* World.through(Replay.run(pipeline, options), fault)
            yield* Simulation.pass(15_000, 500)
            const died = exit === "died"
            const entry = journal.saved.at(-1)
            if (died && then === "resume") {
              const again = entry === undefined
                ? Replay.run(pipeline, { ...options, resetOnly: false })
                : Replay.resume(pipeline, entry, { journal, run })
              assert.strictEqual((yield* World.passing(again)).step, "finished")
            }
            if (died && then === "undo" && entry !== undefined) {
              assert.strictEqual((yield* World.passing(Replay.undo(pipeline, entry, { journal }))).step, "undone")
            }
            yield* Simulation.feed(records.slice(60))
            yield* World.process(pipeline)
            return { calls, died, before, after: yield* results }
          }))
        const { calls } = yield* attempt(() => Faults.none, "program")
        const steps = calls.filter(matters)
        assert.isAbove(steps.length, 15)
        /** Each in turn, so that every step is met by some, and every mode by many. */
        const modes = [exactly, atLeast].flatMap((pipeline) =>
          (["resume", "undo", "program"] as const).map((then) => ({ pipeline, then }))
        )
        let turn = 0
        for (const { operation, count } of steps) {
          for (const fault of faults) {
            const { pipeline, then } = modes[turn++ % modes.length]!
            const plan = (kill: Effect.Effect<void>) => Faults.at(operation, count, fault(kill))
            const { before, after, died } = yield* attempt(plan, then, pipeline)
            const at = `dies ${
              fault === Faults.crash ? "before" : "after"
            } ${operation} ${count}, then ${then} (${pipeline.guarantee.name})`
            assert.deepStrictEqual(after.counts, whole.counts, at)
            const repeats = Object.keys(whole.copies).map((key) => (
              { more: after.copies[key]!.length - whole.copies[key]!.length, had: before.copies[key]!.length }
            ))
            const isAll = repeats.every(({ more, had }) => more === had)
            const isNone = repeats.every(({ more }) => more === 0)
            // Under at-least-once there are fewer steps: then it was as if nothing had happened.
            assert.isTrue(then === "resume" || !died ? isAll : then === "undo" ? isNone : isAll || isNone, at)
          }
        }
      }),
    240_000,
  )
})
