import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { directory, files } from "../../scripts/schemas.ts"

describe("schemas/json", () => {
  it("is what the contracts say: run `npm run schemas`", () => {
    const found = new Map(readdirSync(directory).map((name) => [name, readFileSync(`${directory}${name}`, "utf8")]))
    assert.deepStrictEqual(new Map([...found].sort()), new Map([...files()].sort()))
  })
})
