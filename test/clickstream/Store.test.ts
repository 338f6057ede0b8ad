/** What is written to the tables, on the embedded database. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { tables } from "../../src/clickstream/Store.ts"
import * as Tables from "../../src/clickstream/Tables.ts"
import { EmbeddedPostgres, Postgres } from "../../src/index.ts"

describe("Store", () => {
  it.live("writes rows whose keys are one as they are stored", () =>
    Effect.gen(function* () {
      yield* Tables.migrate()
      const { query } = yield* Postgres.Postgres
      const users = ["y\0", "y\ufffd", "y\ud800", "z"]
      yield* tables("").counts.write(users.map((user, i) => ({ user, minute: 0, clicks: i + 1, final: false })), query)
      yield* tables("").sessions.write(
        users.map((id) => ({ id, user: "u", start: 0, last: 0, clicks: 1, firstPage: null, lastPage: null })),
        query,
      )
      const counts = yield* query((sql) => sql`select "user", clicks from clicks_per_minute order by 1`)
      assert.deepStrictEqual([...counts], [{ user: "y\ufffd", clicks: 3 }, { user: "z", clicks: 4 }])
      assert.lengthOf(yield* query((sql) => sql`select from sessions`), 2)
    }).pipe(Effect.provide(EmbeddedPostgres.layer)), 30_000)
})
