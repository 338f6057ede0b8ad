/** Open transactions: which hold back readers of committed records, whose they are, and their end. */
import { parseArgs } from "node:util"
import { Clock, Console, Duration, Effect, Result } from "effect"
import { Settings } from "../index.ts"
import * as Transactions from "../ops/Transactions.ts"
import { columns, moment } from "./columns.ts"
import * as Environment from "./environment.ts"
import * as Telemetry from "./telemetry.ts"

const usage = `usage: transactions list [--older-than DURATION] [--hanging] [--json]
       transactions abort TRANSACTIONAL_ID --yes [--force]
       transactions abort TOPIC PARTITION PRODUCER_ID --yes [--force]

list names all open transactions and where they hold back readers of committed records; --hanging those that no coordinator
knows. abort ends one. An owner that is at work is shut out by that, and must begin anew: --force where it is a member of its
group. TOPIC PARTITION PRODUCER_ID is for one that hangs: --force where it has written in the last 15 minutes. DURATION is a time such as "10 minutes".

Ends with 0, with 1 where something failed or it was stopped, with 2 where the command line makes no sense, and with 3 where abort is refused:
without --yes, where the owner may be at work, or where there is nothing to abort.`

const flag = { type: "boolean" } as const
const options = {
  "older-than": { type: "string" },
  ...{ hanging: flag, json: flag, yes: flag, force: flag, help: { ...flag, short: "h" } },
} as const
const taken: Readonly<Record<string, ReadonlyArray<string>>> = {
  list: ["older-than", "hanging", "json"],
  abort: ["yes", "force"],
}

/** What is asked for; `undefined` where that makes no sense. */
const commandLine = () => {
  try {
    const { positionals: [command = "", ...names], values } = parseArgs({ allowPositionals: true, options })
    const { yes = false, force = false, hanging = false, json = false } = values
    if (values.help === true) return { command: "help" } as const
    if (Object.keys(values).some((name) => taken[command]?.includes(name) !== true)) return undefined
    if (command === "list" && names.length === 0) {
      const doc = { doc: "", fallback: "0 seconds" }
      const age = Settings.duration("--older-than", doc).parse(values["older-than"])
      if (Result.isFailure(age)) return undefined
      return { command: "list", olderThan: Duration.toMillis(age.success), hanging, json } as const
    }
    const [id, ...others] = names
    if (command !== "abort" || id === undefined) return undefined
    if (others.length === 0) return { command: "abort", id, yes, force } as const
    const [partition, producerId] = others.map((text) => /^\d{1,15}$/.test(text) ? Number(text) : NaN)
    if (others.length !== 2 || Number.isNaN(partition! + producerId!)) return undefined
    return {
      command: "abort hanging",
      where: { topic: id, partition: partition! },
      producerId: producerId!,
      yes,
      force,
    } as const
  } catch {
    return undefined
  }
}

const asked = commandLine()
if (asked === undefined || asked.command === "help") {
  console[asked === undefined ? "error" : "log"](usage)
  process.exit(asked === undefined ? 2 : 0)
}

const list = Effect.fnUntraced(function* (olderThan: number, hanging: boolean, json: boolean) {
  const now = yield* Clock.currentTimeMillis
  const found = (yield* Transactions.list).filter(({ state, started }) =>
    (!hanging || state === "Hanging") && now - started >= olderThan
  )
  if (json) return yield* Console.log(JSON.stringify(found))
  if (found.length === 0) return yield* Console.log("no such transaction is open")
  const head = ["transactional id", "producer", "epoch", "state", "since", "open for", "owner"]
  const rows = found.map((one) => [
    one.transactionalId ?? "-",
    ...[one.producerId, one.producerEpoch, one.state, moment(one.started)],
    Duration.format(Duration.seconds(Math.max(0, Math.floor((now - one.started) / 1_000)))),
    one.owner === null ? "-" : `${one.owner.pipeline} (${alive[one.owner.isAlive]})`,
  ])
  yield* Console.log(columns(head, rows))
  const held = found.flatMap(({ transactionalId, producerId, state, partitions }) =>
    partitions.map(({ topic, partition, lastStable, high, isFirst }) => [
      ...[topic, partition, lastStable, high, high - lastStable, isFirst ? "yes" : "no"],
      state === "Hanging" ? `${topic} ${partition} ${producerId}` : transactionalId!,
    ])
  )
  if (held.length === 0) return
  const columnsOf = ["topic", "partition", "readable up to", "end", "held back", "by this one", "abort by"]
  yield* Console.log(`\n${columns(columnsOf, held)}`)
})

const alive = { yes: "at work", no: "gone", unknown: "may be at work" }

const refused: ReadonlySet<string> = new Set(["Alive", "Coordinated", "Deciding", "Unknown"])

/** What was refused is told, and is no failure. */
const careful = (abort: ReturnType<typeof Transactions.abort>, done: string) =>
  abort.pipe(
    Effect.andThen(Console.log(done)),
    Effect.catch((error) =>
      refused.has(error.reason)
        ? Effect.sync(() => {
          console.error(`transactions: ${error.message}`)
          process.exitCode = 3
        })
        : Effect.fail(error)
    ),
  )

const settings = {
  ...Environment.kafka,
  logLevel: Settings.withFallback(Telemetry.settings.logLevel, "Warn"),
}

Environment.tool("transactions", settings, (values) =>
  Effect.suspend(() => {
    if (asked.command === "list") return list(asked.olderThan, asked.hanging, asked.json)
    const name = asked.command === "abort"
      ? `the transaction of ${asked.id}`
      : `the transaction of producer ${asked.producerId} in topic ${asked.where.topic} partition ${asked.where.partition}`
    if (!asked.yes) {
      process.exitCode = 3
      return Console.error(`transactions: ${name} would be aborted, and its owner shut out; confirm it with --yes`)
    }
    return careful(
      asked.command === "abort"
        ? Transactions.abort(asked.id, { force: asked.force })
        : Transactions.abortHanging(asked.where, asked.producerId, { force: asked.force }),
      `${name} is aborted`,
    )
  }).pipe(Effect.provide(Environment.layerKafka(values))))
