/** State that does not fit: what a pipeline refuses to start with, and says. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema, type Scope } from "effect"
import {
  Admin,
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Fold,
  Guarantee,
  Ingest,
  Pipeline,
  Topic,
  Window,
} from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { append, Dlt, readings, running } from "../support/Readings.ts"
import { stop, until } from "../support/Simulation.ts"

const In = readings("in", 1)
const Sums = Topic.make({
  name: "sums",
  description: "",
  owner: "",
  schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
  partitions: 1,
})
const where = { topic: "in", partition: 0 }
const changelog = "summing-sums-changelog"

const summing = (
  guarantee: Pipeline.Guarantee<unknown, Cluster>,
  fold: Fold.Fold<unknown, unknown, number> = Fold.count as Fold.Fold<unknown, unknown, number>,
) =>
  Pipeline.make(
    "summing",
    Ingest.topic(In).pipe(
      Decode.schema,
      Aggregate.running({ name: "sums", fold }),
      Deliver.to(Sums),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    guarantee,
  )

const sums = Effect.flatMap(
  ClusterMemory.Control,
  (control) =>
    Effect.map(
      control.records("sums"),
      (records) => records.map(({ value }) => (JSON.parse(String(value)) as { value: number }).value),
    ),
)

/** Counts three records, and stops. */
const counted = (guarantee: Pipeline.Guarantee<unknown, Cluster>) =>
  Effect.gen(function* () {
    yield* Admin.createTopics([In, Sums, Dlt])
    const fiber = yield* running(summing(guarantee))
    for (const id of [0, 1, 2]) {
      yield* append("in", 0, [{ id, at: 1 }])
      yield* until("its count", Effect.map(sums, (sums) => sums.at(-1) === id + 1))
    }
    yield* stop(fiber)
  })

/** Sets the group's position, as an operator's tool does, but keeps what it says of the last commit. */
const setPosition = (offset: number) =>
  Effect.gen(function* () {
    const cluster = yield* Cluster
    const [{ metadata } = { metadata: "" }] = yield* cluster.offsetFetch("summing", [where], true)
    yield* cluster.offsetCommit({ group: "summing", generation: -1, memberId: "" }, [{ ...where, offset, metadata }])
  })

/** What the pipeline fails with when it is started again. */
const refusal = (guarantee: Pipeline.Guarantee<unknown, Cluster>, fold?: Fold.Fold<unknown, unknown, number>) =>
  Effect.gen(function* () {
    const fiber = yield* running(summing(guarantee, fold))
    yield* until("the end", Effect.sync(() => fiber.pollUnsafe() !== undefined))
    return yield* Effect.flip(Fiber.join(fiber))
  })

const test = <E>(name: string, body: Effect.Effect<void, E, Cluster | ClusterMemory.Control | Scope.Scope>) =>
  it.effect(name, () => Effect.provide(Effect.scoped(body), ClusterMemory.layer()))

describe("Changelog", () => {
  for (const offset of [1, 5]) {
    test(
      `stops a task whose group stands at ${offset} and its log at 3, under exactly-once`,
      Effect.gen(function* () {
        yield* counted(Guarantee.exactlyOnce())
        yield* setPosition(offset)
        const error = yield* refusal(Guarantee.exactlyOnce())
        assert.strictEqual(error.reason, "State")
        assert.include(
          error.message,
          `changelog ${changelog} partition 0: it stands at offset 3 of topic in, but its group stands at ${offset}`,
        )
      }),
    )
  }

  test(
    "may be ahead of the group under at-least-once",
    Effect.gen(function* () {
      yield* counted(Guarantee.atLeastOnce())
      yield* setPosition(1)
      yield* running(summing(Guarantee.atLeastOnce()))
      yield* until("the repeats", Effect.map(sums, (sums) => sums.at(-1) === 5))
    }),
  )

  test(
    "stops a task whose log is gone",
    Effect.gen(function* () {
      yield* counted(Guarantee.exactlyOnce())
      yield* Effect.flatMap(Cluster, (cluster) => cluster.deleteTopics([changelog]))
      const error = yield* refusal(Guarantee.exactlyOnce())
      assert.strictEqual(error.reason, "State")
      assert.include(error.message, `changelog ${changelog} partition 0: it holds no positions`)
    }),
  )

  test(
    "stops a task whose fold keeps another kind of state than the one that was logged",
    Effect.gen(function* () {
      yield* counted(Guarantee.exactlyOnce())
      const error = yield* refusal(
        Guarantee.exactlyOnce(),
        Fold.average(() => 1) as Fold.Fold<unknown, unknown, number>,
      )
      assert.strictEqual(error.reason, "State")
      assert.isFalse(error.retriable)
      assert.include(
        error.message,
        `changelog ${changelog} partition 0: the value at offset 0 is not what store sums holds: it was written by a ` +
          "program whose state had another schema",
      )
    }),
  )

  const windowed = (window: Window.Aligned | Window.Count) =>
    Pipeline.make(
      "summing",
      Ingest.topic(In).pipe(
        Decode.schema,
        Aggregate.windowed({ name: "sums", window: window as Window.Aligned, fold: Fold.count }),
        Deliver.to(Sums),
        Failures.routeAll(DeadLetter.to(Dlt)),
      ),
      Guarantee.exactlyOnce(),
    )
  const minutes = Window.tumbling({ size: "1 minute" })
  const changes = [
    ["5 minutes", Window.tumbling({ size: "5 minutes" }), "windows of 300000 ms every 300000 ms"],
    ["another step", Window.hopping({ size: "1 minute", every: "20 seconds" }), "windows of 60000 ms every 20000 ms"],
    ["a grace", Window.tumbling({ size: "1 minute", grace: "1 minute" }), undefined],
  ] as const

  for (const [name, window, refused] of changes) {
    test(
      `goes on with windows that have become ${name} only where what was logged are such windows`,
      Effect.gen(function* () {
        yield* Admin.createTopics([In, Sums, Dlt])
        const first = yield* running(windowed(minutes))
        yield* append("in", 0, [{ id: 0, at: 70_000 }])
        yield* until("its count", Effect.map(sums, (sums) => sums.length === 1))
        yield* stop(first)
        const second = yield* running(windowed(window))
        yield* append("in", 0, [{ id: 1, at: 70_000 }])
        if (refused === undefined) return yield* until("its count", Effect.map(sums, (sums) => sums.at(-1) === 2))
        yield* until("the end", Effect.sync(() => second.pollUnsafe() !== undefined))
        const error = yield* Effect.flip(Fiber.join(second))
        assert.deepStrictEqual([error.reason, error.retriable], ["State", false])
        assert.include(error.message, `it holds windows of 60000 ms every 60000 ms, and store sums ${refused}`)
      }),
    )
  }

  test(
    "must have as many partitions as the topic that it belongs to",
    Effect.gen(function* () {
      yield* Admin.createTopics([In, Sums, Dlt])
      const cluster = yield* Cluster
      yield* cluster.createTopics([{ topic: changelog, partitions: 2, replicationFactor: 1, config: {} }])
      const error = yield* refusal(Guarantee.exactlyOnce())
      assert.strictEqual(error.reason, "Definition")
      assert.include(error.message, `changelog ${changelog} has 2 partitions and the topic it belongs to 1`)
    }),
  )
})
