/** Lookups behind a cache: what is asked of the source, when, and what is answered in its place. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Deferred, Effect, Exit, Fiber, Latch, Layer, Logger, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import {
  Admin,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Lookup,
  Pipeline,
  Task,
} from "../../src/index.ts"
import { keyBytes } from "../../src/Batch.ts"
import { text } from "../../src/Topic.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { run, sources } from "../support/FlowRunner.ts"
import { append, copied, Copies, copies, Dlt, readings as readingsOf, running } from "../support/Readings.ts"
import { forSeeds } from "../support/Seeds.ts"
import { pass, stop, until } from "../support/Simulation.ts"
import { decoded, type Reading, Readings } from "../support/StageCases.ts"

interface Failure {
  readonly _tag: "Away"
  readonly message: string
}
const away: Failure = { _tag: "Away", message: "it is away" }

/** A source that counts what it is asked for, and answers when it is told. */
const sourceOf = (answers: Record<string, string>) => {
  const source = {
    answers: new Map(Object.entries(answers)) as Map<string, string | Lookup.Undecodable>,
    asked: [] as Array<ReadonlyArray<string>>,
    inFlight: new Set<string>(),
    atOnce: 0,
    most: 0,
    before: Effect.void as Effect.Effect<void, Failure>,
    getAll: (keys: ReadonlyArray<string>) =>
      Effect.suspend(() => {
        source.asked.push(keys)
        source.most = Math.max(source.most, ++source.atOnce)
        for (const key of keys) assert.isFalse(source.inFlight.has(key), "one request per key in flight")
        for (const key of keys) source.inFlight.add(key)
        const ended = Effect.sync(() => {
          source.atOnce--
          for (const key of keys) source.inFlight.delete(key)
        })
        return Effect.as(
          Effect.ensuring(source.before, ended),
          new Map(keys.flatMap((key) => source.answers.has(key) ? [[key, source.answers.get(key)!] as const] : [])),
        )
      }),
    take: () => source.asked.splice(0),
  }
  return source
}

const value = (answer: Lookup.Answer<string>) =>
  answer._tag === "Found"
    ? `${answer.value}${answer.origin === "source" ? "" : ` (${answer.origin})`}`
    : answer._tag === "Missing"
    ? "missing"
    : answer.reason

const values = (lookup: Lookup.Lookup<string>, ...keys: ReadonlyArray<string | undefined>) =>
  Effect.map(lookup.getAll(keys), (answers) => answers.map(value))

const figure = (metric: Metric.Metric<number, unknown>, labels: Record<string, string> = {}) =>
  Effect.map(
    Metric.value(Metric.withAttributes(metric, { lookup: "names", ...labels })),
    (state) =>
      (state as { readonly count?: number; readonly value?: number }).count ?? (state as { value: number }).value,
  )

const test = <E>(name: string, body: Effect.Effect<void, E, Scope.Scope>) =>
  it.effect(name, () => Effect.provideService(body, Metric.MetricRegistry, new Map()))

