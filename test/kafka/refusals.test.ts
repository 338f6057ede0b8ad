/** What brokers or schemas refuse: batches too large are made smaller, and only the task at fault stops. */
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
import { ended, pass, start, stop, switched, until } from "../support/Simulation.ts"

const many = Array.from({ length: 1_000 }, (_, i) => i)
const guarantees = [Guarantee.exactlyOnce(), Guarantee.atLeastOnce()]

describe("batches too large", () => {
  const small = { ...Copying.Out, maxMessageBytes: 10_000 }
  const narrow = { ...Copying.Out, maxMessageBytes: 300 }
  for (const guarantee of guarantees) {
    const copies = (to: typeof small, there: typeof small, refusals: number) =>
      Effect.gen(function* () {
        yield* Admin.createTopics([Copying.In, there, Copying.Dlt])
        yield* Copying.append(many)
        const { network, plan } = switched()
        const program = yield* start(Copying.pipeline(guarantee, to), plan)
        yield* until("all", Effect.map(Copying.copied, ({ length }) => length >= many.length))
        assert.deepStrictEqual(yield* Copying.copied, many)
        let requests = 0
        network.decide = ({ operation }) => {
          if (operation === "Produce") requests++
          return undefined
        }
        yield* Copying.append([1_000, 1_001, 1_002])
        yield* until("the rest", Effect.map(Copying.copied, ({ length }) => length >= many.length + 3))
        assert.deepStrictEqual(yield* Copying.copied, [...many, 1_000, 1_001, 1_002])
        assert.isAtMost(requests, refusals)
        assert.isUndefined(ended(program))
      }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer()))

    it.effect(`${guarantee.name}: no larger than the topic's contract says`, () => copies(small, small, 1))
    it.effect(`${guarantee.name}: no larger than the brokers take, if that is less`, () =>
      copies(Copying.Out, small, 1))
    it.effect(`${guarantee.name}: down to single records`, () => copies(Copying.Out, narrow, 5))
  }
})

const Sum = Schema.Struct({ key: Schema.String, value: Schema.Number })
const Sums = Topic.make({ name: "sums", description: "", owner: "", schema: Sum, partitions: 1 })
const Wide = Topic.make({
  name: "out",
  description: "",
  owner: "",
  schema: Schema.Struct({ text: Schema.String }),
  partitions: 1,
})
const Pairs = { ...Copying.In, partitions: 2 }

/** Copies every reading as text that is as long as its id says. */
const wide = <R>(guarantee: Pipeline.Guarantee<unknown, R>) =>
  Pipeline.make(
    "widening",
    Ingest.topic(Pairs).pipe(
      Decode.schema,
      Flow.map(({ id }) => ({ text: "x".repeat(id) })),
      Deliver.to(Wide),
      Failures.routeAll(DeadLetter.to(Copying.Dlt)),
    ),
    guarantee,
  )

const sums = <R>(guarantee: Pipeline.Guarantee<unknown, R>) =>
  Pipeline.make(
    "summing",
    Ingest.topic(Pairs).pipe(
      Decode.schema,
      // An infinite sum is no Int, but a number that can be written.
      Aggregate.running({
        name: "sum",
        fold: Fold.make({
          state: Schema.Int,
          initial: () => 0,
          add: (sum: number, { id }: typeof Copying.Reading.Type) => id === 13 ? Infinity : sum + id,
        }),
      }),
      Deliver.to(Sums),
      Failures.routeAll(DeadLetter.to(Copying.Dlt)),
    ),
    guarantee,
  )

