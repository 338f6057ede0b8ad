/**
 * Runs pipelines against Kafka in memory, on a clock that only the test moves: no broker, no sleeping, and the same run
 * every time for the same seed.
 */
import {
  Clock,
  Context,
  Duration,
  Effect,
  Layer,
  type LogLevel,
  Metric,
  Random,
  References,
  Result,
  Schema,
  Scope,
} from "effect"
import { TestClock } from "effect/testing"
import * as Admin from "../kafka/Admin.ts"
import { Cluster, type KafkaError } from "../kafka/Cluster.ts"
import * as ClusterMemory from "../kafka/ClusterMemory.ts"
import * as Faults from "../kafka/Faults.ts"
import type * as Runner from "../kafka/Runner.ts"
import { changelogTopic, type Pipeline, plan } from "../Pipeline.ts"
import type { Logged, PipelineError, Task } from "../Task.ts"
import { type Any as AnyTopic, text, type Topic } from "../Topic.ts"
import { type Counts, counts } from "./Counts.ts"
import { type Bytes, bytesOf, type Fed, partitioned, Record } from "./Feeding.ts"
import * as Member from "./Member.ts"
import { decoded, type Read, type ReadBytes, readBytes, type Undecodable } from "./Reading.ts"

export interface Options<E = unknown, R = never, S = never, E3 = never> {
  /** The pipelines, each of which is started once. */
  readonly pipelines: Pipeline<E, R> | ReadonlyArray<Pipeline<E, R>>
  /** What chance is drawn from; 1 unless given. */
  readonly seed?: number
  /** Topics to create besides those that the pipelines read and write. */
  readonly topics?: ReadonlyArray<AnyTopic>
  /** Services of the pipelines and of the test, made once the topics are there, over the test's cluster and clock. */
  readonly layer?: Layer.Layer<S, E3, Cluster>
  /** What the wall clock says at first, in milliseconds since 1970; 2026-01-01T00:00:00Z unless given. */
  readonly now?: number
  /** How the pipelines run: commit interval, session time-out and the like. */
  readonly runner?: Partial<Runner.Options>
  /** How the cluster behaves: its brokers, the delay of transaction markers and the like. */
  readonly cluster?: ClusterMemory.Options
  /** From which level on what the programs log is shown; `Error` unless given. */
  readonly logLevel?: LogLevel.LogLevel
  /** Whether the pipelines are started at once; they are unless told. */
  readonly start?: boolean
}

/** Programs did not get through all that was fed, in two minutes of the test's clock; or one has ended. */
export class Unsettled extends Schema.TaggedError<Unsettled>()("Unsettled", { message: Schema.String }) {}

/** A value that was fed is not what its topic's contract promises. */
export class Unfeedable extends Schema.TaggedError<Unfeedable>()("Unfeedable", { message: Schema.String }) {}

