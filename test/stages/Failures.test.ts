/** What a table of policies does in place, and what it refuses. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, type Duration, Effect, Exit, Fiber, Metric, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  Aggregate,
  Branch,
  DeadLetter,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  merge,
  Pipeline,
  Retry,
  Task,
  Topology,
  Window,
} from "../../src/index.ts"
import type { Batch } from "../../src/Batch.ts"
import { retries } from "../../src/stages/failures/InPlace.ts"
import { text } from "../../src/Topic.ts"
import { type Rec, run, sources } from "../support/FlowRunner.ts"
import {
  Attempted,
  decoded,
  Dlt,
  Malformed,
  Order,
  Orders,
  orders,
  read,
  type Reason,
  retryTopics,
  Throttled,
  TimedOut,
  Unavailable,
} from "../support/RetryCases.ts"

const record = (n: number, key: string | null = "key", at = 1_000 * n): Rec => ({
  key,
  value: JSON.stringify({ id: `order-${n}`, n, at }),
  timestamp: 5_000 + n,
  headers: [["own", Buffer.from(String(n))]],
})

/** Runs a flow over orders while the clock goes on, and tells how long it took. */
const through = <A, F, E>(
  flow: Flow.Flow<A, F, E, Task.Task | Task.Logged>,
  records: ReadonlyArray<Rec>,
  cuts: ReadonlyArray<number> = [],
) =>
  Effect.gen(function* () {
    const from = yield* Clock.currentTimeMillis
    const fiber = yield* Effect.forkChild(run(flow, new Map([[Orders, sources(Orders, records, cuts)]])))
    yield* TestClock.adjust(0)
    while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust(10)
    const { batches } = yield* Fiber.join(fiber)
    return { batches, took: (yield* Clock.currentTimeMillis) - from }
  })

/** Fails an order so often with each of its reasons, one after the other. */
const failing = (reasons: Readonly<Record<number, ReadonlyArray<Reason>>>) => {
  const visits: Array<number> = []
  const left = new Map(Object.entries(reasons).map(([n, reasons]) => [Number(n), [...reasons]]))
  const visit = (order: Order) =>
    Effect.suspend(() => {
      visits.push(order.n)
      const reason = left.get(order.n)?.shift()
      return reason === undefined ? Effect.succeed(order) : Effect.fail(reason)
    })
  return { visits, visit }
}

const times = <A>(n: number, a: A): ReadonlyArray<A> => Array.from({ length: n }, () => a)
const [away, busy, slow, bad] = [
  new Unavailable({ message: "away" }),
  new Throttled({ message: "busy" }),
  new TimedOut({ message: "slow" }),
  new Malformed({ message: "bad" }),
]

const numbers = (batches: ReadonlyArray<Batch<Order, unknown>>) =>
  batches.flatMap(({ values }) => values.map(({ n }) => n))

const tags = (batches: ReadonlyArray<Batch<unknown, unknown>>) =>
  batches.flatMap(({ failed }) => failed.map(({ row, reason }) => [row, (reason as { _tag: string })._tag]))

const headersOf = (headers: Batch<unknown>["outgoing"][number]["headers"]) =>
  Object.fromEntries((headers ?? []).map(([name, value]) => [name, text(value)]))

