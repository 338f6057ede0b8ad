import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Logger, Metric, Schema } from "effect"
import { Aggregate, Decode, Deduplicate, Flow, Ingest, merge, Topic, Window } from "../../src/index.ts"
import type { Batch, Source } from "../../src/Batch.ts"
import { committed, run, sources, type Start, type Tick } from "../support/FlowRunner.ts"
import { forSeeds } from "../support/Seeds.ts"

const common = { description: "Test input", owner: "tests", partitions: 1 }
const topic = (name: string) => Topic.make({ ...common, name, schema: Schema.String })
const Ids = topic("ids")
const Others = topic("others")

const hour = 3_600_000

const seen = Deduplicate.by({ name: "seen", id: (id: string) => id })
const record = (id: string) => ({ key: id, value: JSON.stringify(id), timestamp: hour })

/** Which of the records, given as id and hour of arrival, go on. */
const kept = (records: ReadonlyArray<readonly [id: string, at: number]>, options?: { readonly atMost?: number }) =>
  Effect.gen(function* () {
    const flow = Ingest.topic(Ids).pipe(
      Decode.schema,
      Deduplicate.by({ name: "seen", id: (id) => id, window: "24 hours", ...options }),
    )
    const all = records.map(([id, at]) => ({ key: id, value: JSON.stringify(id), timestamp: at * hour }))
    const { batches } = yield* run(flow, new Map([[Ids as Topic.Any, sources(Ids, all, [])]]))
    return batches.flatMap((batch) => Array.from(batch.rows ?? batch.values.map((_, i) => i)))
  })

