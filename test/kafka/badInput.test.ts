/** Topics and logs as they should not be: which task stops, what it says, and that the others go on. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric, Schema, type Scope } from "effect"
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
} from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Copying from "../support/Copying.ts"
import * as Damage from "../support/Damage.ts"
import { ended, pass, type Process, start, stop, until } from "../support/Simulation.ts"

const guarantees = [Guarantee.exactlyOnce(), Guarantee.atLeastOnce()]
const In = { ...Copying.In, partitions: 2 }
const Counts = Topic.make({
  name: "counts",
  description: "",
  owner: "",
  schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
  partitions: 1,
})
const topics = [In, Copying.Out, Counts, Copying.Dlt]
const changelog = "counting-counts-changelog"

/** A pipeline with state: how many records each key has had. */
const counting = <R>(guarantee: Pipeline.Guarantee<unknown, R>) =>
  Pipeline.make(
    "counting",
    Ingest.topic(In).pipe(
      Decode.schema,
      Aggregate.running({ name: "counts", fold: Fold.count }),
      Deliver.to(Counts),
      Failures.routeAll(DeadLetter.to(Copying.Dlt)),
    ),
    guarantee,
  )

/** The last count of every key. */
const counts = Effect.map(
  Copying.valuesOf("counts"),
  (values) =>
    Object.fromEntries((values as Array<{ key: string; value: number }>).map(({ key, value }) => [key, value])),
)

const hasCounted = (wanted: Readonly<Record<string, number>>) =>
  until(
    `counts ${JSON.stringify(wanted)}`,
    Effect.map(counts, (counts) => Object.entries(wanted).every(([key, value]) => counts[key] === value)),
  )

const hasCopied = (...ids: ReadonlyArray<number>) =>
  until(`copies of ${ids}`, Effect.map(Copying.copied, (copied) => ids.every((id) => copied.includes(id))))

const append = (partition: number, ids: ReadonlyArray<number>) =>
  Copying.append(ids, { partition, key: `key ${partition}` })

/** Stops a program, and answers what it fails with for a task that had stopped before. */
const failure = (program: Process) => Effect.map(stop(program.fiber), () => ended(program) ?? "")

const hasEnded = (program: Process) => until("the end", Effect.sync(() => ended(program) !== undefined))

const again = Effect.gen(function* () {
  const cluster = yield* Cluster
  const { topics: [before] } = yield* cluster.metadata([In.name])
  yield* cluster.deleteTopics([In.name])
  yield* pass(500)
  yield* Admin.createTopics([In])
  const { topics: [after] } = yield* cluster.metadata([In.name])
  return { before: before!.id, after: after!.id }
})

const test = <E>(name: string, body: Effect.Effect<void, E, Cluster | ClusterMemory.Control | Scope.Scope>) =>
  it.effect(name, () => Effect.scoped(body).pipe(Effect.provide(ClusterMemory.layer())))

describe("a batch that is damaged", () => {
  for (const guarantee of guarantees) {
    test(
      `${guarantee.name}: on its way is read again, and counts once`,
      Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        let reads = 0
        const damaged = yield* Damage.of(In.name, (bytes, offset) => {
          if (offset === 2 && ++reads <= 5) bytes[bytes.length - 1]! ^= 1
        })
        const program = yield* Effect.provideService(start(Copying.pipeline(guarantee), Faults.none), Cluster, damaged)
        yield* append(0, [0, 1])
        yield* append(0, [2, 3])
        yield* append(0, [4])
        yield* hasCopied(4)
        assert.deepStrictEqual(yield* Copying.copied, [0, 1, 2, 3, 4])
        assert.isAbove(reads, 5)
        assert.isUndefined(ended(program))
      }),
    )

    test(
      `${guarantee.name}: in the log stops its task in front of it, and no other, until it is whole`,
      Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        let isWhole = false
        const damaged = yield* Damage.of(In.name, (bytes, offset, partition) => {
          if (partition === 0 && offset === 2 && !isWhole) bytes[bytes.length - 1]! ^= 1
        })
        const from = Effect.provideService(start(Copying.pipeline(guarantee), Faults.none), Cluster, damaged)
        const first = yield* from
        yield* append(0, [0, 1])
        yield* append(0, [2, 3])
        yield* append(0, [4])
        yield* hasCopied(0, 1)
        yield* pass(5_000)
        yield* append(1, [10, 11])
        yield* hasCopied(10, 11)
        assert.deepStrictEqual((yield* Copying.copied).toSorted((a, b) => a - b), [0, 1, 10, 11])
        assert.isUndefined(ended(first))
        const message = yield* failure(first)
        assert.include(
          message,
          "copy task 0-0 stopped: Fetch: topic in partition 0: from offset 2 on, the batch at offset 2",
        )
        assert.include(message, "its checksum is not that of its bytes, and was read 20 times")
        isWhole = true
        yield* from
        yield* hasCopied(4)
        assert.deepStrictEqual((yield* Copying.copied).toSorted((a, b) => a - b), [0, 1, 2, 3, 4, 10, 11])
      }),
    )
  }
})