describe("retry in place", () => {
  it.effect("tries those that failed and no others, and keeps the order", () =>
    Effect.gen(function* () {
      const { visits, visit } = failing({ 1: times(2, busy), 3: [busy] })
      const flow = decoded.pipe(
        Failures.handle({ name: "visit" }, (flow) => flow.pipe(Deliver.to(Attempted), Flow.effect(visit)), {
          Throttled: Failures.retry(Schedule.max([Schedule.spaced("100 millis"), Schedule.recurs(3)]), Failures.stop),
        }),
      )
      const before = yield* Metric.value(Metric.withAttributes(retries, { stage: "visit", reason: "Throttled" }))
      const { batches, took } = yield* through(flow, [0, 1, 2, 3, 4].map((n) => record(n)), [4])
      assert.deepStrictEqual(numbers(batches), [0, 1, 2, 3, 4])
      assert.deepStrictEqual(visits, [0, 1, 2, 3, 1, 3, 1, 4])
      assert.strictEqual(took, 200)
      const sent = batches.flatMap(({ outgoing }) => outgoing.map(({ value }) => (JSON.parse(text(value!)) as Order).n))
      assert.deepStrictEqual(sent, [0, 1, 2, 3, 4])
      const after = yield* Metric.value(Metric.withAttributes(retries, { stage: "visit", reason: "Throttled" }))
      assert.strictEqual(Number(after.count) - Number(before.count), 3)
    }))

  it.effect("gives a record up when its schedule ends, with all that it has sent, and says how often it tried", () =>
    Effect.gen(function* () {
      const { visits, visit } = failing({ 1: times(9, busy) })
      const flow = decoded.pipe(
        Deliver.to(Attempted),
        Failures.handle({ name: "visit" }, Flow.effect(visit), {
          Throttled: Failures.retry(
            Schedule.max([Schedule.spaced("100 millis"), Schedule.recurs(2)]),
            DeadLetter.to(Dlt),
          ),
        }),
      )
      yield* TestClock.setTime(1_000_000)
      const { batches } = yield* through(flow, [0, 1, 2].map((n) => record(n)))
      assert.deepStrictEqual(visits, [0, 1, 2, 1, 1])
      assert.deepStrictEqual(numbers(batches), [0, 2])
      assert.deepStrictEqual(batches[0]!.outgoing.map(({ topic, row }) => [topic, row]), [
        ["attempted", 0],
        ["dlt", 1],
        ["attempted", 2],
      ])
      const letter = batches[0]!.outgoing[1]!
      assert.strictEqual(text(letter.value!), record(1).value)
      assert.strictEqual(letter.failure, "Throttled")
      const headers = headersOf(letter.headers)
      assert.strictEqual(headers["own"], "1")
      assert.strictEqual(headers["millrace-reason"], "Throttled")
      assert.strictEqual(headers["millrace-stage"], "visit")
      assert.strictEqual(headers["millrace-attempts"], "3")
      assert.strictEqual(headers["millrace-first-failed-at"], "1970-01-01T00:16:40.000Z")
      assert.strictEqual(headers["millrace-failed-at"], "1970-01-01T00:16:40.200Z")
    }))

  it.effect("leaves what it does not name, and what its schedule gives up without a route", () =>
    Effect.gen(function* () {
      const { visit } = failing({ 0: [bad], 1: times(9, busy), 2: [slow] })
      const flow = decoded.pipe(
        Failures.handle({ name: "visit" }, Flow.effect(visit), {
          Throttled: Failures.retry(Schedule.recurs(1)),
          TimedOut: Failures.skip,
        }),
      )
      const { batches } = yield* through(flow, [0, 1, 2, 3].map((n) => record(n)))
      assert.deepStrictEqual(numbers(batches), [3])
      assert.deepStrictEqual(tags(batches).sort(), [[0, "Malformed"], [1, "Throttled"]])
      assert.deepStrictEqual(batches[0]!.dropped, [{ row: 2, reason: "TimedOut" }])
    }))

  it.effect("ends although a record fails in another way each time", () =>
    Effect.gen(function* () {
      const { visits, visit } = failing({ 0: [busy, slow, busy, slow, busy, slow, busy, slow] })
      const flow = decoded.pipe(
        Failures.handle({ name: "visit" }, Flow.effect(visit), {
          Throttled: Failures.retry(Schedule.recurs(2), Failures.skip),
          TimedOut: Failures.retry(Schedule.recurs(2), Failures.skip),
        }),
      )
      const { batches } = yield* through(flow, [record(0)])
      assert.strictEqual(visits.length, 5)
      assert.deepStrictEqual(batches[0]!.dropped, [{ row: 0, reason: "Throttled" }])
    }))

  it.effect("tries all values of a record again, and counts what it drops once", () =>
    Effect.gen(function* () {
      const { visits, visit } = failing({ 2: [busy] })
      const flow = decoded.pipe(
        Flow.flatMap((order) => [order, { ...order, n: order.n + 1 }, { ...order, n: order.n + 2 }]),
        Failures.handle({ name: "visit" }, (flow) =>
          flow.pipe(Flow.filter(({ n }) => n % 10 !== 1, "one"), Flow.effect(visit)), {
          Throttled: Failures.retry(Schedule.recurs(1), Failures.stop),
        }),
      )
      const { batches } = yield* through(flow, [record(0), record(10)])
      assert.deepStrictEqual(visits, [0, 2, 10, 12, 0, 2])
      assert.deepStrictEqual(numbers(batches), [0, 2, 10, 12])
      assert.deepStrictEqual(
        batches[0]!.dropped.map(({ row }) =>
          row
        ).sort(),
        [0, 1],
      )
    }))

  it.effect("tries a failure that keeps its row's values from the beginning, so that nothing counts twice", () =>
    Effect.gen(function* () {
      let fails = 2
      const late = Flow.perTask<Order, Order, Throttled, never, never, never, never>(
        Effect.succeed((batch) =>
          Effect.succeed(
            fails-- > 0
              ? { ...batch, failed: [...batch.failed, { row: 0, reason: busy, kept: true as const }] }
              : batch,
          )
        ),
        { stage: "late" },
      )
      const flow = decoded.pipe(
        Failures.handle({ name: "visit" }, (flow) => flow.pipe(Deliver.to(Attempted), late), {
          Throttled: Failures.retry(Schedule.recurs(5), Failures.stop),
        }),
      )
      const { batches } = yield* through(flow, [record(0), record(1)])
      assert.deepStrictEqual(numbers(batches), [0, 1])
      assert.strictEqual(batches[0]!.outgoing.length, 2)
      assert.deepStrictEqual(tags(batches), [])
    }))

  it.effect("stops the task where its route says so", () =>
    Effect.gen(function* () {
      const { visit } = failing({ 1: [bad] })
      const flow = decoded.pipe(Failures.handle({ name: "visit" }, Flow.effect(visit), { Malformed: Failures.stop }))
      const error = yield* Effect.flip(through(flow, [record(0), record(1)]))
      assert.strictEqual(error.reason, "Stopped")
      assert.include(error.message, "Malformed at topic orders partition 0 offset 1: bad")
    }))

  it.effect("names the record at which a function inside throws", () =>
    Effect.gen(function* () {
      const flow = decoded.pipe(
        Failures.handle(
          { name: "visit" },
          (flow) =>
            flow.pipe(Flow.effect((order): Effect.Effect<Order, Reason> => {
              if (order.n === 1) throw new TypeError("no such order")
              return Effect.succeed(order)
            })),
          { Unavailable: Failures.hold() },
        ),
      )
      const exit = yield* Effect.exit(through(flow, [record(0), record(1)]))
      assert.isTrue(Exit.isFailure(exit) && String(Cause.squash(exit.cause)).includes("offset 1: TypeError"))
    }))
})

