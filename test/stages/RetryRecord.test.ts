/** What stands in retry topics, what comes of it, and what does not where it is damaged or forged. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Schedule, Schema, SchemaTransformation } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import {
  Aggregate,
  DeadLetter,
  Deliver,
  Failures,
  Flow,
  Retry,
  type Task,
  Topic,
  Topology,
  Window,
} from "../../src/index.ts"
import type { Headers, Outgoing } from "../../src/Batch.ts"
import { text } from "../../src/Topic.ts"
import { committed, type Rec, run, sources, type Start, type Tick } from "../support/FlowRunner.ts"
import {
  Attempted,
  common,
  decoded,
  Dlt,
  Order,
  Orders,
  type Reason,
  retryTopics,
  TimedOut,
  Unavailable,
} from "../support/RetryCases.ts"
import { forSeeds } from "../support/Seeds.ts"

const slow = new TimedOut({ message: "slow" })

/** Fails while `fails` says so, and counts. */
const visiting = (fails: (order: Order, visits: number) => boolean) => {
  const visits: Array<number> = []
  const visit = (order: Order): Effect.Effect<Order, Reason> =>
    Effect.suspend(() => {
      visits.push(order.n)
      return fails(order, visits.length) ? Effect.fail(slow) : Effect.succeed(order)
    })
  return { visits, visit }
}

const topicsOf = { free: retryTopics("free"), kept: retryTopics("kept") }
const [Minute, TenMinutes] = [topicsOf.kept.levels[0]!, topicsOf.kept.levels[1]!]

const handled = (visit: (order: Order) => Effect.Effect<Order, Reason>, order: Retry.Order = "free") =>
  decoded.pipe(
    Failures.handle({ name: "visit" }, Flow.effect(visit), {
      TimedOut: Failures.later(topicsOf[order], DeadLetter.to(Dlt)),
      Unavailable: Failures.retry(Schedule.recurs(2), Failures.later(topicsOf[order])),
    }),
  )

const record = (n: number, key: string | null = "key", at = 1_000 * n): Rec => ({
  key,
  value: JSON.stringify({ id: `order-${n}`, n, at }),
  timestamp: 5_000 + n,
  headers: [["own", Buffer.from(String(n))]],
})

const back = ({ key, value, headers = [] }: Outgoing, timestamp: number): Rec => (
  { key: key && text(key), value: value && text(value), headers, timestamp }
)

/** Runs the flow over what stands in each topic, by name, and lets the clock run until it has come through. */
const through = <A, F, E>(
  flow: Flow.Flow<A, F, E, Task.Task | Task.Logged>,
  given: ReadonlyArray<readonly [topic: Topic.Any, records: ReadonlyArray<Rec>]>,
  start?: Start,
  ticks: ReadonlyArray<Tick> = [],
) =>
  Effect.gen(function* () {
    const from = yield* Clock.currentTimeMillis
    const read = ({ name }: Topic.Any, records: ReadonlyArray<Rec>) => {
      const topic = Topology.of(flow).reads.find((topic) => topic.name === name)!
      return [topic, sources(topic, records, [], { position: start?.positions.get(topic) ?? 0, ticks })] as const
    }
    const fiber = yield* Effect.forkChild(
      run(flow, new Map(given.map(([topic, records]) => read(topic, records))), start),
    )
    for (let i = 0; i < 20 && fiber.pollUnsafe() === undefined; i++) yield* TestClock.adjust(0)
    while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust(1_000)
    const { batches } = yield* Fiber.join(fiber)
    return { batches, took: (yield* Clock.currentTimeMillis) - from, start: committed(batches) }
  })

const headersOf = (headers: Headers | undefined) =>
  Object.fromEntries((headers ?? []).map(([name, value]) => [name, text(value)]))

const binary = (headers: Headers | undefined, name: string) => headers!.find(([other]) => other === name)![1]

const start = 1_000_000_000

