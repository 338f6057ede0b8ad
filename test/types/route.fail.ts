import { Check, DeadLetter, Failures, Flow } from "../../src/index.ts"
import { Result } from "effect"
import { checked, Dlt } from "./support.ts"

// A tag that no stage fails with does not compile.
//! Did you mean to write 'InvalidClick'?
export const misspelt = checked.pipe(Failures.route({ InvalidClik: DeadLetter.to(Dlt) }))

// A failure without a tag cannot be routed.
//! Type 'string' is not assignable to type 'Failure'
export const tagless = checked.pipe(Check.with((click) => click.at > 0 ? Result.succeed(click) : Result.fail("text")))

// A stage cannot use a field that the stage before has taken away.
//! Property 'url' does not exist
export const gone = checked.pipe(Flow.map(({ userId }) => ({ userId })), Flow.map((click) => click.url))
