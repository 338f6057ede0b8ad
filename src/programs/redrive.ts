/** Dead letters: what there is, one of them, and sending them again. */
import { Buffer } from "node:buffer"
import { parseArgs } from "node:util"
import { SingleBar } from "cli-progress"
import { Clock, Console, Duration, Effect, Result, Schema } from "effect"
import { Settings } from "../index.ts"
import * as Redrive from "../ops/Redrive.ts"
import * as Environment from "./environment.ts"
import { listedAs, plain, told } from "./letters.ts"
import * as Telemetry from "./telemetry.ts"

const usage = `usage: redrive list [TOPIC] [--json]
       redrive show TOPIC PARTITION OFFSET [--unmasked]
       redrive send TOPIC (--all | [--reason REASON]... [--since TIME] [--until TIME] [--key KEY | --key-base64 KEY])
                    [--max N] [--max-attempts N] [--rate RECORDS_PER_SECOND] [--dry-run] [--json]

Sends dead letters back to the stage or the topic that they come from, each once, however often it is asked. TIME is when the
letter was written, with its zone: 2026-01-31T12:00:00Z, or how long ago: "2 hours". --key-base64 is for a key that is no text. A record that came back after 5 attempts
(--max-attempts) is quarantined: it stays where it is. --dry-run tells what would be done, and writes nothing.

Ends with 0; with 1 where something failed or it was stopped, with 2 where the command line makes no sense, and with 3 where letters that were
selected are not sent because they cannot be, or are quarantined.`

type Time = (now: number) => number

/** A moment with its zone, or how long before now: without a zone it would be another one on every machine. */
const time = (text: string): Time | undefined => {
  if (/^\d{4}-\d\d-\d\d/.test(text)) {
    if (!/^[\d-]{10}(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text)) return undefined
    const at = Date.parse(text)
    return Number.isNaN(at) ? undefined : () => at
  }
  const ago = Settings.duration("TIME", { doc: "", fallback: undefined }).parse(text)
  if (Result.isFailure(ago) || ago.success === undefined) return undefined
  const millis = Duration.toMillis(ago.success)
  return (now) => now - millis
}

/** Bytes in base64; `undefined` for anything else. */
const bytes = (text: string): Uint8Array | undefined => {
  const bytes = Buffer.from(text, "base64")
  return bytes.toString("base64") === text ? bytes : undefined
}

const text = { type: "string" } as const
const flag = { type: "boolean" } as const
const options = {
  reason: { ...text, multiple: true },
  ...{ since: text, until: text, key: text, "key-base64": text, max: text, "max-attempts": text, rate: text },
  ...{ all: flag, "dry-run": flag, json: flag, unmasked: flag, help: { ...flag, short: "h" } },
} as const
const taken: Readonly<Record<string, ReadonlyArray<string>>> = {
  list: ["json"],
  show: ["unmasked"],
  send: ["reason", "since", "until", "key", "key-base64", "all", "max", "max-attempts", "rate", "dry-run", "json"],
}

/** What is asked for; where that makes no sense, why, or `undefined`. */
const commandLine = () => {
  try {
    const { positionals: [command = "", ...others], values } = parseArgs({ allowPositionals: true, options })
    if (values.help === true) return { command: "help" } as const
    const strange = Object.keys(values).find((name) => taken[command]?.includes(name) !== true)
    if (strange !== undefined) return taken[command] && `${command} takes no --${strange}`
    const [topic, ...more] = others
    if (command === "list") {
      return more.length > 0 ? undefined : { command: "list", topic, json: values.json === true } as const
    }
    if (topic === undefined) return undefined
    const [partition, offset, ...rest] = more.map(Number)
    if (command === "show") {
      const isWrong = rest.length > 0 || ![partition, offset].every((n) => Number.isSafeInteger(n) && n! >= 0)
      return isWrong
        ? undefined
        : { command: "show", topic, partition: partition!, offset: offset!, unmasked: values.unmasked } as const
    }
    const { reason, all = false, "key-base64": base64 } = values
    const key = base64 === undefined ? values.key : bytes(base64)
    const [since, until] = [values.since, values.until].map((text) => text === undefined ? undefined : time(text))
    const counts = [values.max, values["max-attempts"], values.rate].map((text) =>
      text === undefined ? undefined : Number(text)
    )
    const [max, maxAttempts, rate] = counts
    const isChosen = [reason, values.since, values.until, values.key, base64].some((one) => one !== undefined)
    const isNoTime = (given: string | undefined, at: Time | undefined) => given !== undefined && at === undefined
    const wrong: ReadonlyArray<readonly [isSo: boolean, problem: string]> = [
      [more.length > 0, `"${more[0]}" is one word too many`],
      [all === isChosen, "which letters: --all, or a selection (--reason, --since, --until, --key), and not both"],
      [isNoTime(values.since, since), "--since is no time with its zone, and no duration"],
      [isNoTime(values.until, until), "--until is no time with its zone, and no duration"],
      [
        base64 !== undefined && (key === undefined || values.key !== undefined),
        "--key-base64 is no base64, or beside --key",
      ],
      [counts.some((n) => n !== undefined && !(n > 0)), "--max, --max-attempts and --rate are numbers above 0"],
      [
        [max, maxAttempts].some((n) => n !== undefined && !Number.isSafeInteger(n)),
        "--max and --max-attempts are whole",
      ],
    ]
    const problem = wrong.find(([isSo]) => isSo)
    if (problem !== undefined) return problem[1]
    const { json = false, "dry-run": dry = false } = values
    return { command: "send", topic, reason, key, since, until, max, maxAttempts, rate, json, dry } as const
  } catch (error) {
    return error instanceof Error ? error.message : undefined
  }
}

