/** Writes the settings table of README.md and .env.example, from the programs' own declarations. `npm run settings` */
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath, pathToFileURL } from "node:url"
import * as Collector from "../src/clickstream/collector/Settings.ts"
import { Settings } from "../src/index.ts"
import * as Environment from "../src/programs/environment.ts"
import * as Processing from "../src/programs/processing.ts"
import * as Server from "../src/programs/server.ts"
import * as Telemetry from "../src/programs/telemetry.ts"

const path = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url))

const settings: ReadonlyArray<Settings.Setting<unknown>> = [
  Server.listening,
  { port: Server.dashboard.port },
  { port: Server.metrics.metricsPort },
  Server.switching,
  Environment.kafka,
  Environment.database,
  Environment.naming,
  Environment.privacy,
  Collector.settings,
  Processing.enriching,
  Processing.counting,
  Processing.running,
  Telemetry.settings,
].flatMap((group) => Object.values(group))

const begin = "<!-- settings: npm run settings -->"
const end = "<!-- end of settings -->"

/** File names and what must stand in them. */
export const files = (): ReadonlyMap<string, string> => {
  const readme = readFileSync(path("README.md"), "utf8")
  const from = readme.indexOf(begin) + begin.length
  const to = readme.indexOf(end)
  return new Map([
    ["README.md", `${readme.slice(0, from)}\n${Settings.table(settings)}\n${readme.slice(to)}`],
    [
      ".env.example",
      `# Settings of all programs at their defaults: copy to .env, and change what must differ.\n\n${
        Settings.example(settings)
      }`,
    ],
  ])
}

export const current = (name: string): string => readFileSync(path(name), "utf8")

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const [name, text] of files()) writeFileSync(path(name), text)
}
