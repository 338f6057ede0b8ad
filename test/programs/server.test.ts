import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Metric } from "effect"
import { HttpServer } from "effect/http"
import * as Server from "../../src/programs/server.ts"

const host = "127.0.0.1"

describe("the figures of a program without a server of its own", () => {
  it.live("are served at the port that it is told, with a sign of life", () =>
    Effect.gen(function* () {
      yield* Metric.update(Metric.counter("things_total", { incremental: true }), 3)
      const context = yield* Layer.build(Server.layerMetrics({ metricsPort: 0, host }) as typeof served)
      const { address } = Context.get(context, HttpServer.HttpServer)
      const get = (path: string) =>
        Effect.promise(async () => {
          const answer = await fetch(`http://${host}:${(address as { readonly port: number }).port}${path}`)
          return [answer.status, await answer.text()]
        })
      assert.deepStrictEqual(yield* get("/livez"), [200, "alive\n"])
      assert.deepStrictEqual(yield* get("/metrics"), [200, "# TYPE things_total counter\nthings_total 3\n"])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.live("are nowhere without a port", () =>
    Effect.gen(function* () {
      const context = yield* Layer.build(Server.layerMetrics({ metricsPort: undefined, host }) as typeof served)
      assert.isUndefined(Context.getOrUndefined(context, HttpServer.HttpServer))
    }))
})

declare const served: Layer.Layer<HttpServer.HttpServer, Server.CannotListen>
