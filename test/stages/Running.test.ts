/** Folds of all values of a key: when results leave, and what a restart, a tombstone or a missing key changes. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Aggregate, Decode, Fold, Ingest, Topic } from "../../src/index.ts"
import { committed, run, sources, type Start } from "../support/FlowRunner.ts"
import { forSeeds } from "../support/Seeds.ts"

const Events = Topic.make({
  name: "events",
  description: "",
  owner: "",
  partitions: 1,
  schema: Schema.Struct({ at: Schema.Int, n: Schema.Int }),
  eventTime: ({ at }: { readonly at: number }) => at,
})

/** Key, event time and number; without a number it is a tombstone. */
type Given = ReadonlyArray<readonly [key: string | null, at: number, n: number | null]>

const summed = (
  given: Given,
  { emit, cuts = [], restartAfter }: {
    readonly emit?: { readonly every: number }
    readonly cuts?: ReadonlyArray<number>
    readonly restartAfter?: number
  } = {},
) =>
  Effect.gen(function* () {
    const sums = Aggregate.running({
      name: "sums",
      fold: Fold.sum(({ n }: { readonly n: number }) => n),
      ...emit && { emit },
    })
    const flow = Ingest.topic(Events).pipe(Decode.schema, sums)
    const all = given.map(([key, at, n]) => ({
      key,
      value: n === null ? null : JSON.stringify({ at, n }),
      timestamp: 0,
    }))
    const from = (start?: Start) => {
      const position = start?.positions.get(Events) ?? 0
      return run(flow, new Map([[Events as Topic.Any, sources(Events, all, cuts, { position })]]), start)
    }
    let { batches } = yield* from()
    if (restartAfter !== undefined) {
      const before = batches.slice(0, restartAfter)
      batches = [...before, ...(yield* from(committed(before))).batches]
    }
    return {
      sums: batches.flatMap(({ values }) => values.map(({ key, value }) => `${key}=${value}`)),
      failed: batches.flatMap(({ source, failed }) =>
        failed.map(({ row, reason }) => `${source.offsets[row]} ${reason._tag}`)
      ),
    }
  })

const every = { every: 10 } as const

describe("Aggregate.running", () => {
  it.effect("emits a key once per batch that changed it, with all of its values whatever their times", () =>
    Effect.gen(function* () {
      const given: Given = [["a", 5, 1], ["b", 5, 2], ["a", 500, 4], ["a", 5, 8], ["b", 1, 16]]
      assert.deepStrictEqual((yield* summed(given)).sums, ["b=18", "a=13"].toSorted())
      assert.deepStrictEqual((yield* summed(given, { cuts: [2, 3] })).sums, ["a=1", "b=2", "a=5", "a=13", "b=18"])
    }))

  it.effect("emits by periods what was before the record that is exactly on an edge, or beyond it", () =>
    Effect.gen(function* () {
      const given: Given = [["a", 5, 1], ["a", 9, 2], ["a", 10, 4], ["b", 10, 1], ["a", 3, 8], ["b", 19, 2], [
        "a",
        41,
        16,
      ]]
      assert.deepStrictEqual((yield* summed(given, { emit: every })).sums, ["a=3", "a=15", "b=3"])
    }))

  it.effect("fails tombstones and records without a key, and sums the others", () =>
    Effect.gen(function* () {
      const { sums, failed } = yield* summed([["a", 1, 1], ["a", 2, null], [null, 3, 2], ["a", 4, 4]])
      assert.deepStrictEqual([sums, failed], [["a=5"], ["1 DecodeError", "2 Keyless"]])
    }))

  it.effect("comes to the sums of a plain loop, at every period, over cuts and a restart", () =>
    forSeeds(200, (dice, seed) =>
      Effect.gen(function* () {
        let at = 0
        const given = dice.list(1, 40, () => {
          at = Math.max(0, at + dice.int(-5, 9))
          return [dice.pick(["a", "b", "c"]), at, dice.int(0, 9)] as const
        })
        const sums = new Map<string, number>()
        const changed: Array<string> = []
        const expected: Array<string> = []
        let now = -Infinity
        for (const [key, at, n] of given) {
          if (Math.floor(Math.max(now, at) / 10) > Math.floor(now / 10)) {
            expected.push(...changed.splice(0).map((key) => `${key}=${sums.get(key)}`).toSorted())
          }
          now = Math.max(now, at)
          if (!changed.includes(key)) changed.push(key)
          sums.set(key, (sums.get(key) ?? 0) + n)
        }
        const cuts = dice.list(0, 8, () => dice.int(0, 40))
        const told = yield* summed(given, { emit: every, cuts, restartAfter: dice.int(0, cuts.length) })
        // Results of one period leave in an order of their own.
        assert.deepStrictEqual(told.sums.toSorted(), expected.toSorted(), `SEED=${seed}`)
      })))
})