export interface Driver {
  /**
   * Writes values to a topic, as its contract says: its key, its partition, its encoding. Where a test wants other keys,
   * timestamps, headers or partitions it gives a `record`.
   */
  feed<A>(topic: Topic<A>, values: ReadonlyArray<A | Record<A>>): Effect.Effect<void, Unfeedable | KafkaError>
  /** Writes bytes as they are: damaged values, tombstones. Text stands for its UTF-8 bytes. */
  feedBytes(topic: AnyTopic, records: ReadonlyArray<Bytes>): Effect.Effect<void, KafkaError>
  /** Lets the wall clock go on, and the programs work meanwhile. */
  advance(duration: Duration.Input): Effect.Effect<void>
  /** Lets the clock go on until all that stands in the pipelines' topics is processed and committed. */
  readonly settle: Effect.Effect<void, Unsettled | KafkaError>
  /** All committed records of a topic, by partition and offset. */
  read<A>(topic: Topic<A>): Effect.Effect<ReadonlyArray<Read<A>>, Undecodable | KafkaError>
  readBytes(topic: AnyTopic | string): Effect.Effect<ReadonlyArray<ReadBytes>, KafkaError>
  /** What has been committed to a topic since the last `take` of it. */
  take<A>(topic: Topic<A>): Effect.Effect<ReadonlyArray<Read<A>>, Undecodable | KafkaError>
  /** The values of a topic alone. */
  values<A>(topic: Topic<A>): Effect.Effect<ReadonlyArray<A | null>, Undecodable | KafkaError>
  /** The last value of each key, without those that were deleted. */
  latest<A>(topic: Topic<A>): Effect.Effect<ReadonlyMap<string, A>, Undecodable | KafkaError>
  /** A state store's entries as its changelog has them, those of all tasks together. */
  store(
    pipeline: Pipeline<unknown, unknown>,
    name: string,
  ): Effect.Effect<ReadonlyMap<string, unknown>, KafkaError>
  /** What the commits of a pipeline have contained, as its metrics count it. */
  counts(pipeline: Pipeline<unknown, unknown>): Effect.Effect<Counts>
  /** Starts one more process of a pipeline: the group shares the partitions out anew. */
  start(pipeline: Pipeline<unknown, unknown>, faults?: Faults.Plan): Effect.Effect<Member.Member>
  /** The processes that are at work. */
  readonly members: Effect.Effect<ReadonlyArray<Member.Member>>
  /** Every process crashes. */
  readonly crash: Effect.Effect<void>
  /** Every pipeline that has no process gets one, which begins with what the logs hold. */
  readonly restart: Effect.Effect<void>
  /** Meets the requests of all processes with faults from now on. */
  inject(plan: Faults.Plan): Effect.Effect<void>
  /** The cluster behind it all, for what else a test may want of it: retention, leaders, lost replicas. */
  readonly control: ClusterMemory.Control["Service"]
}

/** What a user's pipelines may need besides what the driver gives them. */
export type Needs<R> = Exclude<R, Cluster | Task | Logged | Scope.Scope>

const firstTime = 1_767_225_600_000

/** Runs a test with a driver of its own; its processes end with it. */
export const run = <A, E2, R2, E, R, S = never, E3 = never>(
  options: Options<E, R, S, E3>,
  test: (driver: Driver) => Effect.Effect<A, E2, R2>,
): Effect.Effect<A, E2 | E3 | PipelineError, Exclude<Needs<R> | R2, S>> => {
  const world = Layer.fresh(ClusterMemory.layer(options.cluster)).pipe(Layer.provideMerge(TestClock.layer()))
  return Effect.gen(function* () {
    yield* TestClock.setTime(options.now ?? firstTime)
    yield* Admin.createTopics([...pipelinesOf(options).flatMap(topicsOf), ...options.topics ?? []])
    const services = options.layer === undefined ? Context.empty() : yield* Layer.build(Layer.fresh(options.layer))
    return yield* Effect.provideContext(
      Effect.flatMap(make(options as unknown as Options), test),
      services as Context.Context<S>,
    )
  }).pipe(
    Effect.scoped,
    Effect.provide(world, { local: true }),
    Effect.provideService(Metric.MetricRegistry, new Map()),
    Effect.provideService(References.MinimumLogLevel, options.logLevel ?? "Error"),
    Random.withSeed(options.seed ?? 1),
  ) as Effect.Effect<A, E2 | E3 | PipelineError, Exclude<Needs<R> | R2, S>>
}

/** A record that is fed: the value, and what its contract shall not decide. */
export const record = <A>(fed: Fed<A>): Record<A> => new Record(fed)

