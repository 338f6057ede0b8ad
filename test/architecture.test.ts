/** Which parts of the source may import which: read from the import lines, with every other arrow refused. */
import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"
import { dirname, join, normalize, sep } from "node:path"

const root = join(import.meta.dirname, "..")

/** The part that a file belongs to. */
const partOf = (file: string): string => {
  const [top, second, third] = file.split(sep)
  if (top === "schemas") return "schemas"
  if (file === join("src", "index.ts")) return "index"
  if (third === undefined) return "core"
  if (second === "kafka" && third === "internal") return "kafka/internal"
  return second!
}

const library = ["core", "stages", "state", "kafka", "kafka/internal", "sinks", "lookups", "ops"]

const allowed: Readonly<Record<string, ReadonlyArray<string>>> = {
  core: ["core"],
  stages: ["core", "stages", "state"],
  state: ["core", "state"],
  kafka: ["core", "state", "kafka", "kafka/internal"],
  "kafka/internal": ["core", "kafka", "kafka/internal"],
  sinks: ["core", "stages", "state", "kafka", "sinks"],
  lookups: ["core", "stages", "state", "kafka", "sinks", "lookups"],
  ops: ["core", "stages", "state", "kafka", "ops"],
  testing: ["core", "stages", "state", "kafka", "testing"],
  schemas: ["index", "schemas"],
  clickstream: ["index", "schemas", "clickstream"],
  orders: ["index", "schemas", "orders"],
  programs: ["index", "schemas", "clickstream", "orders", "programs", ...library],
  index: library,
}

/** The one place where the core names its implementations: the value that a user chooses. */
const exceptions = [["src/Guarantee.ts", "kafka"]] as const

const files = globSync(["src/**/*.ts", "schemas/**/*.ts"], { cwd: root })

const imports = (file: string): ReadonlyArray<string> =>
  Array.from(
    readFileSync(join(root, file), "utf8").matchAll(/^(?:import|export)[^"']*?from "([^"]+)"|^import "([^"]+)"/gms),
    (match) => (match[1] ?? match[2])!,
  )

describe("architecture", () => {
  it.each(files)("%s imports only what it may", (file) => {
    const part = partOf(file)
    for (const target of imports(file)) {
      if (!target.startsWith(".")) continue
      const other = partOf(normalize(join(dirname(file), target)))
      if (exceptions.some(([from, to]) => from === file && to === other)) continue
      assert.include(allowed[part]!, other, `${file} imports ${target}`)
    }
  })

  it("keeps the Kafka client behind kafka/internal", () => {
    const others = files.filter((file) =>
      partOf(file) !== "kafka/internal" && imports(file).some((target) => target.startsWith("@platformatic/"))
    )
    assert.deepStrictEqual(others, [])
  })

  it("reads time, chance and timers from Effect's services", () => {
    const direct = files.filter((file) =>
      /\b(Date\.now\(|Math\.random\(|setTimeout\(|setInterval\(|new Date\(\))/.test(
        readFileSync(join(root, file), "utf8"),
      )
    )
    assert.deepStrictEqual(direct, [])
  })
})
