import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Result, Schema } from "effect"
import { Check, Decode, Deliver, Ingest, Topic, Topology } from "../../src/index.ts"
import { run, sources } from "../support/FlowRunner.ts"
import { Numbers as Given, numbers, running } from "../support/Numbers.ts"

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

  it.effect("writes a tombstone under the key of what is deleted, with its event time", () =>
    Effect.gen(function* () {
      const To = Topic.make({
        name: "to",
        description: "Test",
        owner: "tests",
        schema: Schema.Struct({ n: Schema.Int.check(Schema.isGreaterThan(0)) }),
        partitions: 1,
        key: ["its last digit", ({ n }) => String(Math.abs(n % 10))],
      })
      const flow = numbers.pipe(Deliver.latest(To, (n) => ({ n }), { isDeleted: (n) => n <= 0 }))
      const given = [[12, "k", 5], [3, "k", 6], [-2, "k", 7], [13, "k", 8]] as const
      const { batches } = yield* running(flow, given)
      assert.deepStrictEqual(
        batches.flatMap(({ outgoing }) =>
          outgoing.map(({ key, value, headers = [] }) =>
            `${key}=${value}${headers.map(([name, of]) => ` ${name}: ${Buffer.from(of)}`)}`
          )
        ),
        ["2=null millrace-time: 7", '3={"n":13}'],
      )
    }))

  it.effect("fails a deletion that has no key, and names the record where the question throws", () =>
    Effect.gen(function* () {
      const To = topic("to")
      const keyless = numbers.pipe(Deliver.latest(To, (n) => n, { isDeleted: () => true }))
      const { batches } = yield* running(keyless, [[1, null]])
      assert.deepStrictEqual(
        batches.flatMap(({ failed }) => failed.map(({ reason }) => `${reason._tag}: ${reason.message}`)),
        ["Undeliverable: a deletion needs a key, and this one has none"],
      )
      const throwing = numbers.pipe(Deliver.latest(To, (n) => n, {
        isDeleted: () => {
          throw new Error("asked")
        },
      }))
      assert.include(String(yield* Effect.exit(running(throwing, [1]))), "offset 0: Error: asked")
    }))
})

describe("Deliver.route", () => {
  const Small = Topic.make({
    name: "small",
    description: "Test",
    owner: "tests",
    schema: Schema.Int.check(Schema.isLessThan(10)),
    partitions: 1,
    key: ["the number's last digit", (n) => String(n % 10)],
  })
  const Texts = Topic.make({ name: "texts", description: "Test", owner: "tests", schema: Schema.String, partitions: 1 })

  it.effect("writes to the topic that is chosen, by itself or by name, under the key that its contract names", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        Deliver.route({ topics: [Small, Given], to: (_, { key }) => key === "s" ? Small : "numbers" }),
      )
      const { values, outgoing, failed } = yield* running(flow, [[1, "s"], [2, "n"], [3, "s"], [14, "n"]])
      assert.deepStrictEqual(values, [1, 2, 3, 14])
      assert.deepStrictEqual(outgoing, ["small 1=1", "numbers n=2", "small 3=3", "numbers n=14"])
      assert.deepStrictEqual(failed, [])
      assert.deepStrictEqual(Topology.of(flow).writes.map(({ name }) => name), ["small", "numbers"])
    }))

  it.effect("fails what is meant for another topic, also for one that exists, and what its topic refuses", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        Deliver.route({
          topics: [Small, Texts],
          to: (n) => n === 1 ? Given : n < 4 ? "elsewhere" : n < 20 ? Small : Texts,
        }),
      )
      const { failed, outgoing, batches } = yield* running(flow, [1, 2, 5, 11, 30])
      assert.deepStrictEqual(failed, ["0 Unroutable", "1 Unroutable", "3 Undeliverable", "4 Undeliverable"])
      assert.deepStrictEqual(outgoing, ["small 5=5"])
      const messages = batches[0]!.failed.map(({ reason }) => (reason as { readonly message: string }).message)
      assert.strictEqual(messages[0], "is meant for none of the topics that its stage names")
      assert.notInclude(messages.join(), "elsewhere")
    }))

  it.effect("writes what is made of a value, and asks for its key only once it fits", () =>
    Effect.gen(function* () {
      const Named = Topic.make({
        name: "named",
        description: "Test",
        owner: "tests",
        schema: Schema.Struct({ name: Schema.String }),
        partitions: 1,
        key: ["name", ({ name }) => name.toUpperCase()],
      })
      const flow = numbers.pipe(
        Deliver.route({
          topics: [Named],
          to: () => Named,
          of: (n, { offset }) => n === 0 ? { nobody: true } : { name: `n${n} at ${offset}` },
        }),
      )
      const { values, outgoing, failed } = yield* running(flow, [4, 0])
      assert.deepStrictEqual([values, failed], [[4], ["1 Undeliverable"]])
      assert.deepStrictEqual(outgoing, ['named N4 AT 0={"name":"n4 at 0"}'])
    }))

  it.effect("makes nothing of a value that goes nowhere", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        Deliver.route({
          topics: [Given],
          to: (n) => n === 1 ? "elsewhere" : Given,
          of: (n) => {
            if (n === 1) throw new Error("not asked for")
            return -n
          },
        }),
      )
      const { failed, outgoing } = yield* running(flow, [1, 2])
      assert.deepStrictEqual([failed, outgoing], [["0 Unroutable"], ["numbers k=-2"]])
    }))

  it.effect("names the record at which the choice throws", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(Deliver.route({
        topics: [Small],
        to: () => {
          throw new Error("nowhere")
        },
      }))
      const exit = yield* Effect.exit(running(flow, [1]))
      assert(exit._tag === "Failure")
      assert.include(String(Cause.squash(exit.cause)), "offset 0: Error: nowhere")
    }))

  it("refuses an empty list of topics", () => {
    assert.throws(() => Deliver.route({ topics: [] as never, to: () => Small }), RangeError, "topics")
  })
})
