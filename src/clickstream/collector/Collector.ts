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
import { Buckets, Memory, Places, type Share } from "./Limits.ts"
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

/** Messages of those who ask not to be tracked that are not kept, by PRIVACY_POLICY. */
const optedOut = Metric.counter("millrace_collector_opted_out_total", {
  description: "Messages that were not kept because their sender asks not to be tracked",
  incremental: true,
})

/** Who sends, and what is to be made of what they send. */
interface Sender {
  readonly source: WriteKey
  readonly privacy: Values["privacy"]
  /** When it came, in milliseconds since 1970. */
  readonly at: number
}

/** What a request comes to: records for the topics. */
interface Taken {
  readonly sender: Sender
  readonly records: ReadonlyArray<Producer.ProducerRecord>
  /** What is wrong with the whole; what there is to be kept of it is in the records. */
  readonly wrong?: Body.BodyError
}

/** Takes one request from its bytes to its answer. */
const collecting = (
  { settings, to, hashKey }: Options,
  { send }: Producer.Producer["Service"],
  program: { readonly name: string; readonly version: string },
) => {
  const places = new Places(settings.requests)
  const memory = new Memory(settings.heldBytes)
  const buckets = new Buckets(settings.rate)
  const sources = Sources.make(settings.writeKeys)

  /**
   * What is too large for raw is kept to a tenth. Of those who ask not to be tracked, nothing is kept but how long it was
   * and what it hashes to.
   */
  const dead = (value: Uint8Array, reason: Item.Refusal | Body.BodyError, { source, privacy, at }: Sender) => {
    const tooLarge = reason._tag === "TooLarge"
    const tenth = Math.floor(Math.min(value.length, to.raw.maxMessageBytes) / 10)
    const most = privacy === "anonymise" ? 0 : tooLarge ? tenth : undefined
    return DeadLetter.of(to.dlt, {
      key: null,
      value,
      headers: [
        ["millrace-source", Buffer.from(source.name)],
        ...tooLarge ? [["kafka_dlt-original-topic", Buffer.from(to.raw.name)] as const] : [],
      ],
      reason: {
        _tag: reason._tag === "BodyError" ? "UndecodableBody" : reason._tag,
        field: "field" in reason ? reason.field : "",
        message: reason.message,
      },
      program,
      at,
      ...most === undefined ? {} : { most },
    })
  }

  /** A record that brokers refuse for good must not hold up those that came with it. */
  const sendAll = ({ records, sender }: Taken) =>
    Effect.catchIf(
      send(records),
      ({ reason }) => reason === "Refused",
      () =>
        Effect.forEach(records, (record) =>
          Effect.catchIf(
            send([record]),
            ({ reason }) => reason === "Refused" && record.topic === to.raw.name,
            ({ message }) => send([dead(record.value!, { _tag: "TooLarge", field: "", message }, sender)]),
          ), { concurrency: "unbounded", discard: true }),
    )

  const isDelivered = (taken: Taken) =>
    taken.records.length === 0 ? Effect.succeed(true) : sendAll(taken).pipe(
      Effect.as(true),
      Effect.timeoutOption(settings.answerTime),
      Effect.map(Option.isSome),
      Effect.catch(({ reason }) =>
        Effect.as(
          Effect.logWarning(`events from ${taken.sender.source.name} could not be written (${reason})`),
          false,
        )
      ),
    )

  const recordsOf = Effect.fnUntraced(function* (
    items: ReadonlyArray<unknown>,
    body: Fields,
    type: RawClick["type"] | undefined,
    request: Request,
    sender: Sender,
  ) {
    const { privacy, at } = sender
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
      receivedAt: at,
      source: sender.source.name,
      ip: anonymise || settings.ip === "remove" ? undefined : shortened(address),
      userAgent: anonymise ? undefined : request.headers["user-agent"]?.slice(0, longestUserAgent),
      makeId: () => `${random}-${made++}`,
      anonymise: anonymise ? hashKey : undefined,
    }
    const records: Array<Producer.ProducerRecord> = []
    for (const item of items) {
      if (privacy === "drop" || anonymise && isIdentity(type ?? (item as Fields | null)?.["type"])) continue
      const record = Item.toRecord(item, envelope, to.raw)
      if (Result.isFailure(record)) {
        records.push(dead(Buffer.from(JSON.stringify(Item.refused(item, envelope))), record.failure, sender))
      } else {
        const { key, value } = record.success
        records.push({ topic: to.raw.name, key: Buffer.from(key), value })
      }
    }
    if (records.length < items.length) yield* Metric.update(optedOut, items.length - records.length)
    return records
  })

  /** From bytes to records: nothing else of the body is in memory when this ends. */
  const understand = Effect.fnUntraced(function* (
    bytes: Buffer,
    request: Request,
    type: RawClick["type"] | "batch",
    named: WriteKey | undefined,
  ): Effect.fn.Return<Taken | Response, Body.BodyError> {
    const at = yield* Clock.currentTimeMillis
    const privacy = wantsPrivacy(request) ? settings.privacy : "ignore"
    const decoded = Body.decode(bytes, settings.bodyBytes)
    const body = Result.isSuccess(decoded) ? envelopeOf(decoded.success, type) : Result.fail(decoded.failure)
    if (Result.isFailure(body)) {
      const wrong = body.failure
      if (named === undefined) return unauthorized
      if (wrong.reason !== "Undecodable") return yield* wrong
      const wait = buckets.take(named.key, 1, at)
      if (wait > 0) return tooMany(wait)
      const sender = { source: named, privacy, at }
      if (privacy !== "drop") return { sender, wrong, records: [dead(bytes, wrong, sender)] }
      yield* Metric.update(optedOut, 1)
      return { sender, wrong, records: [] }
    }
    const { items, fields } = body.success
    const source = named ?? sources.byKey(fields["writeKey"])
    if (source === undefined) return unauthorized
    if (items.length > settings.items) return yield* Body.tooMany(settings.items)
    const wait = buckets.take(source.key, items.length, at)
    if (wait > 0) return tooMany(wait)
    const sender = { source, privacy, at }
    return { sender, records: yield* recordsOf(items, fields, type === "batch" ? undefined : type, request, sender) }
  })

  const finish = Effect.fnUntraced(function* (
    taken: Taken | Response,
    share: Share,
  ): Effect.fn.Return<Response, Body.BodyError> {
    if (!("records" in taken)) return taken
    if (!share.hold(sizeOf(taken.records)) || !(yield* isDelivered(taken))) return unavailable
    return taken.wrong === undefined ? success : yield* taken.wrong
  })

  const take = (request: Request, type: RawClick["type"] | "batch", share: Share) => {
    const named = sources.inHeaders(request)
    if (named === "unknown") return Effect.succeed(unauthorized)
    // A place is not for those who take their time to send.
    return Effect.flatMap(
      Body.read(request, settings.bodyBytes, settings.bodyTime, share),
      (bytes) =>
        places.take()
          ? Effect.ensuring(
            Effect.flatMap(understand(bytes, request, type, named), (taken) => finish(taken, share)),
            Effect.sync(() => places.giveBack()),
          )
          : Effect.succeed(unavailable),
    )
  }

  return (request: Request, type: RawClick["type"] | "batch"): Effect.Effect<Response> =>
    Effect.suspend(() => {
      const share = memory.share()
      return Effect.ensuring(
        Effect.catch(take(request, type, share), (error) => Effect.succeed(refusal(error))),
        Effect.sync(() => share.hold(0)),
      )
    }).pipe(
      Effect.tap(({ status }) => Metric.update(Metric.withAttributes(answers, { status: String(status) }), 1)),
    )
}