describe("Deduplicate", () => {
  it.effect("drops a repeat within the window and lets it through after the window and one step of it", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* kept([["a", 100], ["a", 100], ["b", 101], ["a", 124]]), [0, 2])
      assert.deepStrictEqual(yield* kept([["a", 100], ["b", 125], ["a", 125]]), [0, 1, 2])
    }))

  it.effect("measures the window by the latest arrival, so that an older arrival changes nothing", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* kept([["a", 100], ["b", 120], ["c", 90], ["a", 91]]), [0, 1, 2])
    }))

  const warnings: Array<string> = []
  const logger = Logger.make(({ logLevel }) => warnings.push(logLevel))

  it.effect("forgets the oldest ids beyond the cap, counts them, and warns once", () =>
    Effect.gen(function* () {
      const before = (yield* Metric.value(Metric.withAttributes(Deduplicate.forgotten, { store: "seen" }))).count
      assert.deepStrictEqual(
        yield* kept([["a", 1], ["b", 1], ["c", 1], ["b", 1], ["c", 1], ["a", 1]], { atMost: 2 }),
        [0, 1, 2, 5],
      )
      yield* kept([["a", 1], ["b", 1], ["c", 1]], { atMost: 2 })
      const after = (yield* Metric.value(Metric.withAttributes(Deduplicate.forgotten, { store: "seen" }))).count
      assert.strictEqual(Number(after) - Number(before), 3)
      assert.deepStrictEqual(warnings, ["Warn"])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()), Effect.provide(Logger.layer([logger]))))

  it.effect("takes records of two topics apart that have the same offset", () =>
    Effect.gen(function* () {
      const flow = Ingest.topic(Ids).pipe(Decode.schema, merge(Ingest.topic(Others).pipe(Decode.schema)), seen)
      const { batches } = yield* run(
        flow,
        new Map([
          [Ids as Topic.Any, sources(Ids, [record("a")], [])],
          [Others as Topic.Any, sources(Others, [record("a")], [])],
        ]),
      )
      assert.deepStrictEqual(batches.flatMap(({ values }) => values), ["a"])
      assert.deepStrictEqual(batches.flatMap(({ dropped }) => dropped.map(({ reason }) => reason)), ["repeat"])
    }))

  it.effect("forgets the oldest of two topics, also after it was restored", () =>
    Effect.gen(function* () {
      const few = Deduplicate.by({ name: "seen", id: (id: string) => id, atMost: 2 })
      const flow = Ingest.topic(Ids).pipe(Decode.schema, merge(Ingest.topic(Others).pipe(Decode.schema)), few)
      const from = (start: Start) => {
        const input = (topic: typeof Ids, given: ReadonlyArray<readonly [id: string, at: number]>) => {
          const records = given.map(([id, timestamp]) => ({ ...record(id), timestamp }))
          return [topic, sources(topic, records, [1, 2, 3], { position: start.positions.get(topic) ?? 0 })] as const
        }
        return run(
          flow,
          new Map([
            input(Ids, [["x", 1], ["a", 2], ["c", 4], ["b", 5], ["a", 6]]),
            input(Others, [["b", 3], ["end", 7]]),
          ]),
          start,
        )
      }
      const { batches } = yield* from(committed([]))
      const values = (all: typeof batches) => all.flatMap(({ values }) => values)
      assert.deepStrictEqual(values(batches), ["x", "a", "b", "c", "a", "end"])
      const before = batches.slice(0, 3)
      const after = yield* from(committed(before))
      assert.deepStrictEqual(values([...before, ...after.batches]), values(batches))
    }))

  it.effect("drops an id that one record brings twice", () =>
    Effect.gen(function* () {
      const flow = Ingest.topic(Ids).pipe(Decode.schema, Flow.flatMap((id) => [id, id]), seen)
      const { batches } = yield* run(flow, new Map([[Ids as Topic.Any, sources(Ids, [record("a")], [])]]))
      assert.deepStrictEqual(batches.flatMap(({ values }) => values), ["a"])
    }))

  it.effect("remembers the same ids after it was restored", () =>
    forSeeds(100, (dice) =>
      Effect.gen(function* () {
        const all = dice.list(2, 40, () => record(String(dice.int(0, 6))))
        const cut = dice.int(1, all.length - 1)
        const flow = Ingest.topic(Ids).pipe(
          Decode.schema,
          Deduplicate.by({ name: "seen", id: (id: string) => id, atMost: 3 }),
        )
        const inputs = sources(Ids, all, dice.list(0, 5, () => dice.int(1, 40)).concat(cut))
        const part = (is: (source: Source) => boolean, start?: Start) =>
          Effect.map(run(flow, new Map([[Ids as Topic.Any, inputs.filter(is)]]), start), (ran) => ({
            ...ran,
            values: ran.batches.flatMap(({ values }) => values),
          }))
        const whole = yield* part(() => true)
        const before = yield* part(({ next }) => next <= cut)
        const after = yield* part(({ next }) => next > cut, committed(before.batches))
        assert.deepStrictEqual([...before.values, ...after.values], whole.values)
      })))

  it.effect("takes results that a tick of the wall clock has caused like any others", () =>
    Effect.gen(function* () {
      const Times = Topic.make({
        name: "times",
        description: "Test input",
        owner: "tests",
        schema: Schema.Int,
        eventTime: (at: number) => at,
        partitions: 1,
      })
      const flow = Ingest.topic(Times).pipe(
        Decode.schema,
        Aggregate.count({ name: "tens", window: Window.tumbling({ size: 10_000 }), emit: "final" }),
        Deduplicate.by({ name: "seen", id: ({ value }) => String(value), window: "1 hour" }),
      )
      const records = [1_000, 2_000, 101_000, 131_000, 132_000].map((at) => ({
        key: "k",
        value: String(at),
        timestamp: at,
      }))
      // One window closes by a tick, the next by a record, and the last by a tick again: counts of 2, 1 and 2.
      const ticks = [{ before: 2, silence: 60_000 }, { before: 5, silence: 60_000 }]
      const { batches } = yield* run(flow, new Map([[Times as Topic.Any, sources(Times, records, [], { ticks })]]))

      const passed = batches.map(({ source, values }) => [source.length, values.map(({ value }) => value)])
      assert.deepStrictEqual(passed, [[2, []], [0, [2]], [3, [1]], [0, []]])
      assert.deepStrictEqual(batches.at(-1)!.dropped.map(({ reason }) => reason), ["repeat"])
      const times = batches.flatMap(({ changes }) => changes.filter(({ store }) => store === "seen"))
      assert.deepStrictEqual(times.map(({ streamTime }) => streamTime), [0, 131_000])
    }))

  it("refuses options that make no sense", () => {
    const by = (options: Partial<Deduplicate.Options<string>>) => () =>
      Deduplicate.by({ name: "seen", id: (id: string) => id, ...options })
    assert.throws(by({ window: 0 }), RangeError, "Deduplicate.by: window")
    assert.throws(by({ window: Duration.infinity }), RangeError, "window")
    for (const atMost of [0, 1.5, NaN]) assert.throws(by({ atMost }), RangeError, "atMost")
  })

  it.effect("logs any number of ids in entries that a topic takes", () =>
    Effect.gen(function* () {
      const all = Array.from({ length: 30_000 }, (_, i) => record(`id-${i}`))
      const flow = Ingest.topic(Ids).pipe(Decode.schema, seen)
      const { batches } = yield* run(flow, new Map([[Ids as Topic.Any, sources(Ids, all, [])]]))
      const entries = batches.flatMap(({ changes }) =>
        changes.flatMap(({ entries, encode }) => Array.from(entries, ([, value]) => encode(value).length))
      )
      assert.isAbove(entries.length, 1)
      assert.isBelow(Math.max(...entries), 150_000)
    }))

  it.effect("keeps the ids of small batches together, and leaves alone what was logged of them", () =>
    Effect.gen(function* () {
      const all = Array.from({ length: 100 }, (_, i) => record(`id-${i % 90}`))
      const flow = Ingest.topic(Ids).pipe(Decode.schema, seen)
      const from = (position = 0, start?: Start) =>
        run(flow, new Map([[Ids as Topic.Any, sources(Ids, all, all.map((_, i) => i), { position })]]), start)
      const { batches, stores } = yield* from()
      assert.strictEqual(stores.get("seen")!.size, 3)
      for (const restartAfter of [1, 31, 32, 33, 64, 95]) {
        const before = batches.slice(0, restartAfter)
        const after = (yield* from(restartAfter, committed(before))).batches
        const rows = [...before, ...after].flatMap(({ source, values }) => values.map(() => source.offsets[0]))
        assert.deepStrictEqual(rows, Array.from({ length: 90 }, (_, i) => i))
        // Under at-least-once state may be ahead: what is read again is not its own repetition, and the rest is.
        const again = (yield* from(0, { ...committed(before), positions: new Map() })).batches
        assert.strictEqual(again.flatMap(({ values }) => values).length, 90)
      }
    }))

  it.effect("remembers what was logged before entries were counted, under keys of steps, topics and offsets", () =>
    Effect.gen(function* () {
      const all = ["a", "b", "a", "c"].map((id) => ({ ...record(id), timestamp: 100 * hour }))
      const flow = Ingest.topic(Ids).pipe(Decode.schema, seen)
      const from = (position: number, start?: Start) =>
        run(flow, new Map([[Ids as Topic.Any, sources(Ids, all, [1, 2], { position })]]), start)
      const before = committed((yield* from(0)).batches.slice(0, 2))
      const { streamTime, entries } = before.stores.get("seen")!
      const [ids] = [...entries.values()]
      const old = new Map([["100:ids:0:0", ids!]])
      const { batches, stores } = yield* from(2, {
        ...before,
        stores: new Map([["seen", { streamTime, entries: old }]]),
      })
      assert.deepStrictEqual(batches.flatMap(({ values }) => values), ["c"])
      assert.strictEqual(stores.get("seen")!.size, 1)
    }))

  it.effect("remembers by another window from where the program changes it, what it knows already too", () =>
    Effect.gen(function* () {
      const until = (records: ReadonlyArray<readonly [id: string, at: number]>, windows: ReadonlyArray<string>) =>
        Effect.gen(function* () {
          const all = records.map(([id, at]) => ({ key: id, value: JSON.stringify(id), timestamp: at * hour }))
          const done: Array<Batch<string, unknown>> = []
          let held = 0
          for (const [n, window] of windows.entries()) {
            const dedupe = Deduplicate.by({ name: "seen", id: (id: string) => id, window: window as Duration.Input })
            const flow = Ingest.topic(Ids).pipe(Decode.schema, dedupe)
            const cuts = [(n + 1) * all.length / windows.length]
            const input = sources(Ids, all, cuts, { position: n * all.length / windows.length })
            const { batches, stores } = yield* run(
              flow,
              new Map([[Ids as Topic.Any, input.slice(0, 1)]]),
              committed(done),
            )
            done.push(...batches)
            held = stores.get("seen")!.size
          }
          return [done.flatMap(({ source, values }) => values.map((id) => `${id} ${source.next}`)), held] as const
        })
      // An hour after the window became an hour, and not before, ids are forgotten.
      assert.deepStrictEqual(
        yield* until([["a", 99.9], ["b", 99.95], ["a", 100.5], ["b", 102]], ["24 hours", "1 hour"]),
        [["a 2", "b 2", "b 4"], 1],
      )
      // What is forgotten by the longer window goes, and nothing stays for ever.
      assert.deepStrictEqual(
        yield* until([["a", 100], ["b", 100.5], ["a", 101.9], ["c", 150]], ["1 hour", "24 hours"]),
        [["a 2", "b 2", "c 4"], 1],
      )
    }))

  describe("of what ticks of the wall clock have caused", () => {
    const Times = Topic.make({ ...common, name: "times", schema: Schema.Int, eventTime: (at: number) => at })
    /** Windows of one second, of which the second one of a parity is a repeat. */
    const flow = Ingest.topic(Times).pipe(
      Decode.schema,
      Aggregate.count({ name: "w", window: Window.tumbling({ size: 1_000, grace: 2_000 }), emit: "final" }),
      Flow.map(({ start }) => start / 1_000),
      Deduplicate.by({ name: "seen", id: (second) => String(second % 2) }),
    )
    const through = (times: ReadonlyArray<number>, ticks: ReadonlyArray<Tick>, restartAfter: number) =>
      Effect.gen(function* () {
        const all = times.map((at) => ({ key: "k", value: String(at), timestamp: hour }))
        const from = (ticks: ReadonlyArray<Tick>, position = 0, start?: Start) =>
          run(flow, new Map([[Times as Topic.Any, sources(Times, all, [1, 2, 3], { position, ticks })]]), start)
        const before = (yield* from(ticks)).batches.slice(0, restartAfter)
        const done = before.filter(({ source }) => source.silence !== undefined).length
        const after = yield* from(ticks.slice(done), before.at(-1)?.source.next ?? 0, committed(before))
        return [...before, ...after.batches].flatMap(({ values }) => values)
      })

    for (const restartAfter of [0, 1, 2, 3, 4]) {
      it.effect(`the next record is no repetition of itself, restarted after ${restartAfter} batches`, () =>
        Effect.gen(function* () {
          // The window of 1 closes with the tick, that of 3 with the record after it.
          const seconds = yield* through([1_000, 3_500, 6_000], [{ before: 2, silence: 500 }], restartAfter)
          assert.deepStrictEqual(seconds, [1])
        }))

      it.effect(`each of them is remembered, restarted after ${restartAfter} batches`, () =>
        Effect.gen(function* () {
          // The first tick closes the window of 1, the second that of 2.
          const ticks = [{ before: 2, silence: 1_500 }, { before: 2, silence: 1_000 }]
          const seconds = yield* through([1_000, 2_500, 3_500, 6_000], ticks, restartAfter)
          assert.deepStrictEqual(seconds, [1, 2])
        }))
    }
  })
})
