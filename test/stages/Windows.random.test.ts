/** Windows over random records, cut anywhere, against a computation that is written apart. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Aggregate, Window } from "../../src/index.ts"
import * as Naive from "../support/NaiveWindows.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"
import { batches } from "../support/Windowing.ts"

/** Times that often stand exactly on a bound, out of order and twice. */
const given = (dice: Dice): ReadonlyArray<readonly [key: string | null, at: number]> => {
  let at = dice.int(0, 30)
  return dice.list(1, 45, () => {
    at = Math.max(0, at + dice.pick([-20, -11, -10, -5, -1, 0, 0, 1, 5, 10, 11, 20, dice.int(-30, 40)]))
    return [dice.int(0, 19) === 0 ? null : dice.pick(["a", "b"]), at]
  })
}

const kinds: Readonly<Record<string, (dice: Dice) => readonly [Window.Any, Naive.Kind]>> = {
  tumbling: (dice) => {
    const window = Window.tumbling({ size: dice.pick([1, 10, 20]), grace: dice.pick([0, 5, 20]) })
    return [window, Naive.aligned(window)]
  },
  hopping: (dice) => {
    const window = Window.hopping({ size: 20, every: dice.pick([1, 5, 7, 20]), grace: dice.pick([0, 5, 20]) })
    return [window, Naive.aligned(window)]
  },
  sliding: (dice) => {
    const window = Window.sliding({ difference: dice.pick([1, 10, 20]), grace: dice.pick([0, 1, 10, 30]) })
    return [window, Naive.sliding(window)]
  },
  session: (dice) => {
    const window = Window.session({ gap: dice.pick([1, 5, 10]), grace: dice.pick([0, 1, 10, 40]) })
    return [window, Naive.session(window)]
  },
}

/** A run that is cut anywhere and starts again somewhere. */
const results = (
  dice: Dice,
  records: ReadonlyArray<readonly [string | null, number]>,
  window: Window.Any,
  emit: Aggregate.Emit,
) =>
  Effect.map(
    batches(records, {
      window,
      emit,
      cuts: dice.list(0, 12, () => dice.int(0, records.length)),
      restartAfter: dice.int(0, 6),
    }),
    ({ batches }) => ({
      values: batches.flatMap(({ values }) =>
        values.map(({ key, start, end, value: ids, final, retracted = false }) => ({
          key,
          start,
          end,
          ids,
          final,
          retracted,
        }))
      ),
      failed: batches.flatMap(({ source, failed }) =>
        failed.map(({ row, reason }) =>
          `${source.offsets[row]} ${reason._tag === "Keyless" ? "keyless" : reason.partly === true ? "partly" : "late"}`
        )
      ),
    }),
  )

/** What is retracted is known by its start. */
const line = ({ start, end, ids, final, retracted }: Naive.Emitted) =>
  retracted ? `-${start}` : `${start}..${end} ${ids.join(" ")}${final ? "!" : ""}`

const byKey = (values: ReadonlyArray<Naive.Emitted>): Readonly<Record<string, ReadonlyArray<string>>> => {
  const all: Record<string, Array<string>> = {}
  for (const value of values) (all[value.key] ??= []).push(line(value))
  return all
}

describe.each(Object.entries(kinds))("%s windows come to what a naive computation says", (_, kindOf) => {
  for (const emit of ["final", { every: 7 }, { every: 40 }] as const) {
    it.effect(
      typeof emit === "string" ? emit : `every ${emit.every}`,
      () =>
        forSeeds(300, (dice) =>
          Effect.gen(function* () {
            const records = given(dice)
            const [window, kind] = kindOf(dice)
            const all = Naive.came(records.map(([key, at]) => ({ key, at })))
            const { values, failed } = yield* results(dice, records, window, emit)
            const period = typeof emit === "string" ? Infinity : emit.every
            assert.deepStrictEqual(byKey(values), byKey(Naive.told(kind, all, period)))
            assert.deepStrictEqual(
              failed.toSorted((a, b) => parseInt(a) - parseInt(b)),
              all.flatMap((record, i) => {
                const lateness = kind.lateness(record, all.slice(0, i))
                if (lateness === "late") return [`${i} late`]
                return record.key === null ? [`${i} keyless`] : lateness === "partly" ? [`${i} partly`] : []
              }),
            )
          })),
    )
  }

  it.effect("updates", () =>
    forSeeds(300, (dice) =>
      Effect.gen(function* () {
        const records = given(dice)
        const [window, kind] = kindOf(dice)
        const { values } = yield* results(dice, records, window, "updates")
        const last = new Map(values.map((value) => [`${value.key}@${value.start}`, value]))
        const naive = Naive.last(kind, Naive.came(records.map(([key, at]) => ({ key, at }))))
        // Whoever was never told of a window need not be told that it is gone; what it held is told as it last was.
        assert.deepStrictEqual(
          new Map([...last].filter(([, { retracted }]) => !retracted)),
          new Map([...naive].filter(([, { retracted }]) => !retracted)),
        )
        for (const [name, { retracted }] of last) assert.strictEqual(retracted, naive.get(name)!.retracted, name)
      })))
})

describe("count windows come to what a naive computation says", () => {
  const windowOf = (dice: Dice) => {
    const size = dice.int(1, 5)
    const timeout = dice.pick([undefined, 10, 40])
    return Window.count({ size, every: dice.int(1, size), ...timeout === undefined ? {} : { timeout } })
  }

  const run = (dice: Dice, window: Window.Count, emit: Aggregate.Emit) =>
    Effect.gen(function* () {
      const records = given(dice)
      const { batches: all } = yield* batches(records, {
        window,
        emit,
        cuts: dice.list(0, 12, () => dice.int(0, records.length)),
        restartAfter: dice.int(0, 6),
      })
      const values = all.flatMap(({ values }) =>
        values.map(({ key, start, end, value: ids, final, number, count }) => {
          assert.strictEqual(ids.length, count)
          return { key, number, start, end, ids, final }
        })
      )
      return { values, naive: Naive.counted(window, Naive.came(records.map(([key, at]) => ({ key, at })))) }
    })

  const sorted = (values: ReadonlyArray<Naive.NaiveCounted>) =>
    values.toSorted((a, b) => a.key < b.key ? -1 : a.key > b.key ? 1 : 0)

  it.effect("finals", () =>
    forSeeds(500, (dice) =>
      Effect.gen(function* () {
        const { values, naive } = yield* run(dice, windowOf(dice), "final")
        assert.deepStrictEqual(sorted(values), sorted(naive.filter(({ final }) => final)))
      })))

  it.effect("updates", () =>
    forSeeds(500, (dice) =>
      Effect.gen(function* () {
        const { values, naive } = yield* run(dice, { ...windowOf(dice), timeout: undefined }, "updates")
        const last = (of: ReadonlyArray<Naive.NaiveCounted>) =>
          new Map(of.map((one) => [`${one.key} ${one.number}`, one]))
        assert.deepStrictEqual(last(values), last(naive))
      })))
})
