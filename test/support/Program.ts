/** Programs as processes of their own, as they run in production: started, killed, stopped. */
import { type ChildProcess, spawn } from "node:child_process"
import { globSync } from "node:fs"
import { join } from "node:path"
import { Data, Effect, type Scope } from "effect"

const root = join(import.meta.dirname, "../..")

/** How a program ended: with a code, or by a signal. */
export interface End {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** What it wrote, both streams in the order of arrival. */
  readonly output: string
}

export class EndedTooSoon extends Data.TaggedError("EndedTooSoon")<{ readonly message: string }> {}

export interface Program {
  readonly process: ChildProcess
  readonly output: () => string
  readonly ended: Effect.Effect<End>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

export interface Options {
  readonly args?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  readonly runtime?: "node" | "deno"
}

const command = (name: string, { args = [], runtime = "node" }: Options): readonly [string, ReadonlyArray<string>] => {
  const file = `src/programs/${name}.ts`
  return runtime === "node" ? [process.execPath, [file, ...args]] : [deno(), ["run", "-A", file, ...args]]
}

/** The program itself: the script in node_modules/.bin does not pass signals on. */
const deno = (): string => {
  const [file] = globSync(join(root, "node_modules/@deno/*/deno"))
  if (file === undefined) throw new Error("deno is not installed: run npm ci")
  return file
}

/** Starts `src/programs/<name>.ts`; it is killed at the end of the scope if it has not ended before. */
export const start = (name: string, options: Options = {}): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const [file, args] = command(name, options)
      const child = spawn(file, args, {
        cwd: root,
        env: { ...process.env, LOG_FORMAT: "json", ...options.env },
        stdio: ["ignore", "pipe", "pipe"],
      })
      let output = ""
      child.stdout.on("data", (chunk) => output += String(chunk))
      child.stderr.on("data", (chunk) => output += String(chunk))
      const end = new Promise<End>((resolve) =>
        child.once("close", (code, signal) => resolve({ code, signal, output }))
      )
      return {
        process: child,
        output: () => output,
        ended: Effect.promise(() => end),
        signal: (signal) => Effect.sync(() => void child.kill(signal)),
      }
    }),
    (program) => Effect.andThen(program.signal("SIGKILL"), program.ended),
  )

/** Waits until a program's output says so; fails where it ends before, or says nothing of the kind in time. */
export const says = (program: Program, what: RegExp, seconds = 30) =>
  Effect.gen(function* () {
    for (let left = seconds * 20; left > 0; left--) {
      if (what.test(program.output())) return
      if (program.process.exitCode !== null || program.process.signalCode !== null) break
      yield* Effect.sleep("50 millis")
    }
    return yield* new EndedTooSoon({ message: `expected ${what} from the program, which wrote:\n${program.output()}` })
  })
