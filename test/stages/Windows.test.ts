import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { Aggregate, Decode, Fold, Ingest, type Topic, Window } from "../../src/index.ts"
import { committed, run, sources } from "../support/FlowRunner.ts"
import { batches, Events, ids, type Options, type Records, times, windowed } from "../support/Windowing.ts"

/** The same with every cut into two, and a new start between them. */
const however = (records: Records, options: Options) =>
  Effect.gen(function* () {
    const whole = yield* windowed(records, options)
    for (let cut = 1; cut < records.length; cut++) {
      const cuts = [...options.cuts ?? [], cut]
      assert.deepStrictEqual(yield* windowed(records, { ...options, cuts }), whole, `cut at ${cut}`)
      const restarted = yield* windowed(records, { ...options, cuts: [cut], restartAfter: 1 })
      assert.deepStrictEqual(restarted, whole, `begun anew at ${cut}`)
    }
    return whole
  })

describe("emission by periods of stream time", () => {
  const window = Window.tumbling({ size: 100, grace: 50 })

  it.effect("emits what has changed whenever stream time passes a multiple, each result once and in order", () =>
    Effect.gen(function* () {
      const { emitted } = yield* however(
        [["b", 1], ["a", 2], ["a", 19], ["c", 20], ["a", 39], ["a", 40], ["b", 100], ["b", 119]],
        { window, emit: { every: 20 } },
      )
      assert.deepStrictEqual(emitted, [
        "a 0..100 1 2",
        "b 0..100 0",
        "a 0..100 1 2 4",
        "c 0..100 3",
        "a 0..100 1 2 4 5",
      ])
    }))

  it.effect("emits a window that closes as final alone", () =>
    Effect.gen(function* () {
      const { emitted } = yield* however([["a", 0], ["b", 149], ["c", 150]], { window, emit: { every: 75 } })
      assert.deepStrictEqual(emitted, ["a 0..100 0", "a 0..100 0!", "b 100..200 1"])
    }))

  it.effect("emits once where stream time passes many multiples at once", () =>
    Effect.gen(function* () {
      const { emitted } = yield* however([["a", 0], ["b", 99], ["b", 100]], { window, emit: { every: 1 } })
      assert.deepStrictEqual(emitted, ["a 0..100 0", "b 0..100 1"])
    }))

  it.effect("takes the time of a change for when it came, not for what it is of", () =>
    Effect.gen(function* () {
      const { emitted } = yield* however([["a", 119], ["a", 90], ["b", 119], ["c", 120]], {
        window,
        emit: { every: 60 },
      })
      assert.deepStrictEqual(emitted, ["a 0..100 1", "a 100..200 0", "b 100..200 2"])
    }))

  it("refuses periods that make no sense", () => {
    for (const every of [0, 0.5, Infinity]) {
      assert.throws(() => Aggregate.count({ name: "c", window, emit: { every } }), RangeError, "milliseconds")
    }
  })
})

