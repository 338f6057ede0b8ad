/** A merge of two topics while one of them cannot be read: what is only late in coming is not late. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import {
  Admin,
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  merge,
  Pipeline,
  Topic,
  Window,
} from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Simulation from "../support/Simulation.ts"

const common = { description: "Test", owner: "tests", partitions: 1 }
const minutes = (name: string) =>
  Topic.make({ ...common, name, schema: Schema.Int, eventTime: (minute: number) => minute * 60_000 })
const Left = minutes("left")
const Right = minutes("right")
const Counts = Topic.make({ ...common, name: "counts", schema: Schema.Int })
const Refused = Topic.bytes({ ...common, name: "refused" })

const pipeline = Pipeline.make(
  "merging",
  Ingest.topic(Left).pipe(
    Decode.schema,
    merge(Ingest.topic(Right).pipe(Decode.schema)),
    Aggregate.count({ name: "minutes", window: Window.tumbling({ size: "1 minute" }), emit: "final" }),
    Flow.map(({ value }) => value),
    Deliver.to(Counts),
    Failures.routeAll(DeadLetter.to(Refused)),
  ),
  Guarantee.exactlyOnce(),
)

const feed = (topic: string, from: number, to: number) =>
  Simulation.feed(
    Array.from({ length: to - from }, (_, i) => ({ topic, partition: 0, key: "a", value: String(from + i) })),
  )

describe("merge", () => {
  it.effect("waits for an input whose leader is away, and not for one that has nothing", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics([Left, Right, Counts, Refused])
      const { records } = yield* ClusterMemory.Control
      const { network, plan } = Simulation.switched()
      for (const topic of ["left", "right"]) yield* feed(topic, 0, 3)
      yield* Simulation.start(pipeline, plan)
      yield* Simulation.pass(8_000)
      network.decide = ({ operation }) =>
        operation === "Fetch"
          ? Faults.refusePartitions("NOT_LEADER_OR_FOLLOWER", ({ topic }) => topic === "right")
          : undefined
      yield* Simulation.pass(500)
      for (const topic of ["right", "left"]) yield* feed(topic, 3, 30)
      yield* Simulation.pass(20_000)
      network.decide = () => undefined
      yield* Simulation.pass(10_000)
      assert.deepStrictEqual(yield* records("refused"), [])
      assert.strictEqual((yield* records("counts")).length, 29)
      yield* feed("left", 30, 40)
      yield* Simulation.pass(10_000)
      assert.strictEqual((yield* records("counts")).length, 39)
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
})
