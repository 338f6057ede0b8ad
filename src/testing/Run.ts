/** One run of a test: the brokers, the clock and the programs, and the driver that the test holds. */
import { Clock, Context, Duration, Effect, Layer, Logger, Random, Result } from "effect"
import { TestClock } from "effect/testing"
import * as Admin from "../kafka/Admin.ts"
import type { Cluster } from "../kafka/Cluster.ts"
import * as ClusterMemory from "../kafka/ClusterMemory.ts"
import * as Faults from "../kafka/Faults.ts"
import type * as Runner from "../kafka/Runner.ts"
import { changelogTopic, plan } from "../Pipeline.ts"
import type { PipelineError } from "../Task.ts"
import type { Any as AnyTopic, Topic } from "../Topic.ts"
import { Chaos } from "./Chaos.ts"
import type { AnyPipeline, Driver, Left, Member, Options, Pipelines } from "./Controls.ts"
import * as Counts from "./Counts.ts"
import { Crew } from "./Crew.ts"
import type { Dice } from "./Dice.ts"
import { DriverError } from "./DriverError.ts"
import { type Appended, batches, fromBytes, fromValue } from "./Feeding.ts"
import { Journal } from "./Journal.ts"
import { Network } from "./Network.ts"
import type * as Process from "./Process.ts"
import * as Reading from "./Reading.ts"
import * as Settling from "./Settling.ts"
import * as Stores from "./Stores.ts"

/** What the helpers that run a test many times add. */
export interface How {
  /** Whether programs that end by themselves are started again. */
  readonly supervised?: boolean
  readonly plan?: Faults.Plan
  /** Cuts what is fed, and lets programs come and go in between, as these dice fall. */
  readonly chaos?: { readonly dice: Dice; readonly crashes: boolean }
}

/** What `settle` waits on after a task has stopped for good, so that the others come to their end. */
const afterStop = 1_000

const firstTime = Date.parse("2026-01-01T00:00:00Z")

const sessions: Partial<Runner.Options> = {
  sessionTimeout: "6 seconds",
  heartbeatInterval: "1 second",
  rebalanceTimeout: "10 seconds",
  shutdownTimeout: "8 seconds",
}

export const runWith = <const P extends Pipelines, A, E, R, S = never, E2 = never>(
  options: Options<P, S, E2>,
  how: How,
  test: (driver: Driver) => Effect.Effect<A, E, R>,
): Effect.Effect<A, E | E2 | PipelineError, Left<P, R, S>> => {
  const running = Effect.gen(function* () {
    const pipelines: ReadonlyArray<AnyPipeline> = isList(options.pipelines) ? options.pipelines : [options.pipelines]
    yield* TestClock.setTime(options.now ?? firstTime)
    const topics = new Map(pipelines.flatMap(topicsOf).concat(options.topics ?? []).map((topic) => [topic.name, topic]))
    yield* Admin.createTopics(topics.values())
    const journal = new Journal(yield* Logger.CurrentLoggers, options.logLevel ?? "None")
    const services = options.layer === undefined
      ? Context.empty()
      : yield* Layer.build(Layer.fresh(options.layer)).pipe(
        Effect.provideContext(journal.of("", 0, () => true)),
      )
    const environment = Context.merge(yield* Effect.context<Cluster>(), services)
    const network = new Network()
    network.use(how.plan ?? Faults.none)
    const world: Process.World = {
      network,
      journal,
      runner: { ...sessions, ...options.runner },
      environment,
    }
    const crew = new Crew(pipelines, world, how.supervised ?? false)
    yield* Effect.addFinalizer(() => crew.end)
    if (options.start ?? true) yield* crew.restart
    const driver = yield* make({
      topics,
      crew,
      world,
      chaos: how.chaos && new Chaos(how.chaos.dice, how.chaos.crashes, crew, network),
      patience: Duration.toMillis(options.patience ?? "2 minutes"),
    })
    return yield* Effect.provideContext(test(driver), services)
  })
  return running.pipe(
    Effect.scoped,
    Effect.provide(ClusterMemory.layer(options.cluster)),
    Effect.updateService(Clock.Clock, inWholeMillis),
    Effect.provide(TestClock.layer({ warningDelay: "1 minute" })),
    Random.withSeed(options.seed ?? 1),
  ) as Effect.Effect<A, E | E2 | PipelineError, Left<P, R, S>>
}

