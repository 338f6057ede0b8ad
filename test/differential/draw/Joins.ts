/** Joins of two flows: of two topics, or of two branches of one. */
import { Flow, Join, Table } from "../../../src/index.ts"
import type { Dice } from "../../support/Seeds.ts"
import * as Branches from "../reference/Branches.ts"
import { merge } from "../reference/Merging.ts"
import * as Plain from "../reference/Plain.ts"
import type { Stream } from "../reference/Stream.ts"
import { streamJoin } from "../reference/StreamJoin.ts"
import * as TableJoins from "../reference/TableJoins.ts"
import { type AnyFlow, type Draw, loose, Reading, remainder, seconds } from "./Steps.ts"

type Part = Pick<Reading, "id" | "n">

export const pair = (left: Part | undefined, right: Part | undefined): Part => ({
  id: `${(left ?? right)!.id} & ${left?.id ?? "none"} ${right?.id ?? "none"}`,
  n: ((left?.n ?? 7) + 2 * (right?.n ?? 5)) % 100,
})

const timed = Flow.map((part: Part, { timestamp }) => ({ id: part.id, n: part.n, at: timestamp }))

/** A join of a flow with another, and what it makes of the merge of both. */
export interface Joined {
  readonly name: string
  readonly uses: ReadonlyArray<string>
  /** Whether the other flow is a table, whose changes come first where stream time is equal. */
  readonly withTable: boolean
  readonly stage: (that: AnyFlow) => (flow: AnyFlow) => AnyFlow
  readonly reference: (merged: Stream) => Stream
}

const withStream = (dice: Dice, name: string): Joined => {
  const kind = dice.pick(["inner", "left", "outer"] as const)
  const [before, after] = dice.pick([[0, 0], [10, 10], [30, 30], [0, 60], [-5, 30], [20, -10], [30, 0]] as const)
  const bound = { kind, before: before * seconds, after: after * seconds, grace: dice.pick([0, 10, 40, 90]) * seconds }
  const options = { ...bound, name, left: Reading, right: Reading, join: pair }
  return {
    name: `Join.stream ${kind} ${before} ${after} grace ${bound.grace}`,
    uses: [`Join.stream ${kind}`],
    withTable: false,
    stage: (that) => loose((flow: AnyFlow) => timed(Join.stream(that, options as never)(flow) as never)),
    reference: streamJoin(bound, pair),
  }
}

const withTable = (dice: Dice, name: string): Joined => {
  const kind = dice.pick(["inner", "left"] as const)
  const deletions = dice.pick([86_400, 40]) * seconds
  if (dice.int(0, 2) === 0) {
    return {
      name: `Join.table ${kind}`,
      uses: ["Join.table"],
      withTable: true,
      stage: (that) =>
        loose((flow: AnyFlow) =>
          timed(Join.table(that as never, { name, kind, deletions, join: pair as never })(flow) as never)
        ),
      reference: TableJoins.latest(kind, deletions, pair),
    }
  }
  const grace = dice.pick([undefined, 0, 10, 60])
  const of = {
    kind,
    deletions,
    history: ((grace ?? 0) + dice.pick([0, 20, 120])) * seconds,
    ...grace !== undefined && { grace: grace * seconds },
  }
  const options = { ...of, name, value: Reading, join: pair }
  return {
    name: `Join.asOf ${kind} ${of.history} grace ${of.grace}`,
    uses: [`Join.asOf${grace === undefined ? "" : " with grace"}`],
    withTable: true,
    stage: (that) => loose((flow: AnyFlow) => timed(Join.asOf(that as never, options as never)(flow) as never)),
    reference: TableJoins.asOf(of, pair),
  }
}

export const draw = (dice: Dice, name: string): Joined => dice.pick([withStream, withTable])(dice, name)

const marked = Plain.map(() => ({ isRight: true }))

/** The flow, and what stands beside it, in the order in which the join takes them. */
export const beside = ({ withTable }: Joined, left: Stream, right: Stream): Stream =>
  withTable ? merge(marked(right), left) : merge(left, marked(right))

/** A join of the flow with itself: some of it is taken for the other side. */
export const withItself: Draw = (dice, name) => {
  const joined = draw(dice, name)
  const [which, is] = remainder(dice)
  const side = (flow: AnyFlow) => {
    const some = flow.pipe(Flow.filter((value: Reading) => is(value)))
    return (joined.withTable ? some.pipe(Table.of(Reading)) : some) as AnyFlow
  }
  const ways = [(stream: Stream) => stream, (stream: Stream) => marked(Plain.filter(is)(stream))]
  return {
    name: `${joined.name} with itself where ${which}`,
    uses: [...joined.uses, "self-join"],
    stage: (flow) => joined.stage(side(flow))(flow),
    reference: (stream) => joined.reference(Branches.split(joined.withTable ? ways.toReversed() : ways)(stream)),
  }
}
