/** The command line. */
import { parseArgs } from "node:util"
import { type Kind, kinds } from "./Faults.ts"

export const usage =
  `npm run chaos -- [options]: all programs on three brokers and a Postgres of its own, while things go wrong; then
every message that was sent is compared with every table and every topic.

  --minutes N       how long messages are sent and things go wrong (1)
  --seconds N       the same in seconds
  --seed S          draws faults and messages (1)
  --rate R          messages per second (2800)
  --kinds A,B       only these faults: ${kinds.join(", ")}
  --set NAME=VALUE  a setting of the programs, any number of times
  --report FILE     writes the report there too, as Markdown
  --json FILE       writes its figures there as JSON
  --quick           every kind of fault once, however long that takes, with short timeouts: what the tests run. How long
                    things stop is then told and not judged
  --keep            keeps what the servers and programs have written

Exit code 0: nothing lost, nothing repeated, and the goals for stops are met; 1 otherwise; 2 for a mistake on this line.`

export interface Options {
  readonly seconds: number
  readonly seed: number
  readonly rate: number
  readonly kinds: ReadonlyArray<Kind>
  readonly settings: Readonly<Record<string, string>>
  readonly report: string | undefined
  readonly json: string | undefined
  readonly quick: boolean
  readonly keep: boolean
  /** As it was typed. */
  readonly command: string
}

export const read = (args: ReadonlyArray<string>): Options => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      minutes: { type: "string" },
      seconds: { type: "string" },
      seed: { type: "string", default: "1" },
      rate: { type: "string", default: "2800" },
      kinds: { type: "string" },
      set: { type: "string", multiple: true, default: [] },
      report: { type: "string" },
      json: { type: "string" },
      quick: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
    },
  })
  const number = (name: string, text: string): number => {
    const value = Number(text)
    if (!(value >= 0)) throw new RangeError(`--${name} is a number, not ${text}`)
    return value
  }
  const chosen = values.kinds?.split(",").map((text) => {
    const kind = kinds.find((one) => one === text.trim())
    if (kind === undefined) throw new RangeError(`--kinds: there is no "${text}"`)
    return kind
  })
  return {
    seconds: values.seconds === undefined
      ? number("minutes", values.minutes ?? "1") * 60
      : number("seconds", values.seconds),
    seed: number("seed", values.seed),
    rate: number("rate", values.rate),
    kinds: chosen ?? kinds,
    settings: Object.fromEntries(values.set.map((text) => {
      const [, name, value] = /^(\w+)=(.*)$/.exec(text) ?? []
      if (name === undefined || value === undefined) throw new RangeError(`--set needs NAME=VALUE, not ${text}`)
      return [name, value]
    })),
    report: values.report,
    json: values.json,
    quick: values.quick,
    keep: values.keep,
    command: ["npm run chaos --", ...args.map((arg) => /\s/.test(arg) ? `"${arg}"` : arg)].join(" "),
  }
}
