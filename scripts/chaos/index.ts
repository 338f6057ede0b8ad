/** `npm run chaos -- --help` */
import { writeFileSync } from "node:fs"
import * as Chaos from "./Chaos.ts"
import * as Options from "./Options.ts"
import * as Report from "./Report.ts"
import { Setting } from "./Setting.ts"

const options = (() => {
  if (process.argv.includes("--help")) {
    console.log(Options.usage)
    process.exit(0)
  }
  try {
    return Options.read(process.argv.slice(2))
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${Options.usage}`)
    process.exit(2)
  }
})()

const steps: Array<() => Promise<void> | void> = []
let undoing: Promise<void> | undefined
/** Ends what was begun, the last first. */
const undo = (): Promise<void> =>
  undoing ??= (async () => {
    for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
      try {
        await step()
      } catch (error) {
        console.error(error)
      }
    }
  })()
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => void undo().then(() => process.exit(130)))
}
const fail = async (error: unknown): Promise<never> => {
  console.error(error)
  await undo()
  process.exit(1)
}
process.on("uncaughtException", (error) => void fail(error))
process.on("unhandledRejection", (error) => void fail(error))

try {
  const add = (step: () => Promise<void> | void) => void steps.push(step)
  const setting = await Setting.open(options, add)
  if (options.keep) console.log(`what is written stays in ${setting.directory}`)
  if (setting.brokers.disks === "limit") {
    console.warn("NO MOUNTING HERE: full disks are made by a limit on the broker's files")
  }
  const outcome = await Chaos.run(options, setting, add)
  const { markdown, json, failures } = Report.make(options, setting, outcome)
  console.log(`\n${markdown}`)
  if (options.report !== undefined) writeFileSync(options.report, markdown)
  if (options.json !== undefined) writeFileSync(options.json, JSON.stringify(json, undefined, 2))
  process.exitCode = failures.length === 0 ? 0 : 1
} catch (error) {
  if (undoing === undefined) console.error(error)
  process.exitCode = 1
} finally {
  await undo()
}
process.exit()
