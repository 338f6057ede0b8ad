/** A join of two streams as a program that dies at any request, against the join of all that was fed. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { DeadLetter, Decode, Deliver, Failures, Guarantee, Ingest, Pipeline } from "../../src/index.ts"
import { Join, Topic } from "../../src/index.ts"
import type { Cluster } from "../../src/kafka/Cluster.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { text } from "../../src/Topic.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"
import * as Simulation from "../support/Simulation.ts"

const common = { description: "Test", owner: "tests", partitions: 1 }
const Event = Schema.Struct({ key: Schema.String, id: Schema.Int, at: Schema.Int })
type Event = typeof Event.Type
const events = (name: string) =>
  Topic.make({ ...common, name, schema: Event, eventTime: ({ at }: Event) => at, key: ["key", ({ key }) => key] })
const Left = events("left")
const Right = events("right")
const Joined = Topic.make({ ...common, name: "joined", schema: Schema.String })
const Dlt = Topic.bytes({ ...common, name: "dlt" })

const pair = (left: Event | undefined, right: Event | undefined) => `${left?.id ?? "-"} ${right?.id ?? "-"}`
const seconds = 1_000
const [before, after] = [20 * seconds, 40 * seconds]

/** Neither side is taken for idle while programs die, and times are out of order by less than the grace: nothing is late. */
const pipeline = <R>(guarantee: Pipeline.Guarantee<unknown, R>) =>
  Pipeline.make(
    "joining",
    Ingest.topic(Left).pipe(
      Decode.schema,
      Join.stream(Ingest.topic(Right).pipe(Decode.schema), {
        name: "pairs",
        kind: "outer",
        before,
        after,
        grace: "100 seconds",
        idle: "30 seconds",
        left: Event,
        right: Event,
        join: pair,
      }),
      Deliver.to(Joined),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    guarantee,
  )

/** Both sides, and at their ends a record ten hours later, with which all that was waiting leaves. */
const input = (dice: Dice) => {
  const side = (first: number) => {
    let at = 1_000 * seconds
    const some = dice.list(1, 50, (i) => {
      at += dice.int(-10, 30) * seconds
      return { key: dice.pick(["ann", "ben", "cho"]), id: first + i, at }
    })
    return [...some, { key: "end", id: first + some.length, at: 36_000 * seconds }]
  }
  return { left: side(0), right: side(100) }
}

const expected = ({ left, right }: ReturnType<typeof input>): ReadonlyArray<string> => {
  const pairs = left.flatMap((l) =>
    right.filter((r) => l.key === r.key && r.at >= l.at - before && r.at <= l.at + after).map((r) => [l, r] as const)
  )
  return [
    ...pairs.map(([l, r]) => pair(l, r)),
    ...left.filter((l) => !pairs.some(([one]) => one === l)).map((l) => pair(l, undefined)),
    ...right.filter((r) => !pairs.some(([, one]) => one === r)).map((r) => pair(undefined, r)),
  ].sort()
}

const operations: ReadonlyArray<Faults.Operation> = [
  "OffsetFetch",
  "OffsetCommit",
  "InitProducerId",
  "AddPartitionsToTxn",
  "Produce",
  "TxnOffsetCommit",
  "EndTxn",
  "Fetch",
]

const faults = (dice: Dice) =>
  dice.list(
    1,
    3,
    () => (kill: Effect.Effect<void>) =>
      Faults.at(dice.pick(operations), dice.int(1, 8), dice.pick([Faults.crash, Faults.crashAfter])(kill)),
  )

const through = (dice: Dice, guarantee: Pipeline.Guarantee<unknown, Cluster>) =>
  Effect.gen(function* () {
    const given = input(dice)
    const records = (["left", "right"] as const).map((topic) =>
      given[topic].map((event) => ({ topic, partition: 0, key: event.key, value: JSON.stringify(event) }))
    )
    const steps: Array<ReadonlyArray<Simulation.Input>> = []
    while (records.some((left) => left.length > 0)) {
      steps.push(records.flatMap((left) => left.splice(0, dice.int(0, 9))))
    }
    const { read } = yield* Simulation.throughSteps(
      pipeline(guarantee),
      [Left, Right, Joined, Dlt],
      steps,
      faults(dice),
    )
    return {
      given,
      late: read(Dlt.name),
      joined: read(Joined.name).map(({ value }) => JSON.parse(text(value!)) as string).sort(),
    }
  })

describe("a join of two streams that dies at any request", () => {
  it.effect(
    "has every pair, and every record without one, exactly once",
    () =>
      forSeeds(200, (dice) =>
        Effect.gen(function* () {
          const { given, late, joined } = yield* through(dice, Guarantee.exactlyOnce())
          assert.deepStrictEqual(late, [])
          assert.deepStrictEqual(joined, expected(given))
        })),
    120_000,
  )

  it.effect("lacks none under at-least-once", () =>
    forSeeds(100, (dice) =>
      Effect.gen(function* () {
        const { given, joined } = yield* through(dice, Guarantee.atLeastOnce())
        assert.deepStrictEqual([...new Set(joined)], expected(given))
      })), 120_000)
})