describe("Lookup.make", () => {
  test(
    "asks once for each key of a batch, in requests of a bounded size, and then not again while it knows",
    Effect.gen(function* () {
      const source = sourceOf({ a: "ann", b: "ben", c: "cho", d: "dee", e: "eva" })
      const names = yield* Lookup.make({
        name: "names",
        getAll: source.getAll,
        batchSize: 2,
        cache: { ttl: "1 minute", missingTtl: "10 seconds" },
      })
      assert.deepStrictEqual(
        yield* values(names, "a", "b", undefined, "a", "x", "c", "a"),
        ["ann", "ben", "missing", "ann", "missing", "cho", "ann"],
      )
      assert.deepStrictEqual(source.take(), [["a", "b"], ["x", "c"]])
      yield* TestClock.adjust("9999 millis")
      assert.deepStrictEqual(yield* values(names, "a", "x", "d"), ["ann", "missing", "dee"])
      assert.deepStrictEqual(source.take(), [["d"]])
      yield* TestClock.adjust("1 millis")
      source.answers.set("x", "xia")
      assert.deepStrictEqual(yield* values(names, "a", "x"), ["ann", "xia"])
      assert.deepStrictEqual(source.take(), [["x"]])
      yield* TestClock.adjust("49999 millis")
      yield* values(names, "a")
      assert.deepStrictEqual(source.take(), [])
      yield* TestClock.adjust("1 millis")
      yield* values(names, "a")
      assert.deepStrictEqual(source.take(), [["a"]])
      assert.strictEqual(yield* figure(Lookup.metrics.hits), 1 + 1 + 1)
      assert.strictEqual(yield* figure(Lookup.metrics.negativeHits), 1)
      assert.strictEqual(yield* figure(Lookup.metrics.misses), 6 + 1 + 1 + 1)
      assert.strictEqual(yield* figure(Lookup.metrics.loads), 5)
      assert.strictEqual(yield* figure(Lookup.metrics.inFlight), 0)
    }),
  )

  test(
    "forgets what was used least recently, and counts it",
    Effect.gen(function* () {
      const source = sourceOf({ a: "ann", b: "ben", c: "cho" })
      const names = yield* Lookup.make({ name: "names", getAll: source.getAll, cache: { size: 2 } })
      for (const key of ["a", "b", "a", "c"]) yield* values(names, key)
      source.take()
      yield* values(names, "a", "c")
      assert.deepStrictEqual(source.take(), [])
      yield* values(names, "b")
      assert.deepStrictEqual(source.take(), [["b"]])
      assert.strictEqual(yield* figure(Lookup.metrics.evictions), 2)
      assert.deepStrictEqual(yield* values(names, "a", "b", "c", "d"), ["ann", "ben", "cho", "missing"])
    }),
  )

  test(
    "remembers nothing with a size of 0, and shares what is in flight all the same",
    Effect.gen(function* () {
      const source = sourceOf({ a: "ann" })
      const gate = yield* Deferred.make<void>()
      source.before = Deferred.await(gate)
      const names = yield* Lookup.make({ name: "names", getAll: source.getAll, cache: { size: 0 } })
      const first = yield* Effect.forkChild(values(names, "a", "a"))
      const second = yield* Effect.forkChild(values(names, "a", "x"))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(source.take(), [["a"], ["x"]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.join(first), ["ann", "ann"])
      assert.deepStrictEqual(yield* Fiber.join(second), ["ann", "missing"])
      yield* values(names, "a")
      assert.deepStrictEqual(source.take(), [["a"]])
      assert.strictEqual(yield* figure(Lookup.metrics.evictions), 0)
    }),
  )

  test(
    "has one request per key in flight, which goes on where the one who began it is stopped",
    Effect.gen(function* () {
      const source = sourceOf({ a: "ann" })
      const gate = yield* Deferred.make<void>()
      source.before = Deferred.await(gate)
      const names = yield* Lookup.make({ name: "names", getAll: source.getAll })
      const first = yield* Effect.forkChild(values(names, "a"))
      const second = yield* Effect.forkChild(values(names, "a"))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(first)
      assert.strictEqual(yield* figure(Lookup.metrics.inFlight), 1)
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.join(second), ["ann"])
      assert.deepStrictEqual(source.take(), [["a"]])
    }),
  )

  test(
    "makes so many requests at a time and no more, of all that ask together",
    Effect.gen(function* () {
      const source = sourceOf({})
      source.before = Effect.sleep("1 second")
      const names = yield* Lookup.make({ name: "names", getAll: source.getAll, batchSize: 3, concurrency: 2 })
      const keys = (from: number) => Array.from({ length: 7 }, (_, i) => String(from + i))
      const all = yield* Effect.forkChild(
        Effect.all([values(names, ...keys(0)), values(names, ...keys(100))], { concurrency: "unbounded" }),
      )
      yield* TestClock.adjust("2900 millis")
      assert.isUndefined(all.pollUnsafe())
      yield* TestClock.adjust("200 millis")
      yield* Fiber.join(all)
      assert.strictEqual(source.most, 2)
      assert.strictEqual(source.asked.length, 6)
    }),
  )

  test(
    "answers what is too slow, or fails, as a value; and does not ask again for a while",
    Effect.gen(function* () {
      const source = sourceOf({ a: "ann" })
      source.before = Effect.never
      const names = yield* Lookup.make({
        name: "names",
        getAll: source.getAll,
        timeout: "2 seconds",
        cache: { failureTtl: "1 second" },
      })
      const slow = yield* Effect.forkChild(names.getAll(["a", "b"]))
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(slow.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(
        yield* Fiber.join(slow),
        ["a", "b"].map(() => ({
          _tag: "Unavailable" as const,
          reason: "timeout" as const,
          message: "lookup names: no answer within 2s",
        })),
      )
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(yield* values(names, "a"), ["timeout"])
      assert.strictEqual(source.take().length, 1)
      source.before = Effect.fail(away)
      yield* TestClock.adjust("1 millis")
      const [failed] = yield* names.getAll(["a"])
      assert.deepStrictEqual(failed, { _tag: "Unavailable", reason: "failed", message: "lookup names: it is away" })
      source.before = Effect.void
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* values(names, "a"), ["ann"])
      assert.strictEqual(yield* figure(Lookup.metrics.failures, { reason: "timeout" }), 1)
      assert.strictEqual(yield* figure(Lookup.metrics.failures, { reason: "failed" }), 1)
    }),
  )

  test(
    "gives the time-out to each request from its turn on, not to the queue",
    Effect.gen(function* () {
      const source = sourceOf({ a: "ann", b: "ben", c: "cho" })
      source.before = Effect.sleep("900 millis")
      const names = yield* Lookup.make({
        name: "names",
        getAll: source.getAll,
        batchSize: 1,
        concurrency: 1,
        timeout: "1 second",
      })
      const asking = yield* Effect.forkChild(values(names, "a", "b", "c"))
      yield* TestClock.adjust("2700 millis")
      assert.deepStrictEqual(yield* Fiber.join(asking), ["ann", "ben", "cho"])
    }),
  )

  test(
    "answers the last known value where it may, then the fallback, then that nobody knows",
    Effect.gen(function* () {
      const source = sourceOf({ a: "ann", b: "ben" })
      const names = yield* Lookup.make({
        name: "names",
        getAll: source.getAll,
        cache: { ttl: "10 seconds", staleFor: "20 seconds", failureTtl: "1 second" },
        fallback: (key, why) => key === "b" ? `somebody, for ${why.reason}` : undefined,
      })
      assert.deepStrictEqual(yield* values(names, "a", "b", "x"), ["ann", "ben", "missing"])
      source.before = Effect.fail(away)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* values(names, "a", "b", "x"), ["ann (stale)", "ben (stale)", "failed"])
      assert.deepStrictEqual(yield* values(names, "a"), ["ann (stale)"])
      const [stale] = yield* names.getAll(["a"])
      assert.strictEqual((stale as Lookup.Found<string>).at, 0)
      yield* TestClock.adjust("19999 millis")
      assert.deepStrictEqual(yield* values(names, "a"), ["ann (stale)"])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        yield* values(names, "a", "b", "c"),
        ["failed", "somebody, for failed (fallback)", "failed"],
      )
      source.before = Effect.void
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* values(names, "a", "b"), ["ann", "ben"])
    }),
  )

  test(
    "refreshes what is asked for and grows old, while it answers what it has; what fails is tried again later",
    Effect.gen(function* () {
      const source = sourceOf({ a: "ann", b: "ben" })
      const names = yield* Lookup.make({
        name: "names",
        getAll: source.getAll,
        cache: { ttl: "10 seconds", refreshAhead: 0.8, failureTtl: "1 second" },
      })
      yield* values(names, "a", "b")
      source.take()
      source.answers.set("a", "anna")
      const gate = yield* Deferred.make<void>()
      source.before = Deferred.await(gate)
      yield* TestClock.adjust("7999 millis")
      yield* values(names, "a")
      assert.deepStrictEqual(source.take(), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* values(names, "a", "a"), ["ann", "ann"])
      assert.deepStrictEqual(yield* values(names, "a"), ["ann"])
      assert.deepStrictEqual(source.take(), [["a"]])
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.yieldNow
      assert.deepStrictEqual(yield* values(names, "a"), ["anna"])
      source.before = Effect.fail(away)
      assert.deepStrictEqual(yield* values(names, "b"), ["ben"])
      assert.deepStrictEqual(source.take(), [["b"]])
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(yield* values(names, "b"), ["ben"])
      assert.deepStrictEqual(source.take(), [])
      source.before = Effect.void
      source.answers.set("b", "benno")
      yield* TestClock.adjust("1 millis")
      yield* values(names, "b")
      assert.deepStrictEqual(source.take(), [["b"]])
      assert.deepStrictEqual(yield* values(names, "b"), ["benno"])
      for (let time = 0; time < 50; time++) {
        yield* TestClock.adjust("8 seconds")
        yield* values(names, "b")
        assert.deepStrictEqual(source.take(), [["b"]])
      }
    }),
  )

  test(
    "has a bounded number of refreshes at a time and waiting",
    Effect.gen(function* () {
      const source = sourceOf(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [i, "x"])))
      const names = yield* Lookup.make({
        name: "names",
        getAll: source.getAll,
        batchSize: 2,
        concurrency: 3,
        cache: { ttl: "10 seconds", refreshAhead: 0.5 },
      })
      const keys = Array.from({ length: 100 }, (_, i) => String(i))
      yield* values(names, ...keys)
      source.take()
      source.before = Effect.never
      yield* TestClock.adjust("5 seconds")
      yield* values(names, ...keys)
      yield* values(names, ...keys)
      assert.strictEqual(source.asked.length, 3)
      assert.strictEqual(source.atOnce, 3)
      // A value that is too old is asked for by those who need it, beside the refreshes.
      source.before = Effect.void
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* values(names, ...keys)).length, 100)
      assert.strictEqual(source.asked.flat().length, 100)
    }),
  )

  test(
    "answers a value that its schema refuses as such, the others of its request as they are",
    Effect.gen(function* () {
      const source = sourceOf({ a: "ann" })
      source.answers.set("b", new Lookup.Undecodable({ field: "name", message: "Expected string" }))
      const names = yield* Lookup.make({ name: "names", getAll: source.getAll })
      const [a, b] = yield* names.getAll(["a", "b"])
      assert.strictEqual(a!._tag, "Found")
      assert.deepStrictEqual(b, {
        _tag: "Unavailable",
        reason: "undecodable",
        message: "lookup names: a value is not what its schema says: name: Expected string",
      })
    }),
  )

  test(
    "asks a source of single keys for one at a time, and forgets what it is told to forget",
    Effect.gen(function* () {
      let asked = 0
      const names = yield* Lookup.make({
        name: "names",
        get: (key) => Effect.sync(() => key === "a" ? `ann ${++asked}` : undefined),
      })
      assert.deepStrictEqual(yield* values(names, "a", "b", "a"), ["ann 1", "missing", "ann 1"])
      yield* names.invalidate("a")
      assert.strictEqual(value(yield* names.get("a")), "ann 2")
    }),
  )

  test(
    "answers that it was closed to those who wait when its scope ends, and afterwards",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const source = sourceOf({})
      source.before = Effect.never
      const names = yield* Scope.provide(Lookup.make({ name: "names", getAll: source.getAll }), scope)
      const waiting = yield* Effect.forkChild(names.get("a"))
      yield* Effect.yieldNow
      yield* Scope.close(scope, Exit.void)
      const closed = { _tag: "Unavailable", reason: "failed", message: "lookup names: it was closed" }
      assert.deepStrictEqual(yield* Fiber.join(waiting), closed as Lookup.Unavailable)
      assert.deepStrictEqual(yield* names.get("b"), closed as Lookup.Unavailable)
    }),
  )

  it("refuses settings that make no sense", () => {
    const get = () => Effect.succeed("x")
    const getAll = () => Effect.succeed(new Map<string, string>())
    const refused = (make: () => unknown, message: string) => assert.throws(make, message)
    refused(() => Lookup.make({ name: "n", get, cache: { size: -1 } }), "size is a whole number from 0; it was -1")
    refused(() => Lookup.make({ name: "n", get, cache: { ttl: 0 } }), "lookup n: ttl is at least 1 ms; it was 0")
    refused(() => Lookup.make({ name: "n", get, cache: { refreshAhead: 2 } }), "refreshAhead is a share of ttl")
    refused(() => Lookup.make({ name: "n", getAll, batchSize: 0 }), "batchSize is a whole number from 1")
    refused(() => Lookup.make({ name: "n", getAll, concurrency: 0.5 }), "concurrency is a whole number from 1")
    refused(() => Lookup.make({ name: "n", getAll, timeout: 0 }), "timeout is at least 1 ms")
    refused(() => Lookup.reference({ name: "n", load: getAll(), every: 0 }), "every is longer than nothing")
  })

  it.effect("answers what the source does, whatever is asked for, when, by how many at once and how small the cache is", () =>
    forSeeds(60, (dice) =>
      Effect.gen(function* () {
        const source = sourceOf({})
        for (let i = 0; i < 10; i += 1 + dice.int(0, 1)) source.answers.set(String(i), `v${i}`)
        source.before = Effect.suspend(() => Effect.sleep(dice.int(0, 3)))
        const ttl = dice.int(1, 50)
        const names = yield* Lookup.make({
          name: "names",
          getAll: source.getAll,
          batchSize: dice.int(1, 4),
          concurrency: dice.int(1, 3),
          timeout: "1 hour",
          cache: { size: dice.int(0, 6), ttl, missingTtl: dice.int(0, 20), refreshAhead: dice.pick([0.5, 0.9, 1]) },
        })
        const asker = Effect.gen(function* () {
          for (let i = 0; i < 10; i++) {
            const keys = dice.list(0, 8, () => dice.pick([undefined, ...Array.from("0123456789")]))
            const answers = yield* values(names, ...keys)
            assert.deepStrictEqual(
              answers,
              keys.map((key) => (key !== undefined && source.answers.get(key) as string) || "missing"),
            )
            yield* Effect.sleep(dice.int(0, 10))
          }
        })
        const all = yield* Effect.forkChild(Effect.all([asker, asker, asker], { concurrency: "unbounded" }))
        while (all.pollUnsafe() === undefined) yield* TestClock.adjust(1)
        yield* Fiber.join(all)
        assert.isAtMost(source.most, 6)
      }).pipe(Effect.scoped)))
})

