/** The command that newcomers run first, on both runtimes. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import { count } from "../../scripts/count-log.ts"
import * as Database from "../support/Database.ts"
import * as Program from "../support/Program.ts"

const log = new URL("../../data/apache_access_combined_10k.log", import.meta.url)

const addressOf = (program: Program.Program) =>
  Effect.as(Program.says(program, /http:\/\/localhost:\d+/, 60), undefined).pipe(
    Effect.map(() => /http:\/\/localhost:\d+/.exec(program.output())![0]),
  )

Database.describeWithDatabase("start", () => {
  for (const runtime of ["node", "deno"] as const) {
    it.live(
      `counts the first loop of the sample as an independent count does, with ${runtime}`,
      () =>
        Effect.gen(function* () {
          const url = yield* Database.fresh
          const sql = yield* Database.connect(url)
          const program = yield* Program.start("start", { runtime, env: { PORT: "0", DATABASE_URL: url } })
          yield* addressOf(program)
          assert.include(program.output(), "Kafka is in memory, but the database lasts")
          const expected = count(readFileSync(log, "utf8"), "sample")
          const firstLoop = sql`event_id ~ '^[0-9a-z]+-1-'`
          const stored = Effect.promise(async () =>
            (await sql`select count(*)::int as n from clicks where ${firstLoop}`)[0]!["n"] as number
          )
          for (let left = 120; (yield* stored) < 9_999 && left > 0; left--) yield* Effect.sleep("500 millis")
          const by = (column: string) =>
            Effect.promise(async () => {
              const rows = await sql`select ${
                sql(column)
              } as name, count(*)::int as n from clicks where ${firstLoop} group by 1`
              return Object.fromEntries(rows.map((row) => [row["name"], row["n"]]))
            })
          assert.deepStrictEqual(yield* by("user"), expected.visitors)
          assert.deepStrictEqual(yield* by("path"), pagesAsPaths(expected.pages))
          const letters = Effect.promise(() => sql`select reason, program from dead_letters`)
          for (let left = 60; (yield* letters).length === 0 && left > 0; left--) yield* Effect.sleep("250 millis")
          assert.deepInclude((yield* letters)[0], { reason: "MalformedLine", program: "start" })
          yield* program.signal("SIGINT")
          const end = yield* program.ended
          assert.strictEqual(end.code, 0, end.output)
        }),
      150_000,
    )
  }
})

/** Sends pages in batches, one after another, until it is told to stop or nobody answers; answers the ids that were taken. */
const sending = (address: string, sender: string, goesOn: () => boolean) =>
  Effect.promise(async () => {
    const taken: Array<string> = []
    for (let i = 0; goesOn(); i++) {
      const batch = Array.from({ length: 50 }, (_, n) => ({
        type: "page",
        messageId: `${sender}-${i}-${n}`,
        userId: `user-${n}`,
        timestamp: new Date().toISOString(),
        properties: { path: `/${n}` },
      }))
      const answer = await fetch(`${address}/v1/batch`, {
        method: "POST",
        headers: { authorization: `Basic ${btoa("demo:")}`, "content-type": "application/json" },
        body: JSON.stringify({ batch }),
      }).catch(() => undefined)
      if (answer === undefined) return taken
      if (answer.status === 200) taken.push(...batch.map(({ messageId }) => messageId))
    }
    return taken
  })

Database.describeWithDatabase("start, Kafka in memory", () => {
  it.live("ends when all that was answered is in the tables, and counted", () =>
    Effect.gen(function* () {
      const url = yield* Database.fresh
      const sql = yield* Database.connect(url)
      const program = yield* Program.start("start", {
        args: ["--no-sample"],
        env: { PORT: "0", DATABASE_URL: url, RATE_LIMIT: "0", COMMIT_INTERVAL: "2 seconds" },
      })
      const address = yield* addressOf(program)
      const senders = yield* Effect.forkChild(
        Effect.forEach(["a", "b", "c", "d"], (sender) =>
          sending(address, sender, () => program.process.exitCode === null), {
          concurrency: "unbounded",
        }),
      )
      yield* Effect.sleep("2 seconds")
      yield* program.signal("SIGTERM")
      const end = yield* program.ended
      assert.strictEqual(end.code, 0, end.output)
      const taken = (yield* Fiber.join(senders)).flat()
      assert.isAbove(taken.length, 1_000)
      const rows = yield* Effect.promise(() =>
        sql`select event_id from clicks`
      )
      const stored = new Set(rows.map((row) => row["event_id"] as string))
      assert.deepStrictEqual(taken.filter((id) => !stored.has(id)), [])
      const [counted] = yield* Effect.promise(() => sql`select sum(clicks)::int as n from clicks_per_minute`)
      assert.strictEqual(counted!["n"], rows.length)
    }), 60_000)
})

/** Of a target that is no path, the one OPTIONS *, no page is known. */
const pagesAsPaths = (pages: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.entries(pages).map(([page, n]) => [page.startsWith("/") ? page : "null", n]))

describe("start, all embedded", () => {
  for (const runtime of ["node", "deno"] as const) {
    it.live(`ends in a page with live figures, and stops on Ctrl-C, with ${runtime}`, () =>
      Effect.gen(function* () {
        const program = yield* Program.start("start", { runtime, env: { PORT: "0" } })
        const address = yield* addressOf(program)
        const page = yield* Effect.promise(() => fetch(address).then((answer) => answer.text()))
        assert.include(page, "<title>Millrace")
        const figures = yield* Effect.promise(async () => {
          const stream = await fetch(`${address}/figures`)
          let text = ""
          for await (const chunk of stream.body!.pipeThrough(new TextDecoderStream())) {
            text += chunk
            if (/"activeSessions":[1-9]/.test(text)) break
          }
          return text
        })
        const metrics = yield* Effect.promise(() => fetch(`${address}/metrics`).then((answer) => answer.text()))
        assert.match(metrics, /^millrace_records_read_total\{pipeline="clickstream-enrich",.*\} \d+$/m)
        assert.match(figures, /event: current\ndata: \{"at":\d+,"minutes":\[\[/)
        yield* program.signal("SIGINT")
        const end = yield* program.ended
        assert.strictEqual(end.code, 0, end.output)
        assert.notInclude(end.output, "database lasts")
      }), 90_000)
  }

  it.live("sends its figures to an OpenTelemetry collector", () =>
    Effect.gen(function* () {
      const received = Promise.withResolvers<string>()
      const collector = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const server = createServer(async (request, response) => {
            const body = await Array.fromAsync(request)
            response.end("{}")
            if (request.url === "/v1/metrics") received.resolve(String(Buffer.concat(body)))
          })
          await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
          return server
        }),
        (server) => Effect.sync(() => server.close()),
      )
      const { port } = collector.address() as { readonly port: number }
      const program = yield* Program.start("start", {
        env: { PORT: "0", OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}/` },
      })
      yield* addressOf(program)
      const body = yield* Effect.promise(() => received.promise)
      assert.include(body, "millrace-start")
      yield* program.signal("SIGINT")
      const end = yield* program.ended
      assert.strictEqual(end.code, 0, end.output)
    }), 60_000)

  it.live("says everything that is wrong with its settings, and ends with 1", () =>
    Effect.gen(function* () {
      const program = yield* Program.start("start", { env: { PORT: "http", KEY_BY: "name", WRITE_KEYS: "x" } })
      const end = yield* program.ended
      assert.strictEqual(end.code, 1)
      for (const name of ["PORT must be", "KEY_BY must be", "WRITE_KEYS must be"]) assert.include(end.output, name)
    }))
})
