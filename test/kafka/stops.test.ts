/**
 * Stops (SIGTERM, an interruption) at every step of a program's life: as it starts, takes tasks over, restores, commits and
 * rebalances. It ends in time, another goes on, and what is committed in the end is as if nobody had been stopped.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Effect, Exit } from "effect"
import { Admin, Guarantee } from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Counting from "../support/Counting.ts"
import { Dice } from "../support/Seeds.ts"
import * as Simulation from "../support/Simulation.ts"

const records = Counting.input(new Dice(1), 120)
const expected = Counting.expected(records)
const pipeline = Counting.pipeline(Guarantee.exactlyOnce())

/** Long polls and heartbeats are many: the first ones stand for the others. */
const matters = ({ operation, count }: Faults.Call) => operation !== "Fetch" && operation !== "Heartbeat" || count <= 2

/** What a stop may take: its time-out, and the last words of a program whose time is up. */
const inTime = 8_000 + 3_000

interface Step {
  /** The program that is stopped: the first, or the second, that joins it half way. */
  readonly program: 0 | 1
  readonly operation: Faults.Operation
  readonly count: number
  /** What becomes of the call that is under way when the stop comes. */
  readonly fault: Faults.Fault | undefined
}

/** Runs two programs over the input, stops one of them at a step, and lets the others and another one finish. */
const run = (step: Step | undefined) =>
  Effect.scoped(Effect.gen(function* () {
    yield* Admin.createTopics(Counting.topics)
    const clock = yield* Clock.clockWith(Effect.succeed)
    const programs: Array<Simulation.Process> = []
    let stopped: number | undefined
    const plan = (program: number): Faults.Plan => ({
      start: () => (call) => {
        if (step?.program !== program || step.operation !== call.operation || step.count !== call.count) {
          return undefined
        }
        stopped = clock.currentTimeMillisUnsafe()
        // The very first calls come before the test has the program in its hands.
        queueMicrotask(() => programs[program]?.fiber.interruptUnsafe())
        return step.fault
      },
    })
    const half = records.length >> 1
    const feed = (from: number, to: number) => Simulation.feed(records.slice(from, to))
    yield* feed(0, half)
    let ended = Infinity
    const start = Effect.fnUntraced(function* (program: number) {
      const started = yield* Simulation.start(pipeline, plan(program))
      programs.push(started)
      started.fiber.addObserver(() => step?.program === program && (ended = clock.currentTimeMillisUnsafe()))
    })
    yield* start(0)
    yield* Simulation.pass(600)
    yield* feed(half, half + 20)
    yield* start(1)
    yield* Simulation.pass(2_500)
    yield* feed(half + 20, records.length)
    yield* Simulation.pass(1_000)
    const one = step === undefined ? undefined : programs[step.program]!
    if (one !== undefined && stopped !== undefined) {
      one.fiber.interruptUnsafe()
      yield* Simulation.until("the end of what was stopped", Effect.sync(() => one.fiber.pollUnsafe() !== undefined))
    }
    if (step !== undefined) yield* Simulation.start(pipeline, Faults.none)
    yield* Simulation.until("the rest", Simulation.caughtUp)
    yield* Simulation.pass(500)
    const control = yield* ClusterMemory.Control
    const read = new Map<string, ReadonlyArray<ClusterMemory.TopicRecord>>()
    for (const { name } of Counting.topics) read.set(name, yield* control.records(name))
    return {
      results: Counting.results((topic) => read.get(topic)!),
      calls: yield* Effect.forEach(programs, ({ calls }) => calls),
      took: ended - (stopped ?? ended),
      exit: one?.fiber.pollUnsafe(),
    }
  })).pipe(Effect.provide(ClusterMemory.layer({ markerDelay: "20 millis" })))

const ways = [
  { name: "and what is under way is answered", fault: undefined, mayFail: false },
  { name: "and what is under way takes 2 seconds", fault: Faults.delay("2 seconds"), mayFail: false },
  { name: "and what is under way is never answered", fault: Faults.hangAfter, mayFail: true },
]

describe("a program that is told to stop at any one step", () => {
  for (const { name, fault, mayFail } of ways) {
    it.effect(
      `${name}, ends in time and leaves nothing undone or done twice`,
      () =>
        Effect.gen(function* () {
          const { calls, results } = yield* run(undefined)
          assert.deepStrictEqual(results, expected)
          const seen = new Set<Faults.Operation>()
          for (const program of [0, 1] as const) {
            for (const { operation, count } of calls[program]!.filter(matters)) {
              const at = `program ${program}, ${operation} ${count}`
              const { results, took, exit } = yield* run({ program, operation, count, fault })
              assert.deepStrictEqual(results, expected, at)
              if (exit === undefined) continue
              seen.add(operation)
              assert.isAtMost(took, inTime, at)
              const isClean = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
              const saysSo = Exit.isFailure(exit) && /could not be committed/.test(Cause.pretty(exit.cause))
              assert.isTrue(isClean || mayFail && saysSo, at)
            }
          }
          assert.includeMembers([...seen], [
            "JoinGroup",
            "SyncGroup",
            "OffsetFetch",
            "OffsetCommit",
            "Produce",
            "EndTxn",
          ])
        }),
      120_000,
    )
  }
})
