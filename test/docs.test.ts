/**
 * Every program in the documentation compiles, runs, and prints what stands behind it. A block that imports from millrace
 * is followed by a text block with its output, or marked ```ts no-run and then only compiled.
 */
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { execFile } from "node:child_process"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { format } from "node:util"
import * as Library from "../src/index.ts"
import * as Testing from "../src/testing/index.ts"
import * as Examples from "./support/Examples.ts"
import * as Links from "./support/Links.ts"

const examples = Examples.all()

/** Runs a module and answers what it has printed. */
const printed = async (file: string): Promise<string> => {
  const lines: Array<string> = []
  const log = vi.spyOn(console, "log").mockImplementation((...parts) => void lines.push(format(...parts)))
  try {
    await import(/* @vite-ignore */ pathToFileURL(file).href)
  } finally {
    log.mockRestore()
  }
  return lines.join("\n")
}

describe("the documentation", () => {
  beforeAll(() => Examples.write(examples))
  afterAll(() => rmSync(Examples.folder, { recursive: true, force: true }))

  it("has examples that compile", async () => {
    const tsc = join(Examples.root, "node_modules/.bin/tsc")
    const said = await new Promise<string>((resolve) =>
      execFile(tsc, ["-p", Examples.folder, "--pretty", "false"], (_, out, err) => resolve(out + err))
    )
    assert.strictEqual(said, "")
  }, 60_000)

  for (const { name, prints, runs, file } of examples) {
    if (!runs) continue
    it(`${name} prints what it says`, async () => {
      assert.isDefined(prints, "a block that imports from millrace needs a text block behind it, or ```ts no-run")
      assert.strictEqual(await printed(file), prints)
    }, 30_000)
  }
})

describe("the pages", () => {
  const pages = Links.pages()

  it("lead where they say", () => {
    assert.deepStrictEqual(Links.broken(pages), [])
  })

  it("are all in the list of pages", () => {
    const list = pages.get("docs/README.md")!
    const missing = [...pages.keys()].filter((page) =>
      page.startsWith("docs/") && page !== "docs/README.md" && !list.includes(`](${page.slice("docs/".length)})`)
    )
    assert.deepStrictEqual(missing, [])
  })

  it("tell of everything that is public", () => {
    const told = [...pages.values()].map(Links.prose).join("\n")
    const untold = Object.keys({ ...Library, ...Testing }).filter((name) => !new RegExp(`\`${name}\\b`).test(told))
    assert.deepStrictEqual(untold, [])
  })
})

describe("the finding of links", () => {
  const page = [
    "# A `b.c`, d",
    "## A `b.c`, d",
    "[x](#a-bc-d-1) [y](#a-bc-d) [z](p.md#q) [v](no.md) [w](https://a)",
    "```",
    "# no",
    "[u](u.md)",
    "```",
  ]
    .join("\n")
  it("goes by files and headings outside of code", () => {
    assert.deepStrictEqual([...Links.anchors(page)], ["a-bc-d", "a-bc-d-1"])
    assert.deepStrictEqual(Links.broken(new Map([["docs/a.md", page], ["docs/p.md", "# Q\n[a](a.md#b)"]])), [
      "docs/a.md: no.md",
      "docs/p.md: a.md#b",
    ])
  })
})

describe("the finding of examples", () => {
  const page = [
    "```ts",
    'import { Flow } from "millrace"',
    "```",
    "It prints",
    "```text",
    "a",
    "```",
    "```ts",
    "const own = 1",
    "```",
    "```js",
    'import { Flow } from "millrace"',
    "```",
    "- ```ts no-run",
    "  ```ts no-run",
    '  import { Driver } from "millrace/testing"',
    "  ```",
    "```ts",
    'import { Flow } from "millrace"',
    "```",
    "```sh",
    "```",
  ].join("\n")

  it("takes blocks of ts that import millrace, each with the text that comes next", () => {
    assert.deepStrictEqual(
      Examples.of("docs/a.md", page).map(({ name, code, prints, runs }) => [name, code, prints, runs]),
      [
        ["docs/a.md:1", 'import { Flow } from "millrace"', "a", true],
        ["docs/a.md:15", 'import { Driver } from "millrace/testing"', undefined, false],
        ["docs/a.md:18", 'import { Flow } from "millrace"', undefined, true],
      ],
    )
  })
})