describe("hold", () => {
  it.effect("tries again until all have succeeded, and goes on with the last delay when its schedule ends", () =>
    Effect.gen(function* () {
      const { visits, visit } = failing({ 1: times(5, away), 2: times(3, away) })
      const flow = decoded.pipe(
        Failures.handle({ name: "visit" }, Flow.effect(visit), {
          Unavailable: Failures.hold(Schedule.max([Schedule.spaced("1 second"), Schedule.recurs(2)])),
        }),
      )
      const { batches, took } = yield* through(flow, [0, 1, 2, 3].map((n) => record(n)))
      assert.deepStrictEqual(numbers(batches), [0, 1, 2, 3])
      assert.deepStrictEqual(visits, [0, 1, 2, 3, 1, 2, 1, 2, 1, 2, 1, 1])
      assert.strictEqual(took, 5_000)
    }))

  it.effect("tries records together that failed together, however the schedule jitters", () =>
    Effect.gen(function* () {
      let runs = 0
      let fails = 3
      const together = Flow.perTask<Order, Order, Unavailable, never, never, never, never>(
        Effect.succeed((batch) =>
          Effect.sync(() => {
            runs++
            return fails-- > 0
              ? {
                ...batch,
                values: [],
                rows: new Uint32Array(0),
                time: undefined,
                failed: batch.values.map((_, i) => ({ row: batch.rows?.[i] ?? i, reason: away })),
              }
              : batch
          })
        ),
        { stage: "together" },
      )
      const flow = decoded.pipe(
        Failures.handle({ name: "visit" }, (flow) => flow.pipe(together), {
          Unavailable: Failures.hold(Schedule.jittered(Schedule.spaced("1 second"))),
        }),
      )
      const { batches } = yield* through(flow, Array.from({ length: 20 }, (_, n) => record(n)))
      assert.strictEqual(numbers(batches).length, 20)
      assert.strictEqual(runs, 4)
    }))
})

