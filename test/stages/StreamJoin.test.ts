/** Joins of two streams: their bounds, what comes late, what leaves alone, and when. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Schema } from "effect"
import { type Batch, keyBytes, offsetOf, row } from "../../src/Batch.ts"
import { Aggregate, DeadLetter, Decode, Deliver, Failures, Flow, Guarantee, Ingest, Pipeline } from "../../src/index.ts"
import { Join, Topic, Window } from "../../src/index.ts"
import { Driver } from "../../src/testing/index.ts"
import { committed, type Rec, run, sources, type Start } from "../support/FlowRunner.ts"
import { forSeeds } from "../support/Seeds.ts"

const common = { description: "Test", owner: "tests", partitions: 1 }
const Event = Schema.Struct({ key: Schema.NullOr(Schema.String), at: Schema.Int })
type Event = typeof Event.Type
const events = (name: string) =>
  Topic.make({ ...common, name, schema: Event, eventTime: ({ at }: Event) => at, key: ["key", ({ key }) => key] })
const Left = events("left")
const Right = events("right")
const left = Ingest.topic(Left).pipe(Decode.schema)
const right = Ingest.topic(Right).pipe(Decode.schema)

const name = (event: Event | undefined) => event === undefined ? "-" : `${event.key}${event.at}`

/** `l` and `r` with their times, or `-` for none. */
const stage = <K extends Join.StreamKind>(kind: K, bound: Join.StreamBound, grace: number) =>
  Join.stream(right, {
    name: "pairs",
    kind,
    ...bound,
    grace,
    left: Event,
    right: Event,
    join: (left: Join.FromLeft<Event, K>, right: Join.FromRight<Event, K>) =>
      `${name(left as Event | undefined)} ${name(right as Event | undefined)}`,
  })

const Joined = Topic.make({ ...common, name: "joined", schema: Schema.String })
const Refused = Topic.bytes({ ...common, name: "refused" })

/** A left join within 10 ms, with 100 ms of grace. */
const joiningLeft = (flow: typeof left, other = right) =>
  Pipeline.make(
    "joining",
    flow.pipe(
      Join.stream(other, {
        name: "pairs",
        kind: "left",
        within: 10,
        grace: 100,
        left: Event,
        right: Event,
        join: (left, right) => `${name(left)} ${name(right)}`,
      }),
      Deliver.to(Joined),
      Failures.routeAll(DeadLetter.to(Refused)),
    ),
    Guarantee.exactlyOnce(),
  )

type Given = number | readonly [key: string | null, at: number] | string

const rec = (given: Given): Rec => {
  if (typeof given === "string") return { key: "a", value: given, timestamp: 0 }
  const [key, at] = typeof given === "number" ? ["a", given] : given
  return { key, value: JSON.stringify({ key, at }), timestamp: 0 }
}

interface Input {
  readonly left: ReadonlyArray<Given>
  readonly right: ReadonlyArray<Given>
  readonly cuts?: () => ReadonlyArray<number>
  readonly start?: Start
}

const joining = <
  A,
  F,
  E,
  R extends Parameters<typeof run>[0] extends Flow.Flow<unknown, unknown, unknown, infer R> ? R : never,
>(
  flow: Flow.Flow<A, F, E, R>,
  { left, right, cuts = () => [], start }: Input,
) => {
  const of = (topic: Topic.Any, given: ReadonlyArray<Given>) =>
    [topic, sources(topic, given.map(rec), cuts(), { position: start?.positions.get(topic) ?? 0 })] as const
  return run(flow, new Map([of(Left, left), of(Right, right)]), start)
}

/** What came of which record, in order: `left@0: result`. */
const results = (batches: ReadonlyArray<Batch<string, { readonly _tag: string }>>) =>
  batches.flatMap((batch) =>
    batch.values.map((value, i) =>
      `${batch.source.topic.name}@${offsetOf(batch.source, row(batch, i))}: ${value} ${batch.time!.timestamps[i]}`
    )
  )

const failures = (batches: ReadonlyArray<Batch<unknown, { readonly _tag: string }>>) =>
  batches.flatMap(({ source, failed }) =>
    failed.map(({ row, reason }) => `${source.topic.name}@${offsetOf(source, row)}: ${reason._tag}`)
  )

