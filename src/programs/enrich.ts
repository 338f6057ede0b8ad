/** user.clicks.raw -> decode, deduplicate, normalise, find the session -> user.clicks.enriched */
import { Effect } from "effect"
import { topics } from "../../schemas/index.ts"
import { enrich } from "../clickstream/Enrich.ts"
import { Admin, Runner } from "../index.ts"
import * as Environment from "./environment.ts"
import * as Processing from "./processing.ts"
import * as Server from "./server.ts"

const settings = {
  ...Environment.kafka,
  ...Environment.naming,
  ...Processing.enriching,
  ...Processing.running,
  ...Server.metrics,
  ...Server.switching,
}

Environment.run("enrich", settings, (values) => {
  const options = Processing.enrichOptions(values)
  const policies = options.devices === undefined ? [] : [options.devices.name]
  return Effect.gen(function* () {
    yield* Admin.createTopics(Object.values(topics(values)))
    yield* Runner.run(enrich(values, options), Processing.runOptions(values))
  }).pipe(
    Effect.provide([
      Environment.layerKafka(values),
      Server.layerMetrics(values, Server.switches(values, policies)),
    ]),
  )
})
