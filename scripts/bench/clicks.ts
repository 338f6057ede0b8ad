/**
 * The same clicks through the same job, by Millrace, by a loop by hand and by Kafka Streams, one after the other on one
 * broker; outputs are compared by content before a figure is printed.
 * `npm run bench -- [--records 1000000] [--only millrace,atLeast,loop,streams1,streams2] [--runs 1]`
 * `npm run bench -- guarantees [--records 1000000] [--runs 3]`: Millrace exactly-once and at-least-once, in turns.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { Effect, Layer } from "effect"
import { KafkaClient, Producer } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import { forKey } from "../../src/kafka/Partitioner.ts"
import { readable } from "../../src/kafka/ReadCommitted.ts"
import { patiently } from "../../src/kafka/Retry.ts"
import { withBroker } from "./broker.ts"
import { expected, input, type Outputs, partitions } from "./job.ts"
import { usage } from "./usage.ts"

const { values } = parseArgs({
  options: {
    records: { type: "string", default: "1000000" },
    only: { type: "string", default: "streams2,millrace,streams1,loop" },
    runs: { type: "string", default: "1" },
  },
})
const records = Number(values.records)
const root = join(import.meta.dirname, "../..")
const directory = mkdtempSync(join(tmpdir(), "millrace-bench-"))
const streams = join(root, ".cache/bench/streams")
const java = (threads: number) => (brokers: string, run: string): readonly [string, ...ReadonlyArray<string>] => [
  "java",
  "-Xmx1g",
  "-cp",
  `${streams}/classes:${streams}/libs/*`,
  "bench.Clicks",
  brokers,
  run,
  String(threads),
  join(directory, run),
]
const node =
  (name: string, ...args: ReadonlyArray<string>) =>
  (brokers: string, run: string): readonly [string, ...ReadonlyArray<string>] => [
    process.execPath,
    ...process.env["PROFILE"] === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${process.env["PROFILE"]}`],
    join(import.meta.dirname, "contenders", `${name}.ts`),
    brokers,
    run,
    ...args,
  ]

const contenders = {
  millrace: { title: "Millrace, exactly-once", command: node("millrace") },
  atLeast: { title: "Millrace, at-least-once", command: node("millrace", "atLeastOnce") },
  loop: { title: "loop by hand, no guarantee", command: node("loop") },
  streams1: { title: "Kafka Streams, exactly_once_v2, 1 thread", command: java(1) },
  streams2: { title: "Kafka Streams, exactly_once_v2, 2 threads", command: java(2) },
}
type Name = keyof typeof contenders

interface Figures {
  readonly name: Name
  readonly perSecond: number
  readonly cpuPerMillion: number
  readonly peakMegabytes: number
}

const buildStreams = () => {
  if (!values.only.includes("streams")) return
  execFileSync("mvn", [
    "-q",
    "-B",
    "-Dstyle.color=never",
    "-f",
    join(import.meta.dirname, "streams/pom.xml"),
    "compile",
    "dependency:copy-dependencies",
    "-DincludeScope=runtime",
    `-Doutputs=${streams}`,
    `-DoutputDirectory=${streams}/libs`,
  ], { stdio: "inherit" })
}

const byPartition: Array<Array<readonly [string, string]>> = Array.from({ length: partitions }, () => [])

const produce = Effect.gen(function* () {
  const { send } = yield* Producer.Producer
  let chunk: Array<Producer.ProducerRecord> = []
  for (const record of input(records)) {
    const key = Buffer.from(record[0])
    byPartition[forKey(key, partitions)]!.push(record)
    chunk.push({ topic: "raw", key, value: Buffer.from(record[1]) })
    if (chunk.length === 10_000) {
      yield* send(chunk)
      chunk = []
    }
  }
  yield* send(chunk)
})

const createTopics = (...topics: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const cluster = yield* Cluster
    // Kafka Streams stamps records with event time, by which brokers would delete them.
    const config = { "retention.ms": "-1" }
    yield* cluster.createTopics(topics.map((topic) => ({ topic, partitions, replicationFactor: 1, config })))
    yield* Effect.sleep("1 second")
  })

/** Shows every committed record of a topic, and answers how many there are. */
const visit = Effect.fnUntraced(function* (topic: string, see: (key: string, value: string) => void) {
  const cluster = yield* Cluster
  let seen = 0
  for (let partition = 0; partition < partitions; partition++) {
    const [end] = yield* cluster.listOffsets([{ topic, partition }], "latest", "read_committed")
    for (let offset = 0; offset < end!.offset;) {
      const request = { topic, partition, offset, maxBytes: 4_000_000 }
      const [fetched] = yield* cluster.fetch({ node: 1, maxWait: 500, maxBytes: 4_000_000, partitions: [request] })
      if (fetched!.error !== null) throw new Error(`${topic} cannot be read: ${fetched!.error}`)
      const { keys, bytes, next } = readable(fetched!, offset)
      for (let i = 0; i < keys.length; i++) see(String(keys[i]), String(bytes[i]))
      seen += keys.length
      offset = next
    }
  }
  return seen
})