describe("a join of two streams", () => {
  it.effect("knows what a tick has caused from what the next record causes, after a restart too", () =>
    Effect.gen(function* () {
      const counts = left.pipe(
        Aggregate.count({ name: "counts", window: Window.tumbling({ size: 10, grace: 20 }), emit: "final" }),
        Flow.map(({ key, start }) => ({ key, at: start })),
      )
      const flow = counts.pipe(
        Join.stream(counts.pipe(Flow.filter(() => true)), {
          name: "pairs",
          within: 10,
          grace: 100,
          left: Event,
          right: Event,
          join: (left, right) => `${name(left)} ${name(right)}`,
        }),
      )
      const of = (start?: Start, ticks = [{ before: 2, silence: 20 }, { before: 2, silence: 10 }]) =>
        run(
          flow,
          new Map([[
            Left as Topic.Any,
            sources(Left, [100, 112, 121, 155].map(rec), [], { position: start?.positions.get(Left) ?? 0, ticks }),
          ]]),
          start,
        )
      const values = (batches: ReadonlyArray<Batch<string, unknown>>) => batches.flatMap(({ values }) => values)
      const { batches } = yield* of()
      assert.deepStrictEqual(values(batches), [
        "a100 a100",
        "a110 a100",
        "a100 a110",
        "a110 a110",
        "a120 a110",
        "a110 a120",
        "a120 a120",
      ])
      for (const [restartAfter, left] of [[2, [{ before: 2, silence: 10 }]], [3, []]] as const) {
        const before = batches.slice(0, restartAfter)
        const after = yield* of(committed(before), [...left])
        assert.deepStrictEqual(
          values([...before, ...after.batches]),
          values(batches),
          `begun anew after ${restartAfter}`,
        )
      }
    }))

  it.effect("takes in both ends of its bound, and nothing a millisecond beyond", () =>
    Effect.gen(function* () {
      const bound = { before: 5, after: 10 } as const
      const { batches } = yield* joining(left.pipe(stage("inner", bound, 100)), {
        left: [100],
        right: [94, 95, 100, 110, 111],
      })
      assert.deepStrictEqual(results(batches), [
        "left@0: a100 a95 100",
        "right@2: a100 a100 100",
        "right@3: a100 a110 110",
      ])
      const within = yield* joining(left.pipe(stage("inner", { within: 5 }, 100)), {
        left: [100],
        right: [94, 95, 105, 106],
      })
      assert.deepStrictEqual(results(within.batches), ["left@0: a100 a95 100", "right@2: a100 a105 105"])
    }))

  it.effect("can lie on one side", () =>
    Effect.gen(function* () {
      const { batches } = yield* joining(left.pipe(stage("outer", { before: -5, after: 10 }, 0)), {
        left: [100, 200],
        right: [104, 105, 110, 111, 200],
      })
      assert.deepStrictEqual(results(batches), [
        "right@0: - a104 104",
        "right@1: a100 a105 105",
        "right@2: a100 a110 110",
        "left@1: - a111 111",
        "right@4: - a200 200",
      ])
      assert.deepStrictEqual(failures(batches), [])
    }))

  it.effect("pairs every two records of equal times once, the partners in the order of their offsets", () =>
    Effect.gen(function* () {
      const { batches } = yield* joining(left.pipe(stage("outer", { within: 0 }, 0)), {
        left: [7, 7, 8],
        right: [7, 7, 7, 9],
      })
      assert.deepStrictEqual(results(batches), [
        ...[0, 1, 2].flatMap((offset) => Array.from({ length: 2 }, () => `right@${offset}: a7 a7 7`)),
        "right@3: a8 - 8",
      ])
    }))

  it.effect("joins only what has one key", () =>
    Effect.gen(function* () {
      const { batches } = yield* joining(left.pipe(stage("inner", { within: 10 }, 0)), {
        left: [["a", 1], ["b", 2]],
        right: [["b", 3], ["c", 4], ["a", 5]],
      })
      assert.deepStrictEqual(results(batches), ["right@0: b2 b3 3", "right@2: a1 a5 5"])
    }))

  it.effect("lets a record without a partner go when stream time is beyond its bound and grace, not before", () =>
    Effect.gen(function* () {
      const outer = left.pipe(stage("outer", { before: 5, after: 10 }, 20))
      const { batches } = yield* joining(outer, {
        left: [["b", 100], 125, 126, 130, 131, 200],
        right: [["c", 100], 125, 126, 130, 131, 200],
      })
      const alone = results(batches).filter((result) => result.includes("-"))
      assert.deepStrictEqual(alone, ["right@2: - c100 100", "right@4: b100 - 100"])
      const kinds = (["inner", "left"] as const).map((kind) =>
        Effect.map(
          joining(left.pipe(stage(kind, { within: 10 }, 0)), { left: [["b", 100], 200], right: [["c", 100], 200] }),
          ({ batches }) => results(batches).filter((result) => result.includes("-")),
        )
      )
      assert.deepStrictEqual(yield* Effect.all(kinds), [[], ["right@1: b100 - 100"]])
    }))

  it.effect("waits its grace for what is out of order, and joins it with all its partners (KAFKA-19536)", () =>
    Effect.gen(function* () {
      const { batches } = yield* joining(left.pipe(stage("left", { within: 10 }, 100)), {
        left: [["b", 200], ["a", 120], ["b", 211]],
        right: [["b", 200], ["a", 110], ["a", 130], ["a", 131], ["b", 400]],
      })
      assert.deepStrictEqual(results(batches), [
        "right@0: b200 b200 200",
        "right@1: a120 a110 120",
        "right@2: a120 a130 130",
        "right@4: b211 - 211",
      ])
      assert.deepStrictEqual(failures(batches), [])
    }))

  it.effect("finds late what is behind by more than its grace, and joins it with nothing (KAFKA-16123)", () =>
    Effect.gen(function* () {
      const { batches } = yield* joining(left.pipe(stage("outer", { within: 5 }, 20)), {
        left: [100, 110, 85, 84, 120, 200],
        right: [105, 115, ["b", 90], ["b", 89], 200],
      })
      assert.deepStrictEqual(failures(batches), ["left@3: Late", "right@3: Late"])
      assert.deepStrictEqual(results(batches), [
        "right@0: a100 a105 105",
        "left@1: a110 a105 110",
        "right@1: a110 a115 115",
        "left@4: a85 - 85",
        "left@4: a120 a115 120",
        "right@4: - b90 90",
        "right@4: a200 a200 200",
      ])
      const late = batches.flatMap(({ failed }) => failed.map(({ reason, kept }) => [reason.message, kept]))
      assert.deepStrictEqual(late[0], [
        "join pairs waits 20 ms for what is out of order, and this record of 84 came at a stream time of 105",
        true,
      ])
    }))

  it.effect("fails what has no key, and what cannot be read, on either side, and joins the rest", () =>
    Effect.gen(function* () {
      const { batches } = yield* joining(left.pipe(stage("outer", { within: 10 }, 10)), {
        left: [[null, 1], "{", 2, ["b", 100]],
        right: ["{", 1, [null, 2], 3, ["b", 100]],
      })
      assert.deepStrictEqual(failures(batches).sort(), [
        "left@0: Keyless",
        "left@1: DecodeError",
        "right@0: DecodeError",
        "right@2: Keyless",
      ])
      assert.deepStrictEqual(results(batches), ["left@2: a2 a1 2", "right@3: a2 a3 3", "right@4: b100 b100 100"])
    }))

  it.effect("goes on after a restart with what was waiting", () =>
    Effect.gen(function* () {
      const given = { left: [10, 30, 100], right: [5, 12, 31, 32, 60, 100] }
      const outer = left.pipe(stage("outer", { within: 3 }, 20))
      const whole = yield* joining(outer, given)
      const cut = yield* joining(outer, { ...given, cuts: () => [1, 2, 3, 4, 5] })
      assert.deepStrictEqual(results(cut.batches), results(whole.batches))
      let restarts = 0
      for (let end = 0; end < cut.batches.length; end++) {
        const before = cut.batches.slice(0, end)
        if (before.some(({ source }) => source.next === (source.topic === Left ? given.left : given.right).length)) {
          break
        }
        const after = yield* joining(outer, { ...given, start: committed(before) })
        assert.deepStrictEqual(results([...before, ...after.batches]), results(whole.batches))
        restarts++
      }
      assert.isAtLeast(restarts, 5)
    }))

  it.effect("keeps once what is read again under at-least-once: no more than its pairs can repeat", () =>
    Effect.gen(function* () {
      const outer = left.pipe(stage("outer", { within: 5 }, 100))
      const given = { left: [10, 20, ["z", 200], ["z", 201]], right: [21, 11, 40, ["z", 200], ["z", 201]] } as const
      const [before, whole] = [yield* joining(outer, { left: [10], right: [21] }), yield* joining(outer, given)]
      const ahead: Start = { ...committed(before.batches), positions: new Map(), clocks: new Map() }
      const again = yield* joining(outer, { ...given, start: ahead })
      assert.deepStrictEqual(results(again.batches), ["left@1: a20 a21 21", ...results(whole.batches)])
      assert.deepStrictEqual([...again.stores.get("pairs")!.values()], [...whole.stores.get("pairs")!.values()])
    }))

  it.effect("keeps nothing for which no partner can come", () =>
    Effect.gen(function* () {
      const ends = [["z", 1_000], ["z", 1_001]] as const
      const { stores } = yield* joining(left.pipe(stage("inner", { before: 5, after: 10 }, 20)), {
        left: [...Array.from({ length: 100 }, (_, i) => 900 + i), ["y", 969], ["y", 970], ["y", 971], ...ends],
        right: [["x", 974], ["x", 975], ["x", 976], ...ends],
      })
      const kept = Array.from(stores.get("pairs")!.values(), (one) => one as { key: string; at: number })
      const of = (of: string) => kept.filter(({ key }) => key === of).map(({ at }) => at)
      assert.deepStrictEqual([of("y"), of("x"), of("z")], [[971], [976], [1_000, 1_000, 1_001, 1_001]])
      assert.deepStrictEqual(of("a"), Array.from({ length: 29 }, (_, i) => 971 + i))
    }))

  it.effect("names the record at which a function throws, also one that leaves alone", () =>
    Effect.gen(function* () {
      const throwing = (when: (left: Event | undefined, right: Event | undefined) => boolean) =>
        left.pipe(Join.stream(right, {
          name: "pairs",
          kind: "outer",
          within: 10,
          grace: 0,
          left: Event,
          right: Event,
          join: (left, right) => {
            if (when(left, right)) throw new Error("no")
            return ""
          },
        }))
      const given = { left: [["b", 1], ["a", 5], ["a", 100]], right: [["a", 6], ["a", 100]] } as const
      const pair = yield* Effect.exit(
        joining(throwing((left, right) => left !== undefined && right !== undefined), given),
      )
      const alone = yield* Effect.exit(joining(throwing((_, right) => right === undefined), given))
      const message = (exit: Exit.Exit<unknown, unknown>) =>
        Exit.isFailure(exit) ? (Cause.squash(exit.cause) as Error).message : ""
      assert.include(message(pair), "topic right partition 0 offset 0: Error: no")
      assert.include(message(alone), "topic left partition 0 offset 0: Error: no")
    }))

  it("refuses bounds that make no sense when it is made", () => {
    const make = (bound: Join.StreamBound, grace: number) => () => stage("inner", bound, grace)
    assert.throws(
      make({ within: -1 }, 0),
      RangeError,
      "join pairs: within is a whole number of milliseconds, at least 0",
    )
    assert.throws(make({ within: 0.5 }, 0), RangeError, "within is a whole number")
    assert.throws(make({ within: "1 minute" }, -1), RangeError, "grace is a whole number of milliseconds, at least 0")
    assert.throws(
      make({ before: Infinity, after: 0 }, 0),
      RangeError,
      "before and after are whole milliseconds; they were",
    )
    assert.throws(make({ before: -5, after: 4 }, 0), RangeError, "its bound ends 1 ms before it begins")
    make({ before: -5, after: 5 }, 0)()
  })

  it.effect("goes on without a side that is silent, and lets it in again", () =>
    Effect.gen(function* () {
      const pipeline = joiningLeft(left)
      const event = (key: string, at: number) => ({ key, at })
      yield* Driver.run({ pipelines: pipeline }, (driver) =>
        Effect.gen(function* () {
          const joined = Effect.map(driver.take(Joined), (records) => records.map(({ value }) => value))
          yield* driver.feed(Left, [event("a", 0), event("b", 200)])
          yield* driver.feed(Right, [event("a", 0)])
          yield* driver.advance("4 seconds")
          assert.deepStrictEqual(yield* joined, ["a0 a0"])
          yield* driver.feed(Left, [event("c", 150), event("b", 310)])
          yield* driver.advance("6 seconds")
          assert.deepStrictEqual(yield* joined, ["c150 -"])
          yield* driver.feed(Right, [event("b", 210), event("b", 209), event("b", 320)])
          yield* driver.settle
          assert.deepStrictEqual(yield* joined, ["b200 b210", "b310 b320"])
          assert.deepStrictEqual((yield* driver.counts(pipeline)).failed, { Late: 1 })
        }))
    }))

  it.effect("lets records go by the wall clock where both sides are silent, and it is asked to", () =>
    Effect.gen(function* () {
      const wallClockAfter = "2 seconds"
      const [left, right] = [Left, Right].map((topic) => Ingest.topic(topic, { wallClockAfter }).pipe(Decode.schema))
      yield* Driver.run({ pipelines: joiningLeft(left!, right) }, (driver) =>
        Effect.gen(function* () {
          yield* driver.feed(Left, [{ key: "a", at: 0 }, { key: "b", at: 1 }])
          yield* driver.feed(Right, [{ key: "b", at: 0 }])
          yield* driver.advance("1 second")
          assert.deepStrictEqual(yield* driver.values(Joined), [])
          yield* driver.advance("10 seconds")
          assert.deepStrictEqual(yield* driver.values(Joined), ["b1 b0", "a0 -"])
        }))
    }))

  it.effect("comes to what the definition says, whatever the input and wherever batches are cut", () =>
    forSeeds(600, (dice, seed) =>
      Effect.gen(function* () {
        const kind = dice.pick(["inner", "left", "outer"] as const)
        const before = dice.int(-4, 8)
        const bound = { before, after: dice.int(-before, 8) }
        const grace = dice.int(0, 12)
        const most = dice.int(1, 20) === 1 ? 200 : 25
        const side = (): ReadonlyArray<Given> => {
          let at = 100
          return dice.list(1, most, () => {
            at += dice.int(-6, 8)
            return [dice.pick(["a", "a", "b", "b", "b", null]), at]
          })
        }
        const given = { left: side(), right: side(), cuts: () => dice.list(0, 6, () => dice.int(0, most)) }
        const { batches } = yield* joining(left.pipe(stage(kind, bound, grace)), given)
        const expected = byDefinition(arrivals(given), kind, bound, grace)
        assert.deepStrictEqual(results(batches), expected.results, `SEED=${seed}`)
        assert.deepStrictEqual(failures(batches).sort(), expected.failures.sort(), `SEED=${seed}`)
        assert.deepStrictEqual(keysOf(batches), expected.keys)
        noneIsLate(batches)
      })))
})

