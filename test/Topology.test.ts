import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  Aggregate,
  DeadLetter,
  Decode,
  Failures,
  Flow,
  Fold,
  Guarantee,
  Ingest,
  merge,
  Pipeline,
  repartition,
  Retry,
  Task,
  Topology,
} from "../src/index.ts"
import { Dlt, Reading, readings } from "./support/Readings.ts"

const [In, Other] = [readings("in", 1), readings("other", 1)]

const decoded = (topic: typeof In) => Ingest.topic(topic).pipe(Decode.schema, Failures.routeAll(DeadLetter.to(Dlt)))

const refusal = (make: () => unknown): Task.PipelineError => {
  try {
    make()
  } catch (error) {
    assert.instanceOf(error, Task.PipelineError)
    return error
  }
  assert.fail("it was not refused")
}

describe("Pipeline.make", () => {
  it("refuses to read one topic twice, and reads a flow that is used twice once", () => {
    const { reason, message } = refusal(() =>
      Pipeline.make("p", decoded(In).pipe(merge(decoded(In))), Guarantee.exactlyOnce())
    )
    assert.strictEqual(reason, "Definition")
    assert.match(message, /^pipeline p reads topic in twice/)
    const flow = decoded(In)
    const once = Pipeline.make(
      "p",
      flow.pipe(merge(flow.pipe(Flow.map((reading) => reading)))),
      Guarantee.exactlyOnce(),
    )
    assert.deepStrictEqual(Pipeline.plan(once).flows.flatMap(({ reads }) => reads.map(({ name }) => name)), ["in"])
  })

  it("refuses two stores of one name", () => {
    const count = Aggregate.running({ name: "n", fold: Fold.count })
    const { reason, message } = refusal(() =>
      Pipeline.make(
        "p",
        decoded(In).pipe(merge(decoded(Other)), count, count, Failures.routeAll(DeadLetter.to(Dlt))),
        Guarantee.exactlyOnce(),
      )
    )
    assert.strictEqual(reason, "Definition")
    assert.match(message, /^pipeline p has two stores named n/)
  })
})

describe("Topology.topics", () => {
  it("are all that the parts of a flow read and write, each once", () => {
    const between = readings("between", 1)
    const again = Retry.topics({ name: "ask", of: between, value: Reading, delays: ["1 second"], order: "kept" })
    const flow = decoded(In).pipe(
      merge(decoded(Other)),
      repartition(between, { undeliverable: DeadLetter.to(Dlt) }),
      Failures.handle(
        { name: "ask" },
        Flow.effect((reading: Reading) => Effect.succeed(reading), { timeout: "1 second" }),
        {
          TimedOut: Failures.later(again),
        },
      ),
      Failures.routeAll(DeadLetter.to(Dlt)),
    )
    const names = Topology.topics(flow).map(({ name }) => name)
    assert.deepStrictEqual(
      names.toSorted(),
      ["between", "dlt", "in", "other", ...again.topics.map(({ name }) => name)].toSorted(),
    )
    assert.isTrue(names.indexOf("in") < names.indexOf("between"), "feeds first")
  })
})
