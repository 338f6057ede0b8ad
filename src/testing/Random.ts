/** A property of a pipeline: the same test from many seeds, each with input, cuts and crashes of its own. */
import { Cause, Effect } from "effect"
import type { PipelineError } from "../Task.ts"
import type { Driver, Left, Options, Pipelines } from "./Controls.ts"
import { Dice, seeds } from "./Dice.ts"
import { DriverError } from "./DriverError.ts"
import { runWith } from "./Run.ts"

export interface RandomOptions<P extends Pipelines, S = never, E = never> extends Omit<Options<P, S, E>, "seed"> {
  /**
   * How many seeds, from 1, or which; 20 unless given. Where they are only counted and the environment has `SEED`, that one
   * alone, or those from one to another (`SEED=1000..2000`).
   */
  readonly runs?: number | ReadonlyArray<number>
  /**
   * Whether programs start, stop and crash, and requests fail, while records are fed; true unless given. Otherwise what is
   * fed is only cut into parts that come one after the other.
   */
  readonly crashes?: boolean
}

/**
 * Runs a test from many seeds. It draws its input from the dice, feeds it, settles, and compares what came out with a
 * reference of its own; whatever it fails with or throws is a failure. What it feeds is cut at random, and between the
 * parts programs come and go; `settle` mends the network and sees to it that each pipeline has a program. Fails with
 * `Differs` at the first seed that fails; the message names it, and it replays alone.
 */
export const atRandom = <const P extends Pipelines, E, R, S = never, E2 = never>(
  options: RandomOptions<P, S, E2>,
  test: (driver: Driver, dice: Dice) => Effect.Effect<void, E, R>,
): Effect.Effect<void, DriverError, Left<P, R, S>> =>
  Effect.suspend(() =>
    Effect.forEach(
      seedsOf(options.runs ?? 20),
      (seed) =>
        Effect.suspend((): Effect.Effect<void, E | E2 | PipelineError, Left<P, R, S>> => {
          const crashes = options.crashes ?? true
          // Other dice than the test's, which draw the same input with crashes and without.
          const chaos = { dice: new Dice(seed ^ 0x5bd1e995), crashes }
          return runWith(
            { ...options, seed },
            { chaos, supervised: crashes },
            (driver) => test(driver, new Dice(seed)),
          )
        }).pipe(
          Effect.catchCause((cause) => {
            if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
            const message = `SEED=${seed} fails: ${Cause.pretty(cause)}`
            return Effect.fail(new DriverError({ reason: "Differs", message, cause: Cause.squash(cause) }))
          }),
        ),
      { discard: true },
    )
  )

const seedsOf = (runs: number | ReadonlyArray<number>): ReadonlyArray<number> =>
  typeof runs === "number" ? seeds(runs) : runs
