/**
 * A database that stops answering, under a real program: `store` fills a table from a topic with much more in it than it may
 * hold, Postgres is frozen (SIGSTOP to all its processes) for a while, and goes on. What the program's process takes of memory,
 * what it has in flight, and how fast it drains what waited, before and after.
 * `npm run bench -- overload [--records 200000] [--freeze 40]`
 */
import { Buffer } from "node:buffer"
import { execFileSync, spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { parseArgs } from "node:util"
import { Effect, Layer } from "effect"
import postgres from "postgres"
import type { EnrichedClick } from "../../schemas/EnrichedClicks.ts"
import { topics } from "../../schemas/index.ts"
import { Admin, KafkaClient, Producer } from "../../src/index.ts"
import { start as startDatabase } from "../../test/support/DatabaseProcess.ts"

const { values } = parseArgs({
  options: {
    records: { type: "string", default: "200000" },
    freeze: { type: "string", default: "40" },
  },
})
const records = Number(values.records)
const freeze = Number(values.freeze)
const root = join(import.meta.dirname, "../..")
const directory = mkdtempSync(join(tmpdir(), "millrace-bench-"))
const port = 21_292
const metricsPort = 21_390

const kafka = (command: string) =>
  execFileSync(
    join(root, "scripts/kafka/kafka"),
    [command, "--dir", join(directory, "kafka"), "--port", String(port)],
    {
      encoding: "utf8",
    },
  ).trim()

const { enriched } = topics({ prefix: "", keyBy: "user" })

const click = (i: number): EnrichedClick => ({
  eventId: `event-${i}`,
  kind: "page",
  name: null,
  user: `user-${i % 5_000}`,
  userId: `user-${i % 5_000}`,
  anonymousId: null,
  eventTime: 1_767_225_600_000 + i,
  timeRule: "given",
  receivedAt: 1_767_225_600_000 + i,
  url: `https://shop.example/articles/${i % 1_000}?from=newsletter&visit=${i}`,
  path: `/articles/${i % 1_000}`,
  title: `Article ${i % 1_000}, and what others have bought with it`,
  referrerHost: "search.example",
  campaign: null,
  browser: "Firefox",
  os: "Linux",
  device: "desktop",
  bot: false,
  source: "web",
  session: { id: `session-${i % 5_000}`, number: 1 + Math.floor(i / 5_000), firstPage: "/" },
})

const produce = (brokers: string) =>
  Effect.gen(function* () {
    yield* Admin.createTopics(Object.values(topics({ prefix: "", keyBy: "user" })))
    const { send } = yield* Producer.Producer
    const some = 5_000
    for (let from = 0; from < records; from += some) {
      yield* send(Array.from({ length: Math.min(some, records - from) }, (_, i) => {
        const one = click(from + i)
        return { topic: enriched.name, key: Buffer.from(one.user), value: Buffer.from(JSON.stringify(one)) }
      }))
    }
  }).pipe(
    Effect.provide(
      Producer.layer({ deliveryTimeout: 300_000 }).pipe(
        Layer.provideMerge(KafkaClient.layer({ brokers: brokers.split(",") })),
      ),
    ),
    Effect.runPromise,
  )

const parentOf = (pid: number | string): number =>
  Number(readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")[1])

/** All processes of a database server, its first one first. */
const processesOf = (server: number): ReadonlyArray<number> => [
  server,
  ...readdirSync("/proc").filter((name) => {
    try {
      return /^\d+$/.test(name) && parentOf(name) === server
    } catch {
      return false
    }
  }).map(Number),
]

const megabytes = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024

/** Figures of the program, added up over their labels. */
const figures = async () => {
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
  const sum = (name: string) =>
    [...text.matchAll(new RegExp(`^${name}\\{[^}]*pipeline="[^"]*clicks"[^}]*\\} (\\S+)$`, "gm"))]
      .reduce((sum, match) => sum + Number(match[1]), 0)
  return { inFlight: sum("millrace_bytes_in_flight"), lag: sum("millrace_lag_records") }
}

const brokers = kafka("start")
const database = await startDatabase()
const ended: Array<() => unknown> = []
try {
  await produce(brokers)
  const sql = postgres(database.url, { max: 1, onnotice: () => {} })
  ended.push(() => sql.end({ timeout: 1 }))
  const [{ pid: backend }] = await sql<[{ pid: number }]>`select pg_backend_pid() as pid`
  const server = parentOf(backend)

  const program = spawn(process.execPath, [join(root, "src/programs/store.ts")], {
    cwd: root,
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      ...process.env,
      KAFKA_BROKERS: brokers,
      DATABASE_URL: database.url,
      METRICS_PORT: String(metricsPort),
      HOST: "127.0.0.1",
      LOG_LEVEL: "Error",
    },
  })
  ended.push(() => program.kill("SIGKILL"))
  const rows = async () => {
    try {
      const [{ n }] = await sql<[{ n: number }]>`select count(*)::int as n from clicks`
      return n
    } catch {
      return 0
    }
  }
  const until = async (least: number) => {
    for (;;) {
      const n = await rows()
      if (n >= least) return { n, at: performance.now() }
      if (program.exitCode !== null) throw new Error(`store has ended with ${program.exitCode}`)
      await sleep(200)
    }
  }
  const perSecond = (from: { n: number; at: number }, to: { n: number; at: number }) =>
    Math.round((to.n - from.n) / (to.at - from.at) * 1_000)

  const first = await until(1)
  const warm = await until(records * 0.2)
  const begun = await until(records * 0.4)
  const before = { rate: perSecond(warm, begun), memory: megabytes(program.pid!) }

  const all = processesOf(server)
  for (const pid of all) process.kill(pid, "SIGSTOP")
  let frozen: { memory: number; inFlight: number; lag: number } | undefined
  const seen: Array<number> = []
  const lags: Array<number> = []
  let highest = 0
  try {
    for (let second = 0; second < freeze; second++) {
      await sleep(1_000)
      // What was under way is in the first seconds.
      seen.push(megabytes(program.pid!))
      const { inFlight, lag } = await figures()
      lags.push(lag)
      highest = Math.max(highest, inFlight)
    }
    frozen = { memory: Math.max(...seen), inFlight: highest, lag: lags.at(-1)! }
  } finally {
    for (const pid of all) process.kill(pid, "SIGCONT")
  }
  const resumed = performance.now()
  const again = await until((await rows()) + 1)
  const from = await until(again.n)
  const done = await until(records)
  await sleep(1_000)
  const [{ n: distinct }] = await sql<[{ n: number }]>`select count(distinct event_id)::int as n from clicks`
  const after = { rate: perSecond(from, done), memory: megabytes(program.pid!) }
  const figure = (n: number) => n.toLocaleString("en", { maximumFractionDigits: 1 })
  console.log(`
| | before | frozen for ${freeze} s | after |
| --- | ---: | ---: | ---: |
| rows a second | ${figure(before.rate)} | 0 | ${figure(after.rate)} |
| memory of the process (RSS), MB | ${figure(before.memory)} | ${figure(seen[0]!)} to ${figure(frozen.memory)} | ${
    figure(after.memory)
  } |
| in flight at most, MB (bound: 6.3, and 0.03 a partition) | | ${figure(frozen.inFlight / 1e6)} | |
| records that wait | | ${figure(frozen.lag)} | ${(await figures()).lag} |

The first row ${figure((again.at - resumed) / 1_000)} s after it went on; ${figure(distinct)} of ${
    figure(records)
  } clicks in the \
table, each once. Started with ${figure(first.n)} rows.`)
} finally {
  for (const end of ended.toReversed()) await end()
  await database.stop()
  kafka("stop")
  rmSync(directory, { recursive: true, force: true })
}
