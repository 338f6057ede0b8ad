/** Every program under Deno, each as a process of its own, on Apache Kafka and Postgres. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import * as Broker from "../support/Broker.ts"
import * as Database from "../support/Database.ts"
import * as Program from "../support/Program.ts"

Broker.describeWithBroker("programs under Deno", () => {
  it.live(
    "take a click from HTTP to the dashboard, import a log, decide commands, and end well",
    () =>
      Effect.gen(function* () {
        const url = yield* Database.fresh
        const sql = yield* Database.connect(url)
        const brokers = yield* Broker.shared
        const prefix = `deno-${randomUUID().slice(0, 8)}`
        const table = `${prefix.replaceAll("-", "_")}_clicks`
        const env = {
          KAFKA_BROKERS: brokers.join(","),
          DATABASE_URL: url,
          PREFIX: prefix,
          PORT: "0",
          DASHBOARD_PORT: "0",
          HOST: "127.0.0.1",
          LOG_LEVEL: "Info",
        }
        const programs = yield* Effect.forEach(
          ["collect", "enrich", "aggregate", "store", "dashboard"],
          (name) => Program.start(name, { runtime: "deno", env }),
        )
        const [collect, , , , dashboard] = programs
        const address = (program: Program.Program) =>
          Effect.map(
            Program.says(program, /http:\/\/127\.0\.0\.1:\d+/, 60),
            () => /http:\/\/127\.0\.0\.1:\d+/.exec(program.output())![0],
          )
        const collector = yield* address(collect!)
        const answer = yield* Effect.promise(() =>
          fetch(`${collector}/v1/track?writeKey=demo`, { method: "POST", body: '{"anonymousId":"me","event":"Hello"}' })
        )
        assert.strictEqual(answer.status, 200)
        const stored = Effect.promise(async () => {
          const [row] = await sql`select to_regclass(${table}) is not null as there`
          return row!["there"] ? (await sql`select count(*)::int as n from ${sql(table)}`)[0]!["n"] as number : 0
        })
        const until = (n: number) =>
          Effect.gen(function* () {
            for (let left = 160; left > 0 && (yield* stored) < n; left--) yield* Effect.sleep("250 millis")
            assert.strictEqual(yield* stored, n)
          })
        yield* until(1)
        const page = yield* address(dashboard!)
        assert.include(yield* Effect.promise(() => fetch(page).then((answer) => answer.text())), "<title>Millrace")

        const importing = yield* Program.start("import-log", {
          runtime: "deno",
          args: ["data/apache_access_combined_10k.log"],
          env,
        })
        const refused = yield* importing.ended
        assert.strictEqual(refused.code, 1)
        assert.include(refused.output, "with --prefix NAME")

        const deciding = yield* Program.start("orders", {
          runtime: "deno",
          args: ["--commands", "200", "--seed", "1"],
          env,
        })
        const decided = yield* deciding.ended
        assert.strictEqual(decided.code, 0, decided.output)
        assert.match(decided.output, /^ann +EUR +\d+ +\d+\.\d\d +\d+\.\d\d$/m)

        const listing = yield* Program.start("redrive", { runtime: "deno", args: ["list"], env })
        const listed = yield* listing.ended
        assert.strictEqual(listed.code, 0, listed.output)
        assert.include(listed.output, `${prefix}.orders.dlt:`)
        const open = yield* Program.start("transactions", {
          runtime: "deno",
          args: ["list", "--older-than", "1 day"],
          env,
        })
        const none = yield* open.ended
        assert.strictEqual(none.code, 0, none.output)
        assert.include(none.output, "no such transaction is open")
        const replay = yield* Program.start("replay", {
          runtime: "deno",
          args: ["plan", "averages", "--from", "earliest", "--reset-state"],
          env,
        })
        const planned = yield* replay.ended
        assert.strictEqual(planned.code, 0, planned.output)
        assert.include(planned.output, "payments.average-by-user will be written again")

        for (const program of programs) yield* program.signal("SIGTERM")
        for (const program of programs) {
          const end = yield* program.ended
          assert.strictEqual(end.code, 0, end.output)
        }
      }),
    120_000,
  )
})