describe("Lookup.reference", () => {
  const load = (of: { now: Record<string, string> | Failure }) =>
    Effect.suspend(() =>
      "_tag" in of.now ? Effect.fail(of.now as Failure) : Effect.succeed(new Map(Object.entries(of.now)))
    )

  test(
    "answers from the set that was loaded last, keeps it where a load fails, and says when it is too old",
    Effect.gen(function* () {
      const source: { now: Record<string, string> | Failure } = { now: { a: "ann" } }
      const names = yield* Lookup.reference({
        name: "names",
        load: load(source),
        every: "1 minute",
        retryEvery: "5 seconds",
        maxAge: "90 seconds",
      })
      assert.deepStrictEqual(yield* values(names, "a", "b", undefined), ["ann", "missing", "missing"])
      source.now = { b: "ben" }
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(yield* values(names, "a", "b"), ["ann", "missing"])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* values(names, "a", "b"), ["missing", "ben"])
      source.now = away
      yield* TestClock.adjust("90 seconds")
      assert.deepStrictEqual(yield* values(names, "b"), ["ben"])
      assert.strictEqual(yield* figure(Lookup.metrics.age), 90)
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* names.getAll(["b", undefined]), [
        {
          _tag: "Unavailable",
          reason: "outdated",
          message: "lookup names: its set is older than 1m 30s: it is away",
        },
        { _tag: "Missing" },
      ])
      source.now = { b: "benno" }
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* values(names, "b"), ["benno"])
    }),
  )

  test(
    "answers a batch from one set, also while the next one is being loaded",
    Effect.gen(function* () {
      let generation = 0
      const names = yield* Lookup.reference({
        name: "names",
        load: Effect.suspend(() => {
          const of = String(generation++)
          return Effect.delay(Effect.succeed(new Map([["a", of], ["b", of]])), of === "0" ? 0 : "1 second")
        }),
        every: "10 seconds",
      })
      for (let i = 0; i < 60; i++) {
        const [a, b] = yield* values(names, "a", "b")
        assert.strictEqual(a, b)
        assert.strictEqual(a, String(Math.floor(i / 11)))
        yield* TestClock.adjust("1 second")
      }
    }),
  )

  test(
    "fails at the start with what the first load fails with, and outlives a later one that throws or hangs",
    Effect.gen(function* () {
      const refused = yield* Effect.flip(
        Lookup.reference({ name: "names", load: load({ now: away }), every: "1 minute" }),
      )
      assert.strictEqual(refused.message, "it is away")
      let loads = 0
      const names = yield* Lookup.reference({
        name: "names",
        load: Effect.suspend(() => {
          loads++
          if (loads === 2) throw new TypeError("no")
          return loads === 3 ? Effect.never : Effect.succeed(new Map([["a", String(loads)]]))
        }),
        every: "1 minute",
        retryEvery: "1 second",
        timeout: "3 seconds",
      })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual([loads, yield* values(names, "a")], [2, ["1"]])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([loads, yield* values(names, "a")], [3, ["1"]])
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual([loads, yield* values(names, "a")], [4, ["4"]])
    }).pipe(Effect.provide(Logger.layer([]))),
  )

  test(
    "is refreshed when it is told",
    Effect.gen(function* () {
      const source: { now: Record<string, string> | Failure } = { now: { a: "ann" } }
      const names = yield* Lookup.reference({ name: "names", load: load(source), every: "1 hour" })
      source.now = { a: "anna" }
      assert.isTrue(yield* names.refresh)
      assert.deepStrictEqual(yield* values(names, "a"), ["anna"])
      source.now = away
      assert.isFalse(yield* names.refresh)
      assert.deepStrictEqual(yield* values(names, "a"), ["anna"])
    }),
  )
})