const keysOf = (batches: ReadonlyArray<Batch<unknown, unknown>>) =>
  batches.flatMap((batch) => batch.values.map((_, i) => String(keyBytes(batch, i))))

/** What stages that follow see: a clock that never goes back, and no result that is behind it. */
const noneIsLate = (batches: ReadonlyArray<Batch<unknown, unknown>>) => {
  let clock = -Infinity
  for (const { values, time } of batches) {
    for (let i = 0; i < values.length; i++) {
      assert.isAtLeast(time!.clock[i]!, clock)
      clock = time!.clock[i]!
      assert.isAtLeast(time!.timestamps[i]!, clock)
    }
    assert.isAtLeast(time!.now, clock)
    clock = time!.now
  }
}

interface Arrival {
  readonly side: "left" | "right"
  readonly offset: number
  readonly key: string | null
  readonly at: number
  /** Stream time, this record included. */
  readonly now: number
}

/** Both sides as one: whichever is behind comes first, the left one where neither is; stream time is the lower one. */
const arrivals = (given: Input): ReadonlyArray<Arrival> => {
  const sides = (["left", "right"] as const).map((side) => {
    let now = -Infinity
    return (given[side] as ReadonlyArray<readonly [string | null, number]>).map(([key, at], offset) => {
      now = Math.max(now, at)
      return { side, offset, key, at, own: now }
    })
  })
  const [lefts, rights] = sides as [typeof sides[0], typeof sides[0]]
  const order: Array<Arrival> = []
  let now = -Infinity
  for (let i = 0, j = 0; i < lefts.length || j < rights.length;) {
    const isLeft = j === rights.length || i < lefts.length && lefts[i]!.own <= rights[j]!.own
    const { own, ...next } = isLeft ? lefts[i++]! : rights[j++]!
    const [others, taken] = isLeft ? [rights, j] : [lefts, i]
    const theirs = taken === others.length ? Infinity : others[taken - 1]?.own ?? -Infinity
    now = Math.max(now, Math.min(own, theirs))
    order.push({ ...next, now })
  }
  return order
}

