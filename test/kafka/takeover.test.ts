/** Programs that lose their tasks while they take them over, or are told so by a commit: they join again, once. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Admin, Guarantee } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Copying from "../support/Copying.ts"
import * as Counting from "../support/Counting.ts"
import { Dice } from "../support/Seeds.ts"
import * as Simulation from "../support/Simulation.ts"

const records = Counting.input(new Dice(1), 120)
const pipeline = Counting.pipeline(Guarantee.exactlyOnce())

describe("a program", () => {
  it.effect("goes on when its tasks were taken over while it restored them", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics(Counting.topics)
      yield* Simulation.feed(records.slice(0, 60))
      const first = yield* Simulation.start(pipeline, Faults.none)
      yield* Simulation.until("the first half", Simulation.caughtUp)
      yield* Simulation.stop(first.fiber)

      const { network, plan } = Simulation.switched()
      let isCutOff = false
      network.decide = ({ operation, topics }) => {
        if (operation === "ListOffsets" && topics.some((topic) => topic.endsWith("changelog"))) {
          isCutOff = true
          return Faults.delay("9 seconds")
        }
        return isCutOff && (operation === "Heartbeat" || operation === "JoinGroup") ? Faults.unreachable : undefined
      }
      const slow = yield* Simulation.start(pipeline, plan)
      yield* Simulation.pass(1_000)
      const other = yield* Simulation.start(pipeline, Faults.none)
      yield* Simulation.pass(500)
      yield* Simulation.feed(records.slice(60))
      yield* Simulation.pass(20_000)
      network.decide = () => undefined
      yield* Simulation.until("the rest", Simulation.caughtUp)
      assert.isTrue(isCutOff)
      assert.deepStrictEqual([Simulation.ended(slow), Simulation.ended(other)], [undefined, undefined])
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))

  it.effect("joins again once after a commit that was fenced", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics(Counting.topics)
      yield* Simulation.feed(records.slice(0, 60))
      const fenced = Faults.at("TxnOffsetCommit", 1, Faults.refuse("ILLEGAL_GENERATION"))
      const program = yield* Simulation.start(pipeline, fenced)
      yield* Simulation.until("the records", Simulation.caughtUp)
      yield* Simulation.pass(20_000)
      const joins = (yield* program.calls).filter(({ operation }) => operation === "JoinGroup")
      // The first one brings the member's id.
      assert.strictEqual(joins.length, 3)
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))

  it.effect("ends what a dead one has left open, so that nobody who reads its topics waits for a time-out", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics(Copying.topics)
      const pipeline = Copying.pipeline(Guarantee.exactlyOnce())
      let dead = false
      const first = yield* Simulation.start(
        pipeline,
        Faults.at("Produce", 2, Faults.crashAfter(Effect.sync(() => dead = true))),
      )
      yield* Copying.append([1])
      yield* Simulation.until("the first", Effect.map(Copying.copied, (ids) => ids.length === 1))
      yield* Copying.append([2])
      yield* Simulation.until("its death", Effect.sync(() => dead))
      yield* Simulation.start(pipeline, Faults.none)
      yield* Copying.append([3])
      // Its session ends after 6 seconds, long before its transaction would.
      yield* Simulation.until("the rest", Effect.map(Copying.copied, (ids) => ids.length === 3), 12_000)
      assert.deepStrictEqual(yield* Copying.copied, [1, 2, 3])
      assert.isUndefined(Simulation.ended(first))
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))

  it.effect("ends what the first of several has left open that died in a row, in topics and in changelogs", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics(Counting.topics)
      yield* Simulation.feed(records.slice(0, 60))
      let deaths = 0
      const death = Effect.sync(() => {
        deaths++
      })
      const dying = (from: number) =>
        Effect.gen(function* () {
          const { network, plan } = Simulation.switched()
          // The first one's records reach the changelog, and no positions; the others claim its tasks, and no more than that.
          network.decide = ({ operation, topics }) => {
            if (from === 0 && operation === "AddOffsetsToTxn") return Faults.crash(death)
            if (from > 0 && operation === "ListOffsets" && topics.some((topic) => topic.endsWith("changelog"))) {
              return Faults.crash(death)
            }
            return undefined
          }
          yield* Simulation.start(pipeline, plan)
          yield* Simulation.until("its death", Effect.sync(() => deaths > from))
        })
      for (let n = 0; n < 4; n++) yield* dying(n)
      yield* Simulation.start(pipeline, Faults.none)
      yield* Simulation.feed(records.slice(60))
      yield* Simulation.until("everything", Simulation.caughtUp, 20_000)
      assert.strictEqual(deaths, 4)
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))

  it.effect("leaves alone what others have open", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics(Copying.topics)
      const cluster = yield* Cluster
      const others = yield* cluster.initProducerId("somebody else's", 60_000)
      const transaction = { transactionalId: "somebody else's", ...others }
      yield* cluster.addPartitionsToTxn(transaction, [{ topic: Copying.Out.name, partition: 0 }])
      const pipeline = Copying.pipeline(Guarantee.exactlyOnce())
      const first = yield* Simulation.start(pipeline, Faults.none)
      yield* Copying.append([1])
      yield* Simulation.pass(1_000)
      yield* first.use(Faults.every(() => true, Faults.hang))
      yield* Simulation.start(pipeline, Faults.none)
      yield* Simulation.pass(20_000)
      const control = yield* ClusterMemory.Control
      const open = yield* control.openTransactions
      assert.deepStrictEqual(open.map(({ transactionalId }) => transactionalId), ["somebody else's"])
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
})
