/**
 * How many records a second windows take on one core, and what they keep: `node scripts/bench/stages/windows.ts`. Every
 * figure is of a process of its own.
 */
import { execFileSync } from "node:child_process"
import { Aggregate, Fold, Window } from "../../../src/index.ts"
import { batches, type Input, measure, type Measured } from "./Measured.ts"

const minute = 60_000

interface Case {
  readonly name: string
  readonly window: Window.Any
  readonly emit?: Aggregate.Emit
  readonly fold?: Fold.MergingFold<number, never, unknown>
  /** Records of one key come so often on average. */
  readonly every?: number
}

const cases: ReadonlyArray<Case> = [
  { name: "tumbling, updates", window: Window.tumbling({ size: minute, grace: 1 }) },
  { name: "tumbling, final", window: Window.tumbling({ size: minute, grace: 1 }), emit: "final" },
  { name: "tumbling, every 10 s", window: Window.tumbling({ size: minute }), emit: { every: "10 seconds" } },
  { name: "hopping by a fifth, final", window: Window.hopping({ size: minute, every: minute / 5 }), emit: "final" },
  { name: "sliding, final", window: Window.sliding({ difference: minute }), emit: "final" },
  { name: "session, updates", window: Window.session({ gap: minute }) },
  { name: "session, final", window: Window.session({ gap: minute }), emit: "final" },
  { name: "of 10 records, final", window: Window.count({ size: 10 }), emit: "final" },
]

const keyCounts = [1_000, 10_000, 100_000, 1_000_000]

/** Three minutes of stream time, so that windows close twice. */
const inputOf = (keys: number): Input => ({ records: Math.max(2_000_000, keys * 3), keys, span: 3 * minute })

/** The same count per key and minute as a loop with a Map, without a log: what it costs at least to do it simply. */
const loop = (input: Input): Pick<Measured, "perSecond"> => {
  const all = batches(input)
  globalThis.gc!()
  const began = process.cpuUsage()
  const windows = new Map<number, Map<string, number>>()
  for (const { source: { keys }, time } of all) {
    for (let i = 0; i < keys.length; i++) {
      const at = time!.timestamps[i]!
      const start = at - at % minute
      let counts = windows.get(start)
      if (counts === undefined) windows.set(start, counts = new Map())
      const key = keys[i]!.toString()
      counts.set(key, (counts.get(key) ?? 0) + 1)
    }
  }
  const { user, system } = process.cpuUsage(began)
  return { perSecond: input.records * 1e6 / (user + system) }
}

const measured = async (name: string, keys: number): Promise<Partial<Measured>> => {
  const of = cases.find((one) => one.name === name)
  if (of === undefined) return loop(inputOf(keys))
  const { window, emit = "updates" } = of
  return await measure(Aggregate.count({ name: "counts", window, emit }), inputOf(keys))
}

const inProcess = (name: string, keys: number): Partial<Measured> => {
  const args = ["--expose-gc", "--max-old-space-size=6000", import.meta.filename, name, String(keys)]
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as Partial<Measured>
}

/** Prints a table: thousands of records a second by the number of keys, and the bytes that an entry takes at 100,000. */
export const windows = (): void => {
  const heading = keyCounts.map((keys) => `${keys.toLocaleString("en")} keys`).join(" | ")
  console.log(`| count per key | ${heading} | bytes per entry |`)
  console.log(`| --- | ${keyCounts.map(() => "---:").join(" | ")} | ---: |`)
  for (const name of ["loop with a Map", ...cases.map(({ name }) => name)]) {
    const rows = keyCounts.map((keys) => inProcess(name, keys))
    const rates = rows.map(({ perSecond }) => Math.round(perSecond! / 1_000)).join(" | ")
    const { bytesPerEntry } = rows[2]!
    console.log(`| ${name} | ${rates} | ${bytesPerEntry === undefined ? "" : Math.round(bytesPerEntry)} |`)
  }
}

const [, , name, keys] = process.argv
if (name !== undefined && keys !== undefined) console.log(JSON.stringify(await measured(name, Number(keys))))
else if (import.meta.main) windows()
