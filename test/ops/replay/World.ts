/** Pipelines on Kafka in memory that have processed something, and replays of it that die at any step. */
import { Cause, Effect, Exit, Fiber, Layer, type Scope } from "effect"
import { Admin, type Pipeline, Replay, type Topic, Topology } from "../../../src/index.ts"
import { Cluster } from "../../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../../src/kafka/Faults.ts"
import * as Simulation from "../../support/Simulation.ts"

/** What a replay was written down in. */
export const journal = () => {
  const saved: Array<Replay.Entry> = []
  return {
    saved,
    last: () => saved.at(-1)!,
    save: (entry: Replay.Entry) => Effect.sync(() => void saved.push(entry)),
  }
}

/** Runs something with the test clock going on until it has ended. */
export const passing = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkDetach(effect)
    yield* Simulation.until("a step of the test", Effect.sync(() => fiber.pollUnsafe() !== undefined), 600_000)
    return yield* Fiber.join(fiber)
  })

/** Runs a pipeline over what its topics hold, and stops it. */
export const process = <R>(pipeline: Pipeline.Pipeline<unknown, R>) =>
  Effect.scoped(Effect.gen(function* () {
    const program = yield* Simulation.start(pipeline, Faults.none)
    yield* Simulation.until("the input", isCaughtUp(pipeline))
    yield* Simulation.stop(program.fiber)
  }))

export const isCaughtUp = Effect.fnUntraced(function* (pipeline: Pipeline.Pipeline<unknown, unknown>) {
  const cluster = yield* Cluster
  const where = Topology.subflows(pipeline.flow).flatMap((flow) => Topology.of(flow).reads).flatMap((
    { name, partitions },
  ) => Array.from({ length: partitions }, (_, partition) => ({ topic: name, partition })))
  const ends = yield* cluster.listOffsets(where, "latest", "read_uncommitted")
  const committed = yield* cluster.offsetFetch(pipeline.name, where, true)
  return where.every((_, i) => committed[i]!.error === null && committed[i]!.offset === ends[i]!.offset)
})

/** What a program that dies, or fails, at a call comes to; and the calls that it made. */
export const through = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  fault: (kill: Effect.Effect<void>) => Faults.Plan,
): Effect.Effect<
  { readonly exit: Exit.Exit<A, E> | "died"; readonly calls: ReadonlyArray<Faults.Call> },
  never,
  R | Cluster | Scope.Scope
> =>
  Effect.gen(function* () {
    const context = yield* Layer.build(Layer.fresh(Faults.layer))
    const faults = yield* Effect.provideContext(Faults.Faults, context)
    let died = false
    yield* faults.use(fault(Effect.sync(() => died = true)))
    const fiber = yield* Effect.forkDetach(Effect.provideContext(effect, context) as Effect.Effect<A, E>)
    yield* Simulation.until("a replay", Effect.sync(() => died || fiber.pollUnsafe() !== undefined), 900_000)
    const exit = died ? "died" as const : fiber.pollUnsafe()!
    if (died) yield* Effect.forkDetach(Fiber.interrupt(fiber))
    return { exit, calls: yield* faults.calls }
  })

/** Why something failed. */
export const reasonOf = (exit: Exit.Exit<unknown, unknown> | "died"): string => {
  if (exit === "died") return exit
  if (Exit.isSuccess(exit)) return "succeeded"
  const error = Cause.squash(exit.cause)
  return error instanceof Replay.ReplayRefused ? error.reason : `${error}`
}

/** A cluster of its own with these topics. */
export const world = (topics: ReadonlyArray<Topic.Any>) => <A, E, R>(test: Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.andThen(Admin.createTopics(topics), test)).pipe(
    Effect.provide(ClusterMemory.layer({ markerDelay: "20 millis" })),
  )
