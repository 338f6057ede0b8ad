/** Waits without chance, for tests that say when something happens. */
import { Effect, Random } from "effect"

/** Every lot that is drawn is this one, from 0 to 1. */
export const withLot = (lot: number) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Random.Random, {
    nextDoubleUnsafe: () => lot,
    nextIntUnsafe: () => Math.floor(lot * 2 ** 32),
  })