describe("sliding windows", () => {
  const window = Window.sliding({ difference: 10, grace: 5 })

  it.effect("hold what is exactly the difference apart, at both ends", () =>
    Effect.gen(function* () {
      const { emitted } = yield* however([["a", 10], ["a", 20], ["b", 100]], { window })
      assert.deepStrictEqual(emitted, ["a 0..10 0!", "a 10..20 0 1!", "a 11..21 1!"])
      const apart = yield* however([["a", 10], ["a", 21], ["b", 100]], { window })
      assert.deepStrictEqual(apart.emitted, ["a 0..10 0!", "a 11..21 1!"])
    }))

  it.effect("are the windows of KIP-450's example: each once that differs in what it holds", () =>
    Effect.gen(function* () {
      const { emitted } = yield* however([["a", 8], ["a", 9], ["a", 12], ["b", 100]], {
        window: Window.sliding({ difference: 10 }),
      })
      assert.deepStrictEqual(emitted, [
        "a -2..8 0!",
        "a -1..9 0 1!",
        "a 2..12 0 1 2!",
        "a 9..19 1 2!",
        "a 10..20 2!",
      ])
    }))

  it.effect("come to the same when their records come out of order within grace", () =>
    Effect.gen(function* () {
      const inOrder = yield* windowed([["a", 8], ["a", 9], ["a", 12], ["b", 100]], { window })
      const shuffled = yield* however([["a", 12], ["a", 9], ["a", 8], ["b", 100]], { window })
      const named = (of: string) => of.replaceAll("2", "x").replaceAll("0", "2").replaceAll("x", "0")
      assert.deepStrictEqual(shuffled.emitted.length, inOrder.emitted.length)
      assert.deepStrictEqual(
        shuffled.emitted.map((one) => named(one.split(" ").slice(2).join(" "))),
        inOrder.emitted.map((one) => one.split(" ").slice(2).join(" ")),
      )
    }))

  it.effect("count records of one time together", () =>
    Effect.gen(function* () {
      const { emitted, kept } = yield* however([["a", 5], ["a", 5], ["b", 5], ["b", 21]], { window })
      assert.deepStrictEqual(emitted, ["a -5..5 0 1!", "b -5..5 2!"])
      assert.strictEqual(kept, 3)
    }))

  it.effect("close when stream time is later than their end by more than grace", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* however([["a", 5], ["b", 10]], { window })).emitted, [])
      assert.deepStrictEqual((yield* however([["a", 5], ["b", 11]], { window })).emitted, ["a -5..5 0!"])
    }))

  it.effect("say which record is in none of them any more, and which only in some", () =>
    Effect.gen(function* () {
      const { emitted, failed } = yield* however([["b", 30], ["a", 14], ["a", 15], ["a", 25], ["a", 20], ["b", 99]], {
        window,
      })
      assert.deepStrictEqual(failed, ["1 Late 24", "2 Late 15 partly", "4 Late 20 partly"])
      assert.deepStrictEqual(emitted, [
        "a 15..25 2 4 3!",
        "a 16..26 4 3!",
        "b 20..30 0!",
        "a 21..31 3!",
      ])
    }))

  it.effect("fail a record without a key, and keep nothing of what has closed", () =>
    Effect.gen(function* () {
      const { failed, kept } = yield* however([["a", 0], [null, 1], ["b", 1_000]], { window })
      assert.deepStrictEqual(failed, ["1 Keyless"])
      assert.strictEqual(kept, 1)
    }))

  it.effect("emit with updates those that a record has changed or made, and no others", () =>
    Effect.gen(function* () {
      const { batches: all } = yield* batches([["a", 0], ["a", 20], ["a", 5], ["a", 30]], {
        window: Window.sliding({ difference: 10, grace: 100 }),
        emit: "updates",
        cuts: [1, 2, 3],
      })
      assert.deepStrictEqual(
        all.map(({ values }) => values.map(({ start, end, value }) => `${start}..${end} ${value.join(" ")}`)),
        [["-10..0 0"], ["10..20 1"], ["-5..5 0 2", "1..11 2"], ["20..30 1 3", "21..31 3"]],
      )
    }))

  it.effect("are of the time of their end, and nothing later is earlier than the clock beside them", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* times([["a", 8], ["b", 9], ["a", 60]], { window }), [
        ["a", 8, 8],
        ["b", 9, 9],
      ])
    }))

  it.effect("change one entry of the log for a record, however many windows it is in", () =>
    Effect.gen(function* () {
      const records = Array.from({ length: 50 }, (_, i): readonly ["a", number] => ["a", i])
      const { batches: all } = yield* batches(records, { window: Window.sliding({ difference: 100 }), cuts: [49] })
      assert.deepStrictEqual(all.map(({ changes }) => changes.map(({ entries }) => entries.size)), [[49], [1]])
    }))
})

