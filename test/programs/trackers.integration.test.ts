/** Segment's own trackers, unmodified, from a browser and from a server: through the collector into Postgres and onto the page. */
import { Analytics } from "@segment/analytics-node"
import { assert, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { readFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { Page } from "playwright-core"
import * as Browser from "../support/Browser.ts"
import * as Database from "../support/Database.ts"
import * as Program from "../support/Program.ts"

const tracker = new URL("../../node_modules/@segment/analytics-next/dist/umd/", import.meta.url)

/** A shop whose tracker learns from the collector where to send to. */
const shop = (collector: string) =>
  `<!doctype html><title>Shop</title>
<button>Buy</button>
<script src="/index.js"></script>
<script>
  const tracking = AnalyticsNext.AnalyticsBrowser.load({ writeKey: "demo", cdnURL: "${collector}" })
  tracking.page("Front")
  document.querySelector("button").onclick = () => tracking.track("Bought", { price: 3 })
</script>`

/** Serves the shop and the tracker's own files, and answers the address. */
const serve = (collector: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<ReturnType<typeof createServer>>((resolve) => {
        const server = createServer(async (request, response) => {
          const name = new URL(request.url!, "http://shop").pathname.slice(1)
          if (!name.endsWith(".js")) return response.setHeader("content-type", "text/html").end(shop(collector))
          const file = await readFile(new URL(name, tracker)).catch(() => undefined)
          response.writeHead(file === undefined ? 404 : 200, { "content-type": "text/javascript" }).end(file)
        }).listen(0, "127.0.0.1", () => resolve(server))
      })
    ),
    (server) => Effect.sync(() => server.close().closeAllConnections()),
  ).pipe(Effect.map((server) => {
    const address = server.address()
    return `http://127.0.0.1:${typeof address === "object" ? address!.port : 0}`
  }))

/** What a page says in its console, for failures only. */
const complaintsOf = (page: Page): ReadonlyArray<string> => {
  const complaints: Array<string> = []
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()))
  page.on("pageerror", (error) => complaints.push(String(error)))
  return complaints
}

const eventually = <A>(what: string, ask: Effect.Effect<A>, isRight: (answer: A) => boolean) =>
  Effect.gen(function* () {
    for (let left = 80; left > 0; left--) {
      const answer = yield* ask
      if (isRight(answer)) return answer
      yield* Effect.sleep("250 millis")
    }
    return yield* Effect.die(new Error(`not so: ${what}, but ${JSON.stringify(yield* ask)}`))
  })