describe("a single record too large", () => {
  const Texts = Topic.make({
    name: "texts",
    description: "",
    owner: "",
    schema: Schema.Struct({ key: Schema.String, value: Schema.Array(Schema.Int) }),
    partitions: 1,
  })
  /** Keeps all that a key has had. */
  const collecting = <R>(guarantee: Pipeline.Guarantee<unknown, R>) =>
    Pipeline.make(
      "collecting",
      Ingest.topic(Pairs).pipe(
        Decode.schema,
        Aggregate.running({
          name: "all",
          fold: Fold.make({
            state: Schema.Array(Schema.Int),
            initial: () => [] as ReadonlyArray<number>,
            add: (all: ReadonlyArray<number>, { id }: typeof Copying.Reading.Type) => [...all, id],
          }),
        }),
        Deliver.to(Texts),
        Failures.routeAll(DeadLetter.to(Copying.Dlt)),
      ),
      guarantee,
    )

  for (const guarantee of guarantees) {
    it.effect(`${guarantee.name}: stops its task, and no other, and says which topic is too narrow`, () =>
      Effect.gen(function* () {
        const cluster = yield* Cluster
        yield* Admin.createTopics([Pairs, Copying.Dlt])
        const config = { "max.message.bytes": "200" }
        yield* cluster.createTopics([{ topic: Copying.Out.name, partitions: 1, replicationFactor: 1, config }])
        const program = yield* start(wide(guarantee), Faults.none)
        yield* Copying.append([1], { partition: 0 })
        yield* until("a copy", Effect.map(Copying.valuesOf("out"), ({ length }) => length === 1))
        yield* Copying.append([1_000], { partition: 0 })
        yield* pass(1_000)
        yield* Copying.append([2], { partition: 1 })
        yield* until("the other task", Effect.map(Copying.valuesOf("out"), ({ length }) => length === 2))
        assert.isUndefined(ended(program))
        yield* stop(program.fiber)
        assert.match(
          ended(program)!,
          /task 0-0 stopped: a record of 10\d\d bytes for topic out is larger than the brokers/,
        )
      }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))

    it.effect(`${guarantee.name}: of a changelog stops its task, and says which store and how large`, () =>
      Effect.gen(function* () {
        const cluster = yield* Cluster
        yield* Admin.createTopics([Pairs, Texts, Copying.Dlt])
        const topic = "collecting-all-changelog"
        const config = { "cleanup.policy": "compact", "max.message.bytes": "400" }
        yield* cluster.createTopics([{ topic, partitions: 2, replicationFactor: 1, config }])
        const program = yield* start(collecting(guarantee), Faults.none)
        yield* Copying.append([1], { partition: 0 })
        yield* until("a first", Effect.map(Copying.valuesOf("texts"), ({ length }) => length === 1))
        yield* Copying.append(Array.from({ length: 400 }, (_, i) => i), { partition: 0 })
        yield* pass(1_000)
        yield* Copying.append([2], { partition: 1 })
        yield* until("the other task", Effect.map(Copying.valuesOf("texts"), (texts) => texts.length >= 2))
        assert.isUndefined(ended(program))
        yield* stop(program.fiber)
        assert.match(
          ended(program)!,
          /task 0-0 stopped: store all of task 0-0 has an entry of \d\d\d\d bytes, which is larger/,
        )
        assert.include(ended(program)!, `its changelog ${topic} takes: raise the topic's max.message.bytes`)
      }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
  }
})

describe("a task at fault", () => {
  for (const guarantee of guarantees) {
    it.effect(`${guarantee.name}: a state that its schema refuses stops its own task`, () =>
      Effect.gen(function* () {
        yield* Admin.createTopics([Pairs, Sums, Copying.Dlt])
        yield* Copying.append([13], { partition: 0, key: "secret" })
        const program = yield* start(sums(guarantee), Faults.none)
        yield* pass(1_000)
        yield* Copying.append([1], { partition: 1 })
        yield* until("the other task", Effect.map(Copying.valuesOf("sums"), ({ length }) => length === 1))
        assert.isUndefined(ended(program))
        yield* stop(program.fiber)
        assert.match(ended(program)!, /summing task 0-0 stopped: store sum of task 0-0 holds a value that its schema/)
        assert.notInclude(ended(program)!, "secret")
      }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
  }

  for (const guarantee of guarantees) {
    it.effect(`${guarantee.name}: is none where the producer lost its place`, () =>
      Effect.gen(function* () {
        yield* Admin.createTopics(Copying.topics)
        yield* Copying.append([0])
        const { network, plan } = switched()
        const program = yield* start(Copying.pipeline(guarantee), plan)
        yield* until("the first", Effect.map(Copying.copied, ({ length }) => length === 1))
        const codes = ["OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "TRANSACTION_ABORTABLE"]
        network.decide = ({ operation }) =>
          operation === "Produce" && codes.length > 0 ? Faults.refusePartitions(codes.shift()!) : undefined
        yield* Copying.append([1])
        yield* until("the second", Effect.map(Copying.copied, ({ length }) => length === 2))
        assert.deepStrictEqual([yield* Copying.copied, codes], [[0, 1], []])
        assert.isUndefined(ended(program))
      }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
  }
})