describe("session windows", () => {
  const window = Window.session({ gap: 10, grace: 5 })

  it.effect("hold records that are exactly one gap apart, and part those that are more", () =>
    Effect.gen(function* () {
      const { emitted } = yield* however([["a", 0], ["a", 10], ["a", 21], ["b", 100]], { window })
      assert.deepStrictEqual(emitted, ["a 0..10 0 1!", "a 21..21 2!"])
    }))

  it.effect("close when stream time is later than their last record by more than gap and grace", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* however([["a", 0], ["b", 15]], { window })).emitted, [])
      assert.deepStrictEqual((yield* however([["a", 0], ["b", 16]], { window })).emitted, ["a 0..0 0!"])
    }))

  it.effect("grow together where a record comes between them", () =>
    Effect.gen(function* () {
      const { emitted, kept } = yield* however([["a", 0], ["a", 14], ["a", 7], ["a", 7], ["b", 100]], { window })
      assert.deepStrictEqual(emitted, ["a 0..14 0 1 2 3!"])
      assert.strictEqual(kept, 1)
    }))

  it.effect("take a record that is late by itself where it falls into one that is open", () =>
    Effect.gen(function* () {
      const { emitted, failed } = yield* however(
        [["a", 20], ["a", 30], ["a", 40], ["a", 25], ["a", 24], ["a", 19], ["b", 35], ["b", 24], ["b", 100]],
        { window },
      )
      assert.deepStrictEqual(failed, ["5 Late 19", "7 Late 24"])
      assert.deepStrictEqual(emitted, ["b 35..35 6!", "a 20..40 0 1 2 3 4!"])
    }))

  it.effect("begin where stream time has just not closed them", () =>
    Effect.gen(function* () {
      const { failed, kept } = yield* however([["b", 100], ["a", 84], ["a", 85]], { window })
      assert.deepStrictEqual(failed, ["1 Late 84"])
      assert.strictEqual(kept, 2)
    }))

  it.effect("retract with updates what a new start or a merge has made another session", () =>
    Effect.gen(function* () {
      const { emitted } = yield* windowed([["a", 10], ["a", 25], ["a", 18], ["a", 5], ["a", 6]], {
        window: Window.session({ gap: 10, grace: 20 }),
        emit: "updates",
        cuts: [1, 2, 3, 4],
      })
      assert.deepStrictEqual(emitted, [
        "a 10..10 0",
        "a 25..25 1",
        "-a 25..25 1",
        "a 10..25 0 1 2",
        "-a 10..25 0 1 2",
        "a 5..25 0 1 2 3",
        "a 5..25 0 1 2 3 4",
      ])
    }))

  it.effect("tell of a session once per batch, and of one that has closed only as final", () =>
    Effect.gen(function* () {
      const { emitted } = yield* windowed([["a", 0], ["a", 1], ["b", 5], ["b", 50]], { window, emit: "updates" })
      assert.deepStrictEqual(emitted, ["a 0..1 0 1!", "b 5..5 2!", "b 50..50 3"])
    }))

  it.effect("retract by periods only what was emitted", () =>
    Effect.gen(function* () {
      const { emitted } = yield* however(
        [["a", 10], ["a", 14], ["b", 15], ["a", 5], ["a", 21], ["b", 30], ["b", 90]],
        { window, emit: { every: 15 } },
      )
      assert.deepStrictEqual(emitted, [
        "a 10..14 0 1",
        "a 5..21 0 1 3 4",
        "-a 10..14 0 1",
        "b 15..15 2",
        "b 15..15 2!",
        "a 5..21 0 1 3 4!",
        "b 30..30 5!",
      ])
      const unseen = yield* however([["a", 10], ["a", 5], ["b", 15], ["b", 90]], { window, emit: { every: 15 } })
      assert.deepStrictEqual(unseen.emitted, ["a 5..10 0 1", "a 5..10 0 1!", "b 15..15 2!"])
    }))

  it.effect("fail a record without a key", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* however([[null, 1], ["a", 2]], { window })).failed, ["0 Keyless"])
    }))

  it.effect("are of the time of their last record", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* times([["a", 0], ["b", 4], ["a", 8], ["c", 100]], { window }), [
        ["b", 4, 4],
        ["a", 8, 8],
      ])
    }))

  it.effect("cost a key with many records no more deadlines than it has sessions", () =>
    Effect.gen(function* () {
      const records = Array.from({ length: 2_000 }, (_, i): readonly [string, number] => ["a", i * 7])
      const { emitted, kept } = yield* windowed([...records, ["b", 100_000]], { window })
      assert.strictEqual(emitted.length, 1)
      assert.strictEqual(kept, 1)
    }))
})

