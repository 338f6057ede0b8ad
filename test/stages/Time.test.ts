/** Stream time at its edges: before there is any, on ticks of the wall clock, and where branches differ in it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Source } from "../../src/Batch.ts"
import { Aggregate, Flow, Fold, merge, type Topic, Topology, Window } from "../../src/index.ts"
import { writerHeaders } from "../../src/WriterHeaders.ts"
import { committed, run, sources } from "../support/FlowRunner.ts"
import { decoded, moved, Others, read, Readings, routed } from "../support/StageCases.ts"
import { ids } from "../support/WindowCases.ts"

const moving = moved(routed)
const via = Topology.of(moving).reads[0]!

/** A record of a repartition topic that two tasks write. */
const written = (by: number, at: number, id = `${at}`) => ({
  key: "k",
  value: JSON.stringify({ id, n: 1, at }),
  timestamp: 0,
  headers: writerHeaders(String(by), at),
})

const fromTwo = (records: ReadonlyArray<ReturnType<typeof written>>, position = 0) =>
  new Map([[via as Topic.Any, sources(via, records, [1, 2, 3, 4], { upstream: 2, position })]])

describe("branches with times of their own", () => {
  const finals = (name: string, size: number) =>
    Aggregate.count({ name, window: Window.tumbling({ size }), emit: "final" })

  it.effect("make nothing late that meets, also where a tick of the wall clock has caused it", () =>
    Effect.gen(function* () {
      const flow = decoded.pipe(
        finals("short", 10_000),
        merge(decoded.pipe(finals("long", 300_000))),
        finals("w", 1_000),
      )
      const records = [0, 15_000, 350_000, 360_000].map((at) => ({
        key: "k",
        value: JSON.stringify({ id: "k", n: 1, at }),
        timestamp: 0,
      }))
      for (const ticks of [[], [{ before: 2, silence: 20_000 }]]) {
        const { batches } = yield* run(
          flow,
          new Map([[Readings as Topic.Any, sources(Readings, records, [], { ticks })]]),
        )
        assert.deepStrictEqual(batches.flatMap(({ failed }) => failed), [])
      }
    }))
})

describe("before there is stream time", () => {
  it.effect("a count window does not time out when there is some, also after a restart", () =>
    Effect.gen(function* () {
      const window = Window.count({ size: 4, timeout: "1 minute" })
      const flow = moving.pipe(Aggregate.windowed({ name: "w", window, fold: ids, emit: "final" }))
      const records = [written(0, 500_000), written(1, 400_000), written(1, 459_999), written(1, 460_000)]
      for (const restartAfter of [0, 1, 2, 3]) {
        const before = (yield* run(flow, fromTwo(records))).batches.slice(0, restartAfter)
        const after = (yield* run(flow, fromTwo(records, restartAfter), committed(before))).batches
        // Stream time is 400,000 with the second record, and the third comes less than a minute later.
        const results = [...before, ...after].flatMap(({ values }) => values.map(({ value }) => value))
        assert.deepStrictEqual(results, [["500000=1", "400000=1", "459999=1", "460000=1"]])
      }
    }))

  it.effect("a count window behind a merge times out by its records' own times", () =>
    Effect.gen(function* () {
      const rec = (key: string, at: number) => (
        { key, value: JSON.stringify({ id: key, n: 1, at }), timestamp: at }
      )
      // The first three come before the other topic is heard.
      const given = [rec("a", 100), rec("c", 105), rec("a", 110), rec("a", 120), rec("a", 300)]
      const others = [rec("b", 115), rec("b", 290), rec("b", 400)]
      const window = Window.count({ size: 2, timeout: 100 })
      const flow = decoded.pipe(
        merge(read(Others)),
        Aggregate.windowed({ name: "w", window, fold: Fold.count, emit: { every: 100 } }),
        Flow.map(({ key, value }, { timestamp }) => `${key} ${value} at ${timestamp}`),
      )
      const inputs = new Map<Topic.Any, ReadonlyArray<Source>>([
        [Readings, sources(Readings, given, [1, 2])],
        [Others, sources(Others, others, [1, 2])],
      ])
      assert.deepStrictEqual((yield* run(flow, inputs)).batches.flatMap(({ values }) => values), [
        "a 2 at 110",
        "c 1 at 110",
        "b 2 at 120",
        "c 1 at 205",
        "a 1 at 215",
        "a 1 at 390",
      ])
    }))

  it.effect("a count window that is full is of the time of its records", () =>
    Effect.gen(function* () {
      for (const emit of ["final", "updates"] as const) {
        const flow = moving.pipe(Aggregate.windowed({ name: "w", window: Window.count({ size: 2 }), fold: ids, emit }))
        const { batches } = yield* run(flow, fromTwo([written(0, 500_000), written(0, 400_000)]))
        const times = batches.flatMap(({ values, time }) => values.map(({ final }, i) => [final, time!.timestamps[i]]))
        assert.deepStrictEqual(times, emit === "final" ? [[true, 500_000]] : [[false, 500_000], [true, 500_000]])
      }
    }))

  it.effect("a result that is emitted by periods is of the first there is", () =>
    Effect.gen(function* () {
      const flow = moving.pipe(Aggregate.running({ name: "w", fold: ids, emit: { every: "1 minute" } }))
      const { batches } = yield* run(flow, fromTwo([written(0, 500_000), written(1, 400_000)]))
      assert.deepStrictEqual(batches.flatMap(({ time }) => [...time!.timestamps]), [400_000])
    }))
})
