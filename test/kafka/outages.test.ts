/** Brokers that are away for longer than a program's patience, all of them or one coordinator: programs survive it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Admin, Guarantee } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { fencing } from "../../src/kafka/Positions.ts"
import * as Copying from "../support/Copying.ts"
import { ended, type Process, start, switched, until } from "../support/Simulation.ts"
import * as Simulation from "../support/Simulation.ts"

const kafka = ClusterMemory.layer({ markerDelay: "20 millis" })
const pass = (millis: number) => Simulation.pass(millis, 50)
const has = (...ids: ReadonlyArray<number>) =>
  Effect.map(Copying.copied, (copied) => ids.every((id) => copied.includes(id)))

/** A program that has copied one record, over a network that the test switches. */
const copying = (guarantee = Guarantee.exactlyOnce()) =>
  Effect.gen(function* () {
    yield* Admin.createTopics(Copying.topics)
    yield* Copying.append([0])
    const { network, plan } = switched()
    const program = yield* start(Copying.pipeline(guarantee), plan)
    yield* until("the first copy", has(0))
    return { network, program }
  })

const unharmed = (program: Process) => assert.isUndefined(ended(program))

type Operations = ReadonlyArray<Faults.Operation>

/** What is away once this call was met, which is itself carried out without an answer or not at all. */
const outages: ReadonlyArray<readonly [name: string, at: Faults.Operation, away: Operations | "everything"]> = [
  ["the transaction coordinator after a commit", "EndTxn", ["EndTxn", "InitProducerId"]],
  ["the group coordinator after a commit", "EndTxn", ["EndTxn", "OffsetFetch"]],
  ["everything after a commit", "EndTxn", "everything"],
  ["the transaction coordinator before positions are added", "AddOffsetsToTxn", [
    "AddOffsetsToTxn",
    "EndTxn",
    "InitProducerId",
  ]],
  ["everything before positions are added", "AddOffsetsToTxn", "everything"],
  ["the leaders and the transaction coordinator", "Produce", ["Produce", "EndTxn", "InitProducerId"]],
  ["everything before records are written", "Produce", "everything"],
]

describe("exactly once", () => {
  for (const [name, at, away] of outages) {
    // Twice the patience; and long enough for the brokers to give up an open transaction.
    for (const seconds of [65, 100]) {
      it.effect(`${name}: ${seconds} s`, () =>
        Effect.gen(function* () {
          const { network, program } = yield* copying()
          let met = false
          network.decide = ({ operation }) => {
            if (!met && operation === at) {
              met = true
              return at === "EndTxn" ? Faults.loseAnswer : Faults.unreachable
            }
            if (met && (away === "everything" || away.includes(operation))) return Faults.unreachable
          }
          yield* Copying.append([1])
          yield* until("the outage", Effect.sync(() => met))
          yield* pass(seconds * 1_000)
          network.decide = () => undefined
          yield* Copying.append([2])
          yield* until("the rest", has(1, 2))
          yield* pass(5_000)
          assert.deepStrictEqual(yield* Copying.copied, [0, 1, 2])
          unharmed(program)
        }).pipe(Effect.scoped, Effect.provide(kafka)))
    }
  }

  it.effect("a transaction that the brokers gave up is begun anew", () =>
    Effect.gen(function* () {
      const { network, program } = yield* copying(Guarantee.exactlyOnce({ transactionTimeout: 2_000 }))
      let slow = false
      network.decide = ({ operation }) => {
        if (operation !== "TxnOffsetCommit" || slow) return undefined
        slow = true
        return Faults.delay("4 seconds")
      }
      yield* Copying.append([1])
      yield* until("the rest", has(1))
      yield* pass(5_000)
      assert.deepStrictEqual(yield* Copying.copied, [0, 1])
      unharmed(program)
    }).pipe(Effect.scoped, Effect.provide(kafka)))

  it.effect("a commit that was given up and arrives late ends no later transaction", () =>
    Effect.gen(function* () {
      const { network, program } = yield* copying()
      let ends = 0
      network.decide = ({ operation }) => {
        if (operation === "EndTxn" && ++ends === 1) return Faults.late("100 millis", "2 seconds")
        if (operation === "TxnOffsetCommit" && ends > 0) return Faults.delay("4 seconds")
      }
      yield* Copying.append([1])
      yield* until("the commit", has(1))
      yield* Copying.append([2])
      yield* until("the next", has(2))
      yield* pass(20_000)
      assert.deepStrictEqual(yield* Copying.copied, [0, 1, 2])
      unharmed(program)
    }).pipe(Effect.scoped, Effect.provide(kafka)))

  it.effect("another process that uses the transactional id ends the program, a request that came late does not", () =>
    Effect.gen(function* () {
      const { network, program } = yield* copying()
      const cluster = yield* Cluster
      let id: string | undefined
      network.decide = ({ transactionalId }) => {
        id ??= transactionalId
        return undefined
      }
      yield* Copying.append([1])
      yield* until("a transaction", has(1))
      yield* cluster.initProducerId(id!, 60_000)
      yield* Copying.append([2])
      yield* until("the next", has(2))
      unharmed(program)
      yield* cluster.initProducerId(id!, 60_000)
      yield* Copying.append([3])
      yield* until("the end", Effect.sync(() => ended(program) !== undefined))
      assert.match(ended(program)!, /was taken over by another process/)
      assert.deepStrictEqual(yield* Copying.copied, [0, 1, 2])
    }).pipe(Effect.scoped, Effect.provide(kafka)))

  it.effect("a program whose session ends while it commits neither fences itself nor ends", () =>
    Effect.gen(function* () {
      const { network, program } = yield* copying()
      let slow = false
      network.decide = ({ operation }) => {
        if (operation !== "EndTxn" || slow) return undefined
        slow = true
        return Faults.delay("6 seconds")
      }
      yield* Copying.append([1])
      yield* until("a slow commit", Effect.sync(() => slow))
      yield* kick
      yield* pass(10_000)
      yield* Copying.append([2])
      yield* until("the rest", has(2))
      assert.deepStrictEqual(yield* Copying.copied, [0, 1, 2])
      unharmed(program)
    }).pipe(Effect.scoped, Effect.provide(kafka)))

  it.effect("a successor that ended its transaction does not end a program that comes back", () =>
    Effect.gen(function* () {
      const { network, program } = yield* copying()
      let frozen = false
      network.decide = ({ operation }) => {
        if (operation === "EndTxn") frozen = true
        return frozen ? Faults.unreachable : undefined
      }
      yield* Copying.append([1])
      yield* until("a commit", Effect.sync(() => frozen))
      yield* start(Copying.pipeline(Guarantee.exactlyOnce()), Faults.none)
      yield* Copying.append([2])
      yield* until("the successor", has(1, 2))
      network.decide = () => undefined
      yield* pass(20_000)
      yield* Copying.append([3])
      yield* until("the rest", has(3))
      assert.deepStrictEqual(yield* Copying.copied, [0, 1, 2, 3])
      unharmed(program)
    }).pipe(Effect.scoped, Effect.provide(kafka)))
})

