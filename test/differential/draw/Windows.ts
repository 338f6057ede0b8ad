/** Steps that fold: windows of all kinds with all folds, emitted in all ways, and aggregates of everything. */
import { Schema } from "effect"
import { Aggregate, Flow, Fold, Window } from "../../../src/index.ts"
import type { Dice } from "../../support/Seeds.ts"
import * as Counting from "../reference/Counting.ts"
import * as Folds from "../reference/Folds.ts"
import { type Emit, type Kind, shown, windows } from "../reference/Windowing.ts"
import * as Windows from "../reference/Windows.ts"
import { type Draw, loose, Reading, seconds } from "./Steps.ts"

const number = ({ n }: Reading) => n
const ids = (values: ReadonlyArray<Reading>) => values.map(({ id }) => id)

const way = Fold.make({
  state: Schema.Array(Schema.Int),
  initial: (): ReadonlyArray<number> => [],
  add: (all, { n }: Reading) => all.at(-1) === n ? all : [...all, n],
  merge: (earlier, later) => earlier.at(-1) === later[0] ? [...earlier, ...later.slice(1)] : [...earlier, ...later],
  result: (all) => all.join(">"),
})

const folds: ReadonlyArray<
  readonly [name: string, fold: Fold.MergingFold<Reading, never, unknown>, naive: Folds.Fold]
> = [
  ["count", Fold.count, Folds.count],
  ["sum", Fold.sum(number), Folds.sum],
  ["average", Fold.average(number), Folds.average],
  ["min", Fold.min(number), Folds.least],
  ["max", Fold.max(number), Folds.greatest],
  ["first", Fold.map(Fold.first(Reading), ({ id }) => id), Folds.first],
  ["last", Fold.map(Fold.last(Reading), ({ id }) => id), Folds.last],
  ["distinct", Fold.distinct(({ id }: Reading) => id), Folds.distinct],
  ["top", Fold.map(Fold.top(Reading, { n: 2, by: number }), ids), Folds.top],
  ["collect", Fold.map(Fold.collect(Reading, { atMost: 3, keep: "last" }), ids), Folds.newest],
  ["custom fold", way, Folds.way],
  ["several folds", Fold.all({ n: Fold.count, sum: Fold.sum(number) }), Folds.several],
] as unknown as ReadonlyArray<readonly [string, never, Folds.Fold]>

interface Windowed {
  readonly kind: string
  readonly name: string
  readonly window: Window.Any
  readonly naive: Kind | Counting.Count
}

const grace = (dice: Dice) => dice.pick([0, 0, 10, 60]) * seconds

const session = (dice: Dice): Windowed => {
  const of = { gap: dice.pick([10, 20, 40]) * seconds, grace: dice.pick([0, 30, 90]) * seconds }
  return {
    kind: "session",
    name: `session ${of.gap} grace ${of.grace}`,
    window: Window.session(of),
    naive: Windows.session(of),
  }
}

const kinds: ReadonlyArray<(dice: Dice) => Windowed> = [
  (dice) => {
    const of = { size: dice.int(1, 12) * 5 * seconds, grace: grace(dice) }
    const naive = Windows.aligned({ ...of, every: of.size })
    return { kind: "tumbling", name: `tumbling ${of.size}`, window: Window.tumbling(of), naive }
  },
  (dice) => {
    const every = dice.int(1, 6) * 10 * seconds
    const of = { size: every * dice.int(1, 3) + dice.pick([0, 0, 5 * seconds]), every, grace: grace(dice) }
    return {
      kind: "hopping",
      name: `hopping ${of.size} every ${every} grace ${of.grace}`,
      window: Window.hopping(of),
      naive: Windows.aligned(of),
    }
  },
  (dice) => {
    const of = { difference: dice.pick([1, 5, 10, 30, 60]) * seconds, grace: grace(dice) }
    return {
      kind: "sliding",
      name: `sliding ${of.difference} grace ${of.grace}`,
      window: Window.sliding(of),
      naive: Windows.sliding(of),
    }
  },
  // Twice, for only they are merged and taken back.
  session,
  session,
  (dice) => {
    const size = dice.int(1, 4)
    const every = dice.int(1, size)
    const timeout = dice.pick([undefined, 20 * seconds, 60 * seconds])
    return {
      kind: "count windows",
      name: `count ${size} every ${every} timeout ${timeout}`,
      window: Window.count({ size, every, ...timeout !== undefined && { timeout } }),
      naive: { size, every, timeout: timeout ?? Infinity },
    }
  },
]

/** Results of windows of all kinds as readings: everything that they say is in the id. */
const told = Flow.map((result: Window.Windowed<unknown>, { timestamp }) => {
  const { key, start, end, value, final, retracted, number, count } = result as Window.Windowed<unknown> & {
    readonly retracted?: boolean
    readonly number?: number
    readonly count?: number
  }
  if (retracted === true) return { id: `${key}@${start} gone`, n: 0, at: timestamp }
  const how = final ? "!" : ""
  return number === undefined
    ? { ...shown(`${key}@${start}`, `..${end}${how}`, value), at: timestamp }
    : { ...shown(`${key}@${number}`, `#${count} ${start}..${end}${how}`, value), at: timestamp }
})

const every = (dice: Dice) => ({ every: dice.pick([7, 20, 60]) * seconds })

export const windowed = (emits: (dice: Dice) => Emit): Draw => (dice, name) => {
  const { kind, name: what, window, naive } = dice.pick(kinds)(dice)
  const [foldName, fold, naiveFold] = dice.pick(folds)
  const emit = emits(dice)
  const how = typeof emit === "string" ? emit : "every"
  return {
    name: `${what} of ${foldName} ${JSON.stringify(emit)}`,
    uses: [kind, foldName, `emit ${how}`, `${kind}, ${how}`],
    stage: loose((flow: never) => told(Aggregate.windowed({ name, window, fold, emit } as never)(flow) as never)),
    reference: "timeout" in naive ? Counting.counted(naive, naiveFold, emit) : windows(naive, naiveFold, emit),
    ...emit === "updates" && { isTable: true },
  }
}

/** What goes on as a stream: results of closed windows, or by periods. */
export const stream: Draw = windowed((dice) => dice.int(0, 1) === 0 ? "final" : every(dice))
export const updates: Draw = windowed(() => "updates")

export const running = (emits: (dice: Dice) => "updates" | { readonly every: number }): Draw => (dice, name) => {
  const [foldName, fold, naive] = dice.pick(folds)
  const emit = emits(dice)
  return {
    name: `running ${foldName} ${JSON.stringify(emit)}`,
    uses: ["running aggregate", foldName],
    stage: loose((flow: never) =>
      Flow.map(({ key, value }: Aggregate.Running<unknown>, { timestamp }) => ({
        ...shown(key, "", value),
        at: timestamp,
      }))(
        Aggregate.running({ name, fold, emit })(flow) as never,
      )
    ),
    reference: Counting.running(naive, emit),
    ...emit === "updates" && { isTable: true },
  }
}

export const totals: Draw = running(() => "updates")
export const totalsByPeriod: Draw = running(every)
