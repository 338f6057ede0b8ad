import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { topics } from "../../schemas/index.ts"
import * as Names from "../../src/clickstream/Names.ts"

const tables = ["clicks", "clicks_per_minute", "sessions", "identities", "dead_letters"]

/** The longest of the names that Postgres makes for indexes is told, too. */
const tablesOf = (prefix: string) =>
  [...tables, "clicks_per_minute_minute_idx"].map((table) => `${Names.tablePrefix({ prefix })}${table}`)

describe("names with a prefix", () => {
  it.each(["a", "2015-import", "a-b", "a--b", "x".repeat(32)])("can be made with %s", (prefix) => {
    assert.isTrue(Result.isSuccess(Names.prefix(prefix)))
    for (const table of tablesOf(prefix)) assert.match(table, /^[a-z_][a-z0-9_]{0,62}$/)
    const groups = Object.values(Names.pipelines({ prefix }))
    for (const name of [...Object.values(topics({ prefix })).map(({ name }) => name), ...groups]) {
      assert.match(name, /^[a-zA-Z0-9._-]{1,200}$/)
    }
  })

  it.each(["A", "a.b", "a_b", "-a", "a-", "a b", "é", "x".repeat(33), 'a"; drop'])(
    "cannot be made with %s",
    (prefix) => {
      assert.isTrue(Result.isFailure(Names.prefix(prefix)))
    },
  )

  it("are different for every prefix", () => {
    const prefixes = ["", "a", "b", "1", "a-b", "a--b", "1-a", "a1", "a-1", "clicks", "dead", "a-clicks", "a-dead"]
    const all = prefixes.flatMap(tablesOf)
    assert.strictEqual(new Set(all).size, all.length)
  })
})
