/** An access log in the combined format -> user.clicks.raw; lines that are not -> user.clicks.dlt */
import { statSync } from "node:fs"
import { parseArgs } from "node:util"
import { SingleBar } from "cli-progress"
import { Console, Duration, Effect, Layer, Result } from "effect"
import { topics } from "../../schemas/index.ts"
import * as Import from "../clickstream/Import.ts"
import * as Names from "../clickstream/Names.ts"
import { Admin, Failures, Producer } from "../index.ts"
import * as Environment from "./environment.ts"

const usage = `usage: import-log FILE [--prefix NAME] [--rate LINES_PER_SECOND]

Imports an access log in the combined format of Apache or nginx. --prefix names topics and tables of its own for it;
enrich, aggregate and store process them when they run with PREFIX=NAME.`

const commandLine = () => {
  try {
    const { positionals, values } = parseArgs({
      allowPositionals: true,
      options: { prefix: { type: "string" }, rate: { type: "string" }, help: { type: "boolean", short: "h" } },
    })
    const rate = values.rate === undefined ? undefined : Number(values.rate)
    const [file, ...others] = positionals
    const named = Names.prefix(values.prefix ?? "")
    if (Result.isFailure(named)) console.error(`--prefix ${named.failure}\n`)
    const isWrong = file === undefined || others.length > 0 || rate !== undefined && !(rate > 0) ||
      Result.isFailure(named)
    return { file: isWrong ? undefined : file, rate, prefix: values.prefix, help: values.help === true }
  } catch {
    return { file: undefined, rate: undefined, prefix: undefined, help: false }
  }
}

const { file, rate, prefix, help } = commandLine()
if (help) {
  console.log(usage)
  process.exit(0)
}
if (file === undefined) {
  console.error(usage)
  process.exit(2)
}

const settings = { ...Environment.kafka, ...Environment.naming, ...Environment.privacy }

Environment.run("import-log", settings, (values) =>
  Effect.gen(function* () {
    const naming = { ...values, prefix: prefix ?? values.prefix }
    yield* Admin.createTopics(Object.values(topics(naming)))
    const bar = progressBar(file)
    let reached = 0
    const { lines, malformed } = yield* Import.run({
      file,
      naming,
      rate,
      hashKey: values.hashKey,
      program: yield* Failures.Program,
      progress: (imported) => {
        reached = imported.lines
        bar.update(imported)
      },
    }).pipe(
      Effect.ensuring(Effect.sync(() => bar.stop())),
      Effect.onInterrupt(() => Effect.suspend(() => Effect.fail(stopped(reached)))),
    )
    yield* Console.log(
      `${lines} lines imported, ${malformed} of them malformed: they are in ${topics(naming).dlt.name}`,
    )
  }).pipe(Effect.provide(Producer.layer().pipe(Layer.provideMerge(Environment.layerKafka(values))))))

const stopped = (lines: number): Import.ImportError =>
  new Import.ImportError({
    message:
      `stopped after ${lines} lines; import the log again, and those that are there already are not counted twice`,
  })

const progressBar = (file: string) => {
  const total = statSync(file, { throwIfNoEntry: false })?.size ?? 0
  const bar = new SingleBar({
    format: "{bar} {percentage} % | {lines} lines | {rate} lines/s | {left} left",
    barsize: 30,
    hideCursor: true,
    noTTYOutput: true,
    notTTYSchedule: 5_000,
  })
  return {
    update: ({ bytes, lines, rate }: Import.Imported) => {
      if (!bar.isActive) bar.start(total, 0, { lines: 0, rate: 0, left: "?" })
      const seconds = Math.ceil((total / bytes - 1) * lines / rate)
      bar.update(bytes, {
        lines,
        rate: Math.round(rate),
        left: Duration.format(Duration.seconds(Math.max(0, seconds))),
      })
    },
    stop: () => bar.stop(),
  }
}