describe("A record that waits", () => {
  it.effect("is the record itself, and says what was tried, and where it stood", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const { visit } = visiting(() => true)
      const { batches } = yield* through(handled(visit), [[Orders, [record(7, "key", 70_000)]]])
      const [waiting] = batches[0]!.outgoing
      assert.strictEqual(waiting!.topic, "charge.retry.1")
      assert.strictEqual(waiting!.partition, 0)
      assert.strictEqual(waiting!.failure, "TimedOut")
      assert.strictEqual(text(waiting!.key!), "key")
      assert.strictEqual(text(waiting!.value!), record(7, "key", 70_000).value)
      assert.deepStrictEqual(waiting!.headers![0], record(7).headers![0])
      const headers = headersOf(waiting!.headers)
      assert.strictEqual(headers["millrace-retry-stage"], "visit")
      assert.strictEqual(headers["millrace-retry-attempts"], "1")
      assert.strictEqual(headers["millrace-retry-reason"], "TimedOut")
      assert.strictEqual(headers["millrace-retry-due"], String(start + 60_000))
      assert.strictEqual(headers["millrace-retry-first-failed-at"], String(start))
      assert.strictEqual(headers["millrace-retry-event-times"], "70000")
      assert.strictEqual(headers["millrace-retry-input"], JSON.stringify([{ id: "order-7", n: 7, at: 70_000 }]))
      assert.strictEqual(headers["kafka_dlt-original-topic"], "orders")
      const place = Buffer.from(binary(waiting!.headers, "kafka_dlt-original-timestamp"))
      assert.strictEqual(place.readBigInt64BE(), 5_007n)
    }))

  it.effect("comes back when it is due, with its own event time under the flow's clock, and goes on to the next topic", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const { visit, visits } = visiting((_, visits) => visits === 1)
      const flow = handled(visit)
      const first = yield* through(flow, [[Orders, [record(7, "key", 70_000), record(8, "key", 90_000)]]])
      const [waiting] = first.batches[0]!.outgoing
      const again = yield* through(flow, [[Minute, [back(waiting!, start)]]], first.start)
      assert.strictEqual(again.took, 60_000)
      assert.deepStrictEqual(visits, [7, 8, 7])
      const [batch] = again.batches
      assert.deepStrictEqual(batch!.values, [{ id: "order-7", n: 7, at: 70_000 }])
      assert.deepStrictEqual([...batch!.time!.timestamps], [70_000])
      assert.deepStrictEqual([...batch!.time!.clock, ...batch!.time!.rowClock, batch!.time!.now], [
        90_000,
        90_000,
        90_000,
      ])
      assert.isUndefined(batch!.clockAfter)
    }))

  it.effect("waits for its whole delay where that is no whole number of milliseconds, nor the time", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start + 0.25)
      const topics = Retry.topics({
        name: "charge",
        of: Orders,
        value: Order,
        delays: ["100 seconds", { milliseconds: 100_000 / 3 }],
        order: "kept",
      })
      const { visit } = visiting((_, visits) => visits === 1)
      const flow = decoded.pipe(
        Failures.handle({ name: "visit" }, Flow.effect(visit), {
          TimedOut: Failures.later(topics, DeadLetter.to(Dlt)),
        }),
      )
      const first = yield* through(flow, [[Orders, [record(7)]]])
      const [waiting] = first.batches[0]!.outgoing
      const again = yield* through(flow, [[topics.levels[0]!, [back(waiting!, start)]]], first.start)
      assert.isAtLeast(again.took, 100_000)
      assert.deepStrictEqual(again.batches[0]!.failed, [])
      assert.deepStrictEqual(again.batches[0]!.values.map(({ n }) => n), [7])
    }))

  it.effect("is not sent where what is written of its values could not be read again", () =>
    Effect.gen(function* () {
      // Writes 1 as a text that it does not read.
      const Careless = Schema.String.pipe(
        Schema.decodeTo(
          Schema.Finite,
          SchemaTransformation.transform({ decode: Number, encode: (n) => n === 1 ? "one" : String(n) }),
        ),
      )
      const topics = Retry.topics({ name: "halves", of: Orders, value: Careless, delays: ["1 minute"], order: "kept" })
      const flow = decoded.pipe(
        Flow.map(({ n }) => n),
        Failures.handle({ name: "visit" }, Flow.effect((_: number) => Effect.fail(slow)), {
          TimedOut: Failures.later(topics, DeadLetter.to(Dlt)),
        }),
      )
      const { batches } = yield* through(flow, [[Orders, [record(1), record(2)]]])
      const sent = batches[0]!.outgoing.map(({ topic, row }) => [topic, row])
      assert.deepStrictEqual(sent, [["dlt", 0], ["halves.retry.1", 1]])
    }))

  it.effect("goes through every topic, and is a dead letter of its first place then", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const { visit, visits } = visiting(() => true)
      const flow = handled(visit)
      let batches = (yield* through(flow, [[Orders, [record(7)]]])).batches
      for (const [topic, level] of [[Minute, "2"], [TenMinutes, "3"]] as const) {
        const [waiting] = batches[0]!.outgoing
        assert.strictEqual(waiting!.topic, topic.name)
        const now = yield* Clock.currentTimeMillis
        batches = (yield* through(flow, [[topic, [back(waiting!, now)]]])).batches
        const headers = headersOf(batches[0]!.outgoing[0]!.headers)
        assert.strictEqual(headers["millrace-retry-attempts"] ?? headers["millrace-attempts"], level)
      }
      assert.deepStrictEqual(visits, [7, 7, 7])
      const [letter, ...more] = batches[0]!.outgoing
      assert.deepStrictEqual(more, [])
      assert.strictEqual(letter!.topic, Dlt.name)
      assert.strictEqual(text(letter!.value!), record(7).value)
      assert.strictEqual(text(letter!.key!), "key")
      const headers = headersOf(letter!.headers)
      assert.deepStrictEqual(letter!.headers![0], record(7).headers![0])
      assert.strictEqual(headers["kafka_dlt-original-topic"], "orders")
      assert.strictEqual(Buffer.from(binary(letter!.headers, "kafka_dlt-original-offset")).readBigInt64BE(), 0n)
      assert.strictEqual(headers["millrace-stage"], "visit")
      assert.strictEqual(headers["millrace-first-failed-at"], new Date(start).toISOString())
      assert.strictEqual(headers["millrace-failed-at"], new Date(start + 660_000).toISOString())
      assert.strictEqual(headers["millrace-stage-input"], JSON.stringify([{ id: "order-7", n: 7, at: 7_000 }]))
      assert.deepStrictEqual(Object.keys(headers).filter((name) => name.startsWith("millrace-retry")), [])
    }))

  it.effect("counts attempts in place among the others", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const flow = handled(() => Effect.fail(new Unavailable({ message: "away" })))
      const { batches } = yield* through(flow, [[Orders, [record(7)]]])
      const [waiting] = batches[0]!.outgoing
      assert.strictEqual(headersOf(waiting!.headers)["millrace-retry-attempts"], "3")
      const { batches: again } = yield* through(flow, [[TenMinutes, [back(waiting!, start)]]])
      assert.strictEqual(again[0]!.failed.length, 1, "without a route it has failed, once it has failed everywhere")
    }))

  it.effect("holds back those behind it in its topic, and waits no longer than its topic says", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const { visit, visits } = visiting((_, visits) => visits <= 2)
      const flow = handled(visit)
      const { batches } = yield* through(flow, [[Orders, [record(1), record(2, "other")]]])
      const [one, two] = batches[0]!.outgoing
      const due = (headers: Headers, at: number): Headers =>
        headers.map(([name, value]) => [name, name === "millrace-retry-due" ? Buffer.from(String(at)) : value])
      const forged = { ...one!, headers: due(one!.headers!, 32_503_680_000_000) }
      const fiber = yield* Effect.forkChild(
        through(flow, [[Minute, [back(forged, start), back(two!, start - 30_000)]]]),
      )
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(visits, [1, 2])
      yield* TestClock.adjust("1 second")
      const again = yield* Fiber.join(fiber)
      assert.deepStrictEqual(again.batches.map(({ values }) => values.length), [2])
      const future = yield* through(flow, [[Minute, [back(forged, start + 86_400_000)]]])
      assert.strictEqual(future.took, 60_000)
    }))

  it.effect("has all values that its row had", () =>
    Effect.gen(function* () {
      const { visit, visits } = visiting(({ n }, visits) => n === 8 && visits < 4)
      const flow = decoded.pipe(
        Flow.flatMap((order) => [order, { ...order, n: order.n + 1 }]),
        Failures.handle({ name: "visit" }, Flow.effect(visit), {
          TimedOut: Failures.later(topicsOf.free, DeadLetter.to(Dlt)),
        }),
      )
      const { batches } = yield* through(flow, [[Orders, [record(7), record(1)]]])
      assert.deepStrictEqual(batches[0]!.values.map(({ n }) => n), [1, 2])
      const { batches: again } = yield* through(flow, [[Minute, [back(batches[0]!.outgoing[0]!, 0)]]])
      assert.deepStrictEqual(visits, [7, 8, 1, 2, 7, 8])
      assert.deepStrictEqual(again[0]!.values.map(({ n }) => n), [7, 8])
      assert.deepStrictEqual([...again[0]!.rows!], [0, 0])
    }))

  it.effect("is cut where it does not fit, and given up where what the stage was given does not", () =>
    Effect.gen(function* () {
      const tight = Retry.topics({
        name: "charge",
        of: Orders,
        value: Order,
        delays: ["1 minute"],
        order: "free",
        maxMessageBytes: 2_300,
      })
      const flow = decoded.pipe(
        Flow.map((order) => ({ ...order, id: order.id.slice(0, order.n) })),
        Failures.handle({ name: "visit" }, Flow.effect(() => Effect.fail(slow)), {
          TimedOut: Failures.later(tight, DeadLetter.to(Dlt)),
        }),
      )
      const large = (n: number): Rec => ({
        key: "key",
        value: JSON.stringify({ id: "x".repeat(2_000), n, at: 1 }),
        timestamp: 0,
      })
      const { batches } = yield* through(flow, [[Orders, [large(10), large(2_000)]]])
      const [cut, letter] = batches[0]!.outgoing
      assert.strictEqual(cut!.topic, "charge.retry.1")
      assert.isBelow(cut!.value!.length, 2_000)
      assert.strictEqual(letter!.topic, Dlt.name)
      const { batches: again } = yield* through(flow, [[tight.levels[0]!, [back(cut!, 0)]]])
      const headers = headersOf(again[0]!.outgoing[0]!.headers)
      assert.strictEqual(headers["millrace-truncated-length"], String(large(10).value!.length))
    }))

  it.effect("is given up where its schema refuses what the stage was given", () =>
    Effect.gen(function* () {
      const flow = decoded.pipe(
        Flow.map((order) => ({ ...order, n: order.n + 0.5 })),
        Failures.handle({ name: "visit" }, Flow.effect(() => Effect.fail(slow)), {
          TimedOut: Failures.later(topicsOf.free, DeadLetter.to(Dlt)),
        }),
      )
      const { batches } = yield* through(flow, [[Orders, [record(1)]]])
      assert.deepStrictEqual(batches[0]!.outgoing.map(({ topic }) => topic), [Dlt.name])
    }))

  it.effect("has the key that the stage was given, and its first one in a dead letter", () =>
    Effect.gen(function* () {
      const { visit } = visiting((_, visits) => visits % 2 === 1)
      const rekeyed = Flow.perTask<Order, Order, never, never, never, never, never>(
        Effect.succeed((batch) =>
          Effect.succeed({ ...batch, keys: batch.values.map(({ n }) => Buffer.from(`n${n}`)) })
        ),
        { stage: "rekeyed" },
      )
      const flow = decoded.pipe(
        rekeyed,
        Failures.handle({ name: "visit" }, Flow.effect(visit), {
          TimedOut: Failures.later(topicsOf.free, DeadLetter.to(Dlt)),
        }),
        Deliver.derived(Attempted, (order) => order),
        Deliver.derived(Small, ({ id }) => ({ id })),
        Failures.route({ Undeliverable: DeadLetter.to(Dlt) }),
      )
      for (const key of ["key", null]) {
        const { batches } = yield* through(flow, [[Orders, [{ ...record(1, key), value: long }]]])
        const [waiting] = batches[0]!.outgoing
        assert.strictEqual(text(waiting!.key!), "n1")
        const { batches: again } = yield* through(flow, [[Minute, [back(waiting!, 0)]]])
        const [letter, ...more] = again[0]!.outgoing
        assert.deepStrictEqual(more, [])
        assert.strictEqual(letter!.key && text(letter!.key), key)
        assert.strictEqual(text(letter!.value!), long)
        assert.strictEqual(headersOf(letter!.headers)["kafka_dlt-original-topic"], "orders")
      }
    }))

  it.effect("can be made of many", () =>
    Effect.gen(function* () {
      const counted = Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }), emit: "final" })
      const Counted = Retry.topics({
        name: "counted",
        of: Orders,
        value: Schema.Struct({
          key: Schema.String,
          start: Schema.Int,
          end: Schema.Int,
          value: Schema.Int,
          final: Schema.Boolean,
        }),
        delays: ["1 minute"],
        order: "kept",
      })
      let fails = true
      const flow = decoded.pipe(
        counted,
        Failures.handle({ name: "visit" }, Flow.effect((count) => fails ? Effect.fail(slow) : Effect.succeed(count)), {
          TimedOut: Failures.later(Counted, DeadLetter.to(Dlt)),
        }),
        Failures.route({ Late: Failures.skip, Keyless: Failures.skip }),
      )
      const first = yield* through(flow, [[Orders, [record(1, "a"), record(2, "b"), record(70, "a")]]])
      const waiting = first.batches[0]!.outgoing
      assert.deepStrictEqual(waiting.map(({ key }) => text(key!)), ["a", "b"])
      assert.deepStrictEqual(
        JSON.parse(text(waiting[0]!.value!)),
        { key: "a", start: 0, end: 60_000, value: 1, final: true },
      )
      const ticked = yield* through(flow, [[Orders, [record(1, "a")]]], undefined, [{ before: 1, silence: 120_000 }])
      const caused = ticked.batches.flatMap(({ outgoing }) => outgoing)
      assert.deepStrictEqual(caused.map(({ key, value }) => [text(key!), JSON.parse(text(value!)).value]), [["a", 1]])
      assert.strictEqual(Buffer.from(binary(caused[0]!.headers, "kafka_dlt-original-offset")).readBigInt64BE(), 1n)
      fails = false
      const again = yield* through(
        flow,
        [[Counted.levels[0]!, waiting.map((out) => back(out, 0))]],
        first.start,
      )
      assert.deepStrictEqual(again.batches[0]!.values.map(({ key, start }) => [key, start]), [["a", 0], ["b", 0]])
      assert.deepStrictEqual([...again.batches[0]!.time!.timestamps], [0, 0])
    }))

  it.effect("is late where its window has closed meanwhile", () =>
    Effect.gen(function* () {
      const { visit } = visiting((_, visits) => visits === 1)
      const flow = handled(visit).pipe(
        Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }), emit: "final" }),
      )
      const first = yield* through(flow, [[Orders, [record(1), record(2), record(200)]]])
      assert.deepStrictEqual(first.batches[0]!.values.map(({ value }) => value), [1])
      const again = yield* through(flow, [[Minute, [back(first.batches[0]!.outgoing[0]!, 0)]]], first.start)
      assert.deepStrictEqual(again.batches[0]!.failed.map(({ reason }) => reason._tag), ["Late"])
    }))
})

