/** Programs on the in-memory cluster and the test clock: started, killed at a step, started again. */
import { Cause, Clock, Deferred, Effect, Exit, Fiber, Layer, Random, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Admin, type Pipeline, Runner, type Task, type Topic, Topology } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Counting from "./Counting.ts"
import type { Dice } from "./Seeds.ts"

/** A program as the test sees it. */
export interface Process {
  readonly fiber: Fiber.Fiber<void, unknown>
  readonly calls: Effect.Effect<ReadonlyArray<Faults.Call>>
  readonly use: (plan: Faults.Plan) => Effect.Effect<void>
}

export const options: Partial<Runner.Options> = {
  sessionTimeout: "6 seconds",
  heartbeatInterval: "1 second",
  rebalanceTimeout: "10 seconds",
  shutdownTimeout: "8 seconds",
}

/** Starts a program that reaches the brokers through faults of its own, and stops it at the end of the scope. */
export const start = <E, R>(
  pipeline: Pipeline.Pipeline<E, R>,
  plan: Faults.Plan,
  more?: Partial<Runner.Options>,
): Effect.Effect<Process, never, Exclude<R, Cluster | Task.Task | Task.Logged> | Cluster | Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Layer.build(Layer.fresh(Faults.layer))
    const faults = yield* Effect.provideContext(Faults.Faults, context)
    yield* faults.use(plan)
    const running = Effect.provideContext(Runner.run(pipeline, { ...options, ...more }), context)
    const fiber = yield* Effect.forkDetach(running as Effect.Effect<void, unknown>)
    yield* Effect.addFinalizer(() => Effect.orDie(stop(fiber)))
    return { fiber, calls: faults.calls, use: faults.use }
  }) as Effect.Effect<Process, never, Exclude<R, Cluster | Task.Task | Task.Logged> | Cluster | Scope.Scope>

/** Stops a program as SIGTERM does, and lets the clock run until it has ended. */
export const stop = (fiber: Fiber.Fiber<void, unknown>) =>
  Effect.gen(function* () {
    const stopping = yield* Effect.forkDetach(Fiber.interrupt(fiber))
    yield* until("a stop", Effect.sync(() => stopping.pollUnsafe() !== undefined))
  })

/** What programs draw themselves, as how long they wait before they try again, is the same in every run. */
const seeded = Random.withSeed("simulation")

/** Lets the test clock run until `done` holds. */
export const until = <E, R>(what: string, done: Effect.Effect<boolean, E, R>, limit = 120_000) =>
  Effect.gen(function* () {
    for (let passed = 0, step = 5; passed < limit; passed += step, step = passed < 2_000 ? 5 : 50) {
      if (yield* done) return
      yield* TestClock.adjust(step)
    }
    return yield* Effect.die(new Error(`not within ${limit} ms: ${what}`))
  })

/** Lets the test clock run. */
export const pass = (millis: number, step = 20) =>
  Effect.gen(function* () {
    for (let left = millis; left > 0; left -= step) yield* TestClock.adjust(step)
  })

/** A record of the input. */
export interface Input {
  readonly topic: string
  readonly partition: number
  readonly key: string | null
  readonly value: string | null
}

/** A plan that a test may change at any moment. */
export const switched = () => {
  const network = { decide: (_: Faults.Call): Faults.Fault | undefined => undefined }
  const plan: Faults.Plan = { start: () => (call) => network.decide(call) }
  return { network, plan }
}

/** Why a program has ended by itself; `undefined` while it runs. */
export const ended = ({ fiber }: Process): string | undefined => {
  const exit = fiber.pollUnsafe()
  return exit === undefined ? undefined : Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "it has finished"
}

/** Writes input records as a foreign producer does: a few per batch. */
export const feed = (records: ReadonlyArray<Input>) =>
  Effect.gen(function* () {
    const control = yield* ClusterMemory.Control
    for (let i = 0; i < records.length; i += 7) {
      const batches = Map.groupBy(records.slice(i, i + 7), ({ topic, partition }) => `${topic}/${partition}`)
      for (const some of batches.values()) {
        const { topic, partition } = some[0]!
        yield* control.append({ topic, partition }, {
          keys: some.map(({ key }) => key === null ? null : Buffer.from(key)),
          values: some.map(({ value }) => value === null ? null : Buffer.from(value)),
          headers: some.map(() => []),
          timestamps: some.map(() => 0),
        })
      }
    }
  })

