/** Where programs listen, and what all of them answer there: their figures, for Prometheus. */
import { createHash, timingSafeEqual } from "node:crypto"
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { type Duration, Effect, Layer, Redacted, Schema } from "effect"
import { HttpRouter, HttpServer, type HttpServerError, HttpServerResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { Degrade, Settings } from "../index.ts"

const port = { least: 0, most: 65535 }

const host = Settings.string("HOST", { doc: "The address to listen on", fallback: "0.0.0.0" })

/** Of the collector and of everything in one process. */
export const listening = {
  port: Settings.integer("PORT", { ...port, doc: "The port to listen on; 0 for any free one", fallback: "8080" }),
  host,
}

/** Of the dashboard: not the collector's, for both can read the same settings. */
export const dashboard = {
  port: Settings.integer("DASHBOARD_PORT", {
    ...port,
    doc: "The port that a dashboard on its own listens on; 0 for any free one",
    fallback: "8081",
  }),
  host,
}

/** Of programs that listen for nothing else. */
export const metrics = {
  metricsPort: Settings.integer("METRICS_PORT", {
    ...port,
    doc: "The port at which enrich, aggregate, store and orders answer /metrics and /livez; without it, nowhere",
    fallback: undefined,
  }),
  host,
}

/** Of programs that can be told to do less. */
export const switching = {
  adminToken: Settings.secret("ADMIN_TOKEN", {
    doc: "Whoever sends it to METRICS_PORT as `Authorization: Bearer` may switch policies: POST /degrade/device/on, " +
      "off or auto. Without it, nobody may",
    fallback: undefined,
  }),
}

/** Nothing can listen there. */
export class CannotListen extends Schema.TaggedError<CannotListen>()("CannotListen", { message: Schema.String }) {}

export interface Options {
  readonly port: number
  readonly host: string
  /** The setting that the port is from. */
  readonly setting: Settings.Setting<unknown>
  /** How long a stop waits for answers that are under way. */
  readonly patience?: Duration.Input
  readonly disableListenLog?: boolean
}

/** Serves routes, and `/metrics` beside them. */
export const serve = <R>(
  routes: Layer.Layer<never, never, R>,
  { port, host, setting, patience, disableListenLog = false }: Options,
) =>
  HttpRouter.serve(Layer.merge(routes, PrometheusMetrics.layerHttp()), { disableLogger: true, disableListenLog }).pipe(
    Layer.provideMerge(
      NodeHttpServer.layer(createServer, {
        port,
        host,
        ...patience === undefined ? {} : { gracefulShutdownTimeout: patience },
      }),
    ),
    Layer.catchTag(
      "ServeError",
      (error) => Layer.effect(HttpServer.HttpServer, Effect.fail(cannotListen(error, port, host, setting))),
    ),
  )

/** A sign of life. */
export const alive = HttpRouter.add("GET", "/livez", HttpServerResponse.text("alive\n"))

/** Figures and a sign of life of a program without a server of its own, where it is told a port for them. */
export const layerMetrics = (
  { metricsPort: port, host }: Settings.Values<typeof metrics>,
  routes: typeof alive = alive,
) =>
  port === undefined ? Layer.empty : serve(routes, { port, host, setting: metrics.metricsPort, patience: "1 second" })

const isMode = (text: string | undefined): text is Degrade.Mode => text === "on" || text === "off" || text === "auto"

const digest = (text: string) => createHash("sha256").update(text).digest()

/** A sign of life, and the switches of `Degrade`'s policies for who knows the token. */
export const switches = ({ adminToken }: Settings.Values<typeof switching>, policies: ReadonlyArray<string>) =>
  adminToken === undefined || policies.length === 0 ? alive : Layer.merge(
    alive,
    HttpRouter.add("POST", "/degrade/:policy/:mode", (request) =>
      Effect.gen(function* () {
        const wanted = digest(`Bearer ${Redacted.value(adminToken)}`)
        if (!timingSafeEqual(digest(request.headers["authorization"] ?? ""), wanted)) {
          return HttpServerResponse.text("not allowed\n", { status: 401 })
        }
        const { policy = "", mode } = yield* HttpRouter.params
        if (!policies.includes(policy) || !isMode(mode)) {
          return HttpServerResponse.text(`policies: ${policies.join(", ")}; modes: on, off, auto\n`, { status: 404 })
        }
        yield* Degrade.turn(policy, mode)
        yield* Effect.logWarning(`policy ${policy} was switched to ${mode}`)
        return HttpServerResponse.text(`${policy}: ${mode}\n`)
      })),
  )

const cannotListen = (
  { cause }: HttpServerError.ServeError,
  port: number,
  host: string,
  { name }: Settings.Setting<unknown>,
): CannotListen => {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "no reason given"
  const message = code === "EADDRINUSE"
    ? `port ${port} is taken: stop what listens there or set ${name}`
    : code === "EACCES"
    ? `port ${port} may not be used by this user: set ${name} to another`
    : code === "EADDRNOTAVAIL" || code === "ENOTFOUND"
    ? `${host} is not an address of this machine: set HOST to one that is`
    : `cannot listen on port ${port} of ${host} (${code})`
  return new CannotListen({ message })
}