describe("A batch that waits", () => {
  /** Runs a flow, and tells when the task was told that a batch is held back, and that it goes on. */
  const held = Effect.fnUntraced(function* (
    reasons: Readonly<Record<number, ReadonlyArray<Reason>>>,
    policies: { readonly every: Duration.Input; readonly perSecond?: number },
  ) {
    const clock = yield* Clock.clockWith(Effect.succeed)
    const from = clock.currentTimeMillisUnsafe()
    const log: Array<readonly [what: "hold" | "release", at: number]> = []
    const note = (what: "hold" | "release") => () => {
      log.push([what, clock.currentTimeMillisUnsafe() - from])
    }
    const flow = decoded.pipe(
      Failures.handle(
        { name: "visit" },
        Flow.effect(
          failing(reasons).visit,
          policies.perSecond === undefined ? {} : { rate: { perSecond: policies.perSecond, burst: 1 } },
        ),
        {
          Unavailable: Failures.hold(Schedule.spaced("1 second")),
          Throttled: Failures.retry(Schedule.spaced(policies.every), Failures.stop),
        },
      ),
    )
    const holding = { hold: note("hold"), release: note("release"), gate: Effect.void }
    const counted = Flow.fromStream(Stream.provideService(flow, Task.HoldingBack, holding), flow.node)
    const { batches } = yield* through(counted, [record(0), record(1)])
    assert.deepStrictEqual(numbers(batches), [0, 1])
    return log
  })

  it.effect("is held back at once in an outage, and in place once it has waited for long", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* held({ 0: [away, away] }, { every: "1 second" }), [["hold", 0], ["release", 2_000]])
      assert.deepStrictEqual(yield* held({ 0: times(4, busy) }, { every: "1 second" }), [])
      assert.deepStrictEqual(yield* held({ 1: times(3, busy) }, { every: "3 seconds" }), [["hold", 5_000], [
        "release",
        9_000,
      ]])
    }))

  it.effect("is held back once where stages inside wait as well", () =>
    Effect.gen(function* () {
      const log = yield* held({ 0: [away, busy], 1: [away] }, { every: "1 second", perSecond: 2 })
      assert.isAbove(log.length, 2)
      log.forEach(([what], i) => assert.strictEqual(what, i % 2 === 0 ? "hold" : "release"))
      assert.strictEqual(log.length % 2, 0)
    }))
})

