/** Interactive queries over HTTP: what the stores of this process hold, as of the last commit. Nothing can be changed. */
import { createHash, timingSafeEqual } from "node:crypto"
import { Effect, type Layer, Redacted } from "effect"
import { HttpRouter, type HttpServerRequest, HttpServerResponse } from "effect/http"
import { type Entry, type Page, Queries, QueryError } from "../state/Queries.ts"
import * as Settings from "./Settings.ts"

export * from "../state/Queries.ts"

export interface RoutesOptions {
  /** What a client must send as `Authorization: Bearer <token>`; whoever reaches the port may ask where it is left out. */
  readonly token?: Redacted.Redacted<string> | undefined
  /** The stores that may be asked for; all of this process unless given. */
  readonly stores?: ReadonlyArray<string>
}

/** For programs that serve queries. */
export const settings = {
  queriesToken: Settings.secret("QUERIES_TOKEN", {
    doc:
      "What who asks for the content of stores must send as a bearer token; without it anybody may ask who can connect",
    fallback: undefined,
  }),
  queriesUrl: Settings.string("QUERIES_URL", {
    doc: "Where this process can be asked for its stores, as others are told: http://10.0.0.7:8080",
    fallback: undefined,
  }),
}

export type Values = Settings.Values<typeof settings>

type Response = HttpServerResponse.HttpServerResponse
type Request = HttpServerRequest.HttpServerRequest

/**
 * - `GET /stores`: every store of this process, its partitions and how many entries they have.
 * - `GET /stores/{store}/{key}`: the entry of a key; of a store with windows the open windows of the key, with `from` and
 *   `to` those that start in that range (milliseconds since 1970, both included).
 * - `GET /stores/{store}`: a page of its entries in the order of keys; `prefix`, `limit` (100 unless given, 1,000 at most)
 *   and `after`, the page's `next` before.
 *
 * `pipeline` says whose store where two pipelines have one of that name, `partition` where a key is whose records are not
 * partitioned by Java's rule. Answers 400 what makes no sense, 401 without the token, 404 an unknown store or key, 421 where
 * another process has the partition (with its address, if it has told), 503 while a task is restored, has stopped or the
 * group is rebalanced.
 */
export const routes = (
  options: RoutesOptions = {},
): Layer.Layer<never, never, HttpRouter.HttpRouter | Queries> =>
  HttpRouter.use((router) =>
    Effect.gen(function* () {
      const queries = yield* Queries
      const isAllowed = guard(options.token)
      const answer = (request: Request): Effect.Effect<Response> => {
        if (!isAllowed(request)) return Effect.succeed(unauthorized)
        if (request.method !== "GET" && request.method !== "HEAD") return Effect.succeed(readOnly)
        return Effect.catch(
          Effect.flatMap(parse(request.url), (question) => answered(queries, question, options.stores)),
          (error) => Effect.succeed(refusal(error)),
        )
      }
      yield* router.add("*", "/stores/*", answer)
    })
  )

/** A question as the address asks it. */
interface Question {
  readonly store: string | undefined
  readonly key: string | undefined
  readonly text: (name: string) => string | undefined
  readonly number: (name: string) => number | undefined
}

const invalid = (message: string): QueryError => new QueryError({ reason: "Invalid", message })

const numbers = ["partition", "from", "to", "limit"]

const parse = (url: string): Effect.Effect<Question, QueryError> => {
  const [path = "", ...queries] = url.split("?")
  const query = queries.join("?")
  const [, , store, key, ...more] = path.split("/").map(decoded)
  if (more.length > 0) return Effect.fail(invalid("a key's slashes are written as %2F"))
  if (store === undefined && key !== undefined) return Effect.fail(invalid("the store of the key has no name"))
  const known = store === undefined
    ? []
    : key === undefined
    ? ["pipeline", "prefix", "after", "limit"]
    : ["pipeline", "partition", "from", "to"]
  const parameters = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(query)) {
    if (!known.includes(name)) {
      const these = known.length === 0 ? "none are taken" : `these are: ${known.join(", ")}`
      return Effect.fail(invalid(`${name} is not a parameter here; ${these}`))
    }
    if (parameters.has(name)) return Effect.fail(invalid(`${name} is given twice`))
    if (numbers.includes(name) && !/^-?\d{1,16}$/.test(value)) return Effect.fail(invalid(`${name} is a whole number`))
    parameters.set(name, value)
  }
  return Effect.succeed({
    store,
    key,
    text: (name) => parameters.get(name),
    number: (name) => parameters.has(name) ? Number(parameters.get(name)) : undefined,
  })
}