Database.describeWithDatabase("trackers and the page", () => {
  Browser.describeWithBrowser("in Chromium and in Node", () => {
    it.live("bring clicks into the tables, and onto the page without a reload", () =>
      Effect.gen(function* () {
        const url = yield* Database.fresh
        const sql = yield* Database.connect(url)
        const program = yield* Program.start("start", {
          args: ["--no-sample"],
          env: { PORT: "0", DATABASE_URL: url, HOST: "127.0.0.1" },
        })
        yield* Program.says(program, /http:\/\/127\.0\.0\.1:\d+/, 60)
        const collector = /http:\/\/127\.0\.0\.1:\d+/.exec(program.output())![0]
        const browser = yield* Browser.launch

        const dashboard = yield* Effect.promise(() => browser.newPage())
        const complaints = complaintsOf(dashboard)
        yield* Effect.promise(() => dashboard.goto(collector))
        const shown = (id: string) => Effect.promise(() => dashboard.textContent(`#${id}`))
        yield* eventually("live", shown("state"), (text) => text === "Live")
        assert.include(yield* shown("notice"), "No clicks yet")

        const shopPage = yield* Effect.promise(() => browser.newPage())
        const shopUrl = yield* serve(collector)
        yield* Effect.promise(() => shopPage.goto(`${shopUrl}/front?utm_source=mail`))
        yield* Effect.promise(() => shopPage.click("button"))
        yield* Effect.promise(() => shopPage.click("button"))

        const analytics = new Analytics({ writeKey: "demo", host: collector })
        analytics.track({ userId: "server-user", event: "Paid", properties: { price: 3 } })
        analytics.identify({ userId: "server-user", traits: { plan: "gold" } })
        yield* Effect.promise(() => analytics.closeAndFlush())

        const clicks = Effect.promise(() => sql`select * from clicks order by kind, name, received_at`)
        const stored = yield* eventually("four clicks stored", clicks, ({ length }) => length === 4)
        assert.deepStrictEqual(stored.map(({ kind, name }) => `${kind} ${name}`), [
          "page Front",
          "track Bought",
          "track Bought",
          "track Paid",
        ])
        const [front, bought] = stored
        assert.deepInclude(front, {
          path: "/front",
          title: "Shop",
          campaign_source: "mail",
          time_rule: "corrected",
          source: "website",
        })
        assert.strictEqual(front!["session_id"], bought!["session_id"])
        assert.match(front!["browser"], /Chrom/)
        const identities = yield* eventually(
          "an identity stored",
          Effect.promise(() => sql`select kind, user_id, traits from identities`),
          ({ length }) => length === 1,
        )
        assert.deepInclude(identities[0], { kind: "identify", user_id: "server-user", traits: { plan: "gold" } })

        yield* eventually("four clicks shown", shown("hour"), (text) => text === "4")
        yield* eventually("the page shown", shown("pages"), (text) => text!.includes("/front"))
        assert.deepStrictEqual(complaints, [])

        yield* program.signal("SIGINT")
        assert.strictEqual((yield* program.ended).code, 0)
        yield* eventually("says that the server is gone", shown("state"), (text) => text!.includes("gone"))
        const port = new URL(collector).port
        const again = yield* Program.start("start", {
          args: ["--no-sample"],
          env: { PORT: port, DATABASE_URL: url, HOST: "127.0.0.1" },
        })
        yield* Program.says(again, /http:\/\/127\.0\.0\.1:\d+/, 60)
        yield* eventually("comes back by itself", shown("state"), (text) => text === "Live")
        yield* eventually("with its figures", shown("hour"), (text) => text === "4")
        yield* Effect.promise(() => shopPage.click("button"))
        yield* eventually("and takes what comes to the new topics", clicks, ({ length }) => length === 5)
      }), 120_000)

    it.live("shows what comes from outside as text", () =>
      Effect.gen(function* () {
        const program = yield* Program.start("start", { args: ["--no-sample"], env: { PORT: "0", HOST: "127.0.0.1" } })
        yield* Program.says(program, /http:\/\/127\.0\.0\.1:\d+/, 60)
        const collector = /http:\/\/127\.0\.0\.1:\d+/.exec(program.output())![0]
        const hostile = `<img src=x onerror="document.title='caught'">`
        const answer = yield* Effect.promise(() =>
          fetch(`${collector}/v1/page?writeKey=demo`, {
            method: "POST",
            body: JSON.stringify({ userId: hostile, context: { page: { path: `/${hostile}` } } }),
          })
        )
        assert.strictEqual(answer.status, 200)
        const browser = yield* Browser.launch
        const page = yield* Effect.promise(() => browser.newPage({ viewport: { width: 360, height: 740 } }))
        const complaints = complaintsOf(page)
        yield* Effect.promise(() => page.goto(collector))
        const users = Effect.promise(() => page.textContent("#users"))
        yield* eventually("the visitor", users, (text) => text!.includes(hostile))
        assert.notStrictEqual(yield* Effect.promise(() => page.title()), "caught")
        const width = yield* Effect.promise(() =>
          page.evaluate("document.documentElement.scrollWidth") as Promise<number>
        )
        assert.isAtMost(width, 360)
        assert.deepStrictEqual(complaints, [])
      }), 60_000)
  })
})
