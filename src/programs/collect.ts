/** Trackers -> HTTP -> user.clicks.raw */
import { Effect, Layer, Redacted } from "effect"
import { topics } from "../../schemas/index.ts"
import * as Collector from "../clickstream/collector/Collector.ts"
import * as CollectorSettings from "../clickstream/collector/Settings.ts"
import { Admin, Producer } from "../index.ts"
import * as Environment from "./environment.ts"
import * as Server from "./server.ts"

const settings = {
  ...Environment.kafka,
  ...Environment.naming,
  ...Environment.privacy,
  ...Server.listening,
  ...CollectorSettings.settings,
}

Environment.run("collect", settings, (values) => {
  const to = topics(values)
  const hashKey = values.hashKey ?? Redacted.make(crypto.randomUUID())
  const routes = Collector.routes({ settings: values, to, hashKey })
  const server = Server.serve(routes, { ...values, setting: settings.port }).pipe(
    Layer.provide(Producer.layer({ deliveryTimeout: values.answerTime, maxBlock: values.answerTime })),
  )
  return Effect.andThen(Admin.createTopics(Object.values(to)), Layer.launch(server)).pipe(
    Effect.provide(Environment.layerKafka(values)),
  )
})