describe("at least once", () => {
  for (const [name, away] of [["everything", undefined], ["the leaders", ["Produce", "InitProducerId"]]] as const) {
    it.effect(`${name}: 100 s`, () =>
      Effect.gen(function* () {
        const { network, program } = yield* copying(Guarantee.atLeastOnce())
        let met = false
        network.decide = ({ operation }) => {
          met ||= operation === "Produce"
          if (met && (away === undefined || (away as ReadonlyArray<string>).includes(operation))) {
            return Faults.unreachable
          }
        }
        yield* Copying.append([1])
        yield* until("the outage", Effect.sync(() => met))
        yield* pass(100_000)
        network.decide = () => undefined
        yield* Copying.append([2])
        yield* until("the rest", has(1, 2))
        unharmed(program)
      }).pipe(Effect.scoped, Effect.provide(kafka)))
  }
})

/** Ends the session of the group's first member. */
const kick = Effect.gen(function* () {
  const cluster = yield* Cluster
  const control = yield* ClusterMemory.Control
  const [group] = yield* cluster.describeGroups(["copy"])
  yield* control.kick("copy", group!.members[0]!.memberId)
})

describe("taking tasks over", () => {
  it.effect("a program whose session ends meanwhile joins again", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics(Copying.topics)
      yield* Copying.append([0])
      const { network, plan } = switched()
      let asked = false
      network.decide = ({ operation }) => {
        if (operation !== "OffsetFetch" || asked) return undefined
        asked = true
        return Faults.delay("500 millis")
      }
      const program = yield* start(Copying.pipeline(Guarantee.exactlyOnce()), plan)
      yield* until("the claim", Effect.sync(() => asked))
      yield* pass(100)
      yield* kick
      yield* until("the first copy", has(0))
      unharmed(program)
    }).pipe(Effect.scoped, Effect.provide(kafka)))

  it.effect("an owner is left alone while the group cannot be described", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      let initialised = 0
      const unsure: Cluster["Service"] = {
        ...cluster,
        describeGroups: (groups) =>
          Effect.succeed(
            groups.map((group) => ({ group, error: "COORDINATOR_LOAD_IN_PROGRESS", state: "", members: [] })),
          ),
        initProducerId: (...args) => {
          initialised++
          return cluster.initProducerId(...args)
        },
      }
      yield* fencing(unsure, "group", 60_000)([{ txn: "alive", member: "member" }])
      assert.strictEqual(initialised, 0)
    }).pipe(Effect.provide(kafka)))
})