class Names extends Context.Service<Names, Lookup.Lookup<string>>()("test/Names") {}

const readings = (ids: ReadonlyArray<string>) =>
  sources(Readings, ids.map((id, n) => ({ key: id, value: JSON.stringify({ id, n, at: 1 }), timestamp: 1 })), [2])

describe("Lookup.by", () => {
  test(
    "joins every value with the answer for its key, through a service that tasks share",
    Effect.gen(function* () {
      const source = sourceOf({ ann: "Ann", ben: "Ben" })
      const layer = Layer.effect(Names, Lookup.make({ name: "names", getAll: source.getAll }))
      const flow = decoded.pipe(Lookup.by(Names, {
        key: (reading) => reading.id === "none" ? undefined : reading.id,
        join: (reading, found, record) => ({
          ...reading,
          name: Lookup.getOrElse(found, () => "nobody"),
          offset: record.offset,
        }),
      }))
      const context = yield* Layer.build(layer)
      const runOnce = Effect.provideContext(
        run(flow as Flow.Flow<unknown, unknown>, new Map([[Readings, readings(["ann", "none", "ben", "ann", "zoe"])]])),
        context as Context.Context<never>,
      )
      for (let task = 0; task < 2; task++) {
        const { batches } = yield* runOnce
        assert.deepStrictEqual(
          batches.flatMap(({ values }) => values as ReadonlyArray<{ name: string; offset: number }>)
            .map(({ name, offset }) => [name, offset]),
          [["Ann", 0], ["nobody", 1], ["Ben", 2], ["Ann", 3], ["nobody", 4]],
        )
        assert.strictEqual(batches.length, 2)
        assert.deepStrictEqual(batches.map((batch) => batch.values.map((_, i) => text(keyBytes(batch, i)!))), [
          ["ann", "none"],
          ["ben", "ann", "zoe"],
        ])
      }
      assert.deepStrictEqual(source.take(), [["ann"], ["ben", "zoe"]])
    }),
  )

  const failing = (reason: string) =>
    Lookup.make({
      name: "names",
      getAll: (keys) =>
        keys.includes("bad")
          ? Effect.fail({ _tag: "Away", message: reason } as Failure)
          : Effect.succeed(new Map(keys.map((key) => [key, key.toUpperCase()]))),
      batchSize: 1,
    })

  test(
    "fails a record whose lookup is not answered, where it is told to",
    Effect.gen(function* () {
      const names = yield* failing("it is away")
      const flow = decoded.pipe(Lookup.by(Effect.succeed(names), {
        key: ({ id }) => id,
        join: (_, found) => found._tag === "Found" ? found.value : "missing",
        onUnavailable: "fail",
      }))
      const { batches } = yield* run(flow, new Map([[Readings, readings(["ann", "bad", "ben"])]]))
      assert.deepStrictEqual(batches.map(({ values }) => values), [["ANN"], ["BEN"]])
      const [failed] = batches.flatMap(({ failed }) => failed)
      assert.deepInclude(failed!, { row: 1 })
      assert.deepInclude(failed!.reason, {
        _tag: "LookupFailed",
        lookup: "names",
        reason: "failed",
        message: "lookup names: it is away",
      })
    }),
  )

  test(
    "waits for an answer where it is told to, and fails what waiting does not change",
    Effect.gen(function* () {
      const source = sourceOf({ ann: "Ann" })
      source.answers.set("bad", new Lookup.Undecodable({ field: "", message: "no" }))
      source.before = Effect.fail(away)
      const names = yield* Lookup.make({ name: "names", getAll: source.getAll })
      const flow = decoded.pipe(Lookup.by(Effect.succeed(names), {
        key: ({ id }: Reading) => id,
        join: (_, found) => found._tag,
        onUnavailable: "hold",
      }))
      const held: Array<number> = []
      const holding = { hold: () => void held.push(1), release: () => void held.push(-1), gate: Effect.void }
      const fiber = yield* Effect.forkChild(
        Effect.provideService(
          run(flow, new Map([[Readings, readings(["ann", "zoe", "bad"])]])),
          Task.HoldingBack,
          holding,
        ),
      )
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(fiber.pollUnsafe())
      assert.isAbove(source.take().length, 5)
      source.before = Effect.void
      yield* TestClock.adjust("10 seconds")
      const { batches } = yield* Fiber.join(fiber)
      assert.deepStrictEqual(batches.flatMap(({ values }) => values), ["Found", "Missing"])
      assert.deepStrictEqual(batches.flatMap(({ failed }) => failed.map(({ row }) => row)), [0])
      assert.isAbove(held.length, 10)
      assert.deepStrictEqual(held, held.map((_, i) => i % 2 === 0 ? 1 : -1))
      assert.strictEqual(held.length % 2, 0)
    }).pipe(Effect.provide(Logger.layer([]))),
  )

  test(
    "asks nothing again while its task is to let go",
    Effect.gen(function* () {
      const source = sourceOf({ ann: "Ann" })
      source.before = Effect.fail(away)
      const names = yield* Lookup.make({ name: "names", getAll: source.getAll })
      const flow = decoded.pipe(Lookup.by(Effect.succeed(names), {
        key: ({ id }: Reading) => id,
        join: (_, found) => found._tag,
        onUnavailable: "hold",
      }))
      const gate = yield* Latch.make(true)
      const holding = { hold: () => {}, release: () => {}, gate: Effect.asVoid(gate.await) }
      const fiber = yield* Effect.forkChild(
        Effect.provideService(run(flow, new Map([[Readings, readings(["ann"])]])), Task.HoldingBack, holding),
      )
      yield* TestClock.adjust("10 seconds")
      yield* gate.close
      source.take()
      source.before = Effect.void
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(source.take(), [])
      yield* gate.open
      const { batches } = yield* Fiber.join(fiber)
      assert.deepStrictEqual(batches.flatMap(({ values }) => values), ["Found"])
    }).pipe(Effect.provide(Logger.layer([]))),
  )

  test(
    "names the record where a function throws: the key's, the source's, the fallback's or the join's",
    Effect.gen(function* () {
      const boom = () => {
        throw new TypeError("boom")
      }
      const at = (flow: Flow.Flow<unknown, unknown>) =>
        Effect.map(
          Effect.exit(run(flow, new Map([[Readings, readings(["ann", "ben", "bad"])]]))),
          (exit) => Exit.isFailure(exit) ? String(exit.cause) : "it succeeded",
        )
      const getAll = (keys: ReadonlyArray<string>) =>
        keys.includes("bad") ? boom() : Effect.succeed(new Map<string, string>())
      const throwing = yield* Lookup.make({ name: "names", getAll, batchSize: 1 })
      const quiet = yield* failing("away")
      const unlucky = yield* Lookup.make({
        name: "names",
        getAll: (keys) => keys.includes("bad") ? Effect.fail(away) : Effect.succeed(new Map<string, string>()),
        batchSize: 1,
        fallback: boom,
      })
      const key = ({ id }: Reading) => id
      const join = () => 1
      const isBad = ({ id }: Reading) => id === "bad" ? boom() : undefined
      for (
        const flow of [
          decoded.pipe(Lookup.by(Effect.succeed(throwing), { key, join })),
          decoded.pipe(Lookup.by(Effect.succeed(unlucky), { key, join })),
          decoded.pipe(Lookup.by(Effect.succeed(quiet), { key: isBad, join })),
          decoded.pipe(Lookup.by(Effect.succeed(quiet), { key, join: (reading: Reading) => isBad(reading) })),
        ]
      ) {
        assert.include(
          yield* at(flow as Flow.Flow<unknown, unknown>),
          "a stage's function threw at topic readings partition 0 offset 2: TypeError: boom",
        )
      }
      // What threw was not remembered, and fails again.
      assert.include(
        yield* at(decoded.pipe(Lookup.by(Effect.succeed(unlucky), { key, join })) as Flow.Flow<unknown, unknown>),
        "offset 2",
      )
    }),
  )
})

