/** The command line of replay. */
import { Schema } from "effect"
import { parseArgs } from "node:util"

export const usage = `usage: replay plan PIPELINE --from WHERE [--to WHERE] [--reset-state [--partial-state]] [--json]
       replay run PIPELINE --from WHERE [--to WHERE] [--reset-state [--partial-state]] [--rate RECORDS_PER_SECOND]
                  [--reset-only] [--file FILE] [--dry-run]
       replay run --resume FILE [--rate RECORDS_PER_SECOND]
       replay undo FILE
       replay shadow PIPELINE --from WHERE [--rate RECORDS_PER_SECOND] [--file FILE] [--dry-run]
       replay shadow --resume FILE [--rate RECORDS_PER_SECOND]
       replay diff FILE [--first N] [--show] [--json]
       replay cutover FILE [--file UNDO_FILE] [--partial-state] [--dry-run]
       replay forget FILE

Processes again what a pipeline has processed. PIPELINE is one of enrich, aggregate, store-clicks, store-counts,
store-sessions, store-identities, store-dead-letters, orders, averages.

WHERE is "earliest", a time with its zone (2026-05-17T10:00:00Z: the first records that were written then or later), offsets
(topic:partition:offset with commas between them), or a file { "topic": { "partition": offset } }.

plan changes nothing and says what run would do. run moves positions back, and with --reset-state the state as one with them,
and processes up to where the group stood, or to --to; the programs of the group must be stopped. shadow runs the pipeline
beside the live one, into topics of its own; diff compares what it wrote, key by key (keys and values are only shown with
--show: they can be personal data); cutover gives the live group the shadow's state. Each writes a FILE that it is resumed
from, undone by, and forgotten with: forget deletes the topics that it names. --json tells it all to machines.

Exit codes: 0 done, 1 failed or stopped, 2 not understood, 3 refused (nothing was changed), 4 diff found differences.`

/** Something on the command line that makes no sense with what is there. */
export class Misused extends Schema.TaggedError<Misused>()("Misused", { message: Schema.String }) {
  readonly exitCode = 2
}

const names = ["plan", "run", "undo", "shadow", "diff", "cutover", "forget"] as const
export type Name = typeof names[number]

const text = { type: "string" } as const
const flag = { type: "boolean" } as const

/** What each command can be told. */
const allowed: Readonly<Record<Name, ReadonlyArray<string>>> = {
  plan: ["from", "to", "reset-state", "partial-state", "json"],
  run: ["from", "to", "reset-state", "partial-state", "rate", "reset-only", "file", "resume", "dry-run", "json"],
  undo: ["json"],
  shadow: ["from", "rate", "file", "resume", "dry-run", "json"],
  diff: ["first", "show", "json"],
  cutover: ["file", "partial-state", "dry-run", "json"],
  forget: ["json"],
}

/** What was asked for; a text that says what is wrong, or `undefined` where help was asked for. */
export const read = (args: ReadonlyArray<string>) => {
  try {
    const { positionals, values } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        from: text,
        to: text,
        rate: text,
        file: text,
        resume: text,
        first: text,
        "reset-state": flag,
        "partial-state": flag,
        "reset-only": flag,
        "dry-run": flag,
        show: flag,
        json: flag,
        help: { ...flag, short: "h" },
      },
    })
    if (values.help === true) return undefined
    const [given, argument, ...others] = positionals
    const name = names.find((one) => one === given)
    if (name === undefined || others.length > 0) return usage
    const strange = Object.keys(values).find((option) => !allowed[name].includes(option))
    if (strange !== undefined) return `replay ${name} has no --${strange}\n\n${usage}`
    const takesFile = name === "undo" || name === "diff" || name === "cutover" || name === "forget"
    const resumes = values.resume !== undefined
    const needsFrom = !takesFile && !resumes
    if (resumes === (argument !== undefined) || needsFrom !== (values.from !== undefined)) return usage
    // They belong to what the file says already; --dry-run would be taken for a promise that nothing is done.
    const settled = Object.keys(values).find((option) => resumes && !["resume", "rate", "json"].includes(option))
    if (settled !== undefined) return `replay ${name} --resume FILE takes no --${settled}\n\n${usage}`
    const [rate, first] = [values.rate, values.first].map((text) => text === undefined ? undefined : Number(text))
    if (rate !== undefined && !(rate > 0) || first !== undefined && !(Number.isSafeInteger(first) && first >= 0)) {
      return usage
    }
    return {
      ...values,
      name,
      rate,
      first,
      pipeline: takesFile ? undefined : argument,
      entry: values.resume ?? (takesFile ? argument : undefined),
    }
  } catch (error) {
    return `${error instanceof Error ? error.message : ""}\n\n${usage}`
  }
}

export type Command = Exclude<ReturnType<typeof read>, string | undefined>