describe("a topic that is deleted and created again", () => {
  for (const guarantee of guarantees) {
    test(
      `${guarantee.name}: stops the tasks that read it, and says that it is another one`,
      Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        yield* append(0, [0, 1])
        const program = yield* start(Copying.pipeline(guarantee), Faults.none)
        yield* hasCopied(1)
        const ids = yield* again
        // More than the old one had: by its offsets alone it would not be told apart.
        yield* append(0, [10, 11, 12, 13])
        yield* hasEnded(program)
        assert.include(ended(program)!, "topic in was deleted and created again")
        assert.include(ended(program)!, ids.before)
        assert.include(ended(program)!, ids.after)
        assert.deepStrictEqual(yield* Copying.copied, [0, 1])
        // Without state there is nothing to be reset: it begins in the new one.
        yield* start(Copying.pipeline(guarantee), Faults.none)
        yield* hasCopied(13)
        assert.deepStrictEqual(yield* Copying.copied, [0, 1, 10, 11, 12, 13])
      }),
    )

    for (const isRunning of [true, false]) {
      test(
        `${guarantee.name}: is not counted on top of the old one's state, ${
          isRunning ? "while" : "when it was not"
        } read`,
        Effect.gen(function* () {
          yield* Admin.createTopics(topics)
          yield* append(0, [0, 1])
          const first = yield* start(counting(guarantee), Faults.none)
          yield* hasCounted({ "key 0": 2 })
          if (!isRunning) yield* stop(first.fiber)
          yield* again
          yield* append(0, [10, 11, 12, 13])
          if (isRunning) {
            yield* hasEnded(first)
            assert.include(ended(first)!, "topic in was deleted and created again")
          }
          const second = yield* start(counting(guarantee), Faults.none)
          yield* pass(5_000)
          const message = yield* failure(second)
          assert.include(message, `changelog ${changelog} partition 0: it is of records of topic in with the id`)
          assert.include(message, "which was deleted and created again as")
          assert.include(message, "reset positions and state together")
          assert.deepStrictEqual(yield* counts, { "key 0": 2 })
        }),
      )
    }

    test(
      `${guarantee.name}: is begun anew where the position of the old one was committed late`,
      Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        yield* append(0, [0, 1])
        const first = yield* start(Copying.pipeline(guarantee), Faults.none)
        yield* hasCopied(1)
        yield* stop(first.fiber)
        const cluster = yield* Cluster
        const where = { topic: In.name, partition: 0 }
        const [committed] = yield* cluster.offsetFetch("copy", [where], true)
        yield* again
        yield* append(0, [10, 11, 12, 13])
        const { offset, metadata } = committed!
        const nobody = { group: "copy", generation: -1, memberId: "" }
        yield* cluster.offsetCommit(nobody, [{ ...where, offset, metadata }])
        yield* start(Copying.pipeline(guarantee), Faults.none)
        yield* hasCopied(13)
        assert.deepStrictEqual(yield* Copying.copied, [0, 1, 10, 11, 12, 13])
      }),
    )
  }
})

const lost = (topic: string) =>
  Effect.map(
    Metric.snapshot,
    (all) =>
      all.filter(({ id, attributes }) => id === "millrace_records_lost_total" && attributes?.["topic"] === topic)
        .reduce((sum, { state }) => sum + Number((state as { readonly count: number | bigint }).count), 0),
  )

describe("a position outside of the log", () => {
  for (const guarantee of guarantees) {
    test(
      `${guarantee.name}: above its end stops its task, which would count again, and no other`,
      Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        yield* append(0, [0, 1, 2])
        yield* append(0, [3])
        const first = yield* start(counting(guarantee), Faults.none)
        yield* hasCounted({ "key 0": 4 })
        const control = yield* ClusterMemory.Control
        yield* control.truncate({ topic: In.name, partition: 0 }, 3)
        yield* pass(2_000)
        yield* append(1, [10])
        yield* hasCounted({ "key 1": 1 })
        assert.include(yield* failure(first), "topic in partition 0: position 4 is above the end of the log, 3")
        assert.deepStrictEqual(yield* counts, { "key 0": 4, "key 1": 1 })
      }),
    )

    test(
      `${guarantee.name}: below its start loses what is gone, which is counted, and the state goes on`,
      Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        const control = yield* ClusterMemory.Control
        yield* append(0, [0, 1])
        const first = yield* start(counting(guarantee), Faults.none)
        yield* hasCounted({ "key 0": 2 })
        yield* stop(first.fiber)
        yield* append(0, [2, 3, 4])
        yield* pass(8 * 86_400_000, 3_600_000)
        yield* control.expire
        yield* append(0, [5])
        const before = yield* lost(In.name)
        yield* start(counting(guarantee), Faults.none)
        yield* hasCounted({ "key 0": 3 })
        assert.strictEqual((yield* lost(In.name)) - before, 3)
      }),
    )
  }

  const truncated = (guarantee: (typeof guarantees)[number]) =>
    Effect.gen(function* () {
      yield* Admin.createTopics(topics)
      yield* append(0, [0, 1])
      yield* append(0, [2])
      const program = yield* start(Copying.pipeline(guarantee), Faults.none)
      yield* hasCopied(2)
      const control = yield* ClusterMemory.Control
      yield* control.truncate({ topic: In.name, partition: 0 }, 2)
      yield* pass(2_000)
      yield* append(0, [3])
      yield* append(0, [4])
      yield* pass(2_000)
      return program
    })

  test(
    "exactlyOnce: above its end stops its task without state as well",
    Effect.gen(function* () {
      const program = yield* truncated(Guarantee.exactlyOnce())
      assert.deepStrictEqual(yield* Copying.copied, [0, 1, 2])
      assert.include(yield* failure(program), "topic in partition 0: position 3 is above the end of the log, 2")
    }),
  )

  test(
    "atLeastOnce: above its end lets a task without state read all again, as the policy says",
    Effect.gen(function* () {
      const program = yield* truncated(Guarantee.atLeastOnce())
      assert.deepStrictEqual(yield* Copying.copied, [0, 1, 2, 0, 1, 3, 4])
      assert.isUndefined(ended(program))
    }),
  )

  test(
    'is told at the start where nothing is committed and the policy is "fail"',
    Effect.gen(function* () {
      yield* Admin.createTopics(topics)
      const refused = yield* start(counting(Guarantee.exactlyOnce()), Faults.none, { reset: "fail" })
      yield* hasEnded(refused)
      assert.include(ended(refused)!, "group counting has no position in topic in partition 0")
    }),
  )
})

