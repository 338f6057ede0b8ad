/** Dead letters of records that are as large as their topic allows: they fit into one that allows no more. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Buffer } from "node:buffer"
import { DeadLetter, Decode, Failures, Guarantee, Ingest, Pipeline, Topic } from "../../src/index.ts"
import { Driver } from "../../src/testing/index.ts"

const about = { owner: "tests", partitions: 1, description: "Test", maxMessageBytes: 20_000 }
const In = Topic.make({ ...about, name: "in", schema: Schema.Struct({ id: Schema.String }) })
const Dlt = Topic.bytes({ ...about, name: "dlt" })
const pipelineOf = (topic: Topic.Any) =>
  Pipeline.make(
    "letters",
    Ingest.topic(topic).pipe(Decode.schema, Failures.routeAll(DeadLetter.to(Dlt))),
    Guarantee.exactlyOnce(),
  )

const Counts = Topic.make({ ...about, name: "in", schema: Schema.Record(Schema.String, Schema.Int) })

const letterOf = (record: Driver.Bytes, topic: Topic.Any = In) =>
  Driver.run({ pipelines: pipelineOf(topic) }, (driver) =>
    Effect.gen(function* () {
      yield* driver.feedBytes(topic, [record])
      yield* driver.settle
      const [letter] = yield* driver.readBytes(Dlt)
      const headers = new Map(letter!.headers.map(([name, value]) => [name, String(value)]))
      assert.strictEqual(headers.get("millrace-reason"), "DecodeError")
      assert.strictEqual(headers.get("kafka_dlt-original-topic"), "in")
      return { key: letter!.key, value: letter!.value, headers }
    }))

describe("DeadLetter.to", () => {
  it.effect("cuts the value first", () =>
    Effect.gen(function* () {
      const { key, value, headers } = yield* letterOf({ key: "key", value: "{".repeat(19_800), headers: { own: "x" } })
      assert.strictEqual(String(key), "key")
      assert.isAbove(value!.length, 18_000)
      assert.strictEqual(headers.get("own"), "x")
      assert.strictEqual(headers.get("millrace-truncated-length"), "19800")
    }))

  it.effect("leaves out headers that do not fit, and says how many", () =>
    Effect.gen(function* () {
      const large = { before: "x", large: Buffer.alloc(19_700), after: "y" }
      const { value, headers } = yield* letterOf({ key: "key", value: "{", headers: large })
      assert.strictEqual(String(value), "{")
      assert.deepStrictEqual([headers.get("before"), headers.get("large"), headers.get("after")], ["x", undefined, "y"])
      assert.strictEqual(headers.get("millrace-truncated-headers"), "1")
      const many = Object.fromEntries(Array.from({ length: 1_400 }, (_, i) => [`h${i}`, "x"]))
      const letter = yield* letterOf({ key: "key", value: "{", headers: many })
      assert.strictEqual(letter.headers.get("h0"), "x")
      assert.isAbove(Number(letter.headers.get("millrace-truncated-headers")), 0)
    }))

  it.effect("cuts the key last", () =>
    Effect.gen(function* () {
      const { key, headers } = yield* letterOf({ key: Buffer.alloc(19_800, "k"), value: "{" })
      assert.isAbove(key!.length, 18_000)
      assert.strictEqual(headers.get("millrace-truncated-key-length"), "19800")
    }))

  it.effect("cuts the path of a field that a record has named itself", () =>
    Effect.gen(function* () {
      const named = JSON.stringify({ ["n".repeat(19_800)]: "none" })
      const { value, headers } = yield* letterOf({ key: "key", value: named }, Counts)
      assert.strictEqual(headers.get("millrace-field"), "n".repeat(4_096))
      assert.isAbove(value!.length, 10_000)
    }))
})
