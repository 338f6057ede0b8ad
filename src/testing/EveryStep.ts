/** The same test again and again, with a fault at every step in turn. */
import { Cause, Effect, Exit } from "effect"
import * as Faults from "../kafka/Faults.ts"
import type { PipelineError } from "../Task.ts"
import type { Driver, Left, Options, Pipelines } from "./Controls.ts"
import { difference } from "./Difference.ts"
import { DriverError } from "./DriverError.ts"
import type { Call } from "./Network.ts"
import { runWith } from "./Run.ts"

export interface StepsOptions<P extends Pipelines, in A, S = never, E = never> extends Options<P, S, E> {
  /** What happens at a step, by the words for it; unless given, `a crash before` it and `a crash after` it. */
  readonly faults?: Readonly<Record<string, Faults.Fault>>
  /** The calls that count as steps; all but long polls and heartbeats unless given. */
  readonly steps?: (call: Call) => boolean
  /** At most so many steps, evenly spread; all unless given. */
  readonly most?: number
  /** Only this step, in the words of a failure: `a crash before EndTxn 3`. */
  readonly only?: string
  /**
   * Whether an outcome with a fault is as good as the one without; deeply equal unless given. Under at-least-once records
   * may be there twice.
   */
  readonly same?: (outcome: A, whole: A) => boolean
}

const crashes: Readonly<Record<string, Faults.Fault>> = {
  "a crash before": Faults.crash(Effect.void),
  "a crash after": Faults.crashAfter(Effect.void),
}

/** Long polls and heartbeats are many, and a crash at one of them is as good as one at the next other call. */
const matters = ({ operation }: Call): boolean => operation !== "Fetch" && operation !== "Heartbeat"

/**
 * Runs a test once without faults, and then once for each call that its programs made to the brokers and each fault. What
 * it answers must be the same every time. Programs that die are followed by others. Answers how many runs with a fault
 * there were. Fails with `Differs` at the first step where the outcome is another, or where the test itself fails; the
 * message names the step, and with it as `only` it replays. The test itself injects nothing for all programs.
 */
export const atEveryStep = <const P extends Pipelines, A, E, R, S = never, E2 = never>(
  options: StepsOptions<P, A, S, E2>,
  test: (driver: Driver) => Effect.Effect<A, E, R>,
): Effect.Effect<number, E | E2 | DriverError | PipelineError, Left<P, R, S>> =>
  Effect.gen(function* () {
    const [outcome, calls] = yield* runWith(options, {}, (driver) => Effect.all([test(driver), driver.calls]))
    const steps = calls.filter(options.steps ?? matters)
    const most = options.only === undefined ? Math.min(steps.length, options.most ?? Infinity) : steps.length
    const chosen = Array.from({ length: most }, (_, i) => steps[Math.floor(i * steps.length / most)]!)
    let runs = 0
    for (const { operation, count } of chosen) {
      for (const [words, fault] of Object.entries(options.faults ?? crashes)) {
        const step = `${words} ${operation} ${count}`
        if (options.only !== undefined && options.only !== step) continue
        runs++
        let met = false
        const plan = watching(Faults.at(operation, count, fault), () => met = true)
        const exit = yield* Effect.exit(runWith(options, { plan, supervised: true }, test))
        if (Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.interrupt
        const problem = Exit.isFailure(exit)
          ? Cause.pretty(exit.cause)
          : !met
          ? "the call was not made: the test does not do the same every time"
          : options.same === undefined
          ? difference(outcome, exit.value)
          : options.same(exit.value, outcome)
          ? undefined
          : "the outcome is not as good as without"
        if (problem === undefined) continue
        return yield* new DriverError({
          reason: "Differs",
          message: `${step}: ${problem}\n  replay: only: ${JSON.stringify(step)}`,
          ...Exit.isFailure(exit) ? { cause: Cause.squash(exit.cause) } : {},
        })
      }
    }
    if (runs === 0) {
      const made = steps.map(({ operation, count }) => `${operation} ${count}`).join(", ")
      const message = `there is no step ${options.only ?? "to try"}: without faults the calls are ${made || "none"}`
      return yield* new DriverError({ reason: "Unknown", message })
    }
    return runs
  })

/** Tells when a plan has a fault for a call. */
const watching = ({ start }: Faults.Plan, told: () => void): Faults.Plan => ({
  start: () => {
    const decide = start()
    return (call) => {
      const fault = decide(call)
      if (fault !== undefined) told()
      return fault
    }
  },
})
