/** A merge of two topics while one of them cannot be read: what is only late in coming is not late. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Schema } from "effect"
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
import type { Cluster } from "../../src/kafka/Cluster.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Readings from "../support/Readings.ts"
import * as Simulation from "../support/Simulation.ts"

const common = { description: "Test", owner: "tests", partitions: 1 }
const minutes = (name: string) =>
  Topic.make({ ...common, name, schema: Schema.Int, eventTime: (minute: number) => minute * 60_000 })
const Left = minutes("left")
const Right = minutes("right")
const Third = minutes("third")
const Counts = Topic.make({ ...common, name: "counts", schema: Schema.Int })
const Refused = Topic.bytes({ ...common, name: "refused" })

const decoded = (topic: typeof Left) => Ingest.topic(topic).pipe(Decode.schema)
const merged = decoded(Left).pipe(merge(decoded(Right)))

const counting = (flow: typeof merged) =>
  Pipeline.make(
    "merging",
    flow.pipe(
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

type Network = ReturnType<typeof Simulation.switched>["network"]

const restored = (network: Network) => Effect.sync(() => network.decide = () => undefined)

const isAway: Faults.Fault = Faults.refusePartitions("NOT_LEADER_OR_FOLLOWER", ({ topic }) => topic === "right")

/** What keeps the right side from being read; answers what ends that. */
const troubles: ReadonlyArray<
  readonly [string, (network: Network) => Effect.Effect<Effect.Effect<unknown, unknown>, unknown, Cluster>]
> = [
  ["whose leader is away", (network) =>
    Effect.sync(() => {
      network.decide = ({ operation }) => operation === "Fetch" ? isAway : undefined
      return restored(network)
    })],
  ["whose broker does not answer", (network) =>
    Effect.sync(() => {
      network.decide = ({ operation, topics }) =>
        operation === "Fetch" && topics.includes("right") ? Faults.silence("30 seconds") : undefined
      return restored(network)
    })],
  ["with a transaction that is not decided", () => Effect.map(Readings.open("right", "3"), ({ abort }) => abort)],
]

describe("merge", () => {
  for (const [name, begin] of troubles) {
    it.effect(`waits for an input ${name}, and not for one that has nothing`, () =>
      Effect.gen(function* () {
        yield* Admin.createTopics([Left, Right, Counts, Refused])
        const { records } = yield* ClusterMemory.Control
        const { network, plan } = Simulation.switched()
        for (const topic of ["left", "right"]) yield* feed(topic, 0, 3)
        yield* Simulation.start(counting(merged), plan)
        yield* Simulation.pass(8_000)
        const end = yield* begin(network)
        yield* Simulation.pass(500)
        for (const topic of ["right", "left"]) yield* feed(topic, 3, 30)
        yield* Simulation.pass(20_000)
        yield* end
        yield* Simulation.pass(30_000)
        assert.deepStrictEqual(yield* records("refused"), [])
        assert.strictEqual((yield* records("counts")).length, 29)
        yield* feed("left", 30, 40)
        yield* Simulation.pass(10_000)
        assert.strictEqual((yield* records("counts")).length, 39)
      }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer({ nodes: 2 }))))
  }

  it.effect("waits for an input that had nothing, and whose leader is away since", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics([Left, Right, Counts, Refused])
      const { records } = yield* ClusterMemory.Control
      const { network, plan } = Simulation.switched()
      for (const topic of ["left", "right"]) yield* feed(topic, 0, 3)
      yield* Simulation.start(counting(merged), plan)
      yield* Simulation.pass(2_000)
      yield* feed("left", 3, 5)
      yield* Simulation.pass(9_000)
      network.decide = ({ operation }) => operation === "Fetch" ? isAway : undefined
      yield* Simulation.pass(500)
      yield* feed("right", 6, 30)
      yield* feed("left", 6, 30)
      yield* Simulation.pass(20_000)
      yield* restored(network)
      yield* Simulation.pass(10_000)
      assert.deepStrictEqual(yield* records("refused"), [])
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))

  it.effect("does not go on with the wall clock past an input that had nothing, and whose leader is away since", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics([Left, Right, Counts, Refused])
      const { records } = yield* ClusterMemory.Control
      const { network, plan } = Simulation.switched()
      const ticking = Ingest.topic(Left, { wallClockAfter: "1 second" }).pipe(Decode.schema, merge(decoded(Right)))
      for (const topic of ["left", "right"]) yield* feed(topic, 0, 3)
      yield* Simulation.start(counting(ticking), plan)
      yield* Simulation.pass(2_000)
      yield* feed("left", 4, 5)
      yield* Simulation.pass(9_000)
      network.decide = ({ operation }) => operation === "Fetch" ? isAway : undefined
      yield* Simulation.pass(2_000)
      yield* feed("right", 4, 6)
      yield* Simulation.pass(180_000)
      yield* restored(network)
      yield* Simulation.pass(10_000)
      assert.deepStrictEqual(yield* records("refused"), [])
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))

  it.effect("waits for an input that cannot be found at the start", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics([Left, Right, Counts, Refused])
      const { records } = yield* ClusterMemory.Control
      const { network, plan } = Simulation.switched()
      for (const topic of ["left", "right"]) yield* feed(topic, 0, 30)
      network.decide = ({ operation, topics }) =>
        operation === "Metadata" && topics.length === 1 && topics[0] === "right"
          ? Faults.silence("8 seconds")
          : undefined
      const program = yield* Simulation.start(counting(merged), plan)
      yield* Simulation.pass(12_000)
      yield* restored(network)
      yield* Simulation.pass(20_000)
      assert.isUndefined(Simulation.ended(program))
      assert.deepStrictEqual(yield* records("refused"), [])
      assert.strictEqual((yield* records("counts")).length, 29)
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))

  it.effect("of three inputs holds up no stop with what it holds back", () =>
    Effect.gen(function* () {
      yield* Admin.createTopics([Left, Right, Third, Counts, Refused])
      for (let i = 0; i < 30; i += 3) for (const topic of ["left", "right"]) yield* feed(topic, i, i + 3)
      yield* feed("third", 0, 5)
      const { network, plan } = Simulation.switched()
      const program = yield* Simulation.start(counting(merged.pipe(merge(decoded(Third)))), plan)
      yield* Simulation.pass(3_000)
      network.decide = ({ operation }) =>
        operation === "Fetch"
          ? Faults.refusePartitions("NOT_LEADER_OR_FOLLOWER", ({ topic }) => topic === "third")
          : undefined
      yield* Simulation.pass(10_000)
      const from = yield* Clock.currentTimeMillis
      yield* Simulation.stop(program.fiber)
      assert.isBelow((yield* Clock.currentTimeMillis) - from, 2_000)
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
})
