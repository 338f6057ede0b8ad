/** user.clicks.enriched -> clicks per user and minute -> user.clicks.aggregates */
import { Effect } from "effect"
import { topics } from "../../schemas/index.ts"
import { count } from "../clickstream/Count.ts"
import { Admin, Runner } from "../index.ts"
import * as Environment from "./environment.ts"
import * as Processing from "./processing.ts"
import * as Server from "./server.ts"

const settings = {
  ...Environment.kafka,
  ...Environment.naming,
  ...Processing.counting,
  ...Processing.running,
  ...Server.metrics,
}

Environment.run("aggregate", settings, (values) =>
  Effect.gen(function* () {
    yield* Admin.createTopics(Object.values(topics(values)))
    yield* Runner.run(count(values, values), Processing.runOptions(values))
  }).pipe(Effect.provide([Environment.layerKafka(values), Server.layerMetrics(values)])))
