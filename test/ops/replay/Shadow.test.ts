/** Shadows: beside the live pipeline, compared with it, and put in its place. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Contents, Replay } from "../../../src/index.ts"
import { Cluster } from "../../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../../src/kafka/Faults.ts"
import * as Simulation from "../../support/Simulation.ts"
import { Copies, type Payment, payments, sums, topics, Totals, totals } from "./Totals.ts"
import * as World from "./World.ts"

const right = totals(({ cents }) => cents)
/** Takes Ben's larger payments for less than they are. */
const wrong = totals(({ customer, cents }) => customer === "ben" && cents > 120 ? cents - 1 : cents)
const run = Simulation.options

const totalsNow = Effect.map(
  Contents.latest(Totals),
  (latest) => Object.fromEntries(Array.from(latest.values(), ({ key, value }) => [key, value])),
)

describe("a shadow", () => {
  it.effect("of the same version has the same outputs, and touches nothing that is live", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 60))
      yield* World.process(right)
      const before = yield* World.passing(totalsNow)
      const journal = World.journal()
      const entry = yield* World.passing(Replay.shadow(right, { from: Replay.earliest, journal, run }))
      const { differences, isExact, topics: compared } = yield* World.passing(Replay.diff(right, entry))
      assert.deepStrictEqual([differences, isExact], [0, true])
      assert.deepStrictEqual(
        compared.map(({ topic, compared, keys, same }) => [topic, compared, keys, same]).sort(),
        [["payments.refused", "stream", 0, 0], [Copies.name, "stream", 4, 4], [Totals.name, "table", 4, 4]],
      )
      assert.deepStrictEqual(yield* World.passing(totalsNow), before)
      assert.isTrue(yield* World.isCaughtUp(right))
    })))

  it.effect("has the same records without a key, whichever partitions they came to", () =>
    World.world(topics)(Effect.gen(function* () {
      const program = yield* Simulation.start(right, Faults.none)
      const broken = (n: number) => ({ topic: "payments", partition: 0, key: null, value: `broken ${n}` })
      for (let n = 0; n < 4; n++) {
        yield* Simulation.feed([broken(n)])
        yield* Simulation.until("the input", World.isCaughtUp(right))
      }
      yield* Simulation.stop(program.fiber)
      const control = yield* ClusterMemory.Control
      const partitions = new Set((yield* control.records("payments.refused")).map(({ partition }) => partition))
      assert.strictEqual(partitions.size, 2)
      const journal = World.journal()
      const entry = yield* World.passing(Replay.shadow(right, { from: Replay.earliest, journal, run }))
      const { differences, topics: compared } = yield* World.passing(Replay.diff(right, entry))
      const letters = compared.find(({ topic }) => topic === "payments.refused")!
      assert.deepStrictEqual([letters.keys, letters.same, differences], [1, 1, 0])
      assert.deepStrictEqual(letters.records, { live: 4, shadow: 4 })
    })))

  it.effect("of a version with a mistake shows whose records differ, and no key or value unless it is asked to", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 60))
      yield* World.process(right)
      const journal = World.journal()
      const entry = yield* World.passing(Replay.shadow(wrong, { from: Replay.earliest, journal, run }))
      const found = yield* World.passing(Replay.diff(wrong, entry))
      assert.strictEqual(found.differences, 1)
      const { first } = found.topics.find(({ topic }) => topic === Totals.name)!
      assert.match(JSON.stringify(first), /^\[\{"key":"sha256:[0-9a-f]{12}","what":"differs"\}\]$/)
      const shown = yield* World.passing(Replay.diff(wrong, entry, { show: true }))
      const [ben] = shown.topics.find(({ topic }) => topic === Totals.name)!.first
      assert.strictEqual(ben!.key, "ben")
      assert.strictEqual(JSON.parse(ben!.live!).value, sums(60)["ben"])
      assert.isBelow(JSON.parse(ben!.shadow!).value, sums(60)["ben"]!)
    })))

  it.effect("takes the place of the live pipeline where both stand at the same positions, and gives it back", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 40))
      yield* World.process(wrong)
      const journal = World.journal()
      const first = yield* World.passing(Replay.shadow(right, { from: Replay.earliest, journal, run }))
      yield* Simulation.feed(payments(40, 60))
      yield* World.process(wrong)
      const undoing = World.journal()
      const early = yield* Effect.exit(World.passing(Replay.cutOver(right, first, { journal: undoing })))
      assert.strictEqual(World.reasonOf(early), "Behind")
      assert.isEmpty(undoing.saved)
      const caught = yield* World.passing(Replay.resumeShadow(right, first, { journal, run }))
      assert.strictEqual((yield* World.passing(Replay.diff(right, caught))).differences, 1)

      const cut = yield* World.passing(Replay.cutOver(right, caught, { journal: undoing }))
      yield* Simulation.feed(payments(60, 90))
      yield* World.process(right)
      assert.deepStrictEqual(yield* World.passing(totalsNow), sums(90))

      yield* World.passing(Replay.undo(wrong, cut, { journal: undoing }))
      yield* World.process(wrong)
      const { ben, ...others } = yield* World.passing(totalsNow)
      const { ben: all, ...rest } = sums(90)
      assert.deepStrictEqual(others, rest)
      assert.isBelow(ben!, all!)
    })))

  it.effect("that began in the middle gives no state to the live pipeline unless that is asked for", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 40))
      yield* World.process(wrong)
      const journal = World.journal()
      const from = Replay.offsets(new Map([["payments", new Map([[0, 10], [1, 10]])]]))
      const entry = yield* World.passing(Replay.shadow(right, { from, journal, run }))
      const undoing = World.journal()
      const cut = yield* Effect.exit(World.passing(Replay.cutOver(right, entry, { journal: undoing })))
      assert.strictEqual(World.reasonOf(cut), "PartialState")
      assert.isEmpty(undoing.saved)
      yield* World.passing(Replay.cutOver(right, entry, { journal: undoing, partialState: true }))
      assert.strictEqual(undoing.last().step, "finished")
    })))

  it.effect("is not forgotten while it runs, nor where its topics cannot be deleted", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      yield* World.process(right)
      const journal = World.journal()
      const running = yield* Effect.forkChild(
        World.through(Replay.shadow(right, { from: Replay.earliest, journal, run, rate: 1 }), () => Faults.none),
      )
      yield* Simulation.until("a shadow at work", Effect.sync(() => journal.saved.at(-1)?.step === "applied"))
      yield* Simulation.pass(2_000, 200)
      const forgetting = (entry: Replay.Entry) => Effect.exit(World.passing(Replay.forget(right, entry, { journal })))
      assert.strictEqual(World.reasonOf(yield* forgetting(journal.last())), "Active")
      yield* Fiber.join(running)
      const cluster = yield* Cluster
      const refusing = Cluster.of({
        ...cluster,
        deleteTopics: (names) => Effect.succeed(names.map((topic) => ({ topic, error: "TOPIC_AUTHORIZATION_FAILED" }))),
      })
      const kept = yield* Effect.provideService(forgetting(journal.last()), Cluster, refusing)
      assert.include(World.reasonOf(kept), "cannot be deleted (TOPIC_AUTHORIZATION_FAILED)")
      assert.strictEqual(journal.last().step, "finished")
      yield* forgetting(journal.last())
      assert.strictEqual(journal.last().step, "forgotten")
    })))

  it.effect("that dies at any step goes on where it was", () =>
    Effect.gen(function* () {
      const matters = ({ operation }: Faults.Call) =>
        ["CreateTopics", "InitProducerId", "OffsetCommit", "TxnOffsetCommit", "EndTxn"].includes(operation)
      const attempt = (fault: (kill: Effect.Effect<void>) => Faults.Plan) =>
        World.world(topics)(Effect.gen(function* () {
          yield* Simulation.feed(payments(0, 20))
          yield* World.process(right)
          const journal = World.journal()
          const options = { from: Replay.earliest, journal, run }
          const { exit, calls } = yield* World.through(Replay.shadow(right, options), fault)
          if (exit === "died") {
            yield* Simulation.pass(15_000, 500)
            const entry = journal.saved.at(-1)
            const again = entry === undefined
              ? Replay.shadow(right, options)
              : Replay.resumeShadow(right, entry, { journal, run })
            assert.strictEqual((yield* World.passing(again)).step, "finished")
          }
          const { differences } = yield* World.passing(Replay.diff(right, journal.last()))
          return { calls, differences }
        }))
      const { calls } = yield* attempt(() => Faults.none)
      const steps = calls.filter(matters)
      for (const [i, { operation, count }] of steps.entries()) {
        const [fault, at] = i % 2 === 0 ? [Faults.crash, "before"] as const : [Faults.crashAfter, "after"] as const
        const { differences } = yield* attempt((kill) => Faults.at(operation, count, fault(kill)))
        assert.strictEqual(differences, 0, `dies ${at} ${operation} ${count}`)
      }
    }), 120_000)

  it.effect(
    "that is cut over by a program that dies at any step has taken the place whole, or not at all",
    () =>
      Effect.gen(function* () {
        const matters = ({ operation }: Faults.Call) =>
          ["InitProducerId", "OffsetCommit", "Produce", "TxnOffsetCommit", "EndTxn", "LeaveGroup"].includes(operation)
        const attempt = (fault: (kill: Effect.Effect<void>) => Faults.Plan, undone: boolean) =>
          World.world(topics)(Effect.gen(function* () {
            yield* Simulation.feed(payments(0, 20))
            yield* World.process(wrong)
            const shadow = yield* World.passing(
              Replay.shadow(right, { from: Replay.earliest, journal: World.journal(), run }),
            )
            const journal = World.journal()
            const { exit, calls } = yield* World.through(Replay.cutOver(right, shadow, { journal }), fault)
            yield* Simulation.pass(15_000, 500)
            if (exit === "died" && undone && journal.saved.length > 0) {
              yield* World.passing(Replay.undo(right, journal.last(), { journal }))
            }
            // Who starts first after it counts right, whichever state it finds: all of the old one, or all of the new one.
            yield* Simulation.feed(payments(20, 40))
            yield* World.process(right)
            const { ben, ...rest } = yield* World.passing(totalsNow)
            return { calls, ben: ben!, rest, died: exit === "died" }
          }))
        const { calls, ben: mended } = yield* attempt(() => Faults.none, false)
        const { ben: all, ...others } = sums(40)
        assert.strictEqual(mended, all)
        const few = payments(0, 20).filter(({ value }) => {
          const { customer, cents } = JSON.parse(value) as Payment
          return customer === "ben" && cents > 120
        })
        assert.isNotEmpty(few)
        for (const [i, { operation, count }] of calls.filter(matters).entries()) {
          const fault = i % 2 === 0 ? Faults.crash : Faults.crashAfter
          const undone = i % 3 === 0
          const { ben, rest } = yield* attempt((kill) => Faults.at(operation, count, fault(kill)), undone)
          const at = `dies ${i % 2 === 0 ? "before" : "after"} ${operation} ${count}`
          assert.deepStrictEqual(rest, others, at)
          assert.include(undone ? [all! - few.length] : [all!, all! - few.length], ben, at)
        }
      }),
    120_000,
  )
})
