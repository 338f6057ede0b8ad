/** Running a pipeline here until it has come to where its replay ends. */
import { Cause, Clock, Effect, Exit, Fiber } from "effect"
import { bounded, placeOf } from "../../kafka/Bounded.ts"
import { Cluster, type TopicPartition } from "../../kafka/Cluster.ts"
import * as Runner from "../../kafka/Runner.ts"
import type { Pipeline, Plan as PipelinePlan } from "../../Pipeline.ts"
import { PipelineError } from "../../Task.ts"
import { type Any, positionsOf } from "./Plan.ts"

/** How far a replay is. */
export interface Progress {
  /** Offsets passed, of all that are to be: a few of them are markers of transactions and no records. */
  readonly done: number
  readonly total: number
  /** Since it was started, or resumed. */
  readonly perSecond: number
  /** Milliseconds that are left at this speed; `undefined` while that cannot be told. */
  readonly left: number | undefined
}

export interface Running {
  /** Records per second, all partitions together; as fast as they come unless given. */
  readonly rate?: number | undefined
  /** Told several times a second. */
  readonly progress?: ((progress: Progress) => void) | undefined
  readonly run?: Partial<Runner.Options> | undefined
}

type Offset = TopicPartition & { readonly offset: number }

/**
 * Runs the pipeline as a member of its group until every partition has come to its end, then stops it as SIGTERM does. What
 * was committed until an interruption need not be done again. Where it is bounded, nothing beyond the ends is read, and
 * what comes from the pipeline's own repartitions is finished as well.
 */
export const follow = Effect.fnUntraced(function* <R>(
  pipeline: Any<R>,
  plan: PipelinePlan,
  { starts, ends, isBounded }: {
    readonly starts: ReadonlyArray<Offset>
    readonly ends: ReadonlyArray<Offset>
    readonly isBounded: boolean
  },
  { rate, progress, run }: Running,
) {
  const cluster = yield* Cluster
  const endOf = new Map(ends.map((end) => [placeOf(end), end.offset]))
  const startOf = new Map(starts.map((start) => [placeOf(start), start.offset]))
  const total = ends.reduce((sum, end) => sum + end.offset - startOf.get(placeOf(end))!, 0)
  const done = Effect.map(positionsOf(pipeline, plan, ends, true), (positions) =>
    ends.reduce((sum, end) => {
      const start = startOf.get(placeOf(end))!
      return sum + Math.min(Math.max(positions.get(placeOf(end)) ?? start, start), end.offset) - start
    }, 0))
  const first = yield* done
  const began = yield* Clock.currentTimeMillis
  progress?.({ done: first, total, perSecond: 0, left: first === total ? 0 : undefined })
  // Parts behind a repartition may still have something to do.
  if (first === total && !(isBounded && plan.flows.length > 1)) return
  const through = bounded(cluster, {
    ends: isBounded ? endOf : new Map(),
    rate: rate === undefined ? undefined : { perSecond: rate, topics: new Set(ends.map(({ topic }) => topic)) },
  })
  const running = Runner.run(pipeline as Pipeline<unknown, R>, {
    ...run,
    group: plan.group,
    reset: "earliest",
    drain: isBounded,
    // With one that has stopped it would never come to its end.
    failFast: true,
  }).pipe(Effect.provideService(Cluster, through)) as Effect.Effect<void, PipelineError>
  const arrived = Effect.gen(function* () {
    for (;;) {
      yield* Effect.sleep("200 millis")
      const now = yield* done
      const perSecond = (now - first) / Math.max(1, (yield* Clock.currentTimeMillis) - began) * 1000
      progress?.({ done: now, total, perSecond, left: perSecond > 0 ? (total - now) / perSecond * 1000 : undefined })
      if (now >= total) return
    }
  })
  const fiber = yield* Effect.forkChild(running)
  yield* Effect.raceFirst(Effect.andThen(Fiber.join(fiber), Effect.never), arrived).pipe(
    Effect.ensuring(Fiber.interrupt(fiber)),
  )
  const exit = yield* Fiber.await(fiber)
  if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
    const error = Cause.squash(exit.cause)
    if (error instanceof PipelineError) return yield* error
    return yield* Effect.die(error)
  }
})