/** Whether a group has committed everything that stands in the topics that it reads. */
const hasCommitted = Effect.fnUntraced(function* (group: string, topics: ReadonlyArray<Topic.Any>) {
  const cluster = yield* Cluster
  const where = topics.flatMap(({ name, partitions }) =>
    Array.from({ length: partitions }, (_, partition) => ({ topic: name, partition }))
  )
  const ends = yield* cluster.listOffsets(where, "latest", "read_uncommitted")
  const committed = yield* cluster.offsetFetch(group, where, true)
  return where.every((_, i) => committed[i]!.error === null && committed[i]!.offset === ends[i]!.offset)
})

export const caughtUp = hasCommitted("counting", [Counting.Readings])

/** Whether no transaction is open or being completed any more: readers see all that was committed. */
const isSettled = Effect.flatMap(
  ClusterMemory.Control,
  (control) => Effect.map(control.openTransactions, (open) => open.length === 0),
)

/** What stands in topics, by name. */
const logs = Effect.fnUntraced(function* (topics: ReadonlyArray<Topic.Any>) {
  const control = yield* ClusterMemory.Control
  const read = new Map<string, ReadonlyArray<ClusterMemory.TopicRecord>>()
  for (const { name } of topics) read.set(name, yield* control.records(name))
  return (topic: string) => read.get(topic)!
})

export interface Crashed {
  readonly results: Counting.Results
  readonly calls: ReadonlyArray<Faults.Call>
  readonly crashed: boolean
  /** Why the program ended, where it was neither killed nor stopped. */
  readonly ended: string | undefined
  /** Milliseconds that the successor of a program that died took for what was left. */
  readonly recovery: number
}

/** Markers come after the answer to EndTxn, as on a real cluster: what has just been committed is not stable yet. */
const markerDelay = "150 millis"

/**
 * Runs a program over the input with a fault in its way; where the fault kills it, or it gives up, a second one takes over. Half of the
 * input is there before, half comes while it runs.
 */
export const throughFault = (
  pipeline: Pipeline.Pipeline<unknown, Cluster | Task.Task | Task.Logged>,
  records: ReadonlyArray<Counting.Input>,
  fault: (kill: Effect.Effect<void>) => Faults.Plan,
) =>
  Effect.scoped(Effect.gen(function* () {
    yield* Admin.createTopics(Counting.topics)
    const half = records.length >> 1
    yield* feed(records.slice(0, half))
    const killed = yield* Deferred.make<void>()
    const first = yield* start(pipeline, fault(Effect.asVoid(Deferred.succeed(killed, undefined))))
    const isKilled = Effect.map(Deferred.poll(killed), (polled) => polled !== undefined && polled._tag === "Some")
    const isOver = Effect.map(isKilled, (killed) => killed || first.fiber.pollUnsafe() !== undefined)
    const over = Effect.all([isOver, caughtUp]).pipe(Effect.map(([dead, done]) => dead || done))
    yield* until("the first half", over)
    yield* feed(records.slice(half))
    yield* until("the second half", over)
    const died = (yield* isKilled) ? undefined : ended(first)
    if (yield* isOver) yield* start(pipeline, Faults.none)
    else {
      // A stop like any other: it too has steps at which the program can die.
      yield* stop(first.fiber)
    }
    const from = yield* Clock.currentTimeMillis
    yield* until("the rest", caughtUp)
    const recovery = (yield* Clock.currentTimeMillis) - from
    return {
      results: Counting.results(yield* logs(Counting.topics)),
      calls: yield* first.calls,
      crashed: yield* isOver,
      ended: died,
      recovery,
    } satisfies Crashed
  })).pipe(Effect.provide(ClusterMemory.layer({ markerDelay })), seeded)

/**
 * Runs a program over input that comes step by step, with a fault in its way; where the fault kills it, another takes over
 * that may have a fault of its own. Answers the calls of the first one, and what stands in the topics in the end.
 */