const long = JSON.stringify({ id: "x".repeat(200), n: 1, at: 1 })
const Small = Topic.make({
  ...common,
  name: "small",
  schema: Schema.Struct({ id: Schema.String }),
  maxMessageBytes: 150,
})

describe("A record that is not to be believed", () => {
  const refused = Effect.fnUntraced(function* (
    change: (headers: Headers) => Headers,
    { topic = Minute, order = "free" as Retry.Order, key = "key" as string | null } = {},
  ) {
    yield* TestClock.setTime(start)
    const { visit, visits } = visiting((_, visits) => visits === 1)
    const flow = handled(visit, order).pipe(Failures.route({ Unretriable: DeadLetter.to(Dlt) }))
    const first = yield* through(flow, [[Orders, [record(7, key)]]])
    const [waiting] = first.batches[0]!.outgoing
    const forged = back({ ...waiting!, headers: change(waiting!.headers!) }, start)
    const again = yield* through(flow, [[topic, [forged]]], first.start)
    assert.deepStrictEqual(again.batches.flatMap(({ values }) => values), [])
    assert.deepStrictEqual(visits, [7], "it is not tried")
    const [letter, ...more] = again.batches.flatMap(({ outgoing }) => outgoing)
    assert.deepStrictEqual(more, [])
    assert.strictEqual(letter!.topic, Dlt.name)
    assert.strictEqual(letter!.failure, "Unretriable")
    return { field: headersOf(letter!.headers)["millrace-field"], took: again.took }
  })

  const without = (name: string) => (headers: Headers): Headers => headers.filter(([other]) => other !== name)
  const as = (name: string, value: string) => (headers: Headers): Headers =>
    headers.map(([other, known]) => [other, other === name ? Buffer.from(value) : known])

  const cases: ReadonlyArray<readonly [what: string, field: string, change: (headers: Headers) => Headers]> = [
    ["has no headers at all", "millrace-retry-stage", () => []],
    ["names another stage", "millrace-retry-stage", as("millrace-retry-stage", "other")],
    ["does not say how often it was tried", "millrace-retry-attempts", without("millrace-retry-attempts")],
    ["says that it was never tried", "millrace-retry-attempts", as("millrace-retry-attempts", "0")],
    ["was tried less than no time", "millrace-retry-attempts", as("millrace-retry-attempts", "-1")],
    ["was tried too often to count", "millrace-retry-attempts", as("millrace-retry-attempts", "1e9")],
    ["has another reason", "millrace-retry-reason", as("millrace-retry-reason", "Malformed")],
    ["has no reason", "millrace-retry-reason", without("millrace-retry-reason")],
    ["never failed", "millrace-retry-first-failed-at", without("millrace-retry-first-failed-at")],
    ["failed at no time", "millrace-retry-first-failed-at", as("millrace-retry-first-failed-at", "9007199254740991")],
    ["has no input", "millrace-retry-input", without("millrace-retry-input")],
    ["has an input that is no JSON", "millrace-retry-input", as("millrace-retry-input", "{")],
    ["has an input that is no list", "millrace-retry-input", as("millrace-retry-input", "{}")],
    ["has an empty input", "millrace-retry-input.0", as("millrace-retry-input", "[]")],
    ["has another input", "millrace-retry-input.0.n", as("millrace-retry-input", `[{"id":"a","n":"b","at":1}]`)],
    ["has no number for a time", "millrace-retry-event-times", as("millrace-retry-event-times", "soon")],
    ["has a time before all times", "millrace-retry-event-times", as("millrace-retry-event-times", "-1")],
    ["has more times than values", "millrace-retry-event-times", as("millrace-retry-event-times", "1,2")],
  ]
  for (const [what, field, change] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        assert.strictEqual((yield* refused(change)).field, field)
      }))
  }

  it.effect("is due at once where it does not say when", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* refused(() => [])).took, 0)
    }))

  it.effect("stands in another topic than it says it was sent to", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* refused((headers) => headers, { topic: TenMinutes })).field, "millrace-retry-attempts")
      assert.strictEqual(
        (yield* refused((headers) => headers, { topic: topicsOf.kept.turn!, order: "kept" })).field,
        "millrace-retry-attempts",
      )
    }))

  const kept = { order: "kept" } as const
  it.effect("has a number that is not in turn, where order is kept", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* refused(as("millrace-retry-sequence", "1"), kept)).field, "")
      assert.strictEqual(
        (yield* refused(as("millrace-retry-sequence", "1"), { ...kept, topic: TenMinutes })).field,
        "millrace-retry-attempts",
      )
      const untried = (headers: Headers) =>
        as("millrace-retry-attempts", "0")(as("millrace-retry-sequence", "1")(headers))
      assert.strictEqual((yield* refused(untried, { ...kept, topic: topicsOf.kept.turn! })).field, "")
    }))

  it.effect("comes a second time, where order is kept", () =>
    Effect.gen(function* () {
      const { visit, visits } = visiting((_, visits) => visits === 1)
      const flow = handled(visit, "kept")
      const first = yield* through(flow, [[Orders, [record(7)]]])
      const waiting = back(first.batches[0]!.outgoing[0]!, 0)
      const again = yield* through(flow, [[Minute, [waiting, waiting]]], first.start)
      assert.deepStrictEqual(visits, [7, 7])
      assert.deepStrictEqual(
        again.batches.flatMap(({ failed }) => failed.map(({ row, reason }) => [row, reason._tag])),
        [
          [1, "Unretriable"],
        ],
      )
    }))

  it.effect("goes round at most once for each topic, whatever it says", () =>
    forSeeds(50, (dice) =>
      Effect.gen(function* () {
        const { visit, visits } = visiting(() => true)
        const flow = handled(visit)
        const first = yield* through(flow, [[Orders, [record(7)]]])
        let waiting = first.batches[0]!.outgoing[0]!
        const all = [Minute, TenMinutes]
        for (let i = 0; i < 10 && waiting.topic !== Dlt.name; i++) {
          const names = waiting.headers!.map(([name]) => name)
          const forged = as(dice.pick(names), dice.pick(["0", "1", "7", "99", "visit", "TimedOut"]))(waiting.headers!)
          const topic = all.find(({ name }) => name === waiting.topic)!
          const { batches } = yield* through(flow, [[topic, [back({ ...waiting, headers: forged }, 0)]]])
          const next = batches[0]!.outgoing[0]
          if (next === undefined) break
          waiting = next
        }
        assert.isAtMost(visits.length, 3)
      })))
})
