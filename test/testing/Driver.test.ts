/** The public test driver: what it feeds, reads and starts, and what it says where something is wrong. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Exit, Fiber, Layer, Logger } from "effect"
import { Decode, Deliver, Failures, Flow, Guarantee, Ingest, Pipeline, Producer, Topic } from "../../src/index.ts"
import { Driver, Faults } from "../../src/testing/index.ts"
import {
  ByPage,
  click,
  Clicks,
  common,
  Counts,
  exactly,
  Late,
  later,
  Popular,
  popular,
  Refused,
  some,
} from "../support/ClickCounts.ts"
import { failure } from "../support/DriverFailure.ts"

describe("a run", () => {
  it.effect("feeds by contract, settles, and reads topics, latest values, letters, stores and counts", () =>
    Driver.run({ pipelines: exactly }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Clicks, some)
        yield* driver.feedBytes(Clicks, ["{", { value: null, key: "gone", partition: 2, headers: { a: "b" } }])
        yield* driver.settle
        assert.sameDeepMembers([...yield* driver.latest(Counts)], [
          ["/a@0", { page: "/a", start: 0, clicks: 2, final: false }],
          ["/b@0", { page: "/b", start: 0, clicks: 1, final: false }],
        ])
        const moved = yield* driver.read(ByPage)
        assert.deepStrictEqual(moved.map(({ key, value }) => [key, value!.user]).toSorted(), [
          ["/a", "ann"],
          ["/a", "ben"],
          ["/b", "ann"],
        ])
        const letters = yield* driver.letters(Refused)
        const refused = letters.map(({ reason, field, value, key }) => [reason, field, key, value])
        assert.sameDeepMembers(refused, [
          ["Nowhere", "page", "ann", JSON.stringify(some[4])],
          ["DecodeError", "", null, "{"],
          ["DecodeError", "", "gone", null],
        ])
        const gone = (yield* driver.readBytes(Refused)).find(({ value }) => value === null)!
        assert.strictEqual(String(gone.headers.find(([name]) => name === "a")![1]), "b")
        assert.sameDeepMembers([...yield* driver.store(exactly, "minutes")], [
          ["0:/a", 2],
          ["0:/b", 1],
        ])
        assert.deepStrictEqual(yield* driver.counts(exactly), {
          read: { clicks: 7, "clicks.by-page": 3 },
          written: { "clicks.by-page": 3, "clicks.dlt": 3, counts: 2 },
          dropped: { robot: 1 },
          failed: { Nowhere: 1, DecodeError: 2 },
          folded: { minutes: 3 },
        })
      })))

  it.effect("puts records where the test says", () =>
    Driver.run({ pipelines: exactly, now: 1_000_000 }, (driver) =>
      Effect.gen(function* () {
        const own = Driver.record({ value: some[0]!, key: "k", partition: 2, timestamp: 7, headers: { h: "1" } })
        yield* driver.feed(Clicks, [own, Driver.record({ value: some[1]!, key: null }), some[1]!])
        const read = yield* driver.read(Clicks)
        assert.deepInclude(read.find(({ key }) => key === "k"), { partition: 2, timestamp: 7 })
        assert.deepStrictEqual(
          read.find(({ key }) => key === "k")!.headers.map(([name, value]) => `${name} ${value}`),
          [
            "h 1",
          ],
        )
        assert.deepInclude(read.find(({ key }) => key === null), { partition: 0, timestamp: 1_000_000 })
        assert.deepInclude(read.find(({ key }) => key === "ben"), { partition: 1, offset: 0 })
      })))

  it.effect("takes what came since the last time, and reads again what was read before", () =>
    Driver.run({ pipelines: exactly }, (driver) =>
      Effect.gen(function* () {
        const rounds: Array<ReadonlyArray<number>> = []
        for (let i = 0; i < 3; i++) {
          yield* driver.feed(Clicks, [click("ann", "/a", i)])
          yield* driver.settle
          rounds.push((yield* driver.take(Counts)).map(({ value }) => value!.clicks))
        }
        assert.deepStrictEqual(rounds, [[1], [2], [3]])
        assert.strictEqual((yield* driver.take(Counts)).length, 0)
        assert.strictEqual((yield* driver.read(Counts)).length, 3)
      })))

  it.effect("closes windows by event time, and tells what is late", () =>
    Driver.run({ pipelines: [exactly, popular] }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Clicks, [...some, ...later])
        yield* driver.settle
        yield* driver.feed(Clicks, [click("ann", "/a", 10)])
        yield* driver.settle
        const [letter, ...others] = yield* driver.letters(Late)
        assert.deepStrictEqual(others, [])
        assert.deepInclude(letter, { reason: "Late", topic: "clicks.by-page", key: "/a" })
        assert.deepStrictEqual((yield* driver.read(Popular)).map(({ key, value }) => [key, value!.clicks]), [["/a", 2]])
      })))

  it.effect("passes through a chain of pipelines with markers that come late", () =>
    Driver.run(
      { pipelines: [popular, exactly], cluster: { markerDelay: "150 millis", nodes: 3 } },
      (driver) =>
        Effect.gen(function* () {
          yield* driver.feed(Clicks, [...some, ...later])
          yield* driver.settle
          assert.strictEqual((yield* driver.read(Popular)).length, 1)
          assert.deepStrictEqual(yield* driver.counts(popular), {
            read: { counts: 42 },
            written: { popular: 1 },
            dropped: { "not popular": 41 },
            failed: {},
            folded: {},
          })
        }),
    ))

  class Prices extends Context.Service<Prices, { readonly of: (page: string) => number }>()("Prices") {}
  const priced = Pipeline.make(
    "priced",
    Ingest.topic(Clicks).pipe(
      Decode.schema,
      Flow.effect(({ page }) => Effect.map(Prices, ({ of }) => ({ page, start: 0, clicks: of(page), final: true }))),
      Deliver.to(Popular),
      Failures.routeAll(Failures.skip),
    ),
    Guarantee.atLeastOnce(),
  )

  it.effect("gives pipelines the services of the test, and answers what the test answers", () =>
    Driver.run({ pipelines: priced, topics: [Late] }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Clicks, some)
        yield* driver.settle
        yield* driver.feedBytes(Late, ["x"])
        assert.strictEqual((yield* driver.readBytes(Late)).length, 1)
        return (yield* driver.read(Popular)).length
      })).pipe(
        Effect.map((read) => assert.strictEqual(read, some.length)),
        Effect.provideService(Prices, { of: (page) => page.length }),
      ))

  it.effect("makes services anew at every run, over its cluster and its clock, for pipelines and the test", () =>
    Effect.gen(function* () {
      let made = 0
      const layer = Layer.merge(
        Producer.layer(),
        Layer.effect(
          Prices,
          Effect.gen(function* () {
            made++
            yield* Effect.logWarning("prices are old")
            const now = yield* Clock.currentTimeMillis
            return { of: () => now }
          }),
        ),
      )
      const run = Driver.run({ pipelines: priced, layer, now: 7_000 }, (driver) =>
        Effect.gen(function* () {
          const sending = yield* Effect.forkChild(Producer.publish(Clicks, some))
          yield* driver.advance("1 second")
          yield* Fiber.join(sending)
          yield* driver.settle
          assert.strictEqual((yield* Prices).of(""), 7_000)
          assert.deepStrictEqual(yield* driver.logs, [
            { at: 7_000, level: "Warn", pipeline: "", member: 0, message: "prices are old" },
          ])
          assert.deepStrictEqual((yield* driver.values(Popular)).map((one) => one!.clicks), some.map(() => 7_000))
        }))
      yield* run
      yield* run
      assert.strictEqual(made, 2)
    }))

  it.effect("moves the clock by exactly what it is told", () =>
    Driver.run({ pipelines: exactly, now: 5_000 }, (driver) =>
      Effect.gen(function* () {
        yield* driver.advance("10 minutes")
        assert.strictEqual(yield* Clock.currentTimeMillis, 5_000 + 600_000)
        yield* driver.feed(Clicks, some)
        yield* driver.settle
        assert.strictEqual((yield* driver.read(Counts)).length, 2)
      })))
})

describe("the clock of a run", () => {
  it.effect("shows whole milliseconds, as every real one, also after waiting for parts of one", () =>
    Driver.run({ pipelines: [] }, (driver) =>
      Effect.gen(function* () {
        const seen: Array<number> = []
        const from = yield* Clock.currentTimeMillis
        const waiting = Effect.andThen(
          Effect.sleep({ milliseconds: 1.5 }),
          Effect.map(Clock.currentTimeMillis, (now) => void seen.push(now - from)),
        )
        yield* Effect.forkChild(Effect.repeat(waiting, { times: 2 }))
        yield* driver.advance("10.5 millis")
        assert.deepStrictEqual(seen, [2, 4, 6])
        assert.strictEqual((yield* Clock.currentTimeMillis) - from, 11)
      })))
})

describe("a seed", () => {
  const outcome = (seed: number) =>
    Driver.run(
      { pipelines: [exactly, popular], seed, cluster: { markerDelay: "20 millis" } },
      (driver) =>
        Effect.gen(function* () {
          yield* driver.inject(Faults.random(seed, { refuse: 0.05, loseAnswer: 0.05, delay: 0.1 }))
          yield* driver.feed(Clicks, some)
          yield* driver.advance("200 millis")
          const second = yield* driver.start(exactly)
          yield* driver.feed(Clicks, later)
          yield* driver.settle
          yield* second.crash
          yield* driver.feed(Clicks, some)
          yield* driver.settle
          return {
            calls: yield* driver.calls,
            logs: yield* driver.logs,
            out: yield* Effect.all([Counts, Popular].map((topic) => driver.readBytes(topic))),
          }
        }),
    )

  it.effect("makes a run the same to every call, log line and record", () =>
    Effect.gen(function* () {
      const first = yield* outcome(3)
      assert.isAbove(first.calls.length, 100)
      assert.deepStrictEqual(yield* outcome(3), first)
      assert.notDeepEqual((yield* outcome(4)).calls, first.calls)
    }))
})

describe("programs", () => {
  it.effect("share the tasks when one starts, and hand them over when one stops or crashes", () =>
    Driver.run({ pipelines: exactly }, (driver) =>
      Effect.gen(function* () {
        const shares = Effect.flatMap(driver.members, (members) => Effect.all(members.map(({ tasks }) => tasks)))
        yield* driver.feed(Clicks, some)
        yield* driver.settle
        assert.deepStrictEqual(yield* shares, [6])
        const second = yield* driver.start(exactly)
        yield* driver.feed(Clicks, some)
        yield* driver.settle
        assert.deepStrictEqual(yield* shares, [3, 3])
        const [first] = yield* driver.members
        yield* first!.stop
        yield* driver.feed(Clicks, some)
        yield* driver.settle
        assert.deepStrictEqual([yield* shares, yield* first!.tasks, yield* first!.ended], [[6], 0, undefined])
        yield* second.crash
        const third = yield* driver.start(exactly)
        yield* driver.feed(Clicks, later)
        yield* driver.settle
        assert.deepStrictEqual([yield* shares, third.number], [[6], 3])
        assert.strictEqual((yield* driver.latest(Counts)).get("/a@0")?.clicks, 6)
        assert.isUndefined(yield* second.ended)
      })))

  it.effect("crash and come back, with their state from the changelog", () =>
    Driver.run({ pipelines: [exactly, popular] }, (driver) =>
      Effect.gen(function* () {
        for (let i = 0; i < 3; i++) {
          yield* driver.feed(Clicks, some)
          yield* driver.advance(i * 60)
          yield* driver.crash
          yield* driver.restart
        }
        yield* driver.feed(Clicks, later)
        yield* driver.settle
        assert.deepInclude((yield* driver.latest(Counts)).get("/a@0"), { clicks: 6, final: true })
        assert.strictEqual((yield* driver.read(Popular)).length, 2)
        assert.strictEqual((yield* driver.members).length, 2)
      })))

  it.effect("that crashed reach nobody any more", () =>
    Driver.run({ pipelines: exactly }, (driver) =>
      Effect.gen(function* () {
        yield* driver.settle
        yield* driver.feed(Clicks, some)
        yield* driver.advance("50 millis")
        yield* driver.crash
        const before = (yield* driver.calls).length
        yield* driver.advance("1 minute")
        assert.strictEqual((yield* driver.calls).length, before)
        assert.deepStrictEqual(yield* driver.read(Counts), [])
        assert.deepStrictEqual(yield* driver.members, [])
      })))

  it.effect("are started by the test alone where it says so", () =>
    Driver.run({ pipelines: exactly, start: false }, (driver) =>
      Effect.gen(function* () {
        yield* driver.settle
        yield* driver.feed(Clicks, some)
        failure("no program of counting was started", { reason: "Ended" })(yield* Effect.flip(driver.settle))
        yield* driver.start(exactly)
        yield* driver.settle
        assert.strictEqual((yield* driver.latest(Counts)).size, 2)
      })))
})

describe("faults", () => {
  it.effect("crash the program that makes a call, and another follows", () =>
    Driver.run({ pipelines: [popular, exactly] }, (driver) =>
      Effect.gen(function* () {
        yield* driver.settle
        yield* driver.inject(Faults.at("EndTxn", 1, Driver.crashAfter))
        yield* driver.feed(Clicks, some)
        yield* driver.settle
        assert.deepStrictEqual((yield* driver.members).map(({ pipeline, number }) => [pipeline, number]), [
          ["popular", 1],
          ["counting", 3],
        ])
        assert.strictEqual((yield* driver.latest(Counts)).get("/a@0")?.clicks, 2)
      })))

  it.effect("for one program are counted by its own calls, and crash it alone", () =>
    Driver.run({ pipelines: exactly, start: false }, (driver) =>
      Effect.gen(function* () {
        const first = yield* driver.start(exactly, Faults.at("Produce", 2, Driver.crashBefore))
        const second = yield* driver.start(exactly)
        yield* driver.settle
        for (let i = 0; i < 3; i++) {
          yield* driver.feed(Clicks, [...some, ...later.map((one) => ({ ...one, at: i }))])
          yield* driver.settle
        }
        assert.deepStrictEqual((yield* driver.members).map(({ number }) => number), [2, 3])
        assert.strictEqual((yield* first.calls).filter(({ operation }) => operation === "Produce").length, 2)
        assert.isAbove((yield* second.calls).filter(({ operation }) => operation === "Produce").length, 2)
        assert.strictEqual((yield* driver.latest(Counts)).get("/a@0")?.clicks, 6)
      })))

  it.effect("crash a program after a call only once the call was carried out, and one follows then", () =>
    Driver.run({ pipelines: exactly }, (driver) =>
      Effect.gen(function* () {
        yield* driver.settle
        yield* driver.inject(Faults.at("Fetch", 1, Driver.crashAfter))
        const seen = new Set<string>()
        for (let passed = 0; passed < 3_000; passed += 50) {
          yield* driver.advance(50)
          seen.add((yield* driver.members).map(({ number }) => number).join())
        }
        assert.deepStrictEqual([...seen], ["1", "2"])
      })))

  it.effect("of an outage are survived, and what programs say of it is kept and not printed", () =>
    Effect.gen(function* () {
      const printed: Array<unknown> = []
      const logger = Logger.make(({ message }) => printed.push(message))
      const lines = (logLevel?: "Warn" | "Error") =>
        Driver.run(
          { pipelines: exactly, ...logLevel === undefined ? {} : { logLevel } },
          (driver) =>
            Effect.gen(function* () {
              const from = yield* Clock.currentTimeMillis
              yield* driver.settle
              yield* driver.inject(Faults.outage("Produce", 1, "40 seconds", Faults.unreachable))
              yield* driver.feed(Clicks, some)
              yield* driver.settle
              assert.strictEqual((yield* driver.latest(Counts)).get("/a@0")?.clicks, 2)
              assert.isAtLeast((yield* Clock.currentTimeMillis) - from, 40_000)
              return yield* driver.logs
            }),
        ).pipe(Effect.provide(Logger.layer([logger])))
      const [line, ...others] = yield* lines()
      assert.deepInclude(line, { pipeline: "counting", member: 1, level: "Warn" })
      assert.include(line!.message, "a commit failed and is tried again")
      assert.deepStrictEqual(printed, [])
      yield* lines("Error")
      assert.deepStrictEqual(printed, [])
      yield* lines("Warn")
      assert.strictEqual(printed.length, 1 + others.length)
    }))
})

describe("one program", () => {
  it.effect("that is cut off for longer than its session loses its tasks to another, and comes back", () =>
    Driver.run({ pipelines: exactly }, (driver) =>
      Effect.gen(function* () {
        const second = yield* driver.start(exactly)
        yield* driver.settle
        const [first] = yield* driver.members
        yield* first!.inject(Faults.every(() => true, Faults.unreachable))
        yield* driver.feed(Clicks, some)
        yield* driver.advance("10 seconds")
        assert.strictEqual(yield* second.tasks, 6)
        assert.strictEqual((yield* driver.latest(Counts)).get("/a@0")?.clicks, 2)
        yield* first!.inject(Faults.none)
        yield* driver.feed(Clicks, some)
        yield* driver.settle
        assert.deepStrictEqual([yield* first!.tasks, yield* second.tasks], [3, 3])
        assert.strictEqual((yield* driver.latest(Counts)).get("/a@0")?.clicks, 4)
      })))
})

describe("mistakes", () => {
  const fails = (
    message: string,
    parts: Partial<Driver.DriverError>,
    test: (driver: Driver.Driver) => Effect.Effect<unknown, unknown>,
  ) =>
    Driver.run(
      { pipelines: exactly, topics: [Popular] },
      (driver) => Effect.map(Effect.flip(test(driver)), failure(message, parts)),
    )

  it.effect("a value that the contract refuses is not fed, nor are the others", () =>
    fails(
      "value 1 for topic clicks at at: ",
      { reason: "Invalid", topic: "clicks", field: "at" },
      (driver) =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(driver.feed(Clicks, [some[0]!, { ...some[1]!, at: 0.5 }]))
          assert.strictEqual((yield* driver.read(Clicks)).length, 0)
          return yield* error
        }),
    ))

  it.effect("a record that the brokers refuse says why", () =>
    fails(
      "timestamps",
      { reason: "Invalid" },
      (driver) => driver.feed(Clicks, [Driver.record({ value: some[0]!, timestamp: 1e13 })]),
    ))

  it.effect("an output that the contract does not read says where it stands and what is wrong", () =>
    fails("topic popular partition 0 offset 1 at clicks:", {
      reason: "Undecodable",
      topic: "popular",
      partition: 0,
      offset: 1,
      field: "clicks",
    }, (driver) =>
      Effect.gen(function* () {
        const good = { page: "/a", start: 0, clicks: 1, final: true }
        yield* driver.feed(Popular, [good])
        yield* driver.feedBytes(Popular, [JSON.stringify({ ...good, clicks: "1" })])
        return yield* driver.read(Popular)
      })))

  it.effect("a tombstone takes its key away; a record without a key is the latest of none", () =>
    Driver.run({ pipelines: popular }, (driver) =>
      Effect.gen(function* () {
        const good = { page: "/a", start: 0, clicks: 1, final: true }
        yield* driver.feed(Counts, [good, { ...good, page: "/b" }])
        yield* driver.feedBytes(Counts, [{ key: "/a@0", value: null }])
        const read = yield* driver.read(Counts)
        assert.sameDeepMembers(read.map(({ key, value }) => [key, value?.clicks]), [
          ["/a@0", 1],
          ["/b@0", 1],
          ["/a@0", undefined],
        ])
        assert.strictEqual((yield* driver.values(Counts)).length, 3)
        assert.deepStrictEqual([...(yield* driver.latest(Counts)).keys()], ["/b@0"])
        yield* driver.feed(Popular, [Driver.record({ value: good, key: null })])
        failure("so it is not the latest of any", { field: "key" })(yield* Effect.flip(driver.latest(Popular)))
      })))

  it.effect("names that the run does not have are refused", () =>
    Effect.gen(function* () {
      const Other = Topic.bytes({ ...common, name: "other" })
      yield* fails("no pipeline of this run reads or writes topic other", { reason: "Unknown" }, (driver) =>
        driver.feedBytes(Other, ["x"]))
      yield* fails("no pipeline of this run reads or writes topic other", { reason: "Unknown" }, (driver) =>
        driver.readBytes(Other))
      yield* fails("has no partition 3: it has 0 to 2", { reason: "Unknown" }, (driver) =>
        driver.feedBytes(Clicks, [{ value: "x", partition: 3 }]))
      yield* fails("counting has no store hours, but minutes", { reason: "Unknown" }, (driver) =>
        driver.store(exactly, "hours"))
    }))

  it.effect("a letter that is none says so", () =>
    fails(
      "clicks.dlt partition 0 offset 0 at headers: it is not a dead letter",
      { reason: "Undecodable" },
      (driver) => Effect.andThen(driver.feedBytes(Refused, ["x"]), driver.letters(Refused)),
    ))

  it.effect("what does not settle says which group stands where", () =>
    Driver.run({ pipelines: exactly, patience: "10 seconds" }, (driver) =>
      Effect.gen(function* () {
        yield* driver.settle
        yield* driver.inject(Faults.every(({ operation }) => operation === "Produce", Faults.unreachable))
        yield* driver.feed(Clicks, [some[0]!])
        const error = yield* Effect.flip(driver.settle)
        failure("not settled within 10000 ms", { reason: "Unsettled" })(error)
        failure("group counting stands at 0 of 1 in clicks/")(error)
      })))

  it.effect("a task that has stopped, and a program that has ended with its last, say why", () =>
    Effect.gen(function* () {
      const throwing = Pipeline.make(
        "throwing",
        Ingest.topic(Clicks).pipe(
          Decode.schema,
          Flow.map((one) => {
            if (one.page === "bad") throw new Error("no such page")
            return { page: one.page, start: 0, clicks: 1, final: true }
          }),
          Deliver.to(Popular),
          Failures.routeAll(Failures.stop),
        ),
        Guarantee.exactlyOnce(),
      )
      yield* Driver.run({ pipelines: throwing }, (driver) =>
        Effect.gen(function* () {
          const bad = (partition: number) => Driver.record({ value: click("x", "bad", 1), partition })
          yield* driver.feed(Clicks, [bad(1), Driver.record({ value: some[0]!, partition: 0 })])
          const error = yield* Effect.flip(driver.settle)
          failure("tasks have stopped for good", { reason: "Ended" })(error)
          failure("at topic clicks partition 1 offset 0: Error: no such page")(error)
          assert.strictEqual((yield* driver.read(Popular)).length, 1)
          const [member] = yield* driver.members
          yield* driver.feed(Clicks, [bad(0), bad(2)])
          const ended = yield* Effect.flip(driver.settle)
          failure("no program of throwing goes on", { reason: "Ended" })(ended)
          failure("no such page")(ended)
          assert.include((yield* member!.ended)?.message, "no such page")
        }))
    }))
})

it("a run needs nothing but Effect, and leaves nothing behind", async () => {
  const exit = await Effect.runPromiseExit(Driver.run({ pipelines: exactly }, (driver) => driver.settle))
  assert.isTrue(Exit.isSuccess(exit))
})
