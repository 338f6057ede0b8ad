import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Lag from "../../../src/clickstream/dashboard/Lag.ts"
import { Admin, Kafka, KafkaMemory } from "../../../src/index.ts"
import { topics } from "../../../schemas/index.ts"

const lag = (records: number | null, state: Lag.Lag["state"] = "steady"): ReadonlyArray<Lag.Lag> => [
  { step: "Count", topic: "clicks", records, state },
]

/** The state after readings five seconds apart. */
const stateAfter = (...readings: ReadonlyArray<number>) => {
  const watch = Lag.watch()
  return readings.map((records, i) => watch(i * 5_000, lag(records))[0]!.state).at(-1)
}

describe("Lag", () => {
  it("grows when it has for half a minute, and not when it only goes up and down", () => {
    assert.strictEqual(stateAfter(1, 100, 200, 300, 400, 500), "steady")
    assert.strictEqual(stateAfter(1, 100, 200, 300, 400, 500, 600), "growing")
    assert.strictEqual(stateAfter(10, 80, 20, 70, 10, 90, 20), "steady")
    assert.strictEqual(stateAfter(0, 0, 0, 0, 0, 0, 0), "steady")
    assert.strictEqual(stateAfter(1, 100, 200, 300, 400, 500, 600, 50), "steady")
    const watch = Lag.watch()
    watch(0, lag(10))
    assert.strictEqual(watch(60_000, lag(20))[0]!.state, "steady", "nobody looked in between")
    assert.strictEqual(watch(65_000, lag(30, "stopped"))[0]!.state, "stopped")
  })

  it.effect("names every step in the order of the flow, those that never ran as well", () =>
    Effect.gen(function* () {
      const { raw, enriched } = topics()
      yield* Admin.createTopics([raw, enriched])
      const cluster = yield* Kafka.Cluster
      yield* cluster.offsetCommit({ group: "clickstream-count", memberId: "", generation: -1 }, [
        { topic: enriched.name, partition: 0, offset: 0, metadata: "" },
      ])
      const lags = yield* Lag.read("")
      assert.deepStrictEqual(lags.map(({ step, topic, records }) => [step, topic, records]), [
        ["Enrich", "user.clicks.raw", null],
        ["Count", "user.clicks.enriched", 0],
        ["Store clicks", "user.clicks.enriched", null],
        ["Store counts", "user.clicks.aggregates", null],
        ["Store sessions", "user.sessions", null],
        ["Store identities", "user.identities", null],
        ["Store dead letters", "user.clicks.dlt", null],
        ["Store late clicks", "user.clicks.late", null],
      ])
      assert.isTrue(lags.every(({ state }) => state === "stopped"))
    }).pipe(Effect.provide(KafkaMemory.layer())))
})
