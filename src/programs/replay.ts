/** Records that were processed -> processed again: planned, in place, or beside the live pipeline and compared with it. */
import { existsSync, readFileSync } from "node:fs"
import { Clock, Console, Effect, Layer, Result, Schema } from "effect"
import { type Postgres, Replay } from "../index.ts"
import { Misused, read, usage } from "./replayCommands.ts"
import * as Environment from "./environment.ts"
import * as Pipelines from "./pipelines.ts"
import * as Processing from "./processing.ts"
import { progressBar } from "./progressBar.ts"

const command = read(process.argv.slice(2))
if (command === undefined || typeof command === "string") {
  console[command === undefined ? "log" : "error"](command ?? usage)
  process.exit(command === undefined ? 0 : 2)
}

const settings = {
  ...Environment.kafka,
  ...Environment.database,
  ...Environment.naming,
  ...Processing.enriching,
  ...Processing.counting,
  ...Processing.running,
}

class Differs extends Schema.TaggedError<Differs>()("Differs", { message: Schema.String }) {
  readonly exitCode = 4
}

const misused = (message: string) => new Misused({ message })

/** A file where one of that name is there. */
const positions = (text: string) => {
  const isFile = existsSync(text)
  const parsed = isFile ? Replay.parseFile(readFileSync(text, "utf8")) : Replay.parse(text)
  return Effect.fromResult(Result.mapError(parsed, (problem) => misused(isFile ? `${text} ${problem}` : problem)))
}

const tell = (text: string, json: unknown) => Console.log(command.json === true ? JSON.stringify(json, null, 1) : text)

/** A new replay, or what only looks at one. */
const begin = Effect.fnUntraced(function* (pipeline: Pipelines.Any, running: Replay.Running) {
  const from = yield* positions(command.from!)
  const to = command.to === undefined ? undefined : yield* positions(command.to)
  const allowed = { resetState: command["reset-state"], partialState: command["partial-state"] }
  if (command.name === "plan" || command["dry-run"] === true) {
    const plan = yield* Replay.plan(pipeline, { from, to })
    const refused = command.name === "shadow" ? Replay.shadowRefusals(plan) : Replay.refusals(plan, allowed)
    const reasons = refused.map(({ reason, message }) => ({ reason, message }))
    yield* tell(Replay.planned(plan, refused), { ...plan, refused: reasons })
    if (refused.length > 0) return yield* refused[0]!
    return
  }
  const now = new Date(yield* Clock.currentTimeMillis).toISOString().replace(/[-:]|\.\d+/g, "")
  const path = command.file ?? `replay-${command.pipeline}-${now}.json`
  if (existsSync(path)) return yield* misused(`${path} is there already: resume it, or name another --file`)
  const options = { ...running, from, journal: Replay.file(path) }
  const done = command.name === "shadow"
    ? Replay.shadow(pipeline, options)
    : Replay.run(pipeline, { ...options, ...allowed, to, resetOnly: command["reset-only"] })
  yield* ended(yield* resumable(done, path), path)
})

/** What goes on with a file. */
const goOn = Effect.fnUntraced(function* (
  pipeline: Pipelines.Any,
  entry: Replay.Entry,
  path: string,
  running: Replay.Running,
) {
  const options = { ...running, journal: Replay.file(path) }
  switch (command.name) {
    case "run":
      return yield* ended(yield* resumable(Replay.resume(pipeline, entry, options), path), path)
    case "shadow":
      return yield* ended(yield* resumable(Replay.resumeShadow(pipeline, entry, options), path), path)
    case "undo":
      return yield* ended(yield* Replay.undo(pipeline, entry, options), path)
    case "forget":
      return yield* ended(yield* Replay.forget(pipeline, entry, options), path)
    case "cutover": {
      const undo = command.file ?? `${path.replace(/\.json$/, "")}-cutover.json`
      if (existsSync(undo)) return yield* misused(`${undo} is there already: name another --file`)
      const dryRun = command["dry-run"] === true
      const cut = yield* Replay.cutOver(pipeline, entry, {
        journal: Replay.file(undo),
        dryRun,
        partialState: command["partial-state"],
      })
      return yield* dryRun ? tell("nothing stands in the way of the cut-over", cut) : ended(cut, undo)
    }
    default: {
      const diff = yield* Replay.diff(pipeline, entry, command)
      yield* tell(Replay.compared(diff), diff)
      if (diff.differences > 0) return yield* new Differs({ message: `${diff.differences} keys differ` })
    }
  }
})

const ended = (entry: Replay.Entry, path: string) =>
  tell(`replay ${entry.id} of pipeline ${entry.pipeline} is ${entry.step}: ${path}`, { file: path, ...entry })

class Stopped extends Schema.TaggedError<Stopped>()("Stopped", { message: Schema.String }) {}

const resumable = <A, E, R>(replay: Effect.Effect<A, E, R>, path: string) => {
  const stopped = new Stopped({ message: `stopped; to go on: replay ${command.name} --resume ${path}` })
  return Effect.onInterrupt(replay, () => existsSync(path) ? Effect.fail(stopped) : Effect.void)
}

Environment.tool("replay", settings, (values) =>
  Effect.gen(function* () {
    const pipelines = Pipelines.byName(values)
    const entry = command.entry === undefined ? undefined : yield* Replay.load(command.entry)
    const pipeline = entry === undefined
      ? pipelines[command.pipeline!]
      : Object.values(pipelines).find(({ name }) => name === entry.pipeline)
    if (pipeline === undefined) {
      return yield* misused(
        entry === undefined
          ? `there is no pipeline ${command.pipeline}; there are ${Object.keys(pipelines).join(", ")}`
          : `${command.entry} belongs to pipeline ${entry.pipeline}, which is none of those with PREFIX=${values.prefix}`,
      )
    }
    const database: Layer.Layer<Postgres.Postgres, Error> = pipeline.guarantee.keeper === undefined
      ? Layer.empty as Layer.Layer<never> as Layer.Layer<Postgres.Postgres>
      : Environment.layerDatabase(values)
    const bar = progressBar()
    const running = { rate: command.rate, run: Processing.runOptions(values), progress: bar.update }
    yield* (entry === undefined ? begin(pipeline, running) : goOn(pipeline, entry, command.entry!, running)).pipe(
      Effect.ensuring(Effect.sync(bar.stop)),
      Effect.provide(Layer.merge(Environment.layerKafka(values), database)),
    )
  }))
