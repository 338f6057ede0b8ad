/** Real databases for integration tests: one server per run, a database per test. */
import { describe } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import postgres from "postgres"
import { inject } from "vitest"

/** What the run's global setup found. */
export interface Provided {
  readonly url: string | undefined
  readonly missing: string | undefined
}

declare module "vitest" {
  interface ProvidedContext {
    database: Provided
  }
}

/** A suite that needs Postgres; left out where there is none. With CI=true the global setup has failed before. */
export const describeWithDatabase = (name: string, run: () => void) =>
  inject("database").url === undefined ? describe.skip(name, run) : describe(name, run)

let made = 0

/** The address of an empty database, which is dropped with the scope. */
export const fresh: Effect.Effect<string, never, Scope.Scope> = Effect.gen(function* () {
  const { url } = inject("database")
  if (url === undefined) return yield* Effect.die(new Error("there is no Postgres here"))
  const name = `test_${process.pid}_${++made}`
  const administrate = (statement: string) =>
    Effect.promise(async () => {
      const sql = postgres(url, { max: 1, onnotice: () => {} })
      await sql.unsafe(statement)
      await sql.end()
    })
  yield* Effect.acquireRelease(
    administrate(`create database ${name}`),
    () => administrate(`drop database if exists ${name} with (force)`),
  )
  const own = new URL(url)
  own.pathname = `/${name}`
  return own.href
})

/** A connection to look at a database with. */
export const connect = (url: string): Effect.Effect<postgres.Sql, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => postgres(url, { max: 1, onnotice: () => {} })),
    (sql) => Effect.promise(() => sql.end({ timeout: 1 })),
  )
