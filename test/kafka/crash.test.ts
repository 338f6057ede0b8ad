/**
 * Law 5: a program dies at any step of its work, another takes over, and what is committed in the end is as if nothing had
 * been. The same for requests that are refused or whose answers are lost.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Guarantee } from "../../src/index.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Counting from "../support/Counting.ts"
import { Dice, forSeeds } from "../support/Seeds.ts"
import * as Simulation from "../support/Simulation.ts"
import * as Visiting from "../support/Visiting.ts"

const records = Counting.input(new Dice(1), 120)
const expected = Counting.expected(records)
const exactly = Counting.pipeline(Guarantee.exactlyOnce())
const atLeast = Counting.pipeline(Guarantee.atLeastOnce())

/** Long polls and heartbeats are many and change nothing. */
const matters = ({ operation }: Faults.Call) => operation !== "Fetch" && operation !== "Heartbeat"

const faults: ReadonlyArray<readonly [name: string, fault: (kill: Effect.Effect<void>) => Faults.Fault]> = [
  ["dies before", Faults.crash],
  ["dies after", Faults.crashAfter],
  ["cannot reach the brokers at", () => Faults.unreachable],
  ["does not hear the answer to", () => Faults.loseAnswer],
]

/** Answers that never come: after its patience the program does not know what became of the request. */
const silent: ReadonlyArray<readonly [name: string, fault: (kill: Effect.Effect<void>) => Faults.Fault]> = [
  ["hears nothing and is not heard at", () => Faults.silence("30 seconds")],
  ["hears nothing after", () => Faults.silenceAfter("30 seconds")],
]

const patient = new Set<Faults.Operation>([
  "InitProducerId",
  "AddPartitionsToTxn",
  "Produce",
  "AddOffsetsToTxn",
  "TxnOffsetCommit",
  "EndTxn",
  "OffsetCommit",
])

/** What a program needs to start: it gives up after its patience. Later nothing makes it end. */
const starting = new Set<Faults.Operation>(["Metadata", "CreateTopics", "InitProducerId"])

/** Runs with each fault at each step that a run without faults takes, and hands every outcome to `check`. */
const atEveryStep = (pipeline: typeof exactly, check: (results: Counting.Results, at: string) => void) =>
  Effect.gen(function* () {
    const { calls } = yield* Simulation.throughFault(pipeline, records, () => Faults.none)
    for (const { operation, count } of calls.filter(matters)) {
      for (const [name, fault] of patient.has(operation) ? [...faults, ...silent] : faults) {
        const run = yield* Simulation.throughFault(
          pipeline,
          records,
          (kill) => Faults.at(operation, count, fault(kill)),
        )
        const at = `${name} ${operation} ${count}`
        check(run.results, at)
        if (!starting.has(operation)) assert.isUndefined(run.ended, at)
        // The dead program's session, the wait for what it left undecided, and a rebalance.
        assert.isBelow(run.recovery, 15_000, at)
      }
    }
    return new Set(calls.map(({ operation }) => operation))
  })

/** What can be away alone. */
const parts: ReadonlyArray<readonly [name: string, operations: ReadonlyArray<Faults.Operation> | undefined]> = [
  ["everything", undefined],
  ["the leaders", ["Produce", "Fetch", "ListOffsets"]],
  ["the transaction coordinator", ["InitProducerId", "AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn"]],
  ["the group coordinator", [
    "JoinGroup",
    "SyncGroup",
    "Heartbeat",
    "LeaveGroup",
    "OffsetFetch",
    "OffsetCommit",
    "TxnOffsetCommit",
    "DescribeGroups",
  ]],
]

/** From each step on a part of the cluster is away for longer than twice the patience; every program survives it. */
const throughOutages = (pipeline: typeof exactly, check: (results: Counting.Results, at: string) => void) =>
  Effect.gen(function* () {
    const { calls } = yield* Simulation.throughFault(pipeline, records, () => Faults.none)
    const joined = calls.findIndex(({ operation }) => operation === "JoinGroup")
    const steps = calls.slice(joined).filter(matters).filter(({ operation }) => operation !== "ListOffsets")
    for (const { operation, count } of steps) {
      for (const [name, operations] of parts) {
        if (operations !== undefined && !operations.includes(operation)) continue
        for (const fault of [Faults.unreachable, Faults.loseAnswer]) {
          const away = ({ operation }: Faults.Call) => operations?.includes(operation) ?? true
          const run = yield* Simulation.throughFault(
            pipeline,
            records,
            () =>
              Faults.all(
                Faults.at(operation, count, fault),
                Faults.outage(operation, count, "65 seconds", Faults.unreachable, away),
              ),
          )
          const at = `${name} is away from ${operation} ${count} on (${fault._tag})`
          check(run.results, at)
          assert.isUndefined(run.ended, at)
        }
      }
    }
  })

