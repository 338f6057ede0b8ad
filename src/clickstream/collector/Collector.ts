/**
 * The HTTP tracking protocol of Segment, with which existing trackers send what happens on pages and in apps: messages
 * come in, records for `user.clicks.raw` go out, and 200 is answered when the brokers have acknowledged all of them.
 */
import { Buffer } from "node:buffer"
import { Clock, Effect, Layer, Metric, Option, type Redacted, Result } from "effect"
import { HttpRouter, type HttpServerRequest, HttpServerResponse } from "effect/http"
import type { Topics } from "../../../schemas/index.ts"
import type { RawClick } from "../../../schemas/RawClicks.ts"
import { DeadLetter, Failures, Identifier, Producer } from "../../index.ts"
import * as Body from "./Body.ts"
import { addressOf, shortened } from "./Client.ts"
import * as Cors from "./Cors.ts"
import * as Item from "./Item.ts"
import { Buckets, Places } from "./Limits.ts"
import type { Values, WriteKey } from "./Settings.ts"
import * as Sources from "./Sources.ts"

export interface Options {
  readonly settings: Values
  readonly to: Topics
  /** What visitors' ids are hashed with where they are anonymised. */
  readonly hashKey: Redacted.Redacted<string>
}

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

const endpoints: Readonly<Record<string, RawClick["type"] | "batch">> = {
  track: "track",
  t: "track",
  page: "page",
  p: "page",
  identify: "identify",
  i: "identify",
  group: "group",
  g: "group",
  alias: "alias",
  a: "alias",
  screen: "screen",
  s: "screen",
  batch: "batch",
  b: "batch",
}

/** All routes of the collector, health included. */
export const routes = (options: Options): Layer.Layer<never, never, HttpRouter.HttpRouter | Producer.Producer> =>
  HttpRouter.use((router) =>
    Effect.gen(function* () {
      const producer = yield* Producer.Producer
      const { settings } = options
      const cors = Cors.make(settings.origins)
      const collect = collecting(options, producer, yield* Failures.Program)

      const answered = (request: Request, answer: Effect.Effect<Response>) =>
        Effect.map(answer, HttpServerResponse.setHeaders(cors.headers(request.headers["origin"])))
      for (const [name, type] of Object.entries(endpoints)) {
        yield* router.add("POST", `/v1/${name}`, (request) => answered(request, collect(request, type)))
      }
      yield* router.add("POST", "/v1/m", (request) => answered(request, Effect.succeed(success)))
      yield* router.add("GET", "/v1/projects/:writeKey/settings", (request) =>
        answered(
          request,
          Effect.sync(() => trackerSettings(settings, request)),
        ))
      yield* router.add("OPTIONS", "/v1/*", (request) =>
        Effect.succeed(HttpServerResponse.empty({ status: 204, headers: cors.preflight(request.headers["origin"]) })))
      yield* router.add("GET", "/livez", Effect.succeed(HttpServerResponse.text("alive\n")))
      yield* router.add(
        "GET",
        "/readyz",
        Effect.map(producer.failingSince, (since) =>
          since === undefined
            ? HttpServerResponse.text("ready\n")
            : HttpServerResponse.text(`nothing could be written since ${new Date(since).toISOString()}\n`, {
              status: 503,
            })),
      )
    })
  )

/** Answers to requests that bring events. */
const answers = Metric.counter("millrace_collector_answers_total", {
  description: "Answers to requests that bring events, by HTTP status",
  incremental: true,
})

