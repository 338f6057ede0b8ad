/**
 * What must not compile, and the words that its author then sees. In `*.fail.ts` a comment `//! words` stands before the
 * statement that must be refused with a message that contains them; every diagnostic of this folder must be expected so.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"

const folder = import.meta.dirname

/** Diagnostics of the whole folder: the line they stand at, and their text in full. */
const diagnostics = (): ReadonlyArray<{ readonly file: string; readonly line: number; readonly text: string }> => {
  let output = ""
  try {
    output = execFileSync("tsc", ["-p", folder, "--pretty", "false"], { encoding: "utf8" })
  } catch (error) {
    output = String((error as { readonly stdout: unknown }).stdout)
  }
  return output.split(/\n(?=\S)/).flatMap((text) => {
    const at = /^(?:.*\/)?([\w.]+\.ts)\((\d+),\d+\): error/.exec(text)
    return at === null ? [] : [{ file: at[1]!, line: Number(at[2]), text }]
  })
}

interface Expected {
  readonly file: string
  readonly from: number
  readonly to: number
  readonly words: string
}

/** Each expectation covers the lines from its comment to the next blank one. */
const expectations = (file: string): ReadonlyArray<Expected> => {
  const lines = readFileSync(join(folder, file), "utf8").split("\n")
  return lines.flatMap((line, i) => {
    const words = /^\/\/! (.*)$/.exec(line)?.[1]
    if (words === undefined) return []
    const end = lines.findIndex((line, k) => k > i && line === "")
    return [{ file, from: i + 1, to: end === -1 ? lines.length : end, words }]
  })
}

describe("types", () => {
  const found = diagnostics()
  const expected = readdirSync(folder).filter((file) => file.endsWith(".fail.ts")).flatMap(expectations)

  it.each(expected)("$file:$from says: $words", ({ file, from, to, words }) => {
    const texts = found.filter((one) => one.file === file && one.line > from && one.line <= to).map(({ text }) => text)
    assert.isTrue(texts.some((text) => text.includes(words)), `got: ${texts.join("\n") || "no diagnostic"}`)
  })

  it("refuses nothing else", () => {
    const others = found.filter(({ file, line }) =>
      !expected.some((one) => one.file === file && line > one.from && line <= one.to)
    )
    assert.deepStrictEqual(others, [])
  })
})
