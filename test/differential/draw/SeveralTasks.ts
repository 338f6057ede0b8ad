/** Pipelines of several kinds of tasks, which write topics for each other. */
import { DeadLetter, Failures, repartition, Table } from "../../../src/index.ts"
import type { Dice } from "../../support/Seeds.ts"
import * as Commands from "./Commands.ts"
import { any, ending, plain } from "./Operators.ts"
import * as Simple from "./Plain.ts"
import { type AnyFlow, Dlt, through } from "./Steps.ts"
import * as Tables from "./Tables.ts"
import { referenceOf } from "./Tables.ts"
import { Changes, decoded, type ForeignKey, Input, Moved, namesOf, type Repartition } from "./Topology.ts"
import { Rows, sources, tableSources, type Topology, topology } from "./Topology.ts"

const limits = { isUneven: false }

export const referring = (dice: Dice): Topology<ForeignKey> => {
  const [left, right] = [Tables.steps(dice, 2), Tables.steps(dice, 2)]
  const joined = Tables.foreignKey(dice, Changes, Rows)
  const [a, b] = [Table.topic(Changes), Table.topic(Rows)] as unknown as [AnyFlow, AnyFlow]
  const flow = joined.stage(through(b, right), DeadLetter.to(Dlt) as never)(through(a, left))
  return topology([...left, ...right], {
    name: `(${namesOf(left)}) ${joined.name} (${namesOf(right)})`,
    uses: joined.uses,
    flow: Tables.asReadings.stage(flow),
    sources: tableSources,
    reference: {
      kind: "foreign key",
      of: (a, b) => joined.reference(referenceOf(left)(a), referenceOf(right)(b)),
    },
  })
}

/** By another key in the middle: one to three tasks write, and one reads. */
export const moving = (dice: Dice, tasks = dice.int(1, 3)): Topology<Repartition> => {
  const first = dice.list(
    0,
    3,
    (i) => dice.pick([...plain, Simple.deduplicate, Commands.decider])(dice, `first-${i}`, limits),
  )
  const uneven = { isUneven: true }
  const steps = [...dice.list(0, 3, (i) => dice.pick(any)(dice, `stage-${i}`, uneven)), ...ending(dice, uneven)]
  const written = through(decoded(Input), first).pipe(Failures.routeAll(DeadLetter.to(Dlt)))
  return topology([...first, ...steps], {
    name: `${namesOf(first)} | repartition | ${namesOf(steps)}`,
    uses: ["repartition"],
    flow: through(repartition(Moved, { undeliverable: DeadLetter.to(Dlt) })(written) as AnyFlow, steps),
    sources: [sources[0]!],
    reference: {
      kind: "repartition",
      tasks,
      before: referenceOf(first),
      after: referenceOf(steps),
    },
  })
}
