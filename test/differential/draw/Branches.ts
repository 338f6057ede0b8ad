/** Steps with steps inside. */
import { Branch, Flow, merge } from "../../../src/index.ts"
import type { Dice } from "../../support/Seeds.ts"
import * as Branches from "../reference/Branches.ts"
import * as Plain from "../reference/Plain.ts"
import { all } from "../reference/Stream.ts"
import { type AnyFlow, type Draw, type Limits, loose, remainder, type Step, through } from "./Steps.ts"

const some = (dice: Dice, name: string, draws: ReadonlyArray<Draw>, limits: Limits): ReadonlyArray<Step> =>
  dice.list(1, 3, (i) => dice.pick(draws)(dice, `${name}-${i}`, limits))

const usesOf = (steps: ReadonlyArray<Step>) => steps.flatMap(({ uses }) => uses)
const names = (steps: ReadonlyArray<Step>) => steps.map(({ name }) => name).join(", ")
const body = (steps: ReadonlyArray<Step>) => (flow: unknown) => through(flow as AnyFlow, steps)
const referenceOf = (steps: ReadonlyArray<Step>) => all(steps.map(({ reference }) => reference))

export const when = (draws: ReadonlyArray<Draw>): Draw => (dice, name, limits) => {
  const [which, is] = remainder(dice)
  const steps = some(dice, name, draws, limits)
  return {
    name: `branch ${which} (${names(steps)})`,
    uses: ["Branch.when", ...usesOf(steps)],
    stage: loose(Branch.when(is, body(steps) as never)),
    reference: Branches.branch((value) => is(value) ? 0 : -1, [referenceOf(steps)]),
  }
}

/** By the last digit: two ways that are named, and the rest. */
export const match = (draws: ReadonlyArray<Draw>): Draw => (dice, name, limits) => {
  const ways = [0, 1, 2].map((way) => some(dice, `${name}-${way}`, draws, limits))
  const tagOf = ({ n }: { readonly n: number }) => ["zero", "one", "more"][Math.abs(n) % 3]!
  const bodies = { zero: body(ways[0]!), one: body(ways[1]!) }
  return {
    name: `match (${ways.map(names).join(" | ")})`,
    uses: ["Branch.match", ...ways.flatMap(usesOf)],
    stage: loose(Branch.matchBy(tagOf, bodies as never, body(ways[2]!) as never)),
    reference: Branches.branch(({ n }) => Math.abs(n) % 3, ways.map(referenceOf)),
  }
}

/** The flow twice, each time filtered, and merged again. */
export const split: Draw = (dice) => {
  const [name, is] = remainder(dice)
  return {
    name: `split by ${name}`,
    uses: ["merge of branches"],
    stage: loose((flow: AnyFlow) =>
      flow.pipe(
        Flow.filter(is),
        Flow.map((value) => ({ ...value, n: -value.n })),
        merge(flow.pipe(Flow.filter((value) => !is(value)))),
      )
    ),
    reference: Branches.split([
      all([Plain.filter(is), Plain.map(({ n }) => ({ n: -n }))]),
      Plain.filter((value) => !is(value)),
    ]),
  }
}
