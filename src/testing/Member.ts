/** One process of a pipeline under test: it reaches the brokers through faults of its own. */
import { Cause, Context, Effect, Exit, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import type { Cluster } from "../kafka/Cluster.ts"
import * as Faults from "../kafka/Faults.ts"
import * as Runner from "../kafka/Runner.ts"
import type { Pipeline } from "../Pipeline.ts"

export interface Member {
  readonly pipeline: string
  /** Ends it as SIGTERM does: it finishes what is at hand, commits and leaves the group. */
  readonly stop: Effect.Effect<void>
  /** Ends it at once: nothing more of it reaches the brokers, and the group misses it after its session time-out. */
  readonly crash: Effect.Effect<void>
  /** Meets its requests with faults from now on; a process that crashes by the plan is followed by another. */
  inject(plan: Faults.Plan): Effect.Effect<void>
  /** The requests that it has made since the last `inject`. */
  readonly calls: Effect.Effect<ReadonlyArray<Faults.Call>>
  /** Why it has ended by itself; `undefined` while it works, and once it was stopped or has crashed. */
  readonly ended: Effect.Effect<string | undefined>
}

/** Starts a process; `crashed` is told when a plan has made it crash. */
export const start = Effect.fnUntraced(function* (
  pipeline: Pipeline<unknown, never>,
  options: Partial<Runner.Options>,
  environment: Context.Context<Cluster>,
  crashed: (member: Member) => void,
): Effect.fn.Return<Member> {
  const context = yield* Layer.build(Layer.fresh(Faults.layer)).pipe(
    Effect.provideContext(environment),
    Effect.scoped,
  )
  const faults = Context.get(context, Faults.Faults)
  let over = false
  const running = Runner.run(pipeline, options).pipe(Effect.provideContext(Context.merge(environment, context)))
  const fiber = yield* Effect.forkDetach(running)
  const end = Effect.suspend(() => {
    if (over) return Effect.succeed(false)
    over = true
    return Effect.succeed(true)
  })
  const member: Member = {
    pipeline: pipeline.name,
    stop: Effect.gen(function* () {
      if (!(yield* end)) return
      const stopping = yield* Effect.forkDetach(Fiber.interrupt(fiber))
      while (stopping.pollUnsafe() === undefined) yield* TestClock.adjust(20)
    }),
    crash: Effect.gen(function* () {
      yield* end
      yield* faults.use(Faults.every(() => true, Faults.hang))
      // What it still does reaches nobody: there is nothing to wait for.
      yield* Effect.forkDetach(Fiber.interrupt(fiber))
    }),
    inject: (plan) =>
      faults.use(withSignal(plan, () => {
        over = true
        crashed(member)
      })),
    calls: faults.calls,
    ended: Effect.sync(() => {
      const exit = over ? undefined : fiber.pollUnsafe()
      if (exit === undefined) return undefined
      return Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "it has finished"
    }),
  }
  return member
})

/** The plan, whose crashes also tell us of them. */
const withSignal = (plan: Faults.Plan, told: () => void): Faults.Plan => ({
  start: () => {
    const decide = plan.start()
    return (call) => {
      const fault = decide(call)
      if (fault?._tag !== "Crash") return fault
      return { ...fault, signal: Effect.andThen(Effect.sync(told), fault.signal) }
    }
  },
})
