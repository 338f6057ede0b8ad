/** Names that nobody else has. */
import { Effect, Random } from "effect"

/** 128 random bits in hexadecimal, drawn from Effect's `Random` so that simulations replay. */
export const make: Effect.Effect<string> = Effect.map(
  Effect.all(Array.from({ length: 4 }, () => Random.nextIntBetween(0, 2 ** 32, { halfOpen: true }))),
  (words) => words.map((word) => word.toString(16).padStart(8, "0")).join(""),
)
