/** What the documentation shows: every example compiles, runs, and prints what stands below it. */
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { execFile } from "node:child_process"
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { inspect, promisify } from "node:util"

const root = join(import.meta.dirname, "..")
const folder = join(root, "test/.docs")

interface Example {
  readonly name: string
  readonly file: string
  readonly code: string
  /** What it prints; `undefined` where the page does not say. */
  readonly prints: string | undefined
  readonly runs: boolean
}

/** The examples of a page: its blocks of TypeScript that import the library, with the block of text that follows. */
const examplesOf = (page: string): ReadonlyArray<Example> => {
  const blocks = readFileSync(join(root, page), "utf8").matchAll(
    /^```ts( no-run)?\n([^]*?)^```\n(?:\s*```text\n([^]*?)^```)?/gm,
  )
  return [...blocks].filter(([, , code]) => code!.includes('from "millrace')).map(([, noRun, code, prints], i) => {
    const name = `${page.replace(/^docs\//, "").replace(/\.md$/, "")} ${i + 1}`
    return { name, file: `${name.replaceAll(/\W+/g, "-")}.ts`, code: code!, prints, runs: noRun === undefined }
  })
}

const examples = globSync("docs/**/*.md", { cwd: root }).sort().flatMap(examplesOf)

const resolved = (code: string): string =>
  code.replaceAll('"millrace/testing"', '"../../src/testing/index.ts"').replaceAll('"millrace"', '"../../src/index.ts"')

describe("the documentation", () => {
  beforeAll(() => {
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder)
    for (const { file, code } of examples) writeFileSync(join(folder, file), `${resolved(code)}\nexport {}\n`)
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ extends: "../../tsconfig.json", include: ["*.ts"] }))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it("has examples that compile", async () => {
    const tsc = join(root, "node_modules/.bin/tsc")
    await promisify(execFile)(tsc, ["-p", folder], { cwd: root }).catch(({ stdout }) => assert.fail(stdout))
  }, 60_000)

  for (const { name, file, prints } of examples.filter(({ runs }) => runs)) {
    it(`has an example that runs: ${name}`, async () => {
      assert.isDefined(prints, `${name} has no block of text that says what it prints`)
      const lines: Array<string> = []
      const log = vi.spyOn(console, "log").mockImplementation((...args) => void lines.push(args.map(shown).join(" ")))
      try {
        await import(join(folder, file))
      } finally {
        log.mockRestore()
      }
      assert.strictEqual(`${lines.join("\n")}\n`, prints)
    }, 30_000)
  }
})

/** As the console shows it. */
const shown = (value: unknown): string => typeof value === "string" ? value : inspect(value)
