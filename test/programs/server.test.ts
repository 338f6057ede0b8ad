import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Metric, Redacted, Scope } from "effect"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { connect, type Socket } from "node:net"
import { Degrade, Settings } from "../../src/index.ts"
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

describe("a server that is told to stop", () => {
  /** Sends the head of a request and half of its body; `finish` sends the rest and answers the status. */
  const begin = (port: number) =>
    Effect.promise(() =>
      new Promise<{ readonly socket: Socket; finish(): Promise<string> }>((resolve) => {
        const socket = connect(port, host, () => {
          socket.write("POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\nhalf-")
          const answer = new Promise<string>((resolve) => {
            let said = ""
            socket.on("data", (chunk) => said += String(chunk))
            socket.on("close", () => resolve(said))
          })
          socket.on("error", () => {})
          resolve({ socket, finish: () => (socket.write("whole"), answer) })
        })
      })
    )

  const echo = HttpRouter.add(
    "POST",
    "/echo",
    Effect.flatMap(
      HttpServerRequest.HttpServerRequest,
      (request) => Effect.orDie(Effect.map(request.text, (text) => HttpServerResponse.text(text))),
    ),
  )

  it.live("answers what it is being asked, and waits no longer than its patience for what never comes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const setting = Settings.string("PORT", { doc: "", fallback: "" })
      const layer = Server.serve(echo, { port: 0, host, setting, patience: "2 seconds", disableListenLog: true })
      const context = yield* Scope.provide(Layer.build(layer), scope)
      const { address } = Context.get(context, HttpServer.HttpServer)
      const { port } = address as { readonly port: number }
      const [asking, hanging] = [yield* begin(port), yield* begin(port)]
      yield* Effect.sleep("300 millis")
      const stopping = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* Effect.sleep("300 millis")
      assert.match(yield* Effect.promise(() => asking.finish()), /^HTTP\/1\.1 200 OK[^]*half-whole/)
      assert.isUndefined(stopping.pollUnsafe())
      yield* Effect.timeout(Fiber.join(stopping), "10 seconds")
      hanging.socket.destroy()
    }))
})

describe("the switches of policies", () => {
  const asked = (adminToken: string | undefined) =>
    Effect.gen(function* () {
      const token = adminToken === undefined ? undefined : Redacted.make(adminToken)
      const routes = Server.switches({ adminToken: token }, ["device"])
      const context = yield* Layer.build(Server.layerMetrics({ metricsPort: 0, host }, routes) as typeof served)
      const { address } = Context.get(context, HttpServer.HttpServer)
      return (path: string, authorization?: string) =>
        Effect.promise(async () => {
          const answer = await fetch(`http://${host}:${(address as { readonly port: number }).port}${path}`, {
            method: "POST",
            headers: authorization === undefined ? {} : { authorization },
          })
          return answer.status
        })
    })

  it.live("are turned by who knows the token, and by nobody else", () =>
    Effect.gen(function* () {
      const switches = yield* Degrade.Switches
      const post = yield* asked("secret")
      assert.strictEqual(yield* post("/degrade/device/on"), 401)
      assert.strictEqual(yield* post("/degrade/device/on", "Bearer other"), 401)
      assert.isUndefined(switches.get("device"))
      assert.strictEqual(yield* post("/degrade/device/on", "Bearer secret"), 200)
      assert.strictEqual(switches.get("device"), "on")
      assert.strictEqual(yield* post("/degrade/device/off", "Bearer secret"), 200)
      assert.strictEqual(switches.get("device"), "off")
      assert.strictEqual(yield* post("/degrade/device/auto", "Bearer secret"), 200)
      assert.isUndefined(switches.get("device"))
      assert.strictEqual(yield* post("/degrade/device/maybe", "Bearer secret"), 404)
      assert.strictEqual(yield* post("/degrade/other/on", "Bearer secret"), 404)
      const closed = yield* asked(undefined)
      assert.strictEqual(yield* closed("/degrade/device/on", "Bearer secret"), 404)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})

declare const served: Layer.Layer<HttpServer.HttpServer, Server.CannotListen>
