/** What README.md says: its programs run against the packed package, on both runtimes, and its table is current. */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { globSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { mkdir, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"
import { current, files } from "../scripts/settings.ts"

const root = join(import.meta.dirname, "..")

const run = (command: string, args: ReadonlyArray<string>, cwd: string): Promise<string> =>
  new Promise((resolve, reject) =>
    execFile(command, args, { cwd, timeout: 60_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${command} ${args.join(" ")}: ${stdout}${stderr}`, { cause: error }))
    })
  )

const programs = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/```ts\n([^]*?)```/g)].map(([, code]) =>
  code!
)

/** What each program prints, in the order of README.md. */
const prints = ['ann@0: {"customer":"ann","minute":0,"euros":42}\n', "two rows, once each\n"]

describe("README.md", () => {
  const project = mkdtempSync(join(tmpdir(), "millrace-readme-"))

  /** A project as its user's: the package from its tarball, and what it depends on. */
  beforeAll(async () => {
    await mkdir(join(project, "node_modules"))
    const tarball = (await run("npm", ["pack", "--silent", "--pack-destination", project], root)).trim().split("\n").at(
      -1,
    )!
    await run("tar", ["xzf", tarball], project)
    for (const name of readdirSync(join(root, "node_modules"))) {
      symlinkSync(join(root, "node_modules", name), join(project, "node_modules", name))
    }
    symlinkSync(join(project, "package"), join(project, "node_modules/millrace"))
    writeFileSync(
      join(project, "package.json"),
      JSON.stringify({ type: "module", dependencies: { millrace: "*", effect: "*" } }),
    )
    programs.forEach((code, i) => writeFileSync(join(project, `program${i}.ts`), code))
    const compilerOptions = {
      ...JSON.parse(readFileSync(join(root, "tsconfig.json"), "utf8")).compilerOptions,
      types: ["node"],
      allowImportingTsExtensions: true,
    }
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }))
  }, 120_000)
  afterAll(() => rm(project, { recursive: true, force: true }))

  it("has the programs that are expected here", () => assert.strictEqual(programs.length, prints.length))

  it("has programs that compile", async () => {
    await run(join(root, "node_modules/.bin/tsc"), ["-p", "."], project)
  }, 60_000)

  for (const [i, expected] of prints.entries()) {
    it(`has a program ${i + 1} that runs on Node`, async () => {
      assert.strictEqual(await run(process.execPath, [`program${i}.ts`], project), expected)
    }, 60_000)
    it(`has a program ${i + 1} that runs on Deno`, async () => {
      const [deno] = globSync(join(root, "node_modules/@deno/*/deno"))
      assert.strictEqual(await run(deno!, ["run", "-A", `program${i}.ts`], project), expected)
    }, 60_000)
  }

  it("and .env.example have the settings that the programs have: run `npm run settings`", () => {
    for (const [name, text] of files()) assert.strictEqual(current(name), text)
  })
})
