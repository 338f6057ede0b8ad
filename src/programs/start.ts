/**
 * Everything in one process: trackers and sample traffic -> collector -> enrich -> aggregate -> store -> dashboard. Kafka
 * is in memory and Postgres embedded, unless KAFKA_BROKERS and DATABASE_URL name real ones.
 */
import { Console, Context, Effect, Layer, Redacted } from "effect"
import { HttpServer } from "effect/http"
import { topics } from "../../schemas/index.ts"
import * as Collector from "../clickstream/collector/Collector.ts"
import * as CollectorSettings from "../clickstream/collector/Settings.ts"
import { count } from "../clickstream/Count.ts"
import * as Dashboard from "../clickstream/dashboard/Dashboard.ts"
import * as LiveFigures from "../clickstream/dashboard/LiveFigures.ts"
import { enrich } from "../clickstream/Enrich.ts"
import * as Names from "../clickstream/Names.ts"
import * as Sample from "../clickstream/Sample.ts"
import { store } from "../clickstream/Store.ts"
import * as Tables from "../clickstream/Tables.ts"
import { Admin, EmbeddedPostgres, KafkaMemory, Producer, Runner, Settings } from "../index.ts"
import * as Environment from "./environment.ts"
import * as Parts from "./parts.ts"
import * as Processing from "./processing.ts"
import * as Server from "./server.ts"
import { small } from "./small.ts"
import * as Telemetry from "./telemetry.ts"
import { welcome } from "./welcome.ts"

const settings = {
  ...Environment.kafka,
  ...Environment.database,
  brokers: Settings.optional(Environment.kafka.brokers),
  databaseUrl: Settings.optional(Environment.database.databaseUrl),
  ...Environment.naming,
  ...Environment.privacy,
  ...Server.listening,
  ...CollectorSettings.settings,
  ...Processing.enriching,
  repeatIds: Settings.withFallback(Processing.enriching.repeatIds, "50000"),
  ...Processing.counting,
  ...Processing.running,
  logLevel: Settings.withFallback(Telemetry.settings.logLevel, "Warn"),
}

const together = { concurrency: "unbounded", discard: true } as const

const pruning = (tables: string) =>
  Effect.forever(Effect.andThen(Effect.sleep("1 minute"), Tables.prune(embedded, tables)))

/** The warning for tables that last longer than the topics that their rows come from. */
const outlived =
  "Kafka is in memory, but the database lasts: at every start sessions begin anew, and so do the counts " +
  "of the minute at hand, in place of those stored before. Set KAFKA_BROKERS too if the figures are to be kept"

const embedded = { age: "1 day", clicks: 300_000 } as const

Environment.run("start", settings, (values) => {
  const { brokers, databaseUrl } = values
  const to = topics(values)
  const tables = Names.tablePrefix(values)
  // What is in memory ends with the process: a stop takes it to the tables before.
  const run = { ...Processing.runOptions(values), drain: brokers === undefined }
  const isSampling = !process.argv.includes("--no-sample")

  const kafka = brokers === undefined
    ? KafkaMemory.layer({ retentionInterval: "1 minute" })
    : Environment.layerKafka({ ...values, brokers })
  const database = databaseUrl === undefined
    ? EmbeddedPostgres.layer
    : Environment.layerDatabase({ ...values, databaseUrl })
  const collector = Collector.routes({
    settings: values,
    to,
    hashKey: values.hashKey ?? Redacted.make(crypto.randomUUID()),
  })
  const dashboard = Dashboard.routes({ collector: { key: values.writeKeys[0]!.key, url: values.publicUrl } })
  const server = Server.serve(Layer.merge(collector, dashboard), {
    ...values,
    setting: settings.port,
    patience: "2 seconds",
    disableListenLog: true,
  }).pipe(Layer.provide(LiveFigures.layer(values.prefix, values)))

  return Parts.together(Effect.fnUntraced(function* (inBackground) {
    if (brokers === undefined && databaseUrl !== undefined) yield* Effect.logWarning(outlived)
    const contracts = brokers === undefined ? small(Object.values(to)) : Object.values(to)
    yield* Effect.andThen(Admin.createTopics(contracts), Tables.migrate(tables))
    yield* inBackground(Effect.forEach(store(values), (one) => Runner.run(one, run), together))
    yield* inBackground(Runner.run(count(values, values), run))
    yield* inBackground(Runner.run(enrich(values, Processing.enrichOptions(values)), run))
    if (databaseUrl === undefined) yield* inBackground(pruning(tables))
    const { address } = yield* Effect.map(Layer.build(server), (context) => Context.get(context, HttpServer.HttpServer))
    if (isSampling) yield* inBackground(Sample.feed(to))
    yield* Console.log(welcome("port" in address ? address.port : values.port, values, isSampling))
    return yield* Effect.never
  })).pipe(
    Effect.provide(Layer.merge(Producer.layer().pipe(Layer.provideMerge(kafka)), database)),
  )
})
