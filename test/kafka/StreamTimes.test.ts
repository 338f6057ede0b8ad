/** How far topics have come in time, as tools ask: the answer is right, or there is none. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema } from "effect"
import { Admin, StreamTimes, Topic } from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Simulation from "../support/Simulation.ts"

const Times = Topic.make({
  name: "times",
  description: "Test",
  owner: "tests",
  schema: Schema.Int,
  eventTime: (at: number) => at,
  partitions: 2,
})

const written = Effect.gen(function* () {
  const fiber = yield* Effect.forkChild(StreamTimes.written(Times))
  yield* Simulation.until("an answer", Effect.sync(() => fiber.pollUnsafe() !== undefined))
  return yield* Fiber.join(fiber)
})

describe("StreamTimes.written", () => {
  for (const operation of ["none", "Fetch"] as const) {
    it.effect(`answers the highest time also where the first two answers to ${operation} are refusals`, () =>
      Effect.gen(function* () {
        yield* Admin.createTopics([Times])
        assert.isUndefined(yield* written)
        yield* Simulation.feed([5, 900, 7].map((at) => ({ topic: "times", partition: 1, key: null, value: `${at}` })))
        const faults = yield* Faults.Faults
        let refused = 0
        yield* faults.use({
          start: () => (call) =>
            call.operation === operation && refused++ < 2
              ? Faults.refusePartitions("NOT_LEADER_OR_FOLLOWER")
              : undefined,
        })
        assert.strictEqual(yield* written, 900)
        assert.strictEqual(refused >= 2, operation !== "none")
      }).pipe(Effect.provide(Layer.provideMerge(Layer.fresh(Faults.layer), ClusterMemory.layer()))))
  }
})