const outputs = Effect.fnUntraced(function* (run: string) {
  const enriched = new Map<string, string>()
  const clicks = yield* visit(`${run}-enriched`, (_, value) => {
    const { eventId, session } = JSON.parse(value) as { eventId: string; session: string }
    enriched.set(eventId, session)
  })
  const counts = new Map<string, number>()
  yield* visit(`${run}-counts`, (key, value) => counts.set(key, (JSON.parse(value) as { clicks: number }).clicks))
  const refused = yield* visit(`${run}-dlt`, () => {})
  return { enriched, counts, refused, repeated: clicks - enriched.size }
})

const difference = (found: Outputs & { readonly repeated: number }, wanted: Outputs): string | undefined => {
  for (const name of ["enriched", "counts"] as const) {
    for (const [key, value] of wanted[name]) {
      const other = (found[name] as Map<string, unknown>).get(key)
      if (other !== value) return `${name} ${key} is ${other} and should be ${value}`
    }
    if (found[name].size !== wanted[name].size) {
      return `${name}: ${found[name].size} keys instead of ${wanted[name].size}`
    }
  }
  if (found.refused !== wanted.refused) return `${found.refused} refused instead of ${wanted.refused}`
  return found.repeated === 0 ? undefined : `${found.repeated} enriched clicks repeated`
}

/** What groups of a run have read of a topic, all partitions together. */
const readOf = Effect.fnUntraced(function* (run: string, topic: string) {
  const cluster = yield* Cluster
  const groups = (yield* patiently(cluster.listGroups(), 30_000)).filter((group) => group.startsWith(run))
  const offsets = yield* Effect.forEach(
    groups,
    (group) => patiently(cluster.offsetFetch(group, undefined, false), 30_000),
  )
  return offsets.flat().filter((one) => one.topic === topic).reduce((sum, { offset }) => sum + Math.max(0, offset), 0)
})

