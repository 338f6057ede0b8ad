/** A run: messages and faults for a time, then a drain, then the comparison. */
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { Checker, type Findings } from "./Checker.ts"
import type { Run } from "./Clicks.ts"
import { type Fault, once, plan } from "./Faults.ts"
import { Load } from "./Load.ts"
import type { Options } from "./Options.ts"
import { Progress, type Stop } from "./Progress.ts"
import { Random } from "./Random.ts"
import type { Setting } from "./Setting.ts"

/** Faults that happened at the same time, and how long it took to get over them. */
export interface Slot {
  readonly faults: ReadonlyArray<Fault>
  readonly from: number
  /** When everything was put right again, and when all work went on. */
  readonly healed: number
  readonly recovered: number
  /** The longest time without a commit. */
  readonly stop: Stop | undefined
}

export interface Outcome {
  readonly run: Run
  readonly load: Load
  readonly slots: ReadonlyArray<Slot>
  readonly findings: Findings
  /** From the last answer until everything was committed everywhere, in milliseconds. */
  readonly drain: number
  readonly garbage: number
  readonly ends: ReadonlyArray<readonly [name: string, how: string]>
  /** The longest stop before the first fault: what is usual. */
  readonly usual: number
}

const groups = {
  kafka: { "clickstream-enrich": ["user.clicks.raw"], "clickstream-count": ["user.clicks.enriched"] },
  database: {
    "clickstream-store-clicks": ["user.clicks.enriched"],
    "clickstream-store-counts": ["user.clicks.aggregates"],
    "clickstream-store-sessions": ["user.sessions"],
    "clickstream-store-identities": ["user.identities"],
    "clickstream-store-dead-letters": ["user.clicks.dlt", "user.clicks.late"],
  },
  transactional: new Set([
    "user.clicks.enriched",
    "user.clicks.aggregates",
    "user.sessions",
    "user.identities",
    "user.clicks.dlt",
    "user.clicks.late",
  ]),
}

/** How long everything may take to go on after a fault, and to end after the last, in milliseconds. */
const longestRecovery = 90_000
const longestDrain = 300_000

const say = (text: string) => console.log(`${new Date().toISOString().slice(11, 19)} ${text}`)

export const run = async (
  options: Options,
  setting: Setting,
  undo: (step: () => Promise<void> | void) => void,
): Promise<Outcome> => {
  const lanes = 24
  const room = Math.ceil((options.seconds + 300) * options.rate)
  const progress = new Progress(groups, setting.foreign, setting.database.sql)
  undo(() => progress.close())
  const { run, load, sending } = begin(options, setting, { lanes, room })
  const garbage = new Garbage(setting)
  undo(() => garbage.close())
  await sleep(options.quick ? 2_000 : 5_000)
  if (!await well(progress, run.start, 300_000)) {
    throw new Error("the programs do not begin to work: see what they write with --keep")
  }
  const quiet = Date.now()
  await sleep(options.quick ? 500 : 3_000)
  const usual = progress.longest(quiet, Date.now())
  say(`everything runs; the first faults come now`)
  const until = Date.now() + options.seconds * 1_000
  const slots: Array<Slot> = []
  for (const faults of (options.quick ? once : plan)(new Random(options.seed), setting, options.kinds)) {
    if (!options.quick && Date.now() >= until) break
    const from = Date.now()
    say(faults.map(({ text }) => text).join(" + "))
    await Promise.all(faults.map((fault) => fault.run()))
    const healed = Date.now()
    if (!await well(progress, healed, longestRecovery) && !options.quick) {
      setting.complain(
        `not all work went on within ${longestRecovery / 1_000} s after: ${faults.map(({ text }) => text).join(" + ")}`,
      )
    }
    const recovered = Date.now()
    const stop = progress.longest(from, recovered)
    slots.push({ faults, from, healed, recovered, stop })
    say(
      `  went on ${seconds(recovered - healed)} after; longest stop ${
        stop === undefined ? "none" : `${seconds(stop.to - stop.from)} (${stop.group} ${stop.topic}/${stop.partition})`
      }`,
    )
    await sleep(300)
  }
  load.stop()
  await garbage.end()
  await sending
  const ended = Date.now()
  say(`${load.figures.sent} messages were sent; waiting for them to arrive`)
  while (Date.now() - ended < longestDrain && progress.behind.length > 0) await sleep(100)
  // What has arrived last may just be missing in what was heard.
  await sleep(1_000)
  while (Date.now() - ended < longestDrain && progress.behind.length > 0) await sleep(100)
  const drain = Date.now() - ended - 1_000
  if (progress.behind.length > 0) {
    setting.complain(
      `not everything arrived within ${longestDrain / 1_000} s: ${
        progress.behind.map((lane) => `${lane.group} ${lane.topic}/${lane.partition} ${lane.left}`).join(", ")
      }`,
    )
  }
  say(`drained in ${seconds(drain)}; stopping the programs`)
  const ends = await setting.stopPrograms()
  for (const [name, how] of ends) {
    if (how !== "code 0") setting.complain(`${name} ended with ${how} when it was stopped`)
  }
  progress.close()
  say("comparing")
  const input = {
    run,
    state: load.state,
    times: load.times,
    garbage: { least: garbage.written, most: garbage.written + garbage.unknown },
  }
  const findings = await new Checker(input, setting.foreign, setting.database.sql).check()
  return {
    run,
    load,
    slots,
    findings,
    drain,
    garbage: garbage.written,
    ends,
    usual: usual === undefined ? 0 : usual.to - usual.from,
  }
}

const begin = (
  { seed, rate }: Options,
  setting: Setting,
  { lanes, room }: { readonly lanes: number; readonly room: number },
) => {
  const run: Run = { seed, rate, lanes, batch: 20, usersPerLane: 200, start: Date.now() + 500 }
  const load = new Load(run, setting.collectors, room)
  return { run, load, sending: load.send() }
}

const well = async (progress: Progress, since: number, patience: number): Promise<boolean> => {
  while (!(progress.isKnown && progress.isWell(since))) {
    if (Date.now() - since > patience) return false
    await sleep(50)
  }
  return true
}

const seconds = (millis: number): string => `${(millis / 1_000).toFixed(1)} s`

/** Records that no collector would write, written to the raw topic by another client now and then. */
class Garbage {
  written = 0
  /** Given up by that client: they may be there or not. */
  unknown = 0
  readonly #writing: ReturnType<Setting["foreign"]["run"]>
  readonly #timer: NodeJS.Timeout
  readonly #ended: Promise<void>
  #sent = 0

  constructor({ foreign }: Setting) {
    this.#writing = foreign.run("write", "user.clicks.raw")
    this.#writing.stdin.on("error", () => {})
    const lines = createInterface({ input: this.#writing.stdout })
    lines.on("line", (line) => line === "unknown" ? this.unknown++ : this.written++)
    this.#ended = new Promise((resolve) => lines.once("close", () => resolve()))
    this.#timer = setInterval(() => {
      if (this.#sent - this.written - this.unknown > 20) return
      this.#writing.stdin.write(`user-${this.#sent}\t{"number":${this.#sent++}, cut o\n`)
    }, 500)
  }

  /** Ends when everything is written. */
  async end(): Promise<void> {
    clearInterval(this.#timer)
    this.#writing.stdin.end()
    await this.#ended
    this.unknown = this.#sent - this.written
  }

  close(): void {
    clearInterval(this.#timer)
    this.#writing.kill("SIGKILL")
  }
}