describe("exactly once", () => {
  it.effect(
    "has the same result when a program dies, is refused or does not hear at any one step",
    () =>
      Effect.gen(function* () {
        const seen = yield* atEveryStep(exactly, (results, at) => assert.deepStrictEqual(results, expected, at))
        assert.includeMembers([...seen], [
          "InitProducerId",
          "OffsetFetch",
          "OffsetCommit",
          "AddPartitionsToTxn",
          "Produce",
          "AddOffsetsToTxn",
          "TxnOffsetCommit",
          "EndTxn",
          "LeaveGroup",
        ])
      }),
    120_000,
  )

  it.effect(
    "has the same result when programs come and go over a network that fails",
    () =>
      forSeeds(60, (dice, seed) =>
        Effect.gen(function* () {
          const records = Counting.input(dice, dice.int(50, 250))
          const { results, ended } = yield* Simulation.throughChaos(exactly, records, dice)
          assert.deepStrictEqual(results, Counting.expected(records), `SEED=${seed}`)
          assert.deepStrictEqual(ended, [], `SEED=${seed}`)
        })),
    240_000,
  )

  it.effect(
    "has the same result when a part of the cluster is away for long from any one step on",
    () => throughOutages(exactly, (results, at) => assert.deepStrictEqual(results, expected, at)),
    120_000,
  )
})

describe("records that move between tasks, and their time", () => {
  const visiting = Visiting.pipeline(Guarantee.exactlyOnce())
  const steps = Visiting.input(new Dice(1), 10)
  const through = (at: string, faults: Parameters<typeof Simulation.throughSteps>[3], pipeline = visiting) =>
    Effect.gen(function* () {
      const { calls, read } = yield* Simulation.throughSteps(pipeline, Visiting.topics, steps, faults)
      const results = Visiting.observed(read)
      assert.deepStrictEqual(results, yield* Visiting.expected(read), at)
      return { calls, results }
    })

  it.effect(
    "are as without a crash when a program dies at any one step of a commit",
    () =>
      Effect.gen(function* () {
        const whole = yield* through("no fault", [])
        for (const result of Object.values(whole.results)) assert.isNotEmpty(result)
        const ofFirstHalf = ({ moved, newest }: Visiting.Results) => ({ moved, newest })
        for (const { operation, count } of whole.calls.filter(({ operation }) => patient.has(operation))) {
          for (const fault of [Faults.crash, Faults.crashAfter]) {
            const at = `${fault === Faults.crash ? "before" : "after"} ${operation} ${count}`
            const { results } = yield* through(at, [(kill) => Faults.at(operation, count, fault(kill))])
            assert.deepStrictEqual(ofFirstHalf(results), ofFirstHalf(whole.results), at)
          }
        }
      }),
    120_000,
  )

  it.effect(
    "are the same when the program that takes over dies before its first commit",
    () =>
      Effect.gen(function* () {
        for (let commit = 2; commit < 10; commit++) {
          yield* through(`commit ${commit}`, [
            (kill) => Faults.at("EndTxn", commit, Faults.crash(kill)),
            (kill) => Faults.at("EndTxn", 1, Faults.crash(kill)),
          ])
        }
      }),
    60_000,
  )

  it.effect("are the same when tasks fail and are tried again", () =>
    Effect.gen(function* () {
      for (let batch = 2; batch < 30; batch += 3) {
        const stumbling = Visiting.pipeline(Guarantee.exactlyOnce(), [batch, batch + 1, batch + 10])
        yield* through(`stumbles at ${batch}`, [], stumbling)
      }
    }), 60_000)
})

/** Every record is there; some may be there twice, counted twice, or late the second time. */
const nothingMissing = (results: Counting.Results, of: Counting.Results, at: string) => {
  for (const [key, copies] of Object.entries(of.copies)) {
    assert.deepStrictEqual(new Set(results.copies[key]), new Set(copies), at)
  }
  assert.deepStrictEqual(new Set(results.dead), new Set(of.dead), at)
  assert.includeMembers([...results.late], [...of.late], at)
  for (const [key, count] of Object.entries(of.highest)) {
    assert.isAtLeast(results.highest[key] ?? 0, count, `${at}: ${key}`)
  }
}

describe("at least once", () => {
  it.effect(
    "misses nothing when a program dies, is refused or does not hear at any one step",
    () => atEveryStep(atLeast, (results, at) => nothingMissing(results, expected, at)),
    120_000,
  )

  it.effect("repeats nothing without a fault", () =>
    Effect.gen(function* () {
      const { results } = yield* Simulation.throughFault(atLeast, records, () => Faults.none)
      assert.deepStrictEqual(results, expected)
    }))

  it.effect(
    "misses nothing when programs come and go over a network that fails",
    () =>
      forSeeds(30, (dice, seed) =>
        Effect.gen(function* () {
          const records = Counting.input(dice, dice.int(50, 250))
          const { results, ended } = yield* Simulation.throughChaos(atLeast, records, dice)
          nothingMissing(results, Counting.expected(records), `SEED=${seed}`)
          assert.deepStrictEqual(ended, [], `SEED=${seed}`)
        })),
    240_000,
  )

  it.effect(
    "misses nothing when a part of the cluster is away for long from any one step on",
    () => throughOutages(atLeast, (results, at) => nothingMissing(results, expected, at)),
    120_000,
  )
})
