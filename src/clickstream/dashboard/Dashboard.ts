/** The dashboard over HTTP: one page, its parts, and the stream of figures that it follows. */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { Effect, Layer, Stream } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { LiveFigures } from "./LiveFigures.ts"

const security = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
}

const ours = (name: string) => new URL(`page/${name}`, import.meta.url)
const chart = (name: string) => createRequire(import.meta.url).resolve(`uplot/dist/${name}`)

const files = [
  ["/", "text/html; charset=utf-8", ours("index.html")],
  ["/page.css", "text/css; charset=utf-8", ours("page.css")],
  ["/icon.svg", "image/svg+xml", ours("icon.svg")],
  ...["page.js", "chart.js", "tables.js", "connection.js", "words.js"].map((name) =>
    [`/${name}`, "text/javascript; charset=utf-8", ours(name)] as const
  ),
  ["/uplot.js", "text/javascript; charset=utf-8", chart("uPlot.esm.js")],
  ["/uplot.css", "text/css; charset=utf-8", chart("uPlot.min.css")],
] as const

/** An event of its own, so that a page can tell a connection with nothing to say from one that is gone. */
const heartbeat = Buffer.from("event: beat\ndata: {}\n\n")

export interface Options {
  /** Where a first click can be sent to, and with which write key: shown while there are none. */
  readonly collector?: {
    readonly key: string
    /** The page's own address, where there is none. */
    readonly url?: string | undefined
  }
}

/** The page at `/`, and its figures at `/figures` as server-sent events. */
export const routes = (
  { collector }: Options = {},
): Layer.Layer<never, never, HttpRouter.HttpRouter | LiveFigures> =>
  HttpRouter.use(Effect.fnUntraced(function* (router) {
    const { events } = yield* LiveFigures
    for (const [path, contentType, file] of files) {
      const body = readFileSync(file)
      const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`
      const headers = { ...security, "cache-control": "no-cache", etag }
      const whole = HttpServerResponse.uint8Array(body, { contentType, headers })
      const unchanged = HttpServerResponse.empty({ status: 304, headers })
      yield* router.add(
        "GET",
        path,
        (request) => Effect.succeed(request.headers["if-none-match"] === etag ? unchanged : whole),
      )
    }
    const hello = encode({ name: "hello", data: { collector: collector ?? null } })
    const stream = Stream.merge(
      Stream.concat(Stream.succeed(hello), Stream.map(events, encode)),
      Stream.map(Stream.tick("10 seconds"), () => heartbeat),
    )
    const headers = { ...security, "cache-control": "no-store", "x-accel-buffering": "no" }
    yield* router.add(
      "GET",
      "/figures",
      Effect.sync(() => HttpServerResponse.stream(stream, { contentType: "text/event-stream", headers })),
    )
  }))

const encode = ({ name, data }: { readonly name: string; readonly data: unknown }): Buffer =>
  Buffer.from(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`)
