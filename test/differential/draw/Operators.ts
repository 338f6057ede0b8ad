/** Which steps can follow each other, and what pipelines end with. */
import { DeadLetter, Failures } from "../../../src/index.ts"
import type { Dice } from "../../support/Seeds.ts"
import * as Handling from "../reference/Handling.ts"
import * as Branches from "./Branches.ts"
import * as Commands from "./Commands.ts"
import * as Joins from "./Joins.ts"
import * as Simple from "./Plain.ts"
import { type AnyFlow, Dlt, type Draw, loose, type Step } from "./Steps.ts"
import * as Tables from "./Tables.ts"
import * as Windows from "./Windows.ts"

const stateless: ReadonlyArray<Draw> = [Simple.map, Simple.filter, Simple.flatMap, Simple.check, Simple.sample]
export const plain: ReadonlyArray<Draw> = [...stateless, Simple.deliver]
export const kept: ReadonlyArray<Draw> = [...plain, Simple.deduplicate, Commands.decider]
const folding: ReadonlyArray<Draw> = [Windows.stream, Windows.totalsByPeriod]
const nested: ReadonlyArray<Draw> = [
  Branches.when([...kept, ...folding]),
  Branches.match([...kept, Windows.stream]),
]
export const one: ReadonlyArray<Draw> = [...kept, ...nested, Windows.stream, Windows.stream, Windows.totalsByPeriod]
/** Branches of a merge of topics cannot meet again but as branches. */
export const any: ReadonlyArray<Draw> = [...one, Branches.split, Joins.withItself]

/** What a stream ends with: itself, a table of what it comes to, or a table of routes. */
export const ending = (dice: Dice, limits: Parameters<Draw>[2]): ReadonlyArray<Step> => {
  switch (dice.int(0, 5)) {
    case 0:
      return [Windows.totals(dice, "totals", limits), ...dice.int(0, 1) === 0 ? Tables.ofTotals(dice) : [Tables.latest]]
    case 1:
      return [Windows.updates(dice, "updates", limits), ...dice.int(0, 1) === 0 ? [Tables.latest] : []]
    case 2:
      return [routes(dice)]
    default:
      return []
  }
}

/** Whatever a stage before it fails with. */
const routes = (dice: Dice): Step => {
  const table = {
    DecodeError: dice.pick(["dead letter", "skip"] as const),
    Late: dice.pick(["dead letter", "skip", "stays"] as const),
  }
  const route = { "dead letter": DeadLetter.to(Dlt), skip: Failures.skip }
  const named = Object.entries(table).flatMap(([tag, how]) => how === "stays" ? [] : [[tag, route[how]]])
  const all = dice.int(0, 1) === 0
  return {
    name: `routes ${JSON.stringify(table)}${all ? ", the rest to the dead" : ""}`,
    uses: ["Failures.route"],
    stage: loose((flow: AnyFlow) => {
      const routed = Failures.route(Object.fromEntries(named))(flow) as AnyFlow
      return all ? Failures.routeAll(DeadLetter.to(Dlt))(routed) : routed
    }),
    reference: (stream) => {
      const left = Handling.route(table, Dlt.name)(stream)
      const rest = Object.fromEntries(left.failed.map(({ reason }) => [reason, "dead letter"] as const))
      return all ? Handling.route(rest, Dlt.name)(left) : left
    },
  }
}