/** Whole milliseconds, as of a real clock: its timers end with one, and no sooner than they are told to. */
const inWholeMillis = (clock: Clock.Clock): Clock.Clock => ({
  ...clock,
  sleep: (duration) => clock.sleep(Duration.millis(Math.ceil(Duration.toMillis(duration)))),
})

const isList = (pipelines: Pipelines): pipelines is ReadonlyArray<AnyPipeline> => Array.isArray(pipelines)

const topicsOf = (pipeline: AnyPipeline): ReadonlyArray<AnyTopic> =>
  plan(pipeline).flows.flatMap(({ reads, writes }) => [...reads, ...writes])

interface Parts {
  readonly topics: ReadonlyMap<string, AnyTopic>
  readonly crew: Crew
  readonly world: Process.World
  readonly chaos: Chaos | undefined
  readonly patience: number
}

const make = Effect.fnUntraced(function* (
  { topics, crew, world: { network, journal, runner }, chaos, patience }: Parts,
): Effect.fn.Return<Driver, never, Cluster | ClusterMemory.Control> {
  const control = yield* ClusterMemory.Control
  const services = yield* Effect.context<Cluster | ClusterMemory.Control>()
  const watched = crew.pipelines.map((pipeline): Settling.Watched => ({
    pipeline,
    group: runner.group ?? pipeline.name,
    reads: plan(pipeline).flows.flatMap(({ reads }) => reads),
  }))
  const taken = new Map<string, number>()
  let fed = 0

  const records = (topic: AnyTopic | string) =>
    Effect.mapError(control.records(typeof topic === "string" ? topic : topic.name), () => unknown(topic))

  const append = Effect.fnUntraced(function* (topic: AnyTopic, made: ReadonlyArray<Appended>) {
    const now = yield* Clock.currentTimeMillis
    for (const [where, records] of batches(topic, made, now)) yield* control.append(where, records)
  }, Effect.mapError((cause) => new DriverError({ reason: "Invalid", message: cause.message, cause })))

  const feed = <T>(
    topic: AnyTopic,
    values: Iterable<T>,
    encode: (value: T, i: number, keyless: () => number) => Result.Result<Appended, DriverError>,
  ) =>
    Effect.gen(function* () {
      if (!topics.has(topic.name)) return yield* unknown(topic)
      let keyless = fed
      const made = yield* Effect.forEach(values, (value, i) => Effect.fromResult(encode(value, i, () => keyless++)))
      fed += made.length
      yield* chaos === undefined ? append(topic, made) : chaos.feed(made, (some) => append(topic, some))
    })

  const read = <A>(topic: Topic<A>) =>
    Effect.flatMap(records(topic), (found) => Effect.forEach(found, (record) => Reading.decoded(topic, record)))

  const settle = Effect.gen(function* () {
    if (chaos !== undefined) yield* chaos.calm
    const limit = (yield* Clock.currentTimeMillis) + patience
    let until = limit
    let standing = yield* Settling.standing(watched, crew)
    let lost: ReadonlySet<string> = new Set()
    const done = Effect.gen(function* () {
      standing = yield* Settling.standing(watched, crew)
      lost = Settling.abandoned(standing, crew)
      const now = yield* Clock.currentTimeMillis
      if (until === limit && standing.stopped.length > 0) until = Math.min(limit, now + afterStop)
      return standing.settled || lost.size > 0 || now >= until
    })
    yield* crew.pass(patience, done)
    if (standing.settled) return
    if (lost.size > 0) {
      const names = [...lost].join(", ")
      return yield* Settling.unsettled(standing, crew, `no program of ${names} goes on:`, "Ended")
    }
    return yield* until < limit
      ? Settling.unsettled(standing, crew, "tasks have stopped for good:", "Ended")
      : Settling.unsettled(
        standing,
        crew,
        `not settled within ${patience} ms of the test's clock, as \`patience\` says:`,
        "Unsettled",
      )
  }).pipe(Effect.provideContext(services))

  const entries = Effect.fnUntraced(function* (pipeline: AnyPipeline, name: string) {
    const specs = plan(pipeline).flows.flatMap(({ stores }) => stores)
    const spec = specs.find((spec) => spec.name === name)
    if (spec === undefined) {
      const known = specs.map(({ name }) => name).join(", ")
      const message = `pipeline ${pipeline.name} has no store ${name}${known === "" ? "" : `, but ${known}`}`
      return yield* new DriverError({ reason: "Unknown", message })
    }
    const topic = changelogTopic(pipeline.name, name)
    // It does not exist before a program has started.
    const logged = yield* Effect.orElseSucceed(control.records(topic), () => [])
    return yield* Stores.entries(topic, spec, logged)
  })

  const memberOf = (process: Process.Process): Member => ({
    pipeline: process.pipeline.name,
    number: process.number,
    stop: Effect.andThen(
      process.stop,
      Effect.asVoid(crew.pass(60_000, Effect.sync(() => process.fiber.pollUnsafe() !== undefined))),
    ),
    crash: process.crash,
    inject: process.inject,
    calls: Effect.sync(() => network.calls.filter(({ member }) => member === process.number)),
    tasks: Effect.sync(() => process.fate() === "running" ? Counts.tasks(process.metrics()) : 0),
    ended: Effect.sync(process.failure),
  })

  return {
    feed: (topic, values) => feed(topic, values, (value, i, keyless) => fromValue(topic, value, i, keyless)),
    feedBytes: (topic, values) => feed(topic, values, (value, _, keyless) => fromBytes(topic, value, keyless)),
    advance: (duration) => Effect.asVoid(crew.pass(Math.ceil(Duration.toMillis(duration)), Effect.succeed(false))),
    settle,
    read,
    values: (topic) => Effect.map(read(topic), (records) => records.map(({ value }) => value)),
    take: (topic) =>
      Effect.map(read(topic), (found) => {
        const from = (partition: number) => taken.get(`${topic.name}/${partition}`) ?? 0
        const fresh = found.filter(({ partition, offset }) => offset >= from(partition))
        for (const { partition, offset } of fresh) taken.set(`${topic.name}/${partition}`, offset + 1)
        return fresh
      }),
    readBytes: (topic) => Effect.map(records(topic), (found) => found.map(Reading.toBytes)),
    latest: (topic) => Effect.flatMap(records(topic), (found) => Reading.latest(topic, found)),
    letters: (topic) =>
      Effect.flatMap(records(topic), (found) => Effect.forEach(found, (record) => Reading.letter(topic.name, record))),
    store: (pipeline, name) => Effect.flatMap(entries(pipeline, name), Stores.byKey),
    entries,
    counts: (pipeline) => Effect.sync(() => Counts.counts(crew.of(pipeline).flatMap((one) => one.metrics()))),
    start: (pipeline, faults) => Effect.map(crew.start(pipeline, faults), memberOf),
    members: Effect.sync(() => crew.running().map(memberOf)),
    crash: crew.crash,
    restart: crew.restart,
    inject: (plan) => Effect.sync(() => network.use(plan)),
    calls: Effect.sync(() => network.calls),
    logs: Effect.sync(() => journal.lines),
    control,
  }
})

const unknown = (topic: AnyTopic | string): DriverError => {
  const name = typeof topic === "string" ? topic : topic.name
  const message = `no pipeline of this run reads or writes topic ${name}: name it in the option topics`
  return new DriverError({ reason: "Unknown", topic: name, message })
}
