/** Restoring a store of counters from its changelog: `node restore.ts '{"entries":...}'`, with `"brokers"` from real ones. */
import { Effect, Layer, Schema } from "effect"
import { KafkaClient, KafkaMemory, Producer } from "../../../src/index.ts"
import * as Changelog from "../../../src/kafka/Changelog.ts"
import { Cluster } from "../../../src/kafka/Cluster.ts"
import * as Fetcher from "../../../src/kafka/Fetcher.ts"
import * as Leaders from "../../../src/kafka/Leaders.ts"
import { JournaledStore } from "../../../src/state/Store.ts"
import { Stopwatch } from "./stopwatch.ts"

export interface Order {
  readonly entries: number
  readonly runs: number
  /** None: Kafka in memory. */
  readonly brokers?: string
}

export interface Restored {
  /** Entries a second, of CPU and by the clock on the wall: the best runs. */
  readonly perCpuSecond: number
  readonly perSecond: number
}

const spec = { name: "counts", value: Schema.Int, isParted: true } as const
const plan = { name: "restoring", group: "restoring", reset: "earliest", flows: [] } as const
const topic = "restoring-counts-changelog"
const positions = new Map([["input", 7]])

/** The changelog as commits of 10,000 counters write it. */
const write = Effect.fnUntraced(function* (entries: number) {
  const cluster = yield* Cluster
  const { send } = yield* Producer.Producer
  yield* cluster.createTopics([{ topic, partitions: 1, replicationFactor: 1, config: Changelog.config }])
  yield* Effect.sleep("1 second")
  const store = new JournaledStore<number>(spec)
  for (let first = 0; first < entries; first += 10_000) {
    for (let i = first; i < first + 10_000; i++) store.set(`1767225600000:user-${i}`, i % 100)
    const changes = store.takeChanges()!
    const work = { task: { flow: 0, partition: 0 }, batches: [], from: positions, positions, clocks: new Map() }
    yield* send(yield* Effect.fromResult(Changelog.records(plan, { ...work, changes: [changes] })))
    store.committed(changes.version)
  }
})

const once = Effect.fnUntraced(function* (entries: number) {
  const cluster = yield* Cluster
  const fetcher = yield* Fetcher.make(yield* Leaders.make, { ...Fetcher.defaults, reset: "fail" })
  const store = new JournaledStore<number>(spec)
  const claim = { positions, clocks: new Map(), commit: "restoring", previous: [] }
  const restoring = { plan, partition: 0, claim, state: "same", endPrevious: Effect.void } as const
  globalThis.gc!()
  const watch = new Stopwatch()
  const began = performance.now()
  watch.start()
  yield* Changelog.restore(cluster, fetcher, store, restoring)
  watch.stop()
  if (store.size !== entries) return yield* Effect.die(new Error(`${store.size} entries instead of ${entries}`))
  return { perCpuSecond: entries / watch.seconds, perSecond: entries / (performance.now() - began) * 1_000 }
})

const { entries, runs, brokers } = JSON.parse(process.argv[2]!) as Order
const cluster = brokers === undefined ? KafkaMemory.layer() : KafkaClient.layer({ brokers: [brokers] })
const layer = Producer.layer().pipe(Layer.provideMerge(cluster as Layer.Layer<Cluster>))
const all = await Effect.runPromise(
  write(entries).pipe(
    Effect.andThen(Effect.forEach(Array.from({ length: runs }), () => Effect.scoped(once(entries)))),
    Effect.provide(layer),
  ),
)
const best = (of: keyof Restored) => Math.max(...all.map((one) => one[of]))
console.log(JSON.stringify({ perCpuSecond: best("perCpuSecond"), perSecond: best("perSecond") } satisfies Restored))
process.exit()