/** The router has let only paths through that are percent-encoded UTF-8. */
const decoded = (part: string): string | undefined => part === "" ? undefined : decodeURIComponent(part)

const answered = (
  queries: Queries["Service"],
  { store, key, text, number }: Question,
  allowed: ReadonlyArray<string> | undefined,
): Effect.Effect<Response, QueryError> => {
  const isServed = (store: string) => allowed === undefined || allowed.includes(store)
  if (store === undefined) {
    return Effect.map(queries.stores, (stores) => json(200, { stores: stores.filter(({ store }) => isServed(store)) }))
  }
  if (!isServed(store)) {
    return Effect.fail(new QueryError({ reason: "Unknown", message: `store ${store} is not served here` }))
  }
  const where = { store, pipeline: text("pipeline") }
  if (key === undefined) {
    const page = queries.scan({ ...where, prefix: text("prefix"), after: text("after"), limit: number("limit") ?? 100 })
    return Effect.map(page, (page) => body(200, pageOf(page)))
  }
  const at = { ...where, key, partition: number("partition") }
  const range = { from: number("from"), to: number("to") }
  return Effect.flatMap(queries.isWindowed(where), (isWindowed): Effect.Effect<Response, QueryError> => {
    if (isWindowed) {
      return Effect.map(queries.windows({ ...at, ...range }), (windows) => body(200, windowsOf(key, windows)))
    }
    if (range.from !== undefined || range.to !== undefined) {
      return Effect.fail(invalid(`store ${store} has no windows: from and to mean nothing`))
    }
    return Effect.map(
      queries.get(at),
      (entry) =>
        entry === undefined ? json(404, { error: `store ${store} has no such key` }) : body(200, entryOf(entry)),
    )
  })
}

const windowsOf = (key: string, windows: ReadonlyArray<Entry>): string =>
  `{"key":${JSON.stringify(key)},"windows":[${windows.map(entryOf).join()}]}`

const entryOf = ({ key, partition, start, end, json }: Entry): string =>
  `${JSON.stringify({ key, partition, start, end }).slice(0, -1)},"value":${json}}`

const pageOf = ({ entries, next, partitions, elsewhere }: Page): string => {
  const rest = {
    next,
    partitions,
    elsewhere: elsewhere.map(([partition, owner]) => ({ partition, owner: owner ?? null })),
  }
  return `{"entries":[${entries.map(entryOf).join()}],${JSON.stringify(rest).slice(1)}`
}

const headers = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
}

const body = (status: number, text: string, more: Readonly<Record<string, string>> = {}): Response =>
  HttpServerResponse.text(text, { status, contentType: "application/json", headers: { ...headers, ...more } })

const json = (status: number, value: object, more?: Readonly<Record<string, string>>): Response =>
  body(status, JSON.stringify(value), more)

const statuses = { Unknown: 404, Invalid: 400, Elsewhere: 421, Unready: 503 } as const

const refusal = ({ reason, message, partition, owner }: QueryError): Response =>
  json(
    statuses[reason],
    reason === "Elsewhere" ? { error: message, partition, owner: owner ?? null } : { error: message },
    reason === "Unready" ? { "retry-after": "1" } : {},
  )

const readOnly = json(405, { error: "stores are changed by what their topics bring, and by nothing else" }, {
  allow: "GET, HEAD",
})

const unauthorized = json(401, { error: "no token, or not the right one" }, { "www-authenticate": "Bearer" })

/** Tokens are compared by their digests, which takes as long for any guess. */
const guard = (token: Redacted.Redacted<string> | undefined): (request: Request) => boolean => {
  if (token === undefined) return () => true
  const digest = (text: string) => createHash("sha256").update(text).digest()
  const expected = digest(`Bearer ${Redacted.value(token)}`)
  return ({ headers }) => timingSafeEqual(digest(headers["authorization"] ?? ""), expected)
}