describe("count windows", () => {
  it.effect("close when they are full, whatever the times of their records", () =>
    Effect.gen(function* () {
      const { emitted, failed } = yield* however(
        [["a", 50], ["b", 1], ["a", 10], ["a", 90], ["a", 5], ["b", 2]],
        { window: Window.count({ size: 2 }) },
      )
      assert.deepStrictEqual(emitted, ["a 10..50 0 2!", "a 5..90 3 4!", "b 1..2 1 5!"])
      assert.deepStrictEqual(failed, [])
    }))

  it.effect("overlap where they begin more often than they are long", () =>
    Effect.gen(function* () {
      const records = Array.from({ length: 7 }, (_, i): readonly [string, number] => ["a", i])
      const { emitted } = yield* however(records, { window: Window.count({ size: 4, every: 1 }) })
      assert.deepStrictEqual(emitted, ["a 0..3 0 1 2 3!", "a 1..4 1 2 3 4!", "a 2..5 2 3 4 5!", "a 3..6 3 4 5 6!"])
    }))

  it.effect("of one record emit every record", () =>
    Effect.gen(function* () {
      const { emitted } = yield* however([["a", 1], ["a", 0]], { window: Window.count({ size: 1 }) })
      assert.deepStrictEqual(emitted, ["a 1..1 0!", "a 0..0 1!"])
    }))

  it.effect("have numbers and say how full they are", () =>
    Effect.gen(function* () {
      const { batches: all } = yield* batches([["a", 1], ["a", 2], ["a", 3]], {
        window: Window.count({ size: 2 }),
        emit: "updates",
      })
      assert.deepStrictEqual(
        all.flatMap(({ values }) => values.map(({ number, count, final }) => ({ number, count, final }))),
        [{ number: 0, count: 2, final: true }, { number: 1, count: 1, final: false }],
      )
    }))

  it.effect("close as they are once their key has been silent for the timeout, which is then forgotten", () =>
    Effect.gen(function* () {
      const window = Window.count({ size: 3, timeout: 10 })
      const { emitted, kept } = yield* however(
        [["a", 0], ["a", 9], ["b", 18], ["b", 19], ["a", 20], ["b", 28], ["b", 100]],
        { window },
      )
      assert.deepStrictEqual(emitted, ["a 0..9 0 1!", "b 18..28 2 3 5!", "a 20..20 4!"])
      assert.strictEqual(kept, 1)
    }))

  it.effect("are of the stream time at which they close", () =>
    Effect.gen(function* () {
      const window = Window.count({ size: 2, timeout: 10 })
      assert.deepStrictEqual(yield* times([["a", 50], ["a", 3], ["b", 52], ["c", 90]], { window }), [
        ["a", 50, 50],
        ["b", 62, 62],
      ])
    }))

  it.effect("fail a record without a key", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* however([[null, 1]], { window: Window.count({ size: 1 }) })).failed, ["0 Keyless"])
    }))
})