const measure = Effect.fnUntraced(function* (brokers: string, name: Name, run: string, wanted: Outputs) {
  yield* createTopics(`${run}-enriched`, `${run}-counts`, `${run}-dlt`)
  const [file, ...args] = contenders[name].command(brokers, run)
  const child: ChildProcess = spawn(file, args, { stdio: ["ignore", "inherit", "inherit"] })
  process.once("exit", () => child.kill("SIGKILL"))
  let used = { cpuSeconds: 0, peakMegabytes: 0 }
  let first: { at: number; read: number } | undefined
  let last = { at: performance.now(), raw: 0, enriched: 0 }
  for (;;) {
    yield* Effect.sleep("100 millis")
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`)
    used = usage(child.pid!)
    const now = performance.now()
    const raw = yield* readOf(run, "raw")
    const enriched = yield* readOf(run, `${run}-enriched`)
    if (raw > last.raw || enriched > last.enriched) last = { at: now, raw, enriched }
    if (first === undefined && raw > 0) first = { at: now, read: raw }
    if (raw >= records && enriched >= wanted.enriched.size && now - last.at > 1_500) break
    if (now - last.at > 60_000) {
      throw new Error(`${name} stands still at ${raw} of ${records}, ${enriched} of ${wanted.enriched.size}`)
    }
  }
  const figures: Figures = {
    name,
    perSecond: (records - first!.read) / (last.at - first!.at) * 1000,
    cpuPerMillion: used.cpuSeconds / records * 1e6,
    peakMegabytes: used.peakMegabytes,
  }
  const ended = new Promise((resolve) => child.once("exit", resolve))
  child.kill("SIGTERM")
  yield* Effect.promise(() => ended)
  const wrong = difference(yield* outputs(run), wanted)
  if (wrong !== undefined) throw new Error(`${name}: ${wrong}`)
  return figures
})

const print = (all: ReadonlyArray<Figures>) => {
  const best = (name: Name) => all.filter((one) => one.name === name).toSorted((a, b) => b.perSecond - a.perSecond)[0]
  const base = best("streams2") ?? all[0]!
  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 })
  const ratio = (value: number, to: number) => `${(value / to).toFixed(2)}x`
  console.log(`\n${whole.format(records)} clicks; ratios are to ${contenders[base.name].title}; outputs are equal\n`)
  console.log("| contender | records/s | ratio | CPU s per million | ratio | peak MB | ratio |")
  console.log("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
  for (const name of Object.keys(contenders) as ReadonlyArray<Name>) {
    const figures = best(name)
    if (figures === undefined) continue
    const { perSecond, cpuPerMillion, peakMegabytes } = figures
    const cells = [
      ...[whole.format(perSecond), ratio(perSecond, base.perSecond)],
      ...[cpuPerMillion.toFixed(1), ratio(cpuPerMillion, base.cpuPerMillion)],
      ...[whole.format(peakMegabytes), ratio(peakMegabytes, base.peakMegabytes)],
    ]
    console.log(`| ${contenders[name].title} | ${cells.join(" | ")} |`)
  }
}

/** What Millrace must reach; prints it, and answers whether it does. */
const meetsGoals = (all: ReadonlyArray<Figures>): boolean => {
  const of = (name: Name) => all.filter((one) => one.name === name)
  const fastest = (some: ReadonlyArray<Figures>) => Math.max(...some.map(({ perSecond }) => perSecond))
  const [ours, streams] = [of("millrace"), of("streams2")]
  const goals: Array<readonly [goal: string, isMet: boolean]> = []
  if (ours.length > 0 && streams.length > 0) {
    goals.push(["at least as fast as Kafka Streams on 2 threads", fastest(ours) >= fastest(streams)])
  }
  if (ours.length > 0 && of("atLeast").length > 0) {
    const rates = ours.map(({ perSecond }, round) => perSecond / of("atLeast")[round]!.perSecond)
    const shares = rates.map((rate) => `${(100 * rate).toFixed(0)} %`)
    const cost = 1 - rates.toSorted((a, b) => a - b)[rates.length >> 1]!
    console.log(`\nexactly-once at ${shares.join(", ")} of at-least-once: it costs ${(100 * cost).toFixed(0)} %`)
    goals.push(["exactly-once costs at most 15 % of at-least-once, in the median of the runs", cost <= 0.15])
  }
  if (ours.length > 0) goals.push(["memory below 400 MB", ours.every(({ peakMegabytes }) => peakMegabytes < 400)])
  console.log()
  for (const [goal, isMet] of goals) console.log(`${isMet ? "met" : "MISSED"}: ${goal}`)
  return goals.every(([, isMet]) => isMet)
}

const program = Effect.fnUntraced(function* (brokers: string) {
  yield* createTopics("raw")
  yield* produce
  const wanted = expected(byPartition)
  console.log(
    `${wanted.enriched.size} valid clicks in ${wanted.counts.size} minutes of users, ${wanted.refused} refused`,
  )
  byPartition.forEach((records) => records.length = 0)
  const all: Array<Figures> = []
  for (let round = 1; round <= Number(values.runs); round++) {
    for (const name of values.only.split(",") as ReadonlyArray<Name>) {
      const figures = yield* measure(brokers, name, `${name}-${round}`, wanted)
      console.log(`${name}: ${Math.round(figures.perSecond)} records/s`)
      all.push(figures)
    }
  }
  print(all)
  return meetsGoals(all)
})

buildStreams()
try {
  const isMet = await withBroker((broker) => {
    const layer = Producer.layer({ linger: "20 millis" }).pipe(
      Layer.provideMerge(KafkaClient.layer({ brokers: [broker] })),
    )
    return Effect.runPromise(Effect.scoped(program(broker)).pipe(Effect.provide(layer)))
  })
  process.exitCode = isMet ? 0 : 1
} finally {
  rmSync(directory, { recursive: true, force: true })
}
process.exit()
