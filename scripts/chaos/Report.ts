/** What a run comes to, for people. */
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { cpus, totalmem } from "node:os"
import { join } from "node:path"
import type { Outcome, Slot } from "./Chaos.ts"
import { kinds } from "./Faults.ts"
import type { Options } from "./Options.ts"
import type { Setting } from "./Setting.ts"

/** The longest stop allowed after a fault that is alone, in milliseconds. */
const goals = { "kill a program": 10_000, "kill a broker": 15_000 } as const

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 })
const seconds = (millis: number): string => `${(millis / 1_000).toFixed(1)} s`
const lengthOf = (time: number): string => time >= 120 ? `${whole.format(time / 60)} minutes` : `${time} seconds`
const stopOf = ({ stop }: Slot): number => stop === undefined ? 0 : stop.to - stop.from

export interface Report {
  readonly markdown: string
  readonly json: {
    readonly sent: number
    readonly answered: number
    readonly lost: number
    readonly repeated: number
    readonly wrong: number
    readonly examples: ReadonlyArray<string>
    /** How often each kind of fault happened. */
    readonly faults: Readonly<Record<string, number>>
    readonly failures: ReadonlyArray<string>
  }
  /** Why the run has failed. */
  readonly failures: ReadonlyArray<string>
}

export const make = (options: Options, setting: Setting, outcome: Outcome): Report => {
  const { load, slots, findings, drain, garbage, usual } = outcome
  const { sent, answered, unknown, requests, outcomes, repeated } = load.figures
  const faults = slots.reduce((sum, slot) => sum + slot.faults.length, 0)
  const alone = slots.filter((slot) => slot.faults.length === 1)
  const together = slots.filter((slot) => slot.faults.length > 1)
  const timesOf = (kind: string) => slots.flatMap((slot) => slot.faults).filter((fault) => fault.kind === kind).length
  const ofKind = (kind: string) => alone.filter((slot) => slot.faults[0]!.kind === kind)
  const longest = (some: ReadonlyArray<Slot>) =>
    some.reduce<Slot | undefined>(
      (most, slot) => most === undefined || stopOf(slot) > stopOf(most) ? slot : most,
      undefined,
    )
  const failures = [...setting.complaints]
  if (findings.lost > 0) failures.push(`${findings.lost} lost`)
  if (findings.repeated > 0) failures.push(`${findings.repeated} repeated`)
  if (findings.wrong > 0) failures.push(`${findings.wrong} otherwise wrong`)
  if (!options.quick) {
    for (const [kind, goal] of Object.entries(goals)) {
      const worst = longest(ofKind(kind))
      if (worst !== undefined && stopOf(worst) > goal) {
        failures.push(
          `the longest stop after "${kind}" was ${seconds(stopOf(worst))}, the goal is ${seconds(goal)}: ${
            worst.faults[0]!.text
          }`,
        )
      }
    }
  }
  const row = (kind: string, some: ReadonlyArray<Slot>, count: number) => {
    const worst = longest(some)
    const middle = some.map(stopOf).sort((a, b) => a - b)[Math.floor(some.length / 2)]
    const cells = worst === undefined ? ["", "", ""] : [
      seconds(middle!),
      seconds(stopOf(worst)),
      worst.stop === undefined
        ? ""
        : `${
          worst.faults.map(({ text }) => text).join(" + ")
        }: ${worst.stop.group}, ${worst.stop.topic}/${worst.stop.partition}`,
    ]
    return `| ${[kind, count, some.length, ...cells].join(" | ")} |`
  }
  const lines = [
    "# Chaos on real servers",
    "",
    "`npm run chaos -- --minutes N --seed S` runs the clickstream as users do: two processes each of collect, enrich, aggregate and",
    "store on three brokers (replication 3, `min.insync.replicas` 2) and Postgres, all of them started for the run and gone after it.",
    "Messages are sent over HTTP while programs and brokers are killed, frozen, cut off and slowed down, the database freezes and",
    "crashes, a broker's disk is full, and groups are rebalanced: one fault at a time, or two, drawn from the seed, with all work",
    "going on again in between. What is not answered with 200 is sent again with the same ids, one batch in five only once more.",
    "The first process of each program has an `INSTANCE_ID`, the second has none.",
    "Then every message is compared with every table, by SQL, and with every topic, by Kafka's own Java client (read_committed); the",
    "comparison and the client share no code with the library. `npm run chaos -- --help` tells the options. It needs Linux, Java 17",
    "with its compiler, and PostgreSQL; disks can be filled where file systems may be mounted. This page is the report of a run:",
    "",
    `\`${options.command}\`: ${lengthOf(options.seconds)}, seed ${options.seed}, ${
      whole.format(options.rate)
    } messages per second.`,
    "",
    "| | |",
    "| --- | ---: |",
    `| messages sent | ${whole.format(sent)} |`,
    `| of these answered with 200 | ${whole.format(answered)} |`,
    `| given up, outcome unknown | ${whole.format(unknown)} |`,
    `| requests | ${whole.format(requests)} (${
      [...outcomes].map(([what, count]) => `${what}: ${whole.format(count)}`).join(", ")
    }) |`,
    `| sent again on purpose after a 200 | ${whole.format(repeated * load.run.batch)} |`,
    `| records that are no JSON, written to the raw topic | ${garbage} |`,
    ...Array.from(findings.looked, ([what, count]) => `| compared: ${what} | ${whole.format(count)} |`),
    `| **lost** | **${findings.lost}** |`,
    `| **repeated** | **${findings.repeated}** |`,
    `| wrong in another way | ${findings.wrong} |`,
    `| faults | ${faults} |`,
    `| longest stop without a fault | ${seconds(usual)} |`,
    `| time to drain after the last message | ${seconds(drain)} |`,
    `| programs started | ${setting.programs.reduce((sum, { starts }) => sum + starts, 0)} |`,
    `| programs that ended by themselves, and were started again | ${setting.ownEnds.length} |`,
    "",
    "A stop is a time in which one partition that had input saw no commit, in any of the groups; positions are looked at every",
    "200 ms. Stops are told of faults that came alone.",
    "",
    "| fault | times | alone | stop, median | longest | at |",
    "| --- | ---: | ---: | ---: | ---: | --- |",
    ...kinds.map((kind) => row(kind, ofKind(kind), timesOf(kind))),
    row("two at once", together, together.length),
    "",
    ...setting.ownEnds.length === 0 ? [] : [
      "Programs that ended by themselves:",
      "",
      ...setting.ownEnds.map(({ name, how, said, at }) =>
        `- ${name} (${how}) at ${new Date(at).toISOString()}: ${lastLine(said)}`
      ),
      "",
    ],
    ...setting.notes.length === 0 ? [] : ["Noted:", "", ...setting.notes.map((one) => `- ${one}`), ""],
    ...findings.examples.length === 0 ? [] : ["Found:", "", ...findings.examples.map((one) => `- ${one}`), ""],
    failures.length === 0 ? "Nothing lost, nothing repeated, all goals met." : `Failed: ${failures.join("; ")}.`,
    "",
    `Machine: ${cpus().length} × ${cpus()[0]?.model ?? "unknown"}, ${
      Math.round(totalmem() / 1024 ** 3)
    } GB. ${versions()}. ` +
    `Disk faults by ${
      setting.brokers.disks === "loop"
        ? "a full file system of the broker's own"
        : "a limit on the broker's files (mounting is not allowed here)"
    }.`,
    "",
  ]
  const json = {
    sent,
    answered,
    lost: findings.lost,
    repeated: findings.repeated,
    wrong: findings.wrong,
    examples: findings.examples,
    faults: Object.fromEntries(kinds.map((kind) => [kind, timesOf(kind)])),
    failures,
  }
  return { markdown: lines.join("\n"), json, failures }
}

const lastLine = (said: string): string => {
  const line = said.split("\n").at(-1) ?? ""
  return line.length > 300 ? `${line.slice(0, 300)}...` : line
}

const versions = (): string => {
  const run = (command: string, ...args: ReadonlyArray<string>) => {
    try {
      return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim().split("\n")[0]!
    } catch {
      return "unknown"
    }
  }
  const manifest = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8")) as {
    version: string
  }
  return [
    `Millrace ${manifest.version} (${run("git", "rev-parse", "--short", "HEAD")})`,
    `Node ${process.version}`,
    "Apache Kafka 4.3.0",
    run("psql", "--version"),
    run("uname", "-sr"),
  ].join(", ")
}
