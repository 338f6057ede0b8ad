/** Programs that lose their tasks while they take them over, or are told so by a commit: they join again, once. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Admin, Guarantee } from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
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
})