describe("a changelog", () => {
  for (const guarantee of guarantees) {
    test(
      `${guarantee.name}: of which retention has taken the beginning stops its task`,
      Effect.gen(function* () {
        const cluster = yield* Cluster
        const control = yield* ClusterMemory.Control
        yield* Admin.createTopics(topics)
        const config = { "cleanup.policy": "delete", "retention.ms": "60000" }
        yield* cluster.createTopics([{ topic: changelog, partitions: 2, replicationFactor: 1, config }])
        yield* append(0, [0, 1])
        const first = yield* start(counting(guarantee), Faults.none)
        yield* hasCounted({ "key 0": 2 })
        yield* pass(120_000, 1_000)
        yield* control.expire
        yield* Copying.append([2], { partition: 0, key: "other" })
        yield* hasCounted({ other: 1 })
        yield* stop(first.fiber)
        const second = yield* start(counting(guarantee), Faults.none)
        yield* pass(5_000)
        const message = yield* failure(second)
        assert.match(
          message,
          /changelog counting-counts-changelog partition 0: what it held below offset \d+ was deleted, and with it entries of store counts/,
        )
      }),
    )
  }
})

describe("partitions that are added while a program runs", () => {
  const often = { metadataInterval: "5 seconds" } as const
  for (const guarantee of guarantees) {
    for (const reset of ["earliest", "latest", "fail"] as const) {
      test(
        `${guarantee.name}: are read from their beginning where there is no state, whatever the policy "${reset}" says`,
        Effect.gen(function* () {
          yield* Admin.createTopics(topics)
          const control = yield* ClusterMemory.Control
          const cluster = yield* Cluster
          if (reset === "fail") {
            const nobody = { group: "copy", generation: -1, memberId: "" }
            yield* cluster.offsetCommit(
              nobody,
              [0, 1].map((partition) => ({ topic: In.name, partition, offset: 0, metadata: "" })),
            )
          }
          const programs = [
            yield* start(Copying.pipeline(guarantee), Faults.none, { ...often, reset }),
            yield* start(Copying.pipeline(guarantee), Faults.none, { ...often, reset }),
          ]
          yield* pass(4_000)
          yield* append(0, [0])
          yield* append(1, [1])
          yield* hasCopied(0, 1)
          yield* control.grow(In.name, 4)
          yield* append(2, [2])
          yield* append(3, [3])
          yield* hasCopied(2, 3)
          yield* append(0, [4])
          yield* hasCopied(4)
          assert.deepStrictEqual((yield* Copying.copied).toSorted(), [0, 1, 2, 3, 4])
          assert.deepStrictEqual(programs.map(ended), [undefined, undefined])
        }),
      )
    }

    test(
      `${guarantee.name}: stop the tasks whose state does not follow its keys, and say what to do`,
      Effect.gen(function* () {
        yield* Admin.createTopics(topics)
        const control = yield* ClusterMemory.Control
        const program = yield* start(counting(guarantee), Faults.none, often)
        yield* append(0, [0])
        yield* hasCounted({ "key 0": 1 })
        yield* control.grow(In.name, 3)
        yield* pass(6_000)
        yield* hasEnded(program)
        assert.include(
          ended(program)!,
          "topic in has 3 partitions, and had 2: keys are in other partitions than the state that belongs to them (counts)",
        )
        assert.include(ended(program)!, "Reset positions and state together")
        const second = yield* start(counting(guarantee), Faults.none, often)
        yield* hasEnded(second)
        assert.include(ended(second)!, `changelog ${changelog} has 2 partitions and the topic it belongs to 3`)
      }),
    )
  }
})
