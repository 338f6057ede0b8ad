/**
 * Events per second of the collector, and of a bare server that only parses and produces, by turns on one broker.
 * `npm run bench -- collector`
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const root = join(import.meta.dirname, "../..")
const directory = mkdtempSync(join(tmpdir(), "millrace-bench-"))
const kafka = (command: string) =>
  execFileSync(join(root, "scripts/kafka/kafka"), [command, "--dir", directory, "--port", "21192"], {
    encoding: "utf8",
  }).trim()

const seconds = 10
const script = (name: string) => join(import.meta.dirname, "collector", name)

const start = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}): ChildProcess =>
  spawn(process.execPath, args, { stdio: "inherit", env: { ...process.env, LOG_LEVEL: "Warn", ...env } })

const answers = async (port: number) => {
  for (let left = 200; left > 0; left--) {
    const status = await fetch(`http://127.0.0.1:${port}/v1/batch`, {
      method: "POST",
      headers: { "x-write-key": "demo" },
      body: '{"batch":[]}',
    }).then((answer) => answer.status, () => 0)
    if (status === 200) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`nothing answers at port ${port}`)
}

const load = (port: number, time: number, size: number) => {
  const args = [script("load.ts"), String(port), String(time), String(size)]
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as {
    perSecond: number
    refused: number
  }
}

const brokers = kafka("start")
const processes = [
  start([join(root, "src/programs/collect.ts")], {
    KAFKA_BROKERS: brokers,
    PORT: "21301",
    HOST: "127.0.0.1",
    RATE_LIMIT: "0",
  }),
]
try {
  await answers(21_301)
  processes.push(start([script("bare.ts"), brokers, "21302"]))
  await answers(21_302)
  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 })
  let lowest = Infinity
  console.log("| events per request | collector, events/s | bare server, events/s | ratio | refused |")
  console.log("| ---: | ---: | ---: | ---: | ---: |")
  for (const size of [1, 20]) {
    for (const port of [21_301, 21_302]) load(port, 3, size)
    const rounds = [0, 1].map(() => ({ ours: load(21_301, seconds, size), bare: load(21_302, seconds, size) }))
    const best = (of: "ours" | "bare") => Math.max(...rounds.map((round) => round[of].perSecond))
    const refused = rounds.reduce((sum, { ours, bare }) => sum + ours.refused + bare.refused, 0)
    const ratio = best("ours") / best("bare")
    const cells = [size, whole.format(best("ours")), whole.format(best("bare")), ratio.toFixed(2), refused]
    console.log(`| ${cells.join(" | ")} |`)
    lowest = Math.min(lowest, ratio)
  }
  process.exitCode = lowest >= 0.5 ? 0 : 1
  console.log(`\n${lowest >= 0.5 ? "met" : "MISSED"}: at least half the events/s of the bare server`)
} finally {
  for (const one of processes) one.kill("SIGTERM")
  kafka("stop")
  rmSync(directory, { recursive: true, force: true })
}
process.exit()
