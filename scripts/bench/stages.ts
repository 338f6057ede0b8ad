/**
 * What every operator of the stage library takes in memory, beside the same work in a plain loop; how that grows with
 * keys; and the goals. Results are compared before anything is measured; a figure is of a process of its own, the best of
 * twice as many runs as told (with 1,000,000 keys, of as many).
 * `npm run bench -- stages [--only PART-OF-A-NAME] [--runs 2] [--no-keys] [--no-goals] [--no-broker]`
 */
import { parseArgs } from "node:util"
import { goals } from "./stages/goals.ts"
import { operators } from "./stages/operators/index.ts"
import { compare, keyTable, operatorTable } from "./stages/tables.ts"

const { values } = parseArgs({
  allowNegative: true,
  options: {
    only: { type: "string", default: "" },
    runs: { type: "string", default: "2" },
    keys: { type: "boolean", default: true },
    goals: { type: "boolean", default: true },
    broker: { type: "boolean", default: true },
  },
})
const chosen = operators.filter(({ name }) => name.includes(values.only))
if (chosen.length === 0) throw new Error(`no operator is named like ${values.only}`)
const runs = Number(values.runs)

compare(chosen)
operatorTable(chosen, runs)
const growth = values.keys ? keyTable(chosen.filter(({ isKeyed }) => isKeyed), runs) : []
process.exitCode = !values.goals || goals(growth, values.broker) ? 0 : 1