type Asked = Exclude<ReturnType<typeof commandLine>, string | undefined>

const asked = commandLine()
if (asked === undefined || typeof asked === "string") {
  console.error(asked === undefined ? usage : `redrive: ${asked}\n\n${usage}`)
  process.exit(2)
}
if (asked.command === "help") {
  console.log(usage)
  process.exit(0)
}

const list = Effect.fnUntraced(function* (topic: string | undefined, json: boolean) {
  const topics = topic === undefined ? yield* Redrive.topics : [topic]
  const listed = yield* Effect.forEach(
    topics,
    (topic) => Effect.map(Redrive.list(topic), (groups) => ({ topic, groups })),
  )
  if (json) return yield* Console.log(JSON.stringify(listed))
  for (const { topic, groups } of listed) yield* Console.log(listedAs(topic, groups))
  if (listed.length === 0) yield* Console.log("no topic of dead letters: their names end with .dlt or -dlt")
})

const send = Effect.fnUntraced(function* (asked: Extract<Asked, { command: "send" }>) {
  const { topic, reason, key, since, until, max, maxAttempts, rate, json, dry } = asked
  const now = yield* Clock.currentTimeMillis
  const bar = progressBar()
  const selection: Redrive.Selection = {
    ...reason === undefined ? {} : { reasons: reason },
    ...key === undefined ? {} : { key },
    ...since === undefined ? {} : { since: since(now) },
    ...until === undefined ? {} : { until: until(now) },
  }
  const { since: first = -Infinity, until: last = Infinity } = selection
  if (first >= last) return yield* new Misused({ message: "--since is not before --until: no letter is" })
  let reached = 0
  const options: Redrive.Options = {
    ...max === undefined ? {} : { max },
    ...maxAttempts === undefined ? {} : { maxAttempts },
    ...rate === undefined ? {} : { rate },
    progress: (read, total, sent) => {
      reached = sent
      bar.update(read, total, sent)
    },
  }
  const report = yield* (dry ? Redrive.plan : Redrive.send)(topic, selection, options).pipe(
    Effect.ensuring(Effect.sync(bar.stop)),
    Effect.onInterrupt(() => Effect.suspend(() => Effect.fail(stopped(reached)))),
  )
  yield* Console.log(json ? JSON.stringify(plain(report)) : told(report, dry))
  if (report.refused.size > 0 || report.quarantined > 0) process.exitCode = 3
})

class Misused extends Schema.TaggedError<Misused>()("Misused", { message: Schema.String }) {
  readonly exitCode = 2
}

const stopped = (sent: number): Redrive.RedriveError =>
  new Redrive.RedriveError({
    reason: "Stopped",
    message: `stopped after ${sent} were sent; send them again, and those that were sent are not sent twice`,
  })

const progressBar = () => {
  const bar = new SingleBar({ format: "{bar} {percentage} % | {sent} sent", barsize: 30, hideCursor: true })
  const isShown = process.stderr.isTTY === true
  return {
    update: (read: number, total: number, sent: number) => {
      if (!isShown) return
      if (!bar.isActive) bar.start(total, 0, { sent: 0 })
      bar.update(read, { sent })
    },
    stop: () => bar.stop(),
  }
}

const settings = {
  ...Environment.kafka,
  logLevel: Settings.withFallback(Telemetry.settings.logLevel, "Warn"),
}

Environment.tool("redrive", settings, (values) =>
  Effect.gen(function* () {
    if (asked.command === "list") return yield* list(asked.topic, asked.json)
    if (asked.command === "send") return yield* send(asked)
    const letter = yield* Redrive.show(asked.topic, asked.partition, asked.offset)
    const shown = asked.unmasked === true ? Redrive.unmasked(letter) : Redrive.masked(letter)
    yield* Console.log(JSON.stringify(shown, undefined, 2))
  }).pipe(Effect.provide(Environment.layerKafka(values))))
