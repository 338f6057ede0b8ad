/** One process of a pipeline: a member of its consumer group with its own connection, log lines and counts. */
import { Cause, Context, Effect, Exit, Fiber, Layer, Metric } from "effect"
import type { Cluster } from "../kafka/Cluster.ts"
import * as Faults from "../kafka/Faults.ts"
import * as Runner from "../kafka/Runner.ts"
import type { Pipeline } from "../Pipeline.ts"
import { PipelineError } from "../Task.ts"
import type { Journal } from "./Journal.ts"
import type { Network } from "./Network.ts"

export interface World {
  readonly network: Network
  readonly journal: Journal
  readonly runner: Partial<Runner.Options>
  /** Everything that pipelines need, and the brokers. */
  readonly environment: Context.Context<Cluster>
}

/** What became of a member. */
export type Fate = "running" | "stopped" | "crashed" | "ended"

export interface Process {
  readonly pipeline: Pipeline<unknown, unknown>
  readonly number: number
  readonly fiber: Fiber.Fiber<void, PipelineError>
  metrics(): ReadonlyArray<Metric.Metric.Snapshot>
  fate(): Fate
  /** Why it has ended without being told to. */
  failure(): PipelineError | undefined
  /** The call that an injected fault crashed it at. */
  crashedAt(): string | undefined
  /** Begins to stop it, as SIGTERM does. */
  readonly stop: Effect.Effect<void>
  readonly crash: Effect.Effect<void>
  /** Begins a plan of faults for its calls alone. */
  inject(plan: Faults.Plan): Effect.Effect<void>
}

export const start = Effect.fnUntraced(function* (
  pipeline: Pipeline<unknown, unknown>,
  number: number,
  plan: Faults.Plan,
  { network, journal, runner, environment }: World,
): Effect.fn.Return<Process> {
  const caller = { pipeline: pipeline.name, number }
  let dead = false
  let stopping = false
  let crashedAt: string | undefined
  const connection = yield* Layer.build(Layer.fresh(Faults.layer)).pipe(
    Effect.provideContext(environment),
    Effect.scoped,
  )
  const die = Effect.suspend(() => {
    dead = true
    return Effect.forkDetach(Fiber.interrupt(fiber))
  })
  const inject = (plan: Faults.Plan) => {
    const alone = plan.start()
    const meet = (call: Faults.Call): Faults.Fault | undefined => {
      // What is left of a process that has crashed reaches nobody.
      if (dead) return Faults.hang
      const [{ operation, count }, shared] = network.meet(caller, call)
      const fault = alone(call) ?? shared
      if (fault?._tag !== "Crash") return fault
      // Only once the call was carried out, which may take its time.
      const dies = Effect.suspend(() => {
        crashedAt = `${fault.carriedOut ? "after" : "before"} ${operation} ${count}`
        return die
      })
      return { ...fault, signal: Effect.andThen(dies, fault.signal) }
    }
    return Context.get(connection, Faults.Faults).use({ start: () => meet })
  }
  yield* inject(plan)
  const inside = connection.pipe(
    Context.add(Metric.MetricRegistry, new Map()),
    Context.merge(journal.of(pipeline.name, number, () => !dead)),
  )
  const running = Runner.run(pipeline, runner) as Effect.Effect<void, PipelineError, Cluster>
  const fiber: Fiber.Fiber<void, PipelineError> = yield* running.pipe(
    Effect.provideContext(Context.merge(environment, inside)),
    Effect.forkDetach,
  )
  const over = () => fiber.pollUnsafe() !== undefined
  return {
    pipeline,
    number,
    fiber,
    metrics: () => Metric.snapshotUnsafe(inside),
    fate: () => dead ? "crashed" : stopping ? "stopped" : over() ? "ended" : "running",
    failure: () => dead ? undefined : failureOf(fiber.pollUnsafe()),
    crashedAt: () => crashedAt,
    stop: Effect.suspend(() => {
      if (dead || stopping || over()) return Effect.void
      stopping = true
      return Effect.asVoid(Effect.forkDetach(Fiber.interrupt(fiber)))
    }),
    crash: Effect.suspend(() => dead || over() ? Effect.void : Effect.asVoid(die)),
    inject,
  }
})

const failureOf = (exit: Exit.Exit<void, PipelineError> | undefined): PipelineError | undefined => {
  if (exit === undefined || Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return undefined
  const error = Cause.squash(exit.cause)
  return error instanceof PipelineError ? error : new PipelineError({
    reason: "Stopped",
    retriable: false,
    message: error instanceof Error ? error.message : String(error),
    cause: error,
  })
}
