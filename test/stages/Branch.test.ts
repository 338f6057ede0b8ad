/** What comes out of a branch is what its stages answered. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Result, Schema } from "effect"
import { Buffer } from "node:buffer"
import {
  Aggregate,
  Branch,
  Check,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Fold,
  Ingest,
  Join,
  merge,
  Topic,
  Window,
} from "../../src/index.ts"
import { run, sources } from "../support/FlowRunner.ts"
import { Numbers, numbers, running } from "../support/Numbers.ts"

const Events = Topic.make({
  name: "events",
  description: "",
  owner: "",
  schema: Schema.Struct({ at: Schema.Int, good: Schema.Boolean }),
  eventTime: (event) => event.at,
  partitions: 1,
})

class Bad extends Schema.TaggedError<Bad>()("Bad", { message: Schema.String }) {}

const event = (at: number, good: boolean): string => JSON.stringify({ at, good })

const decoded = Ingest.topic(Events).pipe(Decode.schema)
const checked = decoded.pipe(
  Check.with((event) => event.good ? Result.succeed(event) : Result.fail(new Bad({ message: "not good" }))),
)
const finals = Aggregate.count({ name: "tens", window: Window.tumbling({ size: 10 }), emit: "final" })

describe("Branch.when", () => {
  it.effect("keeps windows that closed at a record that had failed before", () =>
    Effect.gen(function* () {
      const records = [[1, true], [25, false], [26, true], [50, false]].map(([at, good]) => ({
        key: "k",
        value: JSON.stringify({ at, good }),
        timestamp: 0,
      }))
      for (const flow of [checked.pipe(finals), checked.pipe(Branch.when(() => true, (all) => all.pipe(finals)))]) {
        const { batches } = yield* run(flow, new Map([[Events, sources(Events, records, [])]]))
        const [batch] = batches
        const counted = batch!.values.map((value) => "start" in value ? [value.start, value.value] : [])
        assert.deepStrictEqual(counted, [[0, 1], [20, 1]])
        assert.deepStrictEqual(batch!.failed.map(({ row }) => row), [1, 3])
      }
    }))

  it.effect("keeps the time of a fold's results, so that they can be folded again", () =>
    Effect.gen(function* () {
      const again = Aggregate.windowed({
        name: "hundreds",
        window: Window.tumbling({ size: 100 }),
        emit: "final",
        fold: Fold.count,
      })
      const records = [5, 95, 105, 205, 305].map((at) => ({ key: "k", value: event(at, true), timestamp: 0 }))
      for (const flow of [decoded.pipe(finals), decoded.pipe(Branch.when(() => true, (all) => all.pipe(finals)))]) {
        const { batches } = yield* run(flow.pipe(again), new Map([[Events, sources(Events, records, [1, 2, 3, 4])]]))
        const counted = batches.flatMap(({ values }) => values.map(({ start, value }) => [start, value]))
        assert.deepStrictEqual(counted, [[0, 2], [100, 1]])
        assert.deepStrictEqual(batches.flatMap(({ failed }) => failed), [])
      }
    }))

  it.effect("leaves records that pass it as they are, for dead letters too", () =>
    Effect.gen(function* () {
      const Refused = Topic.bytes({ name: "refused", description: "", owner: "", partitions: 1 })
      const headers = [["h", Buffer.from("1")]] as const
      const records = [[5, true], [6, false]] as const
      const flow = decoded.pipe(
        Branch.when((event) => event.good, (good) => good.pipe(finals)),
        Check.with((value) => Result.fail(new Bad({ message: "start" in value ? "folded" : "passed" }))),
        Failures.routeAll(DeadLetter.to(Refused)),
      )
      const all = records.map(([at, good]) => ({ key: "k", value: event(at, good), timestamp: 0, headers }))
      const { batches } = yield* run(flow, new Map([[Events, sources(Events, all, [])]]))
      const [letter] = batches.flatMap(({ outgoing }) => outgoing)
      assert.strictEqual(String(letter!.value), event(6, false))
      assert.deepStrictEqual(letter!.headers![0], headers[0])
    }))
})

describe("Branch.match", () => {
  const tagged = numbers.pipe(Flow.map((n) => ({ n, kind: (["a", "b", "c"] as const)[n % 3]! })))

  it.effect("sends each value through the branch of its tag, and weaves them in the order of their records", () =>
    Effect.gen(function* () {
      const { values, failed, dropped, rows } = yield* running(
        tagged.pipe(Branch.match("kind", {
          a: (flow) => flow.pipe(Flow.map(({ n }) => `a${n}`)),
          b: (flow) => flow.pipe(Flow.flatMap(({ n }) => [`b${n}`, `B${n}`])),
          c: (flow) =>
            flow.pipe(
              Flow.filter(({ n }) => n !== 5),
              Check.with(({ n }) => n === 8 ? Result.fail(new Bad({ message: "eight" })) : Result.succeed(n)),
            ),
        })),
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
        [4],
      )
      assert.deepStrictEqual(values, ["a0", "b1", "B1", 2, "a3", "b4", "B4", "a6", "b7", "B7"])
      assert.deepStrictEqual(rows, [0, 1, 1, 2, 3, 4, 4, 6, 7, 7])
      assert.deepStrictEqual([failed, dropped], [["8 Bad"], ["5 filtered"]])
    }))

  it.effect("sends what no branch is named for through the last one", () =>
    Effect.gen(function* () {
      const flow = tagged.pipe(
        Branch.match("kind", {
          b: (flow) => flow.pipe(Flow.map(({ n }) => -n)),
        }, (rest) => rest.pipe(Flow.map(({ kind }) => kind))),
      )
      assert.deepStrictEqual((yield* running(flow, [0, 1, 2, 3])).values, ["a", -1, "c", "a"])
      const keyed = numbers.pipe(
        Branch.matchBy(
          (_, { key }) => key!,
          { odd: (flow) => flow.pipe(Flow.map((n) => -n)) },
          (rest) => rest,
        ),
      )
      assert.deepStrictEqual((yield* running(keyed, [[1, "odd"], [2, "toString"], [3, "odd"]])).values, [-1, 2, -3])
    }))

  it.effect("has a row that fails in one branch lose what it has in another", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        Flow.flatMap((n) => [{ n, kind: "a" as const }, { n, kind: "b" as const }]),
        Branch.match("kind", {
          a: (flow) => flow.pipe(Deliver.derived(Numbers, ({ n }) => n)),
          b: (flow) =>
            flow.pipe(Check.with((b) => b.n === 2 ? Result.fail(new Bad({ message: "two" })) : Result.succeed(b))),
        }),
      )
      const { values, failed, outgoing } = yield* running(flow, [1, 2, 3])
      assert.deepStrictEqual(values.map(({ n }) => n), [1, 1, 3, 3])
      assert.deepStrictEqual(failed, ["1 Bad"])
      assert.deepStrictEqual(outgoing, ["numbers k=1", "numbers k=3"])
    }))

  it.effect("keeps state of its own in every branch, and lets time go on in those without values", () =>
    Effect.gen(function* () {
      const counted = (name: string) => Aggregate.count({ name, window: Window.tumbling({ size: 10 }), emit: "final" })
      const flow = numbers.pipe(
        Branch.matchBy((n) => n < 10 ? "low" : "high", {
          low: (flow) => flow.pipe(counted("low"), Flow.map(({ start, value }) => `low ${start}: ${value}`)),
          high: (flow) => flow.pipe(counted("high"), Flow.map(({ start, value }) => `high ${start}: ${value}`)),
        }),
      )
      const given = [[1, "k", 1], [2, "k", 3], [11, "k", 5], [12, "k", 17], [13, "k", 29]] as const
      const { values } = yield* running(flow, given, [2, 4])
      assert.deepStrictEqual(values, ["low 0: 2", "high 0: 1", "high 10: 1"])
    }))

  it.effect("keeps the order of results that one record has closed, also beside a branch that is behind in time", () =>
    Effect.gen(function* () {
      const behind = Aggregate.count({ name: "behind", window: Window.tumbling({ size: 100 }), emit: "final" })
      const window = Window.tumbling({ size: 10, grace: 20 })
      const starts = decoded.pipe(
        Aggregate.count({ name: "tens", window, emit: "final" }),
        Branch.matchBy(({ start }) => start === 0 ? "zero" : start === 10 ? "ten" : "other", {
          other: (flow) => flow.pipe(behind),
          ten: (flow) => flow.pipe(Flow.map((result) => result)),
          zero: (flow) => flow.pipe(Flow.map((result) => result)),
        }),
      )
      const records = [0, 10, 60].map((at) => ({ key: "a", value: event(at, true), timestamp: 0 }))
      const { batches } = yield* run(starts, new Map([[Events, sources(Events, records, [])]]))
      assert.deepStrictEqual(batches.flatMap(({ values }) => values.map(({ start }) => start)), [0, 10])
    }))

  it.effect("does not go ahead of the branch that is behind when the wall clock ticks", () =>
    Effect.gen(function* () {
      const behind = Aggregate.count({
        name: "behind",
        window: Window.tumbling({ size: 10, grace: 50 }),
        emit: "final",
      })
      const flow = decoded.pipe(
        Branch.when(({ good }) => good, (flow) => flow.pipe(finals)),
        Branch.when((value) => !("start" in value) && !value.good, (flow) => flow.pipe(behind)),
      )
      const records = [0, 1].map((at) => ({ key: "a", value: event(at, at === 0), timestamp: 0 }))
      const ticks = [{ before: 2, silence: 20 }]
      const { batches } = yield* run(flow, new Map([[Events, sources(Events, records, [], { ticks })]]))
      const [, tick] = batches
      assert.deepStrictEqual(tick!.values, [{ key: "a", start: 0, end: 10, value: 1, final: true }])
      assert.deepStrictEqual([...tick!.time!.clock], [tick!.time!.now])
    }))

  it.effect("takes a tag that has no branch, against the types, for a defect at its record", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        Flow.map((n) => ({ kind: (n === 2 ? "b" : "a") as "a" })),
        Branch.match("kind", { a: (flow) => flow }),
      )
      const exit = yield* Effect.exit(running(flow, [1, 2]))
      assert(exit._tag === "Failure")
      assert.include(String(Cause.squash(exit.cause)), "offset 1: Error: no branch is named for its tag")
    }))

  it.effect("can be one stage of two flows", () =>
    Effect.gen(function* () {
      const stage = Branch.matchBy((n: number) => n % 2 === 0 ? "even" : "odd", {
        even: (flow) => flow.pipe(Flow.map((n) => n * 10)),
        odd: (flow) => flow.pipe(Flow.filter((n) => n > 1)),
      })
      const flow = numbers.pipe(stage, Flow.map((n) => n + 1), stage)
      assert.deepStrictEqual((yield* running(flow, [1, 2, 3, 4], [2])).values, [21, 40, 41])
    }))

  it.effect("may part and meet again inside", () =>
    Effect.gen(function* () {
      const flow = numbers.pipe(
        Branch.when((n: number) => n > 2, (flow) => {
          const tens = flow.pipe(Flow.map((n) => n * 10))
          return flow.pipe(Flow.filter((n) => n % 2 === 0), merge(tens))
        }),
      )
      for (const cuts of [[], [1], [2, 4], [1, 2, 3, 4]]) {
        assert.deepStrictEqual((yield* running(flow, [1, 2, 3, 4, 5], cuts)).values, [1, 2, 30, 4, 40, 50])
      }
    }))

  it("reads no topic inside, for it could not answer each batch with one", () => {
    const reads = /stage Branch.when reads topic events inside/
    assert.throws(() => numbers.pipe(Branch.when((n: number) => n > 2, (flow) => flow.pipe(merge(decoded)))), reads)
    const beside = {
      name: "pairs",
      within: 10,
      grace: 0,
      left: Schema.Number,
      right: Schema.Unknown,
      join: (left: number) => left,
    } as const
    assert.throws(
      () => numbers.pipe(Branch.when((n: number) => n > 2, (flow) => flow.pipe(Join.stream(decoded, beside)))),
      reads,
    )
  })
})
