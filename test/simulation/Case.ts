/** A case is a system and the decisions of a run. One that fails is made small, and is told with the way to see it again. */
import { Cause, Effect, Exit } from "effect"
import { type Decision, show } from "./Decision.ts"
import { placesOf, shrink, textOf } from "./Shrink.ts"
import { type Options, type Ran, run, type System } from "./World.ts"

export interface Case {
  readonly system: System
  readonly decisions: ReadonlyArray<Decision>
  readonly options: Options
  /** How to run it again: the beginning of a command line. */
  readonly replay: string
}

/** Why a case fails; nothing where it does not. */
export const problemOf = (exit: Exit.Exit<Ran>): Error | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  const error = Cause.squash(exit.cause)
  return error instanceof Error ? error : new Error(String(error))
}

/** Failures are told apart by kind: what never ends is another failure than what ends wrong. */
const kindOf = ({ message }: Error): string => message.startsWith("not done") ? "not done" : "wrong"

export interface Failed {
  readonly problem: Error
  readonly decisions: ReadonlyArray<Decision>
  readonly text: string
}

/** The smallest case that fails as this one does. */
export const smallest = Effect.fnUntraced(function* (failing: Case, problem: Error, most?: number) {
  const { system, decisions, options, replay } = failing
  let last = problem
  const fails = (some: ReadonlyArray<Decision>) =>
    Effect.map(Effect.exit(run(system, some, options)), (exit) => {
      const found = problemOf(exit)
      if (found === undefined || kindOf(found) !== kindOf(problem)) return false
      last = found
      return true
    })
  const places = yield* shrink(decisions, fails, most)
  const left = places.map((place) => decisions[place]!)
  const text = [
    last.message,
    `after ${left.length} of ${decisions.length} decisions:`,
    ...left.map((decision) => `  ${show(decision)}`),
    `seen again by KEEP=${textOf(places)} ${replay}`,
  ].join("\n")
  return { problem: last, decisions: left, text } satisfies Failed
})

/** Runs a case; where it fails, that of the smallest case that does is the error. `KEEP` runs a part of it as it is. */
export const attempt = (given: Case): Effect.Effect<Ran> =>
  Effect.gen(function* () {
    const keep = process.env["KEEP"]
    if (keep !== undefined) {
      const places = placesOf(keep)
      return yield* run(given.system, given.decisions.filter((_, i) => places.has(i)), given.options)
    }
    const exit = yield* Effect.exit(run(given.system, given.decisions, given.options))
    const problem = problemOf(exit)
    if (problem === undefined) return yield* exit
    const { text } = yield* smallest(given, problem)
    return yield* Effect.die(new Error(text))
  })