const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<Driver, PipelineError, Cluster | ClusterMemory.Control | Scope.Scope> {
  const cluster = yield* Cluster
  const control = yield* ClusterMemory.Control
  const scope = yield* Effect.scope
  const context = yield* Effect.context<Cluster>()
  const pipelines = pipelinesOf(options)
  const settings: Partial<Runner.Options> = {
    sessionTimeout: "6 seconds",
    heartbeatInterval: "1 second",
    rebalanceTimeout: "10 seconds",
    shutdownTimeout: "8 seconds",
    ...options.runner,
  }
  const running = new Map<Member.Member, Pipeline<unknown, never>>()
  const crashed = new Set<Member.Member>()
  const taken = new Map<string, number>()
  let fed = 0

  const start = Effect.fnUntraced(function* (pipeline: Pipeline<unknown, never>, plan = Faults.none) {
    const member = yield* Member.start(pipeline, settings, context, (member) => crashed.add(member))
    yield* member.inject(plan)
    running.set(member, pipeline)
    yield* Scope.addFinalizer(scope, member.stop)
    return member
  })

  /** A process that crashed by plan is followed by another. */
  const follow = Effect.suspend(() =>
    Effect.forEach([...crashed], (member) => {
      crashed.delete(member)
      const pipeline = running.get(member)
      running.delete(member)
      return pipeline === undefined ? Effect.void : Effect.asVoid(start(pipeline))
    }, { discard: true })
  )
  const step = (millis: number) => Effect.andThen(TestClock.adjust(millis), follow)

  const groups = pipelines.map((pipeline) => ({
    pipeline,
    partitions: plan(pipeline).flows.flatMap(({ reads }) =>
      reads.flatMap(({ name, partitions }) =>
        Array.from({ length: partitions }, (_, partition) => ({ topic: name, partition }))
      )
    ),
  }))

  /** What groups have not committed yet, in words; nothing where all is done. */
  const behind = Effect.gen(function* () {
    const open = yield* control.openTransactions
    const left: Array<string> = open.map(({ transactionalId }) => `transaction ${transactionalId} is open`)
    for (const { pipeline, partitions } of groups) {
      const ends = yield* cluster.listOffsets(partitions, "latest", "read_uncommitted")
      const committed = yield* cluster.offsetFetch(settings.group ?? pipeline.name, partitions, false)
      for (const [i, { topic, partition, offset }] of ends.entries()) {
        const at = committed[i]!.offset
        if (at === offset || offset === 0) continue
        left.push(`${pipeline.name} stands at offset ${at} of ${offset} in topic ${topic} partition ${partition}`)
      }
    }
    return left
  })

  const died = Effect.gen(function* () {
    for (const member of running.keys()) {
      const why = yield* member.ended
      if (why !== undefined) return `${member.pipeline} has ended: ${why}`
    }
    return undefined
  })

  const settle = Effect.gen(function* () {
    for (let passed = 0, millis = 5; passed < patience; passed += millis, millis = passed < 2_000 ? 5 : 50) {
      const why = yield* died
      if (why !== undefined) return yield* new Unsettled({ message: why })
      if ((yield* behind).length === 0) return
      yield* step(millis)
    }
    return yield* new Unsettled({ message: `after two minutes ${(yield* behind).join(", ")}` })
  })

  const read = <A>(topic: Topic<A>) =>
    Effect.flatMap(readBytes(control, topic.name), (records) => decoded(topic, records))

  const append = Effect.fnUntraced(function* (topic: AnyTopic, records: ReadonlyArray<Bytes>) {
    const now = yield* Clock.currentTimeMillis
    for (const [partition, some] of partitioned(topic, records, fed)) {
      yield* control.append({ topic: topic.name, partition }, {
        keys: some.map(({ key }) => bytesOf(key)),
        values: some.map(({ value }) => bytesOf(value)),
        headers: some.map(({ headers = [] }) => headers),
        timestamps: some.map(({ timestamp }) => timestamp ?? now),
      })
    }
    fed += records.length
  })

  const driver: Driver = {
    control,
    feed: Effect.fnUntraced(function* (topic, values) {
      const records: Array<Bytes> = []
      for (const [i, given] of values.entries()) {
        const { value, key, ...rest } = given instanceof Record ? given.fed : { value: given, key: undefined }
        const encoded = topic.encode(value)
        if (Result.isFailure(encoded)) {
          const { field, message } = encoded.failure
          const where = field === "" ? "" : ` at ${field}`
          return yield* new Unfeedable({ message: `value ${i} for topic ${topic.name}${where}: ${message}` })
        }
        records.push({ ...rest, key: key === undefined ? topic.keyOf(value) : key, value: encoded.success })
      }
      yield* append(topic, records)
    }),
    feedBytes: append,
    advance: Effect.fnUntraced(function* (duration) {
      for (const millis of steps(duration)) yield* step(millis)
    }),
    settle,
    read,
    readBytes: (topic) => readBytes(control, typeof topic === "string" ? topic : topic.name),
    take: Effect.fnUntraced(function* (topic) {
      const all = yield* read(topic)
      const place = ({ partition }: { readonly partition: number }) => `${topic.name}/${partition}`
      const fresh = all.filter((record) => record.offset >= (taken.get(place(record)) ?? 0))
      for (const record of fresh) taken.set(place(record), record.offset + 1)
      return fresh
    }),
    values: (topic) => Effect.map(read(topic), (records) => records.map(({ value }) => value)),
    latest: Effect.fnUntraced(function* <A>(topic: Topic<A>) {
      const last = new Map<string, A>()
      for (const { key, value } of yield* read(topic)) {
        if (key === null) continue
        last.delete(key)
        if (value !== null) last.set(key, value)
      }
      return last
    }),
    store: Effect.fnUntraced(function* (pipeline, name) {
      const spec = plan(pipeline).flows.flatMap(({ stores }) => stores).find((store) => store.name === name)
      const decode = spec && Schema.decodeUnknownSync(spec.value)
      const entries = new Map<string, unknown>()
      for (const { key, value } of yield* readBytes(control, changelogTopic(pipeline.name, name))) {
        // The positions record's key is no text.
        if (key === null || key[0] === 0xff) continue
        if (value === null) entries.delete(text(key))
        else entries.set(text(key), decode === undefined ? JSON.parse(text(value)) : decode(JSON.parse(text(value))))
      }
      return entries
    }),
    counts: ({ name }) => counts(name),
    start: (pipeline, faults) => start(pipeline as Pipeline<unknown, never>, faults),
    members: Effect.sync(() => [...running.keys()]),
    crash: Effect.suspend(() =>
      Effect.forEach([...running.keys()], (member) => {
        running.delete(member)
        return member.crash
      }, { discard: true })
    ),
    restart: Effect.suspend(() => {
      const names = new Set(Array.from(running.values(), ({ name }) => name))
      return Effect.forEach(pipelines.filter(({ name }) => !names.has(name)), (pipeline) => start(pipeline), {
        discard: true,
      })
    }),
    inject: (plan) => Effect.forEach([...running.keys()], (member) => member.inject(plan), { discard: true }),
  }
  if (options.start !== false) yield* driver.restart
  return driver
})

const pipelinesOf = (
  { pipelines }: { readonly pipelines: unknown },
): ReadonlyArray<Pipeline<unknown, never>> => [pipelines].flat() as ReadonlyArray<Pipeline<unknown, never>>

/** The topics that a pipeline reads and writes, repartition topics among them. */
const topicsOf = (pipeline: Pipeline<unknown, never>): ReadonlyArray<AnyTopic> =>
  plan(pipeline).flows.flatMap(({ reads, writes }) => [...reads, ...writes])

/** How long `settle` waits, in milliseconds of the test's clock. */
const patience = 120_000

/** A duration in steps short enough for programs to answer each other meanwhile. */
const steps = function* (duration: Duration.Input): Iterable<number> {
  const total = Math.round(Duration.toMillis(duration))
  const each = Math.max(20, Math.ceil(total / 5_000))
  for (let left = total; left > 0; left -= each) yield Math.min(each, left)
}
