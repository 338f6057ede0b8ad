/** Tables and consumer groups -> a page that follows them */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { HttpRouter } from "effect/http"
import * as Dashboard from "../clickstream/dashboard/Dashboard.ts"
import * as LiveFigures from "../clickstream/dashboard/LiveFigures.ts"
import * as Names from "../clickstream/Names.ts"
import * as Tables from "../clickstream/Tables.ts"
import * as Environment from "./environment.ts"

const settings = {
  ...Environment.kafka,
  ...Environment.database,
  ...Environment.naming,
  ...Environment.http("8081"),
}

Environment.run("dashboard", settings, (values) => {
  const server = HttpRouter.serve(Dashboard.routes, { disableLogger: true }).pipe(
    Layer.provide(LiveFigures.layer(values.prefix)),
    Layer.provide(
      NodeHttpServer.layer(createServer, {
        port: values.port,
        host: values.host,
        gracefulShutdownTimeout: "1 second",
      }),
    ),
  )
  return Effect.andThen(Tables.migrate(Names.tablePrefix(values)), Layer.launch(server)).pipe(
    Effect.provide(Layer.merge(Environment.layerKafka(values), Environment.layerDatabase(values))),
  )
})
