/** What is written to the tables, on the embedded database. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type * as Rows from "../../src/clickstream/Rows.ts"
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
    }).pipe(Effect.provide(EmbeddedPostgres.layer)), 60_000)

  it.live(
    "keeps the dead letters of a topic beside those of an earlier one of its name",
    () =>
      Effect.gen(function* () {
        yield* Tables.migrate("some_")
        const { query } = yield* Postgres.Postgres
        const letter = (reason: string, at: string): Rows.DeadLetter => ({
          topic: "user.clicks.dlt",
          partition: 0,
          offset: 0,
          reason,
          field: "",
          message: "",
          program: "test",
          original_topic: null,
          original_partition: null,
          original_offset: null,
          at,
        })
        const first = letter("first", "2026-05-17T10:00:00.000Z")
        const second = letter("second", "2026-05-17T10:00:00.001Z")
        for (const one of [first, second, first]) yield* tables("some_").deadLetters.write([one], query)
        const reasons = yield* query((sql) => sql`select reason from some_dead_letters order by at`)
        assert.deepStrictEqual([...reasons], [{ reason: "first" }, { reason: "second" }])
      }).pipe(Effect.provide(EmbeddedPostgres.layer)),
    30_000,
  )
})
