/**
 * Nexmark with Millrace, in memory and without a broker: `npm run bench -- nexmark [--events N] [--out-of-order N]
 * [--seed N] [q0 q5 ...]`. Every query runs in a process of its own. Prints events per second of one core; exits with 1
 * where a query does not come to what its batch computation says.
 */
import { execFileSync } from "node:child_process"
import { parseArgs } from "node:util"
import { queries } from "./nexmark/Queries.ts"
import type { Query } from "./nexmark/Query.ts"
import { type Outcome, run } from "./nexmark/Run.ts"

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    events: { type: "string", default: "1000000" },
    "out-of-order": { type: "string", default: "1" },
    seed: { type: "string", default: "1" },
    alone: { type: "boolean", default: false },
  },
})
const options = {
  events: Number(values.events),
  outOfOrder: Number(values["out-of-order"]),
  seed: Number(values.seed),
}
const unknown = positionals.filter((name) => !queries.some((query) => query.name === name))
if (!(Number.isSafeInteger(options.events) && options.events >= 1) || unknown.length > 0) {
  console.error(`events is a whole number from 1; queries: ${queries.map(({ name }) => name).join(", ")}`)
  process.exit(2)
}
const chosen = queries.filter(({ name }) => positionals.length === 0 || positionals.includes(name))

const inProcess = ({ name }: Query): Outcome => {
  const { events, outOfOrder, seed } = options
  const args = ["--expose-gc", "--max-old-space-size=8000", import.meta.filename, "--alone", name]
  args.push("--events", String(events), "--out-of-order", String(outOfOrder), "--seed", String(seed))
  const said = execFileSync(process.execPath, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] })
  return JSON.parse(said) as Outcome
}

if (values.alone) console.log(JSON.stringify(await run(chosen[0]!, options)))
else {
  let equal = true
  console.log("| query | events/s | output rows | equal to batch |\n| --- | ---: | ---: | --- |")
  for (const query of chosen) {
    const outcome = inProcess(query)
    const [perSecond, rows] = [outcome.perSecond, outcome.rows].map((n) => Math.round(n).toLocaleString("en"))
    console.log(`| ${query.name}, ${query.title} | ${perSecond} | ${rows} | ${outcome.equal ? "yes" : "no"} |`)
    for (const one of outcome.differences) console.error(`${query.name}: ${one}`)
    equal &&= outcome.equal
  }
  if (!equal) process.exitCode = 1
}
