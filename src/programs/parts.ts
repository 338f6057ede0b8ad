/** Programs of several parts that run beside each other. */
import { Cause, Deferred, Effect, Option, type Scope } from "effect"
import type { Task } from "../index.ts"

type Failure = Task.PipelineError

/** Runs a part until the scope ends. */
export type InBackground = <R>(part: Effect.Effect<void, Failure, R>) => Effect.Effect<void, never, R | Scope.Scope>

/**
 * Runs `body`, which starts parts in the background, until it ends or a part fails. What was started last is stopped first:
 * what still flows finds the next part at work. A failure of a part, also one of its end, is the failure of the whole.
 */
export const together = <A, E, R>(
  body: (inBackground: InBackground) => Effect.Effect<A, E, R>,
): Effect.Effect<A, E | Failure, Exclude<R, Scope.Scope>> =>
  Effect.suspend(() => {
    const failed = Deferred.makeUnsafe<never, Failure>()
    const inBackground: InBackground = (part) =>
      Effect.asVoid(Effect.forkScoped(
        Effect.onError(
          part,
          (cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : Deferred.failCause(failed, cause),
        ),
      ))
    return Effect.raceFirst(body(inBackground), Deferred.await(failed)).pipe(
      Effect.scoped,
      Effect.onExit(() => Effect.flatMap(Deferred.poll(failed), Option.getOrElse(() => Effect.void))),
    )
  })
