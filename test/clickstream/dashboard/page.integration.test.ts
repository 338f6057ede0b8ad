/** The page in Chromium, on figures of our own: what it shows, and how it says that it has nothing new to show. */
import { assert, it } from "@effect/vitest"
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Exit, Layer, PubSub, Scope, Stream } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { readFile } from "node:fs/promises"
import { createServer } from "node:http"
import { createRequire } from "node:module"
import type { Page } from "playwright-core"
import * as Dashboard from "../../../src/clickstream/dashboard/Dashboard.ts"
import type * as Figures from "../../../src/clickstream/dashboard/Figures.ts"
import * as LiveFigures from "../../../src/clickstream/dashboard/LiveFigures.ts"
import * as Browser from "../../support/Browser.ts"

const minute = 60_000

const current = (minutes: number, change: Partial<LiveFigures.Current> = {}): LiveFigures.Event => {
  const at = Date.now()
  const last = Math.floor(at / minute) * minute
  const first = minutes === 0 ? null : last - (minutes - 1) * minute
  return {
    name: "current",
    data: {
      at,
      minutes: Array.from({ length: Math.min(60, minutes) }, (_, i) => [last - i * minute, 1_000 + i] as const),
      before: null,
      stored: 0,
      rate: 333.3,
      activeSessions: 12,
      sessionGap: 20 * minute,
      first,
      newest: minutes === 0 ? null : last,
      ...change,
    },
  }
}

const slow = (change: Partial<Figures.Slow> = {}): LiveFigures.Event => ({
  name: "slow",
  data: {
    at: Date.now(),
    users: [["5b6ad3a1-8f0e-4a4c-9d80-3f1c2b7a9e55-and-more-that-does-not-fit-anywhere-0123456789", 900], ["me", 3]],
    pages: [["/a/very/long/path/that/does/not/fit/into/its/column/on/any/screen/that/we/know/of/index.html", 12]],
    deadLetters: [["DecodeError", 3], ["Unheard", 1]],
    late: 0,
    lag: [
      { step: "Enrich", topic: "user.clicks.raw", records: 120, state: "steady" },
      { step: "Count", topic: "user.clicks.enriched", records: 80_000, state: "growing" },
      { step: "Store clicks", topic: "user.clicks.enriched", records: 5, state: "stopped" },
      { step: "Store counts", topic: "user.clicks.aggregates", records: null, state: "stopped" },
    ],
    ...change,
  },
})

const nothing = slow({ users: [], pages: [], deadLetters: [], lag: null })

