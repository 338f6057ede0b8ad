/** Positions in the database are by the ids of topics: without one there is no position to be told from another. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import type { Plan } from "../../src/Pipeline.ts"
import * as Positions from "../../src/sinks/PostgresPositions.ts"

const plan = { flows: [{ reads: [{ name: "a" }] }, { reads: [{ name: "b" }] }] } as unknown as Plan

describe("ids of topics", () => {
  for (const missing of ["refused", "left out"]) {
    it.effect(`are asked for again while one is ${missing}`, () =>
      Effect.gen(function* () {
        const cluster = yield* Cluster
        yield* cluster.createTopics(["a", "b"].map((topic) => ({
          topic,
          partitions: 1,
          replicationFactor: 1,
          config: {},
        })))
        let answers = 0
        const lagging = Cluster.of({
          ...cluster,
          metadata: (topics) =>
            Effect.map(cluster.metadata(topics), (answer) =>
              ++answers > 3 ? answer : {
                ...answer,
                topics: answer.topics.flatMap((one) =>
                  one.topic === "a"
                    ? [one]
                    : missing === "refused"
                    ? [{ ...one, id: "", error: "UNKNOWN_TOPIC_OR_PARTITION", partitions: [] }]
                    : []
                ),
              }),
        })
        const asking = yield* Effect.forkChild(Positions.idsOf(lagging, plan))
        yield* TestClock.adjust("5 seconds")
        const ids = yield* Fiber.join(asking)
        const { topics } = yield* cluster.metadata(["a", "b"])
        assert.deepStrictEqual([...ids], topics.map(({ topic, id }) => [topic, id]))
      }).pipe(Effect.provide(ClusterMemory.layer())))
  }
})