/** More of it says no more of a machine, and it is repeated in every message. */
const longestUserAgent = 1_024

/** About what records take in memory. */
const sizeOf = (records: ReadonlyArray<Producer.ProducerRecord>): number =>
  records.reduce((size, { value, headers }) => size + 512 + (value?.length ?? 0) + 256 * (headers?.length ?? 0), 0)

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
  const key = /\/v1\/projects\/([^/?]+)\/settings/.exec(request.url)?.[1]
  if (key === undefined || !settings.writeKeys.some((known) => known.key === key)) return unauthorized
  const base = settings.publicUrl ?? askedFor(request, settings.proxyHops)
  if (base === undefined) return json(400, { success: false, message: "the Host header is not a host and a port" })
  const [protocol, rest] = base.split("://") as [string, string]
  return HttpServerResponse.jsonUnsafe({
    integrations: { "Segment.io": { apiKey: key, apiHost: `${rest}/v1`, protocol, unbundledIntegrations: [] } },
    plan: { track: { __default: { enabled: true, integrations: {} } } },
    metrics: { sampleRate: 0 },
    edgeFunction: {},
    analyticsNextEnabled: true,
  })
}

/** Where a request was sent to; undefined where it says what is no host. Only proxies of ours can tell of TLS before us. */
const askedFor = ({ headers }: Request, proxyHops: number): string | undefined => {
  const host = headers["host"] ?? "localhost"
  if (!/^([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?$/i.test(host)) return undefined
  const forwarded = proxyHops === 0 ? [] : (headers["x-forwarded-proto"] ?? "").split(",").slice(-proxyHops)
  return `${forwarded[0]?.trim().toLowerCase() === "https" ? "https" : "http"}://${host}`
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

const refusal = ({ reason, message }: Body.BodyError): Response =>
  reason === "Crowded" ? unavailable : json(statuses[reason], { success: false, message })
