/**
 * The HTTP tracking protocol of Segment, with which existing trackers send what happens on pages and in apps: messages
 * come in, records for `user.clicks.raw` go out, and 200 is answered when the brokers have acknowledged all of them.
 */
import { Effect, type Layer } from "effect"
import { HttpRouter, type HttpServerRequest, HttpServerResponse } from "effect/http"
import type { RawClick } from "../../../schemas/RawClicks.ts"
import { Failures, Producer } from "../../index.ts"
import { success } from "./Answers.ts"
import * as Collecting from "./Collecting.ts"
import * as Cors from "./Cors.ts"
import * as TrackerSettings from "./TrackerSettings.ts"

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
export const routes = (
  options: Collecting.Options,
): Layer.Layer<never, never, HttpRouter.HttpRouter | Producer.Producer> =>
  HttpRouter.use((router) =>
    Effect.gen(function* () {
      const producer = yield* Producer.Producer
      const { settings } = options
      const cors = Cors.make(settings.origins)
      const collect = Collecting.make(options, producer, yield* Failures.Program)

      const answered = (request: Request, answer: Effect.Effect<Response>) =>
        Effect.map(answer, HttpServerResponse.setHeaders(cors.headers(request.headers["origin"])))
      for (const [name, type] of Object.entries(endpoints)) {
        yield* router.add("POST", `/v1/${name}`, (request) => answered(request, collect(request, type)))
      }
      yield* router.add("POST", "/v1/m", (request) => answered(request, Effect.succeed(success)))
      yield* router.add("GET", "/v1/projects/:writeKey/settings", (request) =>
        answered(
          request,
          Effect.sync(() => TrackerSettings.of(settings, request)),
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
