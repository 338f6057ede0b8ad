/** What docs/promises.md says of the tests is so: they exist, and are called that. */
import { assert, describe, it } from "vitest"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { root } from "./support/Examples.ts"

const page = readFileSync(join(root, "docs/promises.md"), "utf8")

/** The last cell of every row: a file, and words that stand in it; several are separated by a break. */
const named = page.split("\n").flatMap((line, i) =>
  line.startsWith("| ") && !line.startsWith("| promise") && !line.startsWith("| ---")
    ? line.split(/(?<!\\)\|/).at(-2)!.split("<br>").map((cell) => ({ line: i + 1, cell: cell.trim() }))
    : []
)

describe("docs/promises.md", () => {
  it("has a test for every promise", () => {
    assert.isAbove(named.length, 30)
    const wrong = named.filter(({ cell }) => {
      const [, file, words] = /^`(test\/[^`]+)`: (.{10,})$/.exec(cell) ?? []
      return file === undefined || !existsSync(join(root, file)) ||
        !readFileSync(join(root, file), "utf8").includes(words!)
    })
    assert.deepStrictEqual(wrong, [])
  })
})
