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
  Fold,
  Guarantee,
  Ingest,
  Pipeline,
  Topic,
} from "../../src/index.ts"
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
const Pairs = { ...Copying.In, partitions: 2 }

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
