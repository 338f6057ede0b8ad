import { Result } from "effect"
import { DeadLetter, Decider, Failures, Guarantee, Pipeline, Reply } from "../../src/index.ts"
import { clicks, decided, Refused, rules, Seen, TooMany } from "./decider.ts"
import { checked, Dlt, InvalidClick } from "./support.ts"

// A rejection that the table leaves out is named.
const open = decided.pipe(
  Failures.route({
    DecodeError: DeadLetter.to(Dlt),
    InvalidClick: DeadLetter.to(Dlt),
    Keyless: DeadLetter.to(Dlt),
    Undecidable: DeadLetter.to(Dlt),
    TooMany: Failures.skip,
  }),
)
//! "unrouted failures": "TooOld"
export const one = Pipeline.make("one", open, Guarantee.exactlyOnce())

// A rejection that the decider does not declare cannot be remembered.
//! Type 'InvalidClick' is not assignable to type 'TooMany | TooOld'
export const undeclared = Decider.make({
  ...rules,
  decide: (_, { at }) =>
    at > 0 ? Result.fail(new TooMany({ message: "" })) : Result.fail(new InvalidClick({ message: "" })),
})

// An event that the decider does not declare either.
//! Type 'string' is not assignable to type 'number'
export const unknown = Decider.make({
  ...rules,
  decide: () => Result.succeed([{ at: "now" }]),
})

// What is published is what the topic's contract says.
//! Property 'version' is missing
export const unversioned = checked.pipe(Decider.stage(clicks, { publish: Decider.to(Seen, ({ event }) => event) }))

// An answer to a rejection is what its topic's contract says.
//! Type 'string' is not assignable to type 'number'
export const answered = decided.pipe(Failures.route({ TooOld: Reply.to(Refused, ({ message }) => ({ at: message })) }))
