/** Taking one request, from its bytes to its answer: 200 when the brokers have acknowledged everything that it brought. */
import { Buffer } from "node:buffer"
import { Clock, Effect, Metric, Option, type Redacted, Result } from "effect"
import type { HttpServerRequest, HttpServerResponse } from "effect/http"
import type { Topics } from "../../../schemas/index.ts"
import type { RawClick } from "../../../schemas/RawClicks.ts"
import { DeadLetter, Identifier, Producer } from "../../index.ts"
import { refusal, success, tooMany, unauthorized, unavailable } from "./Answers.ts"
import * as Body from "./Body.ts"
import { addressOf, shortened } from "./Client.ts"
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

/** What takes requests, by the type that their path gives them. */
export const make = (
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