describe("A table of policies refuses", () => {
  const refuses = (name: string, make: () => unknown, message: string) =>
    it(name, () => {
      assert.throws(make, message)
    })
  const visit = Flow.effect((order: Order): Effect.Effect<Order, Reason> => Effect.succeed(order))
  const topics = retryTopics("free")
  const later = { TimedOut: Failures.later(topics, DeadLetter.to(Dlt)) }
  const counted = Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }) })

  refuses(
    "logged state inside",
    () =>
      decoded.pipe(
        Failures.handle({ name: "visit" }, (flow) => flow.pipe(visit, counted), { Unavailable: Failures.hold() }),
      ),
    "would pass store counts inside it twice",
  )
  it("no logged state inside where nothing is tried again", () => {
    decoded.pipe(
      Failures.handle({ name: "visit" }, (flow) => flow.pipe(visit, counted), { Unavailable: Failures.skip }),
    )
  })
  refuses(
    "retry topics inside a table",
    () =>
      decoded.pipe(
        Failures.handle({ name: "outer" }, (flow) => flow.pipe(Failures.handle({ name: "visit" }, visit, later)), {
          Unavailable: Failures.hold(),
        }),
      ),
    "a stage with retry topics (charge.retry.1) cannot stand inside another stage",
  )
  refuses(
    "retry topics inside a branch",
    () =>
      decoded.pipe(
        Branch.when(({ n }) => n > 1, (flow) => flow.pipe(Failures.handle({ name: "visit" }, visit, later))),
      ),
    "a stage with retry topics (charge.retry.1) cannot stand inside another stage",
  )
  const Others = orders("others")
  refuses(
    "retry topics before a merge of topics",
    () => {
      const left = decoded.pipe(Failures.handle({ name: "visit" }, visit, later))
      const right = read(Others)
      return left.pipe(merge(right))
    },
    "put the stage that tries again after it",
  )
  refuses(
    "retry topics in one of two branches that are merged",
    () => decoded.pipe(Failures.handle({ name: "visit" }, visit, later), merge(decoded)),
    "enters one of two branches that are merged",
  )
  it("no merge of branches that part behind it", () => {
    const handled = decoded.pipe(Failures.handle({ name: "visit" }, visit, later))
    handled.pipe(Flow.filter(({ n }) => n > 1), merge(handled.pipe(Flow.filter(({ n }) => n <= 1))))
  })
  refuses(
    "a topic that is read inside",
    () =>
      decoded.pipe(
        Failures.handle({ name: "visit" }, (flow) => flow.pipe(visit, merge(read(Others))), {
          Unavailable: Failures.hold(),
        }),
      ),
    "stage visit reads topic others inside",
  )
  refuses(
    "results that were sent before a record can leave",
    () => decoded.pipe(Deliver.to(Attempted), Failures.handle({ name: "visit" }, visit, later)),
    "what was sent to attempted before would be lost",
  )
  it("no dead letters that were sent before", () => {
    decoded.pipe(
      Failures.route({ DecodeError: DeadLetter.to(Dlt) }),
      Failures.handle({ name: "visit" }, visit, later),
    )
  })
  refuses(
    "one set of retry topics for two stages of a pipeline",
    () =>
      Pipeline.make(
        "charging",
        decoded.pipe(
          Failures.handle({ name: "first" }, visit, later),
          Failures.handle({ name: "second" }, visit, later),
          Failures.routeAll(DeadLetter.to(Dlt)),
        ),
        Guarantee.exactlyOnce(),
      ),
    "two stages with retry topic charge.retry.1",
  )
  it("no topics that it reads and writes: retries stand last among those read, and are no roots", () => {
    const flow = decoded.pipe(Failures.handle({ name: "visit" }, visit, {
      ...later,
      Malformed: Failures.retry(Schedule.recurs(1), DeadLetter.to(Dlt)),
    }))
    const { reads, writes, stores } = Topology.of(flow)
    assert.deepStrictEqual(reads.map(({ name }) => name), ["orders", "charge.retry.1", "charge.retry.2"])
    assert.deepStrictEqual(writes.map(({ name }) => name).sort(), ["charge.retry.1", "charge.retry.2", "dlt"])
    assert.deepStrictEqual(stores, [])
    assert.strictEqual(Topology.roots(flow).size, 1)
  })
  refuses(
    "retry topics with another number of partitions",
    () => read({ ...Others, partitions: 3 }).pipe(Failures.handle({ name: "visit" }, visit, later)),
    "retry topic charge.retry.1 has 1 partitions, and others, which stage visit reads, has 3",
  )
  refuses(
    "retry topics that keep order beside others that do not",
    () =>
      decoded.pipe(
        Failures.handle({ name: "visit" }, visit, {
          TimedOut: Failures.later(topics, Failures.skip),
          Throttled: Failures.later(
            Retry.topics({ name: "other", of: Orders, value: Order, delays: ["1 second"], order: "kept" }),
            Failures.skip,
          ),
        }),
      ),
    "must agree whether order is kept",
  )
  const options = { name: "visit", of: Orders, value: Order, order: "free" } as const
  refuses("a delay of nothing", () => Retry.topics({ ...options, delays: [0] }), "a delay is a finite time above zero")
  refuses(
    "an endless delay",
    () => Retry.topics({ ...options, delays: [Infinity] }),
    "a delay is a finite time above zero",
  )
  refuses(
    "a retention that ends before the delay",
    () => Retry.topics({ ...options, delays: ["1 hour"], retention: "1 hour" }),
    "longer than the longest delay (3600000 ms)",
  )
  refuses(
    "no room",
    () => Retry.topics({ ...options, delays: ["1 hour"], parkedBytes: 0 }),
    "parkedBytes is above zero",
  )
})
