/** Values that JSON has no form for: in topics, as their JSON Schema says, and in stores that are restored. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import { Buffer } from "node:buffer"
import { Decider, Decode, Failures, Guarantee, Ingest, Pipeline, Topic } from "../src/index.ts"
import * as JsonCodec from "../src/JsonCodec.ts"
import { JournaledStore } from "../src/state/Store.ts"
import { Driver } from "../src/testing/index.ts"

const Odd = Schema.Struct({
  number: Schema.Number,
  date: Schema.Date,
  big: Schema.BigInt,
  bytes: Schema.Uint8Array,
  nothing: Schema.UndefinedOr(Schema.Int),
  left: Schema.optionalKey(Schema.Int),
})

const values: ReadonlyArray<typeof Odd.Type> = [NaN, Infinity, -Infinity, 1.5].map((number) => ({
  number,
  date: new Date(0),
  big: 2n ** 70n,
  bytes: Uint8Array.of(1, 2),
  nothing: undefined,
}))

const about = { owner: "tests", partitions: 1, description: "Test" }

describe("A value that JSON has no form for", () => {
  it("is read from its topic as it was written", () => {
    const topic = Topic.make({ ...about, name: "odd", schema: Odd })
    for (const value of values) {
      const bytes = Result.getOrThrow(topic.encode(value))
      assert.deepStrictEqual(Result.getOrThrow(topic.decode(bytes)), value)
    }
    assert.strictEqual(
      Buffer.from(Result.getOrThrow(topic.encode(values[0]!))).toString(),
      '{"number":"NaN","date":"1970-01-01T00:00:00.000Z","big":"1180591620717411303424","bytes":"AQI=","nothing":null}',
    )
  })

  it("is refused where there is no form for it at all", () => {
    const topic = Topic.make({ ...about, name: "any", schema: Schema.Struct({ any: Schema.instanceOf(Map) }) })
    assert.deepStrictEqual(Result.getOrThrow(Result.flip(topic.encode({ any: new Map() }))).field, "any")
  })

  it("costs values nothing that JSON holds as they are", () => {
    const plain = Schema.Struct({
      text: Schema.String,
      number: Schema.Finite,
      kind: Schema.Literals(["a", "b"]),
      list: Schema.Array(Schema.NullOr(Schema.Int)),
      open: Schema.Record(Schema.String, Schema.Unknown),
      read: Schema.FiniteFromString,
    })
    assert.strictEqual(JsonCodec.of(plain), plain)
    assert.notStrictEqual(JsonCodec.of(Odd), Odd)
  })

  it("is restored to a store as it was logged", () => {
    const store = new JournaledStore({ name: "odd", value: Odd })
    const restored = new JournaledStore({ name: "odd", value: Odd })
    for (const [i, value] of values.entries()) restored.restore(String(i), store.encode(value))
    assert.deepStrictEqual(Array.from(restored.entries(), ([, value]) => value), values)
  })

  it.effect("lets a decider go on after a restart", () =>
    Effect.gen(function* () {
      const Divide = Schema.Struct({ id: Schema.String, by: Schema.Int })
      const Commands = Topic.make({ ...about, name: "commands", schema: Divide, key: ["id", ({ id }) => id] })
      class Refused extends Schema.TaggedError<Refused>()("Refused", { message: Schema.String, left: Schema.Number }) {}
      const decider = Decider.make({
        name: "shares",
        state: Schema.Number,
        event: Schema.Struct({ share: Schema.Number }),
        rejection: Refused,
        initial: 1,
        aggregate: ({ id }: typeof Divide.Type) => id,
        commandId: ({ by }: typeof Divide.Type) => String(by),
        decide: (state, { by }) =>
          state === Infinity
            ? Result.fail(new Refused({ message: "shared out", left: state }))
            : Result.succeed([{ share: state / by }]),
        evolve: (_, { share }) => share,
      })
      const left: Array<number> = []
      const pipeline = Pipeline.make(
        "shares",
        Ingest.topic(Commands).pipe(
          Decode.schema,
          Decider.stage(decider),
          Failures.route({
            Refused: { writes: [], send: ({ failed }) => (left.push(failed.reason.left), { _tag: "Dropped" }) },
          }),
          Failures.routeAll(Failures.stop),
        ),
        Guarantee.exactlyOnce(),
      )
      yield* Driver.run({ pipelines: pipeline }, (driver) =>
        Effect.gen(function* () {
          yield* driver.feed(Commands, [{ id: "a", by: 0 }, { id: "a", by: 2 }])
          yield* driver.settle
          yield* driver.crash
          yield* driver.restart
          yield* driver.feed(Commands, [{ id: "a", by: 2 }, { id: "a", by: 3 }])
          yield* driver.settle
          assert.deepStrictEqual((yield* driver.store(pipeline, "shares")).size, 1)
        }))
      assert.deepStrictEqual(left, [Infinity, Infinity, Infinity])
    }))
})
