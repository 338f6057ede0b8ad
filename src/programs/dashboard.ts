/** Tables and consumer groups -> a page that follows them */
import { Effect, Layer } from "effect"
import * as Dashboard from "../clickstream/dashboard/Dashboard.ts"
import * as LiveFigures from "../clickstream/dashboard/LiveFigures.ts"
import * as Names from "../clickstream/Names.ts"
import * as Tables from "../clickstream/Tables.ts"
import * as Environment from "./environment.ts"
import * as Processing from "./processing.ts"
import * as Server from "./server.ts"

const settings = {
  ...Environment.kafka,
  ...Environment.database,
  ...Environment.naming,
  ...Server.dashboard,
  sessionGap: Processing.enriching.sessionGap,
}

Environment.run("dashboard", settings, (values) => {
  const routes = Layer.merge(Dashboard.routes(), Server.alive)
  const server = Server.serve(routes, { ...values, setting: settings.port, patience: "1 second" }).pipe(
    Layer.provide(LiveFigures.layer(values.prefix, values)),
  )
  return Effect.andThen(Tables.migrate(Names.tablePrefix(values)), Layer.launch(server)).pipe(
    Effect.provide(Layer.merge(Environment.layerKafka(values), Environment.layerDatabase(values))),
  )
})
