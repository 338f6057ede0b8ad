/** Tables: what the topics hold, row by row, in Postgres. */
import { Effect } from "effect"
import { topics } from "../../schemas/index.ts"
import * as Names from "../clickstream/Names.ts"
import { store } from "../clickstream/Store.ts"
import * as Tables from "../clickstream/Tables.ts"
import { Admin, Runner } from "../index.ts"
import * as Environment from "./environment.ts"
import * as Processing from "./processing.ts"
import * as Server from "./server.ts"

const settings = {
  ...Environment.kafka,
  ...Environment.database,
  ...Environment.naming,
  ...Processing.running,
  ...Server.metrics,
}

Environment.run("store", settings, (values) =>
  Effect.gen(function* () {
    yield* Admin.createTopics(Object.values(topics(values)))
    yield* Tables.migrate(Names.tablePrefix(values))
    yield* Effect.forEach(store(values), (pipeline) => Runner.run(pipeline, Processing.runOptions(values)), {
      concurrency: "unbounded",
      discard: true,
    })
  }).pipe(
    Effect.provide([Environment.layerKafka(values), Environment.layerDatabase(values), Server.layerMetrics(values)]),
  ))