const byDefinition = (
  all: ReadonlyArray<Arrival>,
  kind: Join.StreamKind,
  { before, after }: { readonly before: number; readonly after: number },
  grace: number,
) => {
  const isLate = ({ at, now }: Arrival) => at < now - grace
  const joined = all.filter((one) => !isLate(one) && one.key !== null)
  const areMates = (a: Arrival, b: Arrival) => {
    if (a.side === b.side || a.key !== b.key) return false
    const [left, right] = a.side === "left" ? [a, b] : [b, a]
    return right.at >= left.at - before && right.at <= left.at + after
  }
  const until = ({ side, at }: Arrival) => at + (side === "left" ? after : before) + grace
  const alone = joined.filter((one) =>
    (kind === "outer" || kind === "left" && one.side === "left") && !joined.some((other) => areMates(one, other))
  )
  const results: Array<string> = []
  const keys: Array<string> = []
  const put = (cause: Arrival, left: Arrival | undefined, right: Arrival | undefined) => {
    const at = Math.max(left?.at ?? -Infinity, right?.at ?? -Infinity)
    const of = (one: Arrival | undefined) => one === undefined ? "-" : `${one.key}${one.at}`
    results.push(`${cause.side}@${cause.offset}: ${of(left)} ${of(right)} ${at}`)
    keys.push((left ?? right)!.key!)
  }
  const order = (a: Arrival, b: Arrival) =>
    until(a) - until(b) || (a.side === b.side ? 0 : a.side === "left" ? -1 : 1) || a.offset - b.offset
  all.forEach((cause, i) => {
    const leaving = alone.filter((one) => {
      const arrived = all.indexOf(one)
      return arrived < i && until(one) < cause.now && !(until(one) < Math.max(all[i - 1]!.now, one.now))
    })
    for (const one of leaving.toSorted(order)) {
      one.side === "left" ? put(cause, one, undefined) : put(cause, undefined, one)
    }
    if (!joined.includes(cause)) return
    const mates = joined.filter((other) => all.indexOf(other) < i && areMates(cause, other))
    for (const mate of mates.toSorted((a, b) => a.at - b.at || a.offset - b.offset)) {
      cause.side === "left" ? put(cause, cause, mate) : put(cause, mate, cause)
    }
    if (alone.includes(cause) && until(cause) < cause.now) {
      cause.side === "left" ? put(cause, cause, undefined) : put(cause, undefined, cause)
    }
  })
  const reason = (one: Arrival) => isLate(one) ? "Late" : one.key === null ? "Keyless" : undefined
  const failures = all.flatMap((one) => {
    const why = reason(one)
    return why === undefined ? [] : [`${one.side}@${one.offset}: ${why}`]
  })
  return { results, keys, failures }
}