/** What a join may look at, and what it leaves to be routed: these are for the compiler. */
export const typed = (names: Lookup.Lookup<string>) => {
  const key = ({ id }: Reading) => id
  // @ts-expect-error: somebody who does not look takes what nobody knows for what is not there
  decoded.pipe(Lookup.by(Effect.succeed(names), { key, join: (_, found) => found.value }))
  const told = decoded.pipe(Lookup.by(Effect.succeed(names), { key, join: (_, found) => found._tag }))
  const routed: Flow.Flow<"Found" | "Missing" | "Unavailable", DecodeFailed, unknown, unknown> = told
  const failing = decoded.pipe(
    Lookup.by(Effect.succeed(names), { key, join: (_, found) => found._tag, onUnavailable: "fail" }),
  )
  // @ts-expect-error: LookupFailed has no route
  const unrouted: Flow.Flow<"Found" | "Missing", DecodeFailed, unknown, unknown> = failing
  const both: Flow.Flow<"Found" | "Missing", DecodeFailed | Lookup.LookupFailed, unknown, unknown> = failing
  return [routed, unrouted, both]
}

type DecodeFailed = Decode.DecodeError

describe("Lookup.by that holds", () => {
  it.effect("lets its task go to another process meanwhile, and loses nothing of what it holds", () =>
    Effect.gen(function* () {
      const In = readingsOf("in", 2)
      yield* Admin.createTopics([In, Copies, Dlt])
      let isAway = true
      const names = yield* Lookup.make({
        name: "names",
        get: () => Effect.suspend(() => isAway ? Effect.fail(away) : Effect.succeed("name")),
      })
      const pipeline = Pipeline.make(
        "holding",
        Ingest.topic(In).pipe(
          Decode.schema,
          Lookup.by(Effect.succeed(names), {
            key: ({ id }) => String(id),
            join: (reading) => reading,
            onUnavailable: "hold",
          }),
          Deliver.to(Copies),
          Failures.routeAll(DeadLetter.to(Dlt)),
        ),
        Guarantee.exactlyOnce(),
      )
      const first = yield* running(pipeline)
      for (const partition of [0, 1]) yield* append("in", partition, [{ id: partition, at: 1 }])
      yield* pass(2_000)
      yield* running(pipeline)
      const members = Effect.flatMap(Cluster, (cluster) =>
        Effect.map(
          cluster.describeGroups(["holding"]),
          ([group]) => group!.state === "Stable" ? group!.members.length : 0,
        ))
      const from = yield* Clock.currentTimeMillis
      yield* until("both in the group", Effect.map(members, (members) => members === 2))
      yield* stop(first)
      assert.isBelow((yield* Clock.currentTimeMillis) - from, 4_000)
      yield* pass(1_000)
      assert.deepStrictEqual(yield* copies, [])
      isAway = false
      yield* copied(0, 1)
      assert.deepStrictEqual((yield* copies).toSorted(), [0, 1])
    }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer()), Effect.provide(Logger.layer([]))))
})
