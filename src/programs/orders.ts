/**
 * Commands and events: orders.commands -> orders.created, orders.updated, payments.authorized -> the average payment per
 * user. Kafka is in memory, and commands are made up, unless KAFKA_BROKERS names a cluster.
 */
import { parseArgs } from "node:util"
import { Console, Effect, Exit, Layer, Random } from "effect"
import { orderTopics } from "../../schemas/orders/index.ts"
import { Admin, KafkaMemory, Producer, Runner, Settings } from "../index.ts"
import { averages } from "../orders/Averages.ts"
import { orders } from "../orders/Orders.ts"
import * as Table from "../orders/Table.ts"
import * as Traffic from "../orders/Traffic.ts"
import { caughtUp } from "./caughtUp.ts"
import * as Environment from "./environment.ts"
import * as Parts from "./parts.ts"
import * as Processing from "./processing.ts"
import * as Server from "./server.ts"
import { small } from "./small.ts"
import * as Telemetry from "./telemetry.ts"

const usage = `usage: orders [--commands N] [--seed N] [--rate COMMANDS_PER_SECOND]

Decides what comes in orders.commands, and averages payments by user. --commands sends N random commands, and stops when all
are processed; with Kafka in memory they come without end unless it is given, 20 a second. The same --seed sends the same
commands: where they are there already, they are repeats.`

const number = { type: "string" } as const

const commandLine = () => {
  try {
    const options = { commands: number, seed: number, rate: number, help: { type: "boolean", short: "h" } } as const
    const { commands, seed, rate, help } = parseArgs({ options }).values
    const [count, chosen, pace] = [commands, seed, rate].map((text) => text === undefined ? undefined : Number(text))
    const isWrong = [count, chosen, pace].some((n) => n !== undefined && !(Number.isSafeInteger(n) && n > 0))
    return { count, seed: chosen, rate: pace, help: help === true, isWrong }
  } catch {
    return { help: false, isWrong: true } as const
  }
}

const { count, seed: chosen, rate, help, isWrong } = commandLine()
if (help || isWrong) {
  console[help ? "log" : "error"](usage)
  process.exit(help ? 0 : 2)
}

const settings = {
  ...Environment.kafka,
  brokers: Settings.optional(Environment.kafka.brokers),
  prefix: Environment.naming.prefix,
  ...Processing.running,
  ...Server.metrics,
  logLevel: Settings.withFallback(Telemetry.settings.logLevel, "Warn"),
}

Environment.run("orders", settings, (values) => {
  const { brokers } = values
  const to = orderTopics(values)
  const isEmbedded = brokers === undefined
  const kafka = isEmbedded
    ? KafkaMemory.layer({ retentionInterval: "1 minute" })
    : Environment.layerKafka({ ...values, brokers })
  const run = { ...Processing.runOptions(values), drain: isEmbedded }
  const pipelines = [averages(values), orders(values)] as const

  return Parts.together(Effect.fnUntraced(function* (inBackground) {
    const seed = chosen ?? (yield* Random.nextIntBetween(1, 1_000_000))
    yield* Admin.createTopics(isEmbedded ? small(Object.values(to)) : Object.values(to))
    const summary = isEmbedded ? Table.summary(to, seed) : Table.averages(to)
    yield* Effect.addFinalizer((exit) =>
      Exit.hasFails(exit)
        ? Effect.void
        : Effect.ignore(Effect.timeout(Effect.flatMap(summary, Console.log), "5 seconds"))
    )
    for (const pipeline of pipelines) yield* inBackground(Runner.run(pipeline, run))
    if (process.stdout.isTTY) yield* inBackground(Effect.scoped(Table.live(to, process.stdout)))
    if (!isEmbedded && count === undefined) return yield* Effect.never
    const pace = count === undefined ? rate ?? 20 : rate
    yield* Traffic.send({ to, seed, count, rate: pace })
    yield* caughtUp(pipelines)
  })).pipe(
    Effect.provide([Producer.layer().pipe(Layer.provideMerge(kafka)), Server.layerMetrics(values)]),
  )
})
