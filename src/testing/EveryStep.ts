/** A test again and again, with a crash at each request that its programs make. */
import { Effect, Schema } from "effect"
import { inspect, isDeepStrictEqual } from "node:util"
import * as Faults from "../kafka/Faults.ts"
import type { Pipeline } from "../Pipeline.ts"
import type { PipelineError } from "../Task.ts"
import { type Driver, type Needs, type Options, run } from "./Driver.ts"

/** With a crash at a step a test has come to something else than without. */
export class Differs extends Schema.TaggedError<Differs>()("Differs", {
  message: Schema.String,
  pipeline: Schema.String,
  operation: Schema.String,
  /** Which call of the operation, from 1. */
  count: Schema.Int,
}) {}

/**
 * Runs a test once as it is, then once for every request that each pipeline's process has made by then, twice: it crashes
 * before the request is carried out, and after it was and before it hears so; another process follows. Whatever the test
 * answers must be the same every time. Answers how many crashes there were.
 *
 * What holds under exactly-once. Under at-least-once a test may answer only what repeats cannot change.
 */
export const atEveryStep = <A, E2, R2, E, R, S = never, E3 = never>(
  options: Options<E, R, S, E3>,
  test: (driver: Driver) => Effect.Effect<A, E2, R2>,
): Effect.Effect<number, Differs | E2 | E3 | PipelineError, Exclude<Needs<R> | R2, S>> =>
  Effect.gen(function* () {
    const pipelines = [options.pipelines].flat() as ReadonlyArray<Pipeline<E, R>>
    const calm = yield* run(options, (driver) =>
      Effect.gen(function* () {
        const members = yield* driver.members
        const answer = yield* test(driver)
        const calls = yield* Effect.forEach(members, (member) => member.calls)
        return { answer, calls: new Map(members.map(({ pipeline }, i) => [pipeline, calls[i]!])) }
      }))
    let crashes = 0
    for (const { name } of pipelines) {
      for (const { operation, count } of calm.calls.get(name)!.filter(matters)) {
        for (const crash of [Faults.crash, Faults.crashAfter]) {
          crashes++
          const answer = yield* run({ ...options, start: false }, (driver) =>
            Effect.gen(function* () {
              for (const pipeline of pipelines) {
                const plan = Faults.at(operation, count, crash(Effect.void))
                yield* driver.start(pipeline, pipeline.name === name ? plan : Faults.none)
              }
              return yield* test(driver)
            }))
          if (isDeepStrictEqual(answer, calm.answer)) continue
          const when = crash === Faults.crash ? "before" : "after"
          return yield* new Differs({
            pipeline: name,
            operation,
            count,
            message: `with a crash of ${name} ${when} ${operation} ${count} the test has come to ` +
              `${inspect(answer, { depth: 5 })}, and without to ${inspect(calm.answer, { depth: 5 })}`,
          })
        }
      }
    }
    return crashes
  })

/** Long polls and heartbeats are many, and change nothing. */
const matters = ({ operation }: Faults.Call): boolean => operation !== "Fetch" && operation !== "Heartbeat"
