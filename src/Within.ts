/** Time bounds that hold in finalizers too, where nothing can be interrupted. */
import { type Duration, Effect, Fiber, Option } from "effect"

/**
 * Runs an effect for at most `duration`, on a fiber of its own that is interrupted then. Answers none when the time was
 * up. Unlike `Effect.timeout`, it also ends in time when the caller is being interrupted.
 */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  duration: Duration.Input,
): Effect.Effect<Option.Option<A>, E, R> =>
  Effect.flatMap(
    Effect.forkDetach(Effect.interruptible(Effect.timeoutOption(effect, duration))),
    (fiber) => Fiber.join(fiber),
  )
