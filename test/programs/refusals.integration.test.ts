/** What people see when a program cannot start: one sentence, soon, and 1 as its end. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { createServer } from "node:net"
import * as Database from "../support/Database.ts"
import * as Program from "../support/Program.ts"

const ends = (name: string, env: Record<string, string>, args: ReadonlyArray<string> = []) =>
  Effect.flatMap(Program.start(name, { env, args }), ({ ended }) => ended)

/** A port that something listens on. */
const taken = Effect.acquireRelease(
  Effect.promise(() =>
    new Promise<{ readonly port: number; readonly close: () => void }>((resolve) => {
      const server = createServer().listen(0, "127.0.0.1", () => {
        const address = server.address()
        resolve({ port: typeof address === "object" ? address!.port : 0, close: () => server.close() })
      })
    })
  ),
  ({ close }) => Effect.sync(close),
)

describe("programs that cannot start", () => {
  it.live("say which port is taken, and by which setting it is chosen", () =>
    Effect.gen(function* () {
      const { port } = yield* taken
      const { code, output } = yield* ends("start", { PORT: String(port), HOST: "127.0.0.1" }, ["--no-sample"])
      assert.strictEqual(code, 1)
      assert.strictEqual(output, `start: port ${port} is taken: stop what listens there or set PORT\n`)
    }), 60_000)

  it.live("wait for brokers that are not there, say so at once, and then give up", () =>
    Effect.gen(function* () {
      const program = yield* Program.start("enrich", { env: { KAFKA_BROKERS: "localhost:1" } })
      yield* Program.says(program, /broker localhost:1 cannot be reached .* trying again for 15 seconds/, 10)
      const { code, output } = yield* program.ended
      assert.strictEqual(code, 1)
      assert.match(output, /\nenrich: broker localhost:1 cannot be reached \(.*\); check the address and that .*\n$/)
    }), 60_000)

  it.live("wait for a database that is not there, say so at once, and then give up", () =>
    Effect.gen(function* () {
      const program = yield* Program.start("start", { env: { DATABASE_URL: "postgres://localhost:1/x", PORT: "0" } })
      yield* Program.says(program, /Postgres at .*:1 cannot be reached .* trying again for 15 seconds/, 20)
      const { code, output } = yield* program.ended
      assert.strictEqual(code, 1)
      assert.match(output, /\nstart: Postgres at .*:1 cannot be reached .*; check its address and that it runs\n$/)
    }), 60_000)

  it.live("say of import-log's prefix what is said of PREFIX", () =>
    Effect.gen(function* () {
      const { code, output } = yield* ends("import-log", {}, ["some.log", "--prefix", "My Import"])
      assert.strictEqual(code, 2)
      assert.include(output, "--prefix must be at most 32 lower-case letters, digits and dashes")
    }), 30_000)
})

Database.describeWithDatabase("programs that a database refuses", () => {
  it.live("say at once what to look at", () =>
    Effect.gen(function* () {
      const url = new URL(yield* Database.fresh)
      const refused = Effect.fnUntraced(function* (wrong: URL) {
        const { code, output } = yield* ends("start", { DATABASE_URL: wrong.href, PORT: "0" }, ["--no-sample"])
        assert.strictEqual(code, 1)
        return output
      })
      const noDatabase = Object.assign(new URL(url), { pathname: "/nowhere" })
      assert.strictEqual(
        yield* refused(noDatabase),
        'start: Postgres refused the connection (SQLSTATE 3D000): database "nowhere" does not exist; ' +
          "check the user, the password and the database in its address\n",
      )
      const nobody = Object.assign(new URL(url), { username: "nobody" })
      assert.include(yield* refused(nobody), 'Postgres refused the connection (SQLSTATE 28000): role "nobody"')
    }), 60_000)
})
