/** Pipelines over several topics in one task: merged, joined as streams, or with tables. */
import { merge, Table } from "../../../src/index.ts"
import type { Dice } from "../../support/Seeds.ts"
import { merge as merged } from "../reference/Merging.ts"
import * as Plain from "../reference/Plain.ts"
import * as Joins from "./Joins.ts"
import { ending, one, plain } from "./Operators.ts"
import { type AnyFlow, through } from "./Steps.ts"
import * as Tables from "./Tables.ts"
import { referenceOf } from "./Tables.ts"
import {
  Changes,
  decoded,
  Input,
  namesOf,
  Others,
  Rows,
  type Source,
  sources,
  tableSources,
  Thirds,
  type Topology,
  topology,
} from "./Topology.ts"

const limits = { isUneven: false }
const third: Source = { of: Thirds, topic: "thirds", time: "value" }

const before = (dice: Dice, name: string) => dice.list(0, 2, (i) => dice.pick(plain)(dice, `${name}-${i}`, limits))

/** Two topics or three, in either way. */
export const merging = (dice: Dice): Topology => {
  const three = dice.int(0, 2) === 0
  const inner = dice.pick(["left", "right"] as const)
  const parts = [sources[0]!, sources[1]!, third].slice(0, three ? 3 : 2).map((source) => {
    const steps = before(dice, source.topic)
    return { source, steps, flow: through(decoded(source.of as typeof Input), steps) }
  })
  const steps = [...dice.list(0, 4, (i) => dice.pick(one)(dice, `stage-${i}`, limits)), ...ending(dice, limits)]
  const of = <A>(all: ReadonlyArray<A>, both: (left: A, right: A) => A): A => {
    const [a, b, c] = all as readonly [A, A, A?]
    if (c === undefined) return both(a, b)
    return inner === "left" ? both(both(a, b), c) : both(a, both(b, c))
  }
  const flow = of(parts.map(({ flow }) => flow), (left, right) => merge(right)(left) as AnyFlow)
  return topology([...parts.flatMap(({ steps }) => steps), ...steps], {
    name: `merge ${inner} ${parts.map(({ steps }) => `(${namesOf(steps)})`).join(" ")} | ${namesOf(steps)}`,
    uses: ["merge of topics", ...three ? ["merge of three topics"] : []],
    flow: through(flow, steps),
    sources: parts.map(({ source }) => source),
    reference: {
      kind: "one task",
      of: (inputs) => referenceOf(steps)(of(parts.map(({ steps }, i) => referenceOf(steps)(inputs[i]!)), merged)),
    },
  })
}

export const joining = (dice: Dice): Topology => {
  const joined = Joins.draw(dice, "joined")
  const [left, right] = [before(dice, "left"), joined.withTable ? Tables.steps(dice, 2) : before(dice, "right")]
  const steps = [...dice.list(0, 2, (i) => dice.pick(one)(dice, `stage-${i}`, limits)), ...ending(dice, limits)]
  const that = joined.withTable ? Table.topic(Rows) as unknown as AnyFlow : decoded(Others)
  return topology([...left, ...right, ...steps], {
    name: `(${namesOf(left)}) ${joined.name} (${namesOf(right)}) | ${namesOf(steps)}`,
    uses: joined.uses,
    flow: through(joined.stage(through(that, right))(through(decoded(Input), left)), steps),
    sources: joined.withTable ? [sources[0]!, { ...sources[1]!, of: Rows, isTable: true }] : sources,
    reference: {
      kind: "one task",
      of: ([a, b]) =>
        referenceOf(steps)(joined.reference(Joins.beside(joined, referenceOf(left)(a!), referenceOf(right)(b!)))),
    },
  })
}

export const tables = (dice: Dice): Topology => {
  const [left, right, steps] = [Tables.steps(dice, 2), Tables.steps(dice, 2), Tables.ending(dice)]
  const [a, b] = [Table.topic(Changes), Table.topic(Rows)] as unknown as [AnyFlow, AnyFlow]
  if (dice.int(0, 4) === 0) {
    return topology([...left, ...steps], {
      name: `table | ${namesOf([...left, ...steps])}`,
      uses: ["Table.topic"],
      flow: through(a, [...left, ...steps]),
      sources: [tableSources[0]!],
      reference: { kind: "one task", of: ([a]) => referenceOf([...left, ...steps])(a!) },
    })
  }
  const joined = Tables.join(dice, "joined")
  const marked = Plain.map(() => ({ isRight: true }))
  return topology([...left, ...right, ...steps], {
    name: `(${namesOf(left)}) ${joined.name} (${namesOf(right)}) | ${namesOf(steps)}`,
    uses: ["Table.topic", ...joined.uses],
    flow: through(joined.stage(through(b, right))(through(a, left)), steps),
    sources: tableSources,
    reference: {
      kind: "one task",
      of: ([a, b]) =>
        referenceOf(steps)(joined.reference(merged(marked(referenceOf(right)(b!)), referenceOf(left)(a!)))),
    },
  })
}