describe("windows", () => {
  const bad: Readonly<Record<string, () => unknown>> = {
    "a size of nothing": () => Window.tumbling({ size: 0 }),
    "a size of half a millisecond": () => Window.tumbling({ size: 0.5 }),
    "a size without end": () => Window.tumbling({ size: Infinity }),
    "a size that is no number": () => Window.tumbling({ size: NaN }),
    "a grace without end": () => Window.tumbling({ size: 1, grace: "Infinity" }),
    "a grace of half a millisecond": () => Window.session({ gap: 1, grace: 0.5 }),
    "a negative grace": () => Window.sliding({ difference: 1, grace: -5 }),
    "a step of nothing": () => Window.hopping({ size: 10, every: 0 }),
    "a step that is longer than the window": () => Window.hopping({ size: 10, every: 11 }),
    "a step that is far too short": () => Window.hopping({ size: "1 day", every: "1 second" }),
    "a count of windows that nobody can keep": () => Window.count({ size: 1_000_000, every: 1 }),
    "a difference of nothing": () => Window.sliding({ difference: 0 }),
    "a difference without end": () => Window.sliding({ difference: Duration.infinity }),
    "a gap of nothing": () => Window.session({ gap: 0 }),
    "no records": () => Window.count({ size: 0 }),
    "half a record": () => Window.count({ size: 1.5 }),
    "records without end": () => Window.count({ size: Infinity }),
    "a step of no records": () => Window.count({ size: 2, every: 0 }),
    "a step of more records than a window has": () => Window.count({ size: 2, every: 3 }),
    "a timeout of nothing": () => Window.count({ size: 2, timeout: 0 }),
    "a running fold that is final": () =>
      Aggregate.running({ name: "r", fold: Fold.count, emit: "final" as Exclude<Aggregate.Emit, "final"> }),
  }
  for (const [name, make] of Object.entries(bad)) {
    it(`are refused when they are made: ${name}`, () => {
      assert.throws(make, RangeError)
    })
  }

  it.effect("take times between two milliseconds", () =>
    Effect.gen(function* () {
      const records: Records = [["a", 9.5], ["a", 10.5], ["b", 100]]
      const tumbling = yield* however(records, { window: Window.tumbling({ size: 10 }) })
      assert.deepStrictEqual(tumbling.emitted, ["a 0..10 0!", "a 10..20 1!"])
      const sliding = yield* however(records, { window: Window.sliding({ difference: 1 }) })
      assert.deepStrictEqual(sliding.emitted, ["a 8..9 0!", "a 9..10 0 1!", "a 10..11 1!"])
      const session = yield* however(records, { window: Window.session({ gap: 1 }) })
      assert.deepStrictEqual(session.emitted, ["a 9.5..10.5 0 1!"])
    }))

  it.effect("name the record whose time made a fold's result throw", () =>
    Effect.gen(function* () {
      const fold = Fold.map(ids, (): never => {
        throw new Error("no result")
      })
      const flow = Ingest.topic(Events).pipe(
        Decode.schema,
        Aggregate.windowed({ name: "w", window: Window.tumbling({ size: 10 }), fold, emit: "final" }),
      )
      const all = [1, 2, 30].map((at) => ({ key: "a", value: JSON.stringify({ id: "", at }), timestamp: 0 }))
      const exit = yield* Effect.exit(run(flow, new Map([[Events as Topic.Any, sources(Events, all, [])]])))
      assert.include(String(exit), "topic events partition 0 offset 2: Error: no result")
    }))

  it.effect("refuse at the record a number that no fold can hold", () =>
    Effect.gen(function* () {
      const flow = Ingest.topic(Events).pipe(
        Decode.schema,
        Aggregate.windowed({
          name: "w",
          window: Window.session({ gap: 10 }),
          fold: Fold.sum(({ at }) => 1 / (at - 2)),
        }),
      )
      const all = [1, 2].map((at) => ({ key: "a", value: JSON.stringify({ id: "", at }), timestamp: 0 }))
      const exit = yield* Effect.exit(run(flow, new Map([[Events as Topic.Any, sources(Events, all, [])]])))
      assert.include(
        String(exit),
        "topic events partition 0 offset 1: RangeError: Fold.sum: a value's number is Infinity",
      )
    }))

  it.effect("do not read a log of another kind of state", () =>
    Effect.gen(function* () {
      const flow = (
        fold: Fold.MergingFold<unknown, number> | Fold.MergingFold<unknown, readonly [number, number], number>,
      ) =>
        Ingest.topic(Events).pipe(
          Decode.schema,
          Aggregate.windowed({
            name: "w",
            window: Window.tumbling({ size: 10 }),
            fold: fold as Fold.MergingFold<unknown, unknown, number>,
          }),
        )
      const all = [{ key: "a", value: JSON.stringify({ id: "", at: 1 }), timestamp: 0 }]
      const inputs = new Map([[Events as Topic.Any, sources(Events, all, [])]])
      const { batches } = yield* run(flow(Fold.average(() => 1)), inputs)
      const exit = yield* Effect.exit(run(flow(Fold.count), inputs, committed(batches)))
      assert.strictEqual(exit._tag, "Failure")
    }))
})
