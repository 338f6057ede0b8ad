/** What the stage library must reach. */
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Measured } from "./measure.ts"
import type { Restored } from "./restore.ts"
import type { State } from "./state.ts"
import type { Growth } from "./tables.ts"
import { ask } from "./worker.ts"

/** Whether a goal is met, and what was measured. */
export interface Goal {
  readonly goal: string
  readonly measured: string
  readonly isMet: boolean
}

const whole = (number: number) => Math.round(number).toLocaleString("en")

const least = (goal: string, found: number, wanted: number): Goal => ({
  goal: `${goal}: at least ${whole(wanted)} a second`,
  measured: whole(found),
  isMet: found >= wanted,
})

const counting = (): ReadonlyArray<Goal> =>
  ["final", "updates"].map((emit) => {
    const name = `count, tumbling, ${emit}`
    const order = { name, by: "flow", records: 2_000_000, keys: 100_000, runs: 3 }
    return least(`${name}, 100,000 keys`, ask<Measured>("measure", order).perSecond, 500_000)
  })

const state = (): Goal => {
  const { bytesPerEntry } = ask<State>("state", { records: 1_000_000, keys: 100_000 })
  return {
    goal: "a counter per key and window: at most 200 bytes",
    measured: whole(bytesPerEntry),
    isMet: bytesPerEntry <= 200,
  }
}

const order = { entries: 1_000_000, runs: 5 }

const fromBroker = (): Goal => {
  const directory = mkdtempSync(join(tmpdir(), "millrace-restore-"))
  const port = 21_093
  const kafka = (command: string) =>
    execFileSync(
      join(import.meta.dirname, "../../kafka/kafka"),
      [command, "--dir", directory, "--port", String(port)],
      { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, KAFKA_HEAP: "1g" } },
    )
  kafka("start")
  try {
    const { perSecond } = ask<Restored>("restore", { ...order, brokers: `127.0.0.1:${port}` })
    return least("entries restored from a real broker, by the clock on the wall", perSecond, 150_000)
  } finally {
    kafka("stop")
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Ten times the keys cost a loop more too, for caches and the collector; a stage that went through its keys, ten times. */
const mostBesideLoop = 2

const growing = (growth: ReadonlyArray<Growth>): ReadonlyArray<Goal> =>
  growth.map(({ name, times, byHand }) => ({
    goal:
      `${name}, 100,000 to 1,000,000 keys: the cost of a record grows at most ${mostBesideLoop} times as much as by hand`,
    measured: `${times.toFixed(1)} to ${byHand.toFixed(1)}`,
    isMet: times <= mostBesideLoop * byHand,
  }))

/** Prints the goals, and answers whether all that were looked at are met. */
export const goals = (growth: ReadonlyArray<Growth>, withBroker: boolean): boolean => {
  const restored = ask<Restored>("restore", order)
  const all = [
    ...counting(),
    state(),
    least("entries restored from the log in memory, per second of CPU", restored.perCpuSecond, 400_000),
    ...withBroker ? [fromBroker()] : [],
    ...growing(growth),
  ]
  console.log("\n| goal | measured | |\n| --- | ---: | --- |")
  for (const { goal, measured, isMet } of all) console.log(`| ${goal} | ${measured} | ${isMet ? "met" : "MISSED"} |`)
  if (!withBroker) console.log("\nNOT LOOKED AT: entries restored from a real broker (--no-broker)")
  if (growth.length === 0) console.log("\nNOT LOOKED AT: how costs grow with keys (--no-keys)")
  return all.every(({ isMet }) => isMet)
}