/** Serves the page, and tells it what a test says: at first `events`. */
const serve = (events: ReadonlyArray<LiveFigures.Event>, options: Dashboard.Options = {}, port = 0) =>
  Effect.gen(function* () {
    const told = yield* PubSub.unbounded<LiveFigures.Event>()
    const figures = LiveFigures.LiveFigures.of({
      events: Stream.unwrap(Effect.map(
        PubSub.subscribe(told),
        (subscription) => Stream.concat(Stream.fromIterable(events), Stream.fromSubscription(subscription)),
      )),
      viewers: Effect.succeed(0),
    })
    const context = yield* Layer.build(
      HttpRouter.serve(Dashboard.routes(options), { disableLogger: true, disableListenLog: true }).pipe(
        Layer.provide(Layer.succeed(LiveFigures.LiveFigures, figures)),
        Layer.provideMerge(
          NodeHttpServer.layer(createServer, { port, host: "127.0.0.1", gracefulShutdownTimeout: "10 millis" }),
        ),
      ),
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    const bound = "port" in address ? address.port : 0
    return {
      url: `http://127.0.0.1:${bound}`,
      port: bound,
      tell: (event: LiveFigures.Event) => PubSub.publish(told, event),
    }
  })

type Scheme = "light" | "dark"

const open = (url: string, { width = 1440, height = 900, colorScheme = "light" as Scheme } = {}) =>
  Effect.gen(function* () {
    const browser = yield* Browser.launch
    return yield* Effect.promise(async () => {
      const page = await browser.newPage({ viewport: { width, height }, colorScheme, locale: "en-GB" })
      await page.goto(url)
      return page
    })
  })

/** Waits until the page's text at `selector` matches. */
const reads = (page: Page, selector: string, expected: RegExp) =>
  Effect.promise(async () => {
    let text: string | null = null
    for (let left = 120; left > 0; left--) {
      text = await page.textContent(selector)
      if (expected.test(text ?? "")) return text!
      await page.waitForTimeout(100)
    }
    throw new Error(`expected ${expected} at ${selector}, and it reads ${JSON.stringify(text)}`)
  })

const ask = <A>(page: Page, script: string): Effect.Effect<A> =>
  Effect.promise(() => page.evaluate(script) as Promise<A>)

/** WCAG's contrast of two colours as the browser paints them. */
const contrast = `(a, b) => {
  const context = new OffscreenCanvas(1, 1).getContext("2d")
  const luminance = (colour) => {
    context.fillStyle = colour
    context.fillRect(0, 0, 1, 1)
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((value) => {
      const part = value / 255
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y)
  return (light + 0.05) / (dark + 0.05)
}`

Browser.describeWithBrowser("the dashboard's page", () => {
  for (const colorScheme of ["light", "dark"] as const) {
    it.live(
      `is accessible by axe's rules, and its bars stand out, in ${colorScheme} mode`,
      () =>
        Effect.gen(function* () {
          const { url } = yield* serve([current(20), slow()])
          const page = yield* open(url, { colorScheme })
          yield* reads(page, "#lag", /Store counts/)
          yield* Effect.promise(() => page.click("summary"))
          // As text to run, for the page's policy allows no script that is not its own.
          const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js")
          yield* Effect.promise(async () => page.evaluate(await readFile(axe, "utf8")))
          const { violations } = yield* ask<{ violations: Array<{ id: string; nodes: Array<{ html: string }> }> }>(
            page,
            "axe.run()",
          )
          assert.deepStrictEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`), [])
          for (const bar of ["--accent", "--accent-soft"]) {
            const style = (name: string) =>
              `getComputedStyle(document.documentElement).getPropertyValue("${name}").trim()`
            assert.isAtLeast(yield* ask<number>(page, `(${contrast})(${style(bar)}, ${style("--card")})`), 3, bar)
          }
        }).pipe(Effect.scoped),
      60_000,
    )
  }

  it.live("has no sideways scroll on any screen, and wraps no word", () =>
    Effect.gen(function* () {
      const { url, tell } = yield* serve([current(90, { before: 50_000 }), slow()])
      const page = yield* open(url)
      yield* reads(page, "#lag", /Store counts/)
      for (const [width, height] of [[320, 700], [390, 844], [768, 1024], [1024, 768], [1440, 900], [1920, 1080]]) {
        yield* Effect.promise(() => page.setViewportSize({ width: width!, height: height! }))
        yield* Effect.promise(() => page.waitForTimeout(150))
        assert.strictEqual(yield* ask(page, "document.documentElement.scrollWidth"), width)
        const lines = yield* ask<Array<number>>(
          page,
          `[...document.querySelectorAll("#lag .name, #lag .note, .state")].map((part) => {
            const range = document.createRange()
            range.selectNodeContents(part)
            return new Set([...range.getClientRects()].filter(({ width }) => width > 0).map(({ top }) => top)).size
          })`,
        )
        assert.isTrue(lines.every((count) => count === 1), `${width}: ${lines}`)
        const chart = yield* ask<number>(page, `document.querySelector("#chart").clientHeight`)
        assert.isAtLeast(chart, 240)
      }
      const bottom = ask<number>(
        page,
        `document.querySelector("main").lastElementChild.getBoundingClientRect().bottom`,
      )
      assert.isAtMost(yield* bottom, 1080, "everything is in the first screen of a wall")
      yield* tell(current(0))
      yield* reads(page, "#notice", /No clicks/)
      assert.isAtMost(yield* bottom, 1080, "with a notice as well")
    }).pipe(Effect.scoped), 60_000)

  it.live("has rows with headers, and one empty cell as wide as its table", () =>
    Effect.gen(function* () {
      const { url, tell } = yield* serve([current(3), slow()])
      const page = yield* open(url)
      yield* reads(page, "#users", /900/)
      const tables = yield* ask<Array<{ name: string; headers: number; rows: number }>>(
        page,
        `[...document.querySelectorAll(".card:not(.wide) table")].map((table) => ({
          name: document.getElementById(table.getAttribute("aria-labelledby")).textContent,
          headers: table.querySelectorAll("tbody th[scope=row]").length,
          rows: table.tBodies[0].rows.length,
        }))`,
      )
      assert.deepStrictEqual(tables.map(({ name, headers, rows }) => [name, headers, rows]), [
        ["Top visitors last 15 min", 2, 2],
        ["Top paths last 15 min", 1, 1],
        ["Dead letters last 24 h", 2, 2],
        ["Lag along the flow", 4, 4],
      ])
      yield* reads(page, "#letters", /DecodeErrordoes not fit the topic’s contract3Unheard1/)
      yield* reads(page, "#lag", /80,000growing.*5stopped.*never read/)
      yield* tell(nothing)
      yield* reads(page, "#lag", /Kafka does not answer/)
      const spans = yield* ask<Array<number>>(
        page,
        `[...document.querySelectorAll("td.none")].map((cell) => cell.colSpan)`,
      )
      assert.deepStrictEqual(spans, [2, 2, 2, 2])
      yield* tell(slow())
      yield* reads(page, "#users", /900/)
    }).pipe(Effect.scoped), 60_000)

  it.live("leaves alone what has not changed", () =>
    Effect.gen(function* () {
      const { url, tell } = yield* serve([current(3), slow()])
      const page = yield* open(url)
      yield* reads(page, "#users", /900/)
      yield* ask(
        page,
        `window.changes = []; new MutationObserver((all) => changes.push(...all.map(({ target }) => target.className ||
          target.id || target.nodeName))).observe(document.querySelector("main"), { subtree: true, childList: true,
          characterData: true })`,
      )
      yield* tell(slow({ late: 7 }))
      yield* reads(page, "#late", /7/)
      assert.deepStrictEqual(yield* ask(page, "changes"), ["late"])
    }).pipe(Effect.scoped), 60_000)

  it.live("shows long names in full to those who have no mouse", () =>
    Effect.gen(function* () {
      const { url } = yield* serve([current(3), slow()])
      const page = yield* open(url)
      yield* reads(page, "#users", /900/)
      const isCut =
        `document.querySelector("#users .head").scrollWidth > document.querySelector("#users .head").clientWidth`
      assert.isTrue(yield* ask(page, isCut))
      const tail = yield* ask<string>(page, `document.querySelector("#users .tail").textContent`)
      assert.strictEqual(tail, "456789")
      yield* Effect.promise(() => page.focus("button.whole"))
      yield* Effect.promise(() => page.keyboard.press("Enter"))
      assert.isFalse(yield* ask(page, isCut))
      assert.strictEqual(yield* ask(page, `document.querySelector("button.whole").ariaPressed`), "true")
    }).pipe(Effect.scoped), 60_000)

  it.live("tells what is under the pointer, and that the last minute is not over", () =>
    Effect.gen(function* () {
      const { url } = yield* serve([current(3), slow()])
      const page = yield* open(url)
      yield* reads(page, "#window", /last 15 min/)
      const over = (yield* Effect.promise(() => page.locator("#chart .u-over").boundingBox()))!
      const at = (share: number) => Effect.promise(() => page.mouse.move(over.x + over.width * share, over.y + 60))
      // Fifteen minutes are shown: the last takes the last fifteenth, up to its right end.
      yield* at(0.99)
      yield* reads(page, ".tip", /^\d+:\d\d: 1,000 clicks so far$/)
      yield* at(0.905)
      yield* reads(page, ".tip", /^\d+:\d\d: 1,001 clicks$/)
      yield* at(0.1)
      yield* reads(page, ".tip", /^\d+:\d\d: 0 clicks$/)
    }).pipe(Effect.scoped), 60_000)

  it.live("widens its window as data comes in, and compares with the hour before", () =>
    Effect.gen(function* () {
      const { url, tell } = yield* serve([current(10), slow()])
      const page = yield* open(url)
      yield* reads(page, "#window", /last 15 min/)
      yield* reads(page, "#change", /since \d+:\d\d/)
      yield* reads(page, "#gap", /in the last 20 min/)
      yield* tell(current(25))
      yield* reads(page, "#window", /last 30 min/)
      const minutes = current(180)
      const full = minutes.name === "current" ? minutes.data.minutes.slice(1).reduce((sum, [, n]) => sum + n, 0) : 0
      yield* tell(current(180, { before: full / 2 }))
      yield* reads(page, "#window", /last 60 min/)
      yield* reads(page, "#change", /^100 % more than the hour before$/)
    }).pipe(Effect.scoped), 60_000)

  it.live("offers a first click only where the server says where to", () =>
    Effect.gen(function* () {
      const without = yield* serve([current(0), nothing])
      const page = yield* open(without.url)
      yield* reads(page, "#notice", /^No clicks yet. They show here as soon as they are stored.$/)
      const given = yield* serve([current(0), nothing], { collector: { key: "k3y", url: "https://collect.example" } })
      yield* Effect.promise(() => page.goto(given.url))
      yield* reads(page, "#notice", /^No clicks yet. Send one: curl -u k3y: https:\/\/collect.example\/v1\/track -d/)
      const own = yield* serve([current(0), nothing], { collector: { key: "k3y" } })
      yield* Effect.promise(() => page.goto(own.url))
      yield* reads(page, "#notice", new RegExp(`curl -u k3y: ${own.url}/v1/track`))
    }).pipe(Effect.scoped), 60_000)

  it.live(
    "says over the whole width that the server is gone or its figures are old, and comes back",
    () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const first = yield* Scope.provide(serve([current(3), slow()]), scope)
        const page = yield* open(first.url)
        yield* reads(page, "#state", /^Live$/)
        yield* reads(page, "#alarm", /^Figures are \d s old, last figures \d+:\d\d:\d\d$/)
        yield* reads(page, "#state", /^Stale$/)
        yield* first.tell(current(3))
        yield* reads(page, "#state", /^Live$/)
        yield* first.tell({ name: "trouble", data: { since: Date.now() } })
        yield* reads(page, "#alarm", /^Some figures cannot be read since \d+:\d\d. The server keeps trying$/)
        yield* Scope.close(scope, Exit.void)
        yield* reads(page, "#alarm", /^Server gone for 0:0\d, last figures \d+:\d\d:\d\d$/)
        assert.strictEqual(yield* ask(page, `document.querySelector("#alarm").getBoundingClientRect().width`), 1440)
        assert.strictEqual(yield* ask(page, "document.title"), "Server gone: Millrace")
        yield* Effect.promise(() => page.waitForTimeout(400))
        assert.strictEqual(yield* ask(page, `getComputedStyle(document.querySelector("main")).opacity`), "0.45")
        yield* Effect.promise(() => page.setViewportSize({ width: 390, height: 844 }))
        assert.strictEqual(yield* ask(page, "document.documentElement.scrollWidth"), 390)
        yield* serve([current(3), slow()], {}, first.port)
        yield* reads(page, "#state", /^Live$/)
        assert.isTrue(yield* ask(page, `document.querySelector("#alarm").hidden`))
      }).pipe(Effect.scoped),
    60_000,
  )

  it.live("does not call a slow first answer none", () =>
    Effect.gen(function* () {
      const slowly = yield* serve([current(3), slow()])
      const browser = yield* Browser.launch
      const page = yield* Effect.promise(() => browser.newPage())
      yield* Effect.promise(async () => {
        await page.route("**/figures", async (route) => {
          await new Promise((resolve) => setTimeout(resolve, 3_000))
          await route.continue()
        })
        await page.goto(slowly.url)
        await page.waitForTimeout(2_200)
      })
      assert.strictEqual(yield* Effect.promise(() => page.textContent("#state")), "Connecting")
      assert.isTrue(yield* ask(page, `document.querySelector("#alarm").hidden`))
      yield* reads(page, "#state", /^Live$/)
    }).pipe(Effect.scoped), 60_000)
})
