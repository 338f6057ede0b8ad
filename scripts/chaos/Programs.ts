/** The programs, as processes that are started again when they end. */
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, openSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"

const root = join(import.meta.dirname, "../..")

/** What a supervisor does with a program that ended by itself: start it again a second later. */
const pause = 1_000

export interface Spec {
  /** Tells it from others: `enrich-1`. */
  readonly name: string
  /** The file in src/programs. */
  readonly program: string
  readonly env: Readonly<Record<string, string>>
}

/** A program that ended though nobody ended it. */
export interface OwnEnd {
  readonly name: string
  readonly at: number
  readonly how: string
  /** The last that it wrote. */
  readonly said: string
}

export class Program {
  readonly spec: Spec
  readonly #log: string
  readonly #ended: (end: OwnEnd) => void
  #process: ChildProcess | undefined
  #gone: Promise<string> = Promise.resolve("")
  #isWanted = false
  #isClosed = false
  starts = 0

  constructor(spec: Spec, logs: string, ended: (end: OwnEnd) => void) {
    this.spec = spec
    this.#log = join(logs, `${spec.name}.log`)
    this.#ended = ended
  }

  get pid(): number | undefined {
    return this.#process?.pid
  }

  start(): void {
    if (this.#isClosed) return
    this.#isWanted = true
    this.starts++
    const output = openSync(this.#log, "a")
    const child = spawn(process.execPath, [join(root, `src/programs/${this.spec.program}.ts`)], {
      cwd: root,
      env: { ...process.env, LOG_FORMAT: "json", ...this.spec.env },
      stdio: ["ignore", output, output],
    })
    closeSync(output)
    this.#process = child
    this.#gone = new Promise((resolve) =>
      child.once("exit", (code, signal) => {
        const how = signal ?? `code ${code}`
        if (this.#process === child) this.#process = undefined
        resolve(how)
        if (!this.#isWanted) return
        this.#ended({ name: this.spec.name, at: Date.now(), how, said: this.#last() })
        void sleep(pause).then(() => {
          if (this.#isWanted && this.#process === undefined) this.start()
        })
      })
    )
  }

  /** Waits until it has said something: from then on it knows what to do at a stop. */
  async begun(): Promise<void> {
    for (let left = 600; left > 0 && this.#last() === ""; left--) await sleep(100)
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal)
  }

  /** Ends it for good, and answers how it ended. */
  async end(signal: NodeJS.Signals): Promise<string> {
    this.#isWanted = false
    this.signal(signal)
    return await this.#gone
  }

  /** Kills it, and starts it no more, whoever asks. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.end("SIGKILL")
  }

  #last(): string {
    return readFileSync(this.#log, "utf8").trimEnd().split("\n").slice(-3).join("\n")
  }
}
