/**
 * How long partitions stand still at a rebalance: 64 partitions that all have input, over 8 members, each a process of its
 * own, that stop, start and are killed in turn, counting by key under exactly-once on a real broker. Of each partition the
 * longest gap between two commits around each of these; in the end every count is compared with what was written. Members
 * that are `--static` have names, and are started again as soon as they have stopped or were killed.
 * `npm run bench -- rebalance [--partitions 64] [--members 8] [--rounds 3] [--static] [--session MS] [--heartbeat MS]`
 */
import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { Effect, Layer, Stream } from "effect"
import { Admin, Contents, KafkaClient, Producer, Runner } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import { withBroker } from "./broker.ts"
import { group, type Order, topics } from "./rebalance/member.ts"
import { Gaps, table } from "./rebalance/Gaps.ts"

const { values } = parseArgs({
  options: {
    partitions: { type: "string", default: "64" },
    members: { type: "string", default: "8" },
    rounds: { type: "string", default: "3" },
    static: { type: "boolean", default: false },
    session: { type: "string" },
    heartbeat: { type: "string" },
  },
})
const partitions = Number(values.partitions)
const members = Number(values.members)
const options: Partial<Runner.Options> = {
  ...values.session !== undefined && { sessionTimeout: Number(values.session) },
  ...values.heartbeat !== undefined && { heartbeatInterval: Number(values.heartbeat) },
}
const to = topics(partitions)
const where = Array.from({ length: partitions }, (_, partition) => ({ topic: to.in.name, partition }))
const keys = 1_000

const program = (brokers: string) =>
  Effect.gen(function* () {
    const cluster = yield* Cluster
    const { send } = yield* Producer.Producer
    yield* Admin.createTopics([to.in, to.out])
    yield* Effect.sleep("1 second")

    const written = new Map<string, number>()
    let next = 0
    const feed = Effect.suspend(() => {
      const i = next++ % keys
      return send(where.map(({ topic, partition }) => {
        const key = `${partition}-${i}`
        written.set(key, (written.get(key) ?? 0) + 1)
        return { topic, partition, key: Buffer.from(key), value: Buffer.from("1") }
      }))
    })
    const feeding = yield* Effect.forkScoped(Effect.forever(Effect.andThen(feed, Effect.sleep("20 millis"))))

    const gaps = new Gaps(partitions)
    const look = Effect.map(
      cluster.offsetFetch(group, where, false),
      (committed) => gaps.saw(committed.map(({ offset }) => offset), performance.now()),
    )
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.ignore(look), Effect.sleep("20 millis"))))

    const running = new Map<number, ChildProcess>()
    const start = (n: number) =>
      Effect.sync(() => {
        const order: Order = {
          brokers,
          partitions,
          options: { ...options, ...values.static && { instanceId: `member-${n}` } },
        }
        const args = [join(import.meta.dirname, "rebalance/member.ts"), JSON.stringify(order)]
        running.set(n, spawn(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"] }))
      })
    const end = (n: number, signal: NodeJS.Signals) =>
      Effect.promise(() => {
        const child = running.get(n)!
        running.delete(n)
        const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
        child.kill(signal)
        return ended
      })
    const killAll = () => running.forEach((child) => child.kill("SIGKILL"))
    process.once("exit", killAll)
    yield* Effect.addFinalizer(() => Effect.sync(killAll))

    /** Until the group has so many members and all partitions have moved since something was done that began at `from`. */
    const settled = Effect.fnUntraced(function* (size: number, from: number) {
      const done = performance.now()
      for (;;) {
        yield* Effect.sleep("100 millis")
        const [description] = yield* cluster.describeGroups([group])
        if (description?.state !== "Stable" || description.members.length !== size) continue
        const now = performance.now()
        if (now - from > 1_000 && gaps.allMovedSince(Math.max(done, now - 1_000))) return
        if (now - from > 120_000) return yield* Effect.die(new Error(`the group does not settle at ${size} members`))
      }
    })

    const around = Effect.fnUntraced(function* (kind: string, size: number, act: Effect.Effect<unknown>) {
      const from = performance.now()
      yield* act
      yield* settled(size, from)
      yield* Effect.sleep("1 second")
      const found = gaps.around(kind, from)
      console.error(
        `${kind}: ${Math.round(Math.max(...found))} ms at most, ${Math.round(performance.now() - from)} ms to settle`,
      )
    })

    const began = performance.now()
    for (let n = 0; n < members; n++) yield* start(n)
    yield* settled(members, began)
    const calm = performance.now()
    yield* Effect.sleep("5 seconds")
    gaps.around("no rebalance", calm)
    for (let round = 0; round < Number(values.rounds); round++) {
      const n = round % members
      if (values.static) {
        yield* around("a member is restarted", members, Effect.andThen(end(n, "SIGTERM"), start(n)))
        yield* around("a member is killed and restarted", members, Effect.andThen(end(n, "SIGKILL"), start(n)))
        continue
      }
      yield* around("a member leaves", members - 1, end(n, "SIGTERM"))
      yield* around("a member joins", members, start(n))
      yield* around("a member is killed", members - 1, end(n, "SIGKILL"))
      yield* around("a member joins", members, start(n))
    }

    feeding.interruptUnsafe()
    yield* Effect.sleep("3 seconds")
    for (const n of [...running.keys()]) yield* end(n, "SIGTERM")
    const counted = new Map<string, number>()
    let wrong = 0
    yield* Stream.runForEach(Contents.read(to.out), ({ value }) =>
      Effect.sync(() => {
        const { key, count } = value!
        if (count !== (counted.get(key) ?? 0) + 1) wrong++
        counted.set(key, count)
      }))
    for (const [key, count] of written) if (counted.get(key) !== count) wrong++
    const records = [...written.values()].reduce((sum, count) => sum + count, 0)
    console.log(table(gaps))
    console.log(`\n${records.toLocaleString("en")} records counted, ${wrong} counts lost, repeated or wrong`)
    const orderly = ["a member leaves", "a member joins", "a member is restarted"]
    const isMet = wrong === 0 && gaps.percentile(orderly, 0.99) < 3_000
    console.log(`goal, below 3 s at p99 where members come and go: ${isMet ? "met" : "MISSED"}`)
    return isMet
  })

const isMet = await withBroker((brokers) => {
  const layer = Producer.layer({ linger: "1 millis" }).pipe(
    Layer.provideMerge(KafkaClient.layer({ brokers: [brokers] })),
  )
  return Effect.runPromise(Effect.scoped(program(brokers)).pipe(Effect.provide(layer)))
})
process.exit(isMet ? 0 : 1)
