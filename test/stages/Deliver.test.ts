import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import { Check, Decode, Deliver, Ingest, Topic } from "../../src/index.ts"
import { run, sources } from "../support/FlowRunner.ts"

const topic = (name: string, key?: readonly [string, (n: number) => string]) =>
  Topic.make({
    name,
    description: "Test",
    owner: "tests",
    schema: Schema.Int,
    partitions: 1,
    ...key === undefined ? {} : { key },
  })
const Numbers = topic("numbers")

class Odd extends Schema.TaggedError<Odd>()("Odd", { message: Schema.String }) {}

const even = Check.with((n: number) => n % 2 === 0 ? Result.succeed(n) : Result.fail(new Odd({ message: "odd" })))

/** What is written of numbers to a topic of which the latest per key counts, where odd ones fail afterwards. */
const written = (to: Topic.Topic<number>, numbers: ReadonlyArray<number>, cuts: ReadonlyArray<number> = []) =>
  Effect.gen(function* () {
    const flow = Ingest.topic(Numbers).pipe(Decode.schema, Deliver.latest(to, (n) => n), even)
    const records = numbers.map((n) => ({ key: `k${n % 3}`, value: String(n), timestamp: 0 }))
    const { batches } = yield* run(flow, new Map([[Numbers as Topic.Any, sources(Numbers, records, cuts)]]))
    return batches.flatMap(({ outgoing }) => outgoing.map(({ key, value }) => `${key}=${value}`))
  })

describe("Deliver.latest", () => {
  it.effect("writes the last value of a key that does not fail behind it, wherever the input is cut", () =>
    Effect.gen(function* () {
      const To = topic("to", ["all the same", () => "k"])
      assert.deepStrictEqual(yield* written(To, [2, 4, 5]), ["k=4"])
      assert.deepStrictEqual((yield* written(To, [2, 4, 5], [2])).at(-1), "k=4")
    }))

  it.effect("goes by the record's key where the topic has none", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* written(topic("to"), [0, 2, 6, 8]), ["k0=6", "k2=8"])
    }))
})
