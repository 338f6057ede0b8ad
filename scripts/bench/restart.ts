/**
 * A program with a million entries of state is started again: the time from the start of its process until it has restored
 * them from a real broker and committed a record of each of its partitions, after a stop and after a kill.
 * `npm run bench -- restart [--entries 1000000] [--partitions 8] [--runs 3]`
 */
import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { Effect, Layer } from "effect"
import { Admin, Contents, KafkaClient, Producer } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import { withBroker } from "./broker.ts"
import { group, type Order, topics } from "./rebalance/member.ts"
import { usage } from "./usage.ts"

const { values } = parseArgs({
  options: {
    entries: { type: "string", default: "1000000" },
    partitions: { type: "string", default: "8" },
    runs: { type: "string", default: "3" },
  },
})
const entries = Number(values.entries)
const partitions = Number(values.partitions)
const to = topics(partitions)
const where = Array.from({ length: partitions }, (_, partition) => ({ topic: to.in.name, partition }))
const key = (i: number) => Buffer.from(`user-${i}`)
const one = Buffer.from("1")

const start = (brokers: string): ChildProcess => {
  const order: Order = { brokers, partitions, options: {} }
  const args = [join(import.meta.dirname, "rebalance/member.ts"), JSON.stringify(order)]
  return spawn(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"] })
}

const end = (child: ChildProcess, signal: NodeJS.Signals) =>
  Effect.promise(() => {
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
    child.kill(signal)
    return ended
  })

const program = (brokers: string) =>
  Effect.gen(function* () {
    const cluster = yield* Cluster
    const { send } = yield* Producer.Producer
    yield* Admin.createTopics([to.in, to.out])
    yield* Effect.sleep("1 second")
    for (let i = 0; i < entries; i += 10_000) {
      const some = Math.min(10_000, entries - i)
      yield* send(Array.from({ length: some }, (_, n) => ({
        topic: to.in.name,
        partition: (i + n) % partitions,
        key: key(i + n),
        value: one,
      })))
    }
    /** How many partitions have committed all that was written. */
    const done = Effect.gen(function* () {
      const ends = yield* cluster.listOffsets(where, "latest", "read_uncommitted")
      const committed = yield* cluster.offsetFetch(group, where, false)
      return ends.filter(({ offset }, i) => committed[i]!.offset >= offset).length
    })
    const until = (count: number) =>
      Effect.gen(function* () {
        while ((yield* Effect.orElseSucceed(done, () => 0)) < count) yield* Effect.sleep("20 millis")
      })
    let running = start(brokers)
    yield* Effect.addFinalizer(() => Effect.sync(() => running.kill("SIGKILL")))
    yield* until(partitions)
    console.log(
      "| after | first commit, s | every partition's commit, s | of them CPU of the process |\n| --- | ---: | ---: | ---: |",
    )
    const slowest: Array<number> = []
    let records = entries
    for (let run = 0; run < Number(values.runs); run++) {
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        yield* end(running, signal)
        yield* send(where.map(({ topic, partition }) => ({ topic, partition, key: key(partition), value: one })))
        records += partitions
        const began = performance.now()
        running = start(brokers)
        yield* until(1)
        const first = performance.now() - began
        yield* until(partitions)
        const all = performance.now() - began
        const { cpuSeconds } = usage(running.pid!)
        if (signal === "SIGTERM") slowest.push(all)
        const what = signal === "SIGTERM" ? "a stop" : "a kill, with the wait for the end of its session"
        console.log(
          `| ${what} | ${(first / 1_000).toFixed(1)} | ${(all / 1_000).toFixed(1)} | ${cpuSeconds.toFixed(1)} |`,
        )
      }
    }
    yield* end(running, "SIGTERM")
    const total = Effect.map(Contents.latest(to.out), (counts) => ({
      size: counts.size,
      counted: [...counts.values()].reduce((sum, { count }) => sum + count, 0),
    }))
    let counts = yield* total
    // What was just committed may not be stable yet.
    for (let left = 10; left > 0 && counts.counted !== records; left--) {
      yield* Effect.sleep("2 seconds")
      counts = yield* total
    }
    const { counted } = counts
    const isRight = counts.size === entries && counted === records
    console.log(
      `\n${counts.size.toLocaleString("en")} entries that count ${counted.toLocaleString("en")} of ` +
        `${records.toLocaleString("en")} records`,
    )
    const isMet = isRight && Math.min(...slowest) <= 10_000
    console.log(`goal, at work again in 10 s after a stop: ${isMet ? "met" : "MISSED"}`)
    return isMet
  })

const isMet = await withBroker((broker) => {
  const layer = Producer.layer({ linger: "5 millis" }).pipe(
    Layer.provideMerge(KafkaClient.layer({ brokers: [broker] })),
  )
  return Effect.runPromise(Effect.scoped(program(broker)).pipe(Effect.provide(layer)))
})
process.exit(isMet ? 0 : 1)
