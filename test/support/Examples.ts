/** The programs in the documentation: fenced blocks of TypeScript that import from millrace, and what they print. */
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

export const root = join(import.meta.dirname, "../..")

/** Where examples are written to be compiled and run; git ignores it. */
export const folder = join(root, "test/.docs")

export interface Example {
  /** The page, and the line that the block begins at. */
  readonly name: string
  readonly code: string
  /** The text block right behind it; `undefined` where something else follows. */
  readonly prints: string | undefined
  /** Only compiled: ```ts no-run. */
  readonly runs: boolean
  /** Where it was written to. */
  readonly file: string
}

interface Block {
  readonly info: string
  readonly line: number
  readonly text: string
}

/** Fenced blocks in their order. */
const blocks = (page: string): ReadonlyArray<Block> => {
  const found: Array<Block> = []
  let open: { readonly info: string; readonly line: number; readonly indent: string; lines: Array<string> } | undefined
  for (const [i, line] of page.split("\n").entries()) {
    const fence = /^(\s*)```(.*)$/.exec(line)
    if (open === undefined) {
      if (fence !== null) open = { info: fence[2]!.trim(), line: i + 1, indent: fence[1]!, lines: [] }
    } else if (fence !== null && fence[2] === "") {
      found.push({ info: open.info, line: open.line, text: open.lines.join("\n") })
      open = undefined
    } else open.lines.push(line.startsWith(open.indent) ? line.slice(open.indent.length) : line)
  }
  return found
}

const importsMillrace = /from "millrace(\/testing)?"/

/** The examples of one page. */
export const of = (page: string, text: string): ReadonlyArray<Example> =>
  blocks(text).flatMap(({ info, line, text: code }, i, all) => {
    const [language, ...flags] = info.split(/\s+/)
    if (language !== "ts" || !importsMillrace.test(code)) return []
    const next = all[i + 1]
    return [{
      name: `${page}:${line}`,
      code,
      prints: next?.info === "text" ? next.text : undefined,
      runs: !flags.includes("no-run"),
      file: join(folder, `${page.replaceAll("/", ".").replace(/\.md$/, "")}.${line}.ts`),
    }]
  })

/** All of them, by page. */
export const all = (): ReadonlyArray<Example> =>
  globSync("docs/**/*.md", { cwd: root }).toSorted().flatMap((page) => of(page, readFileSync(join(root, page), "utf8")))

/** Writes them with the library in this repository in the place of the package, and a project that compiles them. */
export const write = (examples: ReadonlyArray<Example>): void => {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({ extends: "../../tsconfig.json", include: ["*.ts"], exclude: [] }),
  )
  // A module of its own each, with the lines where they stand in the page.
  for (const { name, code, file } of examples) {
    const local = code.replaceAll('from "millrace"', 'from "../../src/index.ts"').replaceAll(
      'from "millrace/testing"',
      'from "../../src/testing/index.ts"',
    )
    const before = Number(name.slice(name.lastIndexOf(":") + 1))
    writeFileSync(file, `${"\n".repeat(before)}${local}\n`)
  }
}