/** Takes one request from its bytes to its answer. */
const collecting = (
  { settings, to, hashKey }: Options,
  { send }: Producer.Producer["Service"],
  program: { readonly name: string; readonly version: string },
) => {
  const places = new Places(settings.requests)
  const buckets = new Buckets(settings.rate)
  const sources = Sources.make(settings.writeKeys)

  const dead = (value: Uint8Array, reason: Item.Refusal | Body.BodyError, at: number, source: WriteKey) => {
    const field = "field" in reason ? reason.field : ""
    const tag = reason._tag === "BodyError" ? "UndecodableBody" : reason._tag
    return DeadLetter.of(to.dlt, {
      key: null,
      value,
      headers: [["millrace-source", Buffer.from(source.name)]],
      reason: { _tag: tag, field, message: reason.message },
      program,
      at,
    })
  }

  /** A record that brokers refuse for good must not hold up those that came with it. */
  const sendAll = (records: ReadonlyArray<Producer.ProducerRecord>, at: number, source: WriteKey) =>
    Effect.catchIf(
      send(records),
      ({ reason }) => reason === "Refused",
      () =>
        Effect.forEach(records, (record) =>
          Effect.catchIf(
            send([record]),
            ({ reason }) => reason === "Refused" && record.topic === to.raw.name,
            ({ message }) => send([dead(record.value!, { _tag: "TooLarge", field: "", message }, at, source)]),
          ), { concurrency: "unbounded", discard: true }),
    )

  const deliver = (records: ReadonlyArray<Producer.ProducerRecord>, at: number, source: WriteKey) =>
    records.length === 0 ? Effect.succeed(true) : sendAll(records, at, source).pipe(
      Effect.as(true),
      Effect.timeoutOption(settings.answerTime),
      Effect.map(Option.isSome),
      Effect.catch(({ reason }) =>
        Effect.as(Effect.logWarning(`events from ${source.name} could not be written (${reason})`), false)
      ),
    )

  const recordsOf = Effect.fnUntraced(function* (
    items: ReadonlyArray<unknown>,
    body: Fields,
    type: RawClick["type"] | undefined,
    request: Request,
    source: WriteKey,
  ) {
    const receivedAt = yield* Clock.currentTimeMillis
    const privacy = wantsPrivacy(request) ? settings.privacy : "ignore"
    const random = yield* Identifier.make
    let made = 0
    const address = addressOf(
      Option.getOrUndefined(request.peerAddress),
      request.headers["x-forwarded-for"],
      settings.proxyHops,
    )
    const anonymise = privacy === "anonymise"
    const envelope: Item.Envelope = {
      type,
      sentAt: body["sentAt"],
      receivedAt,
      source: source.name,
      ip: anonymise || settings.ip === "remove" ? undefined : shortened(address),
      userAgent: anonymise ? undefined : request.headers["user-agent"],
      makeId: () => `${random}-${made++}`,
      anonymise: anonymise ? hashKey : undefined,
    }
    const records: Array<Producer.ProducerRecord> = []
    for (const item of items) {
      if (privacy === "drop" || anonymise && isIdentity(type ?? (item as Fields | null)?.["type"])) continue
      const record = Item.toRecord(item, envelope, to.raw)
      if (Result.isFailure(record)) {
        records.push(dead(Buffer.from(JSON.stringify(item)), record.failure, receivedAt, source))
      } else {
        const { key, value } = record.success
        records.push({ topic: to.raw.name, key: Buffer.from(key), value })
      }
    }
    return { records, receivedAt }
  })

  const take = Effect.fnUntraced(function* (
    request: Request,
    type: RawClick["type"] | "batch",
  ): Effect.fn.Return<Response, Body.BodyError> {
    const named = sources.inHeaders(request)
    if (named === "unknown") return unauthorized
    const bytes = yield* Body.read(request, settings.bodyBytes, settings.bodyTime)
    const decoded = Body.decode(bytes, settings.bodyBytes)
    const body = Result.isSuccess(decoded) ? envelopeOf(decoded.success, type) : Result.fail(decoded.failure)
    if (Result.isFailure(body)) {
      if (named === undefined) return unauthorized
      if (body.failure.reason !== "Undecodable") return yield* body.failure
      const at = yield* Clock.currentTimeMillis
      const wait = buckets.take(named.key, 1, at)
      if (wait > 0) return tooMany(wait)
      if (!(yield* deliver([dead(bytes, body.failure, at, named)], at, named))) return unavailable
      return yield* body.failure
    }
    const { items, fields } = body.success
    const source = named ?? sources.byKey(fields["writeKey"])
    if (source === undefined) return unauthorized
    const wait = buckets.take(source.key, items.length, yield* Clock.currentTimeMillis)
    if (wait > 0) return tooMany(wait)
    const { records, receivedAt } = yield* recordsOf(
      items,
      fields,
      type === "batch" ? undefined : type,
      request,
      source,
    )
    return (yield* deliver(records, receivedAt, source)) ? success : unavailable
  })

  return (request: Request, type: RawClick["type"] | "batch"): Effect.Effect<Response> =>
    Effect.suspend(() =>
      places.take()
        ? Effect.ensuring(
          Effect.catch(take(request, type), (error) => Effect.succeed(refusal(error))),
          Effect.sync(() => places.giveBack()),
        )
        : Effect.succeed(unavailable)
    ).pipe(
      Effect.tap(({ status }) => Metric.update(Metric.withAttributes(answers, { status: String(status) }), 1)),
    )
}

