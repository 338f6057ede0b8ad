/** Trackers -> HTTP -> user.clicks.raw */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer, Redacted } from "effect"
import { HttpRouter } from "effect/http"
import { topics } from "../../schemas/index.ts"
import * as Collector from "../clickstream/collector/Collector.ts"
import * as CollectorSettings from "../clickstream/collector/Settings.ts"
import { Admin, Producer } from "../index.ts"
import * as Environment from "./environment.ts"

const settings = {
  ...Environment.kafka,
  ...Environment.naming,
  ...Environment.privacy,
  ...Environment.http("8080"),
  ...CollectorSettings.settings,
}

Environment.run("collect", settings, (values) => {
  const to = topics(values)
  const hashKey = values.hashKey ?? Redacted.make(crypto.randomUUID())
  const routes = Collector.routes({ settings: values, to, hashKey })
  const server = HttpRouter.serve(routes, { disableLogger: true }).pipe(
    Layer.provide(NodeHttpServer.layer(createServer, { port: values.port, host: values.host })),
    Layer.provide(Producer.layer({ deliveryTimeout: values.answerTime, maxBlock: values.answerTime })),
  )
  return Effect.andThen(Admin.createTopics(Object.values(to)), Layer.launch(server)).pipe(
    Effect.provide(Environment.layerKafka(values)),
  )
})
