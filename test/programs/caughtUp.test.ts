import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Admin, Guarantee } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { caughtUp } from "../../src/programs/caughtUp.ts"
import { transactor } from "../kafka/contract/Harness.ts"
import * as Copying from "../support/Copying.ts"

const copy = Copying.pipeline(Guarantee.exactlyOnce())

describe("waiting for a pipeline", () => {
  it.effect("ends when it has read all there is, and not before what it has written can be read", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      yield* Admin.createTopics(Copying.topics)
      yield* Copying.append([1, 2])
      const waiting = yield* Effect.forkChild(caughtUp([copy]))
      const isWaiting = Effect.map(TestClock.adjust("1 second"), () => waiting.pollUnsafe() === undefined)
      const commit = (offset: number) =>
        cluster.offsetCommit({ group: copy.name, generation: -1, memberId: "" }, [
          { topic: Copying.In.name, partition: 0, offset, metadata: "" },
        ])
      assert.isTrue(yield* isWaiting, "it has committed nothing")
      yield* commit(1)
      assert.isTrue(yield* isWaiting, "it has not read the second record")
      const one = yield* transactor("copies")
      yield* one.begin(Copying.Out.name)
      yield* one.write(Copying.Out.name, ["{}"])
      yield* commit(2)
      assert.isTrue(yield* isWaiting, "what it has written is not there yet")
      yield* one.end(true)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(waiting)
    }).pipe(Effect.provide(ClusterMemory.layer())))
})
