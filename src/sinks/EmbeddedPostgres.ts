/** A Postgres inside this process, for development and examples: in memory, and gone with its scope. */
import { Effect, Layer, Redacted, type Scope } from "effect"
import { PipelineError } from "../Task.ts"
import * as Postgres from "./Postgres.ts"

/**
 * Starts the database on a free port of this machine's loopback address and answers its address. It takes one connection
 * at a time: whoever needs several queries at once shares one pool of one connection.
 */
export const make: Effect.Effect<Redacted.Redacted<string>, PipelineError, Scope.Scope> = Effect.gen(function* () {
  const db = yield* Effect.acquireRelease(
    Effect.tryPromise({
      // Loaded only here: it is large, and most programs do without it.
      try: async () => (await import("@electric-sql/pglite")).PGlite.create({ dataDir: "memory://" }),
      catch: unstartable,
    }),
    (db) => Effect.ignore(Effect.tryPromise(() => db.close())),
  )
  const server = yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: async () => {
        const { PGLiteSocketServer } = await import("@electric-sql/pglite-socket")
        const server = new PGLiteSocketServer({ db, host: "127.0.0.1", port: 0 })
        await server.start()
        return server
      },
      catch: unstartable,
    }),
    (server) => Effect.ignore(Effect.tryPromise(() => server.stop())),
  )
  return Redacted.make(`postgres://postgres:postgres@${server.getServerConn()}/postgres?sslmode=disable`)
})

/** The database and a pool of one connection to it. */
export const layer: Layer.Layer<Postgres.Postgres, PipelineError> = Layer.unwrap(
  Effect.map(make, (url) => Postgres.layer({ url, connections: 1, lockTimeout: "5 seconds" })),
)

const unstartable = (cause: unknown): PipelineError =>
  new PipelineError({ reason: "Sink", retriable: false, message: "the embedded Postgres could not be started", cause })
