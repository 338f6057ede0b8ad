/** Programs on the in-memory cluster and the test clock: started, killed at a step, started again. */
import { Clock, Deferred, Effect, Fiber, Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Admin, type Pipeline, Runner, type Task } from "../../src/index.ts"
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
): Effect.Effect<Process, never, Exclude<R, Cluster | Task.Task | Task.Logged> | Cluster | Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Layer.build(Layer.fresh(Faults.layer))
    const faults = yield* Effect.provideContext(Faults.Faults, context)
    yield* faults.use(plan)
    const running = Effect.provideContext(Runner.run(pipeline, options), context)
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

/** Lets the test clock run until `done` holds. */
export const until = <E, R>(what: string, done: Effect.Effect<boolean, E, R>, limit = 120_000) =>
  Effect.gen(function* () {
    for (let passed = 0, step = 5; passed < limit; passed += step, step = passed < 2_000 ? 5 : 50) {
      if (yield* done) return
      yield* TestClock.adjust(step)
    }
    return yield* Effect.die(new Error(`not within ${limit} ms: ${what}`))
  })

const pass = (millis: number) =>
  Effect.gen(function* () {
    for (let left = millis; left > 0; left -= 20) yield* TestClock.adjust(20)
  })

/** Writes input records as a foreign producer does: a few per batch. */
export const feed = (records: ReadonlyArray<Counting.Input>) =>
  Effect.gen(function* () {
    const control = yield* ClusterMemory.Control
    for (let i = 0; i < records.length; i += 7) {
      for (const [partition, some] of Map.groupBy(records.slice(i, i + 7), (record) => record.partition)) {
        yield* control.append({ topic: Counting.Readings.name, partition }, {
          keys: some.map(({ key }) => Buffer.from(key)),
          values: some.map(({ value }) => Buffer.from(value)),
          headers: some.map(() => []),
          timestamps: some.map(() => 0),
        })
      }
    }
  })

/** Whether the group has committed everything that stands in the input. */
export const caughtUp = Effect.gen(function* () {
  const cluster = yield* Cluster
  const where = Array.from(
    { length: Counting.partitions },
    (_, partition) => ({ topic: Counting.Readings.name, partition }),
  )
  const ends = yield* cluster.listOffsets(where, "latest", "read_uncommitted")
  const committed = yield* cluster.offsetFetch("counting", where, true)
  return where.every((_, i) => committed[i]!.error === null && committed[i]!.offset === ends[i]!.offset)
})

export const results = Effect.gen(function* () {
  const control = yield* ClusterMemory.Control
  const read = new Map<string, ReadonlyArray<ClusterMemory.TopicRecord>>()
  for (const { name } of Counting.topics) read.set(name, yield* control.records(name))
  return Counting.results((topic) => read.get(topic)!)
})

export interface Crashed {
  readonly results: Counting.Results
  readonly calls: ReadonlyArray<Faults.Call>
  readonly crashed: boolean
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
    if (yield* isOver) yield* start(pipeline, Faults.none)
    else {
      // A stop like any other: it too has steps at which the program can die.
      yield* stop(first.fiber)
    }
    const from = yield* Clock.currentTimeMillis
    yield* until("the rest", caughtUp)
    const recovery = (yield* Clock.currentTimeMillis) - from
    return {
      results: yield* results,
      calls: yield* first.calls,
      crashed: yield* isOver,
      recovery,
    } satisfies Crashed
  })).pipe(Effect.provide(ClusterMemory.layer({ markerDelay })))

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
  Effect.scoped(Effect.gen(function* () {
    yield* Admin.createTopics(Counting.topics)
    const faulty = () => Faults.random(dice.int(1, 1e9), { refuse: 0.03, loseAnswer: 0.03, delay: 0.1 })
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
    yield* until("the end", caughtUp, 300_000)
    return yield* results
  })).pipe(Effect.provide(ClusterMemory.layer({ markerDelay: dice.pick([0, 20, 150, 800]) })))