type Fields = Readonly<Record<string, unknown>>

/** The messages in a body: itself, or its `batch`. */
const envelopeOf = (
  body: unknown,
  type: RawClick["type"] | "batch",
): Result.Result<{ readonly items: ReadonlyArray<unknown>; readonly fields: Fields }, Body.BodyError> => {
  if (Array.isArray(body) && type === "batch") return Result.succeed({ items: body, fields: {} })
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    return Result.fail(Body.undecodable("the body is not a JSON object"))
  }
  const fields = body as Fields
  if (type !== "batch") return Result.succeed({ items: [fields], fields })
  const items = fields["batch"]
  return Array.isArray(items)
    ? Result.succeed({ items, fields })
    : Result.fail(Body.undecodable("the body has no list of messages named batch"))
}

/** Global Privacy Control and Do Not Track, as browsers send them. */
const wantsPrivacy = ({ headers }: Request): boolean => headers["sec-gpc"] === "1" || headers["dnt"] === "1"

const isIdentity = (type: unknown): boolean => type === "identify" || type === "group" || type === "alias"

/** What Segment's browser tracker asks for when it starts: where to send to, and that it needs nothing else. */
const trackerSettings = (settings: Values, request: Request): Response => {
  const key = decodeURIComponent(/\/v1\/projects\/([^/?]+)\/settings/.exec(request.url)?.[1] ?? "")
  if (!settings.writeKeys.some((known) => known.key === key)) return unauthorized
  const base = settings.publicUrl ?? `http://${request.headers["host"] ?? "localhost"}`
  const [protocol, rest] = base.split("://") as [string, string]
  return HttpServerResponse.jsonUnsafe({
    integrations: { "Segment.io": { apiKey: key, apiHost: `${rest}/v1`, protocol, unbundledIntegrations: [] } },
    plan: { track: { __default: { enabled: true, integrations: {} } } },
    metrics: { sampleRate: 0 },
    edgeFunction: {},
    analyticsNextEnabled: true,
  })
}

const json = (status: number, body: object, headers: Readonly<Record<string, string>> = {}): Response =>
  HttpServerResponse.jsonUnsafe(body, { status, headers })

const success = json(200, { success: true })

const unauthorized = json(401, { success: false, message: "no write key, or one that is not known here" })

const tooMany = (wait: number) =>
  json(429, { success: false, message: "too many events for this write key" }, { "retry-after": String(wait) })

const unavailable = json(
  503,
  { success: false, message: "events cannot be written now, try again later" },
  { "retry-after": "2" },
)

const statuses = { TooLarge: 413, TooSlow: 408, Broken: 400, Undecodable: 400 } as const

const refusal = ({ reason, message }: Body.BodyError): Response => json(statuses[reason], { success: false, message })