export const throughSteps = (
  pipeline: Pipeline.Pipeline<unknown, Cluster | Task.Task | Task.Logged>,
  topics: ReadonlyArray<Topic.Any>,
  steps: ReadonlyArray<ReadonlyArray<Input>>,
  faults: ReadonlyArray<(kill: Effect.Effect<void>) => Faults.Plan>,
) =>
  Effect.scoped(Effect.gen(function* () {
    yield* Admin.createTopics(topics)
    let programs = 0
    let alive = false
    const follow = Effect.gen(function* () {
      if (alive) return
      alive = true
      const fault = faults[programs++] ?? (() => Faults.none)
      const program = yield* start(pipeline, fault(Effect.sync(() => alive = false)))
      return program
    })
    const first = (yield* follow)!
    for (const step of steps) {
      yield* feed(step)
      yield* pass(100)
      yield* follow
    }
    const reads = Topology.subflows(pipeline.flow).flatMap((flow) => Topology.of(flow).reads)
    const done = Effect.andThen(follow, hasCommitted(pipeline.name, reads))
    yield* until("the end", done)
    yield* until("the time-out of what the dead have left open", isSettled)
    return { calls: yield* first.calls, read: yield* logs(topics) }
  })).pipe(Effect.provide(ClusterMemory.layer({ markerDelay: "20 millis" })), seeded)

/**
 * A plain commit of positions that arrives after the same was committed again takes the group back to where it was: nothing
 * but the generation keeps it out.
 */
const mayComeLate = ({ operation }: Faults.Call) => operation !== "OffsetCommit"

/**
 * Runs up to three programs at a time that are started, stopped, killed and cut off for longer than their session at
 * random moments, each over a network of its own that refuses, delays and loses; in the end one program finishes without
 * faults.
 */
export const throughChaos = (
  pipeline: Pipeline.Pipeline<unknown, Cluster | Task.Task | Task.Logged>,
  records: ReadonlyArray<Counting.Input>,
  dice: Dice,
) =>
  Effect.map(
    inChaos(pipeline, Counting.topics, records, dice),
    ({ read, ended }) => ({ results: Counting.results(read), ended }),
  )

/** The same for any pipeline: answers what stands in the topics in the end. */
export const inChaos = (
  pipeline: Pipeline.Pipeline<unknown, Cluster | Task.Task | Task.Logged>,
  topics: ReadonlyArray<Topic.Any>,
  records: ReadonlyArray<Input>,
  dice: Dice,
) =>
  Effect.scoped(Effect.gen(function* () {
    yield* Admin.createTopics(topics)
    const faulty = () =>
      Faults.all(
        Faults.random(dice.int(1, 1e9), { refuse: 0.03, loseAnswer: 0.03, delay: 0.1 }),
        Faults.random(dice.int(1, 1e9), { late: 0.02, matches: mayComeLate }),
      )
    let running: Array<Process> = []
    let fed = 0
    while (fed < records.length) {
      const next = Math.min(records.length, fed + dice.int(1, 40))
      yield* feed(records.slice(fed, next))
      fed = next
      const what = dice.pick(["start", "start", "kill", "stop", "wait", "cut off"])
      if (what === "start" && running.length < 3) running.push(yield* start(pipeline, faulty()))
      const one = running[dice.int(0, 2)]
      if (one !== undefined && (what === "kill" || what === "stop")) {
        running = running.filter((other) => other !== one)
        if (what === "stop") yield* stop(one.fiber)
        else yield* one.use(Faults.every(() => true, Faults.hang))
      }
      if (one !== undefined && what === "cut off") {
        yield* one.use(Faults.every(() => true, Faults.unreachable))
        yield* pass(dice.pick([1_000, 9_000, 20_000]))
        yield* one.use(faulty())
      }
      yield* pass(dice.pick([20, 300, 3_000]))
    }
    for (const one of running) yield* one.use(Faults.none)
    yield* start(pipeline, Faults.none)
    const reads = Topology.subflows(pipeline.flow).flatMap((flow) => Topology.of(flow).reads)
    yield* until("the end", hasCommitted(pipeline.name, reads), 300_000)
    yield* until("the time-out of what the dead have left open", isSettled)
    return {
      read: yield* logs(topics),
      ended: running.flatMap((one) => ended(one) ?? []),
    }
  })).pipe(Effect.provide(ClusterMemory.layer({ markerDelay: dice.pick([0, 20, 150, 800]) })), seeded)
