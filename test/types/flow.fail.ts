import {
  Branch,
  CircuitBreaker,
  DeadLetter,
  Failures,
  Flow,
  Guarantee,
  Mask,
  Personal,
  Pipeline,
  Throttle,
} from "../../src/index.ts"
import { Effect, Schema } from "effect"
import { decoded, events } from "./flow.ts"
import { Dlt } from "./support.ts"

// A tag without a branch is named.
//! readonly "no branch for": "group"
export const missing = events.pipe(
  Branch.match("type", { track: (flow) => flow.pipe(Flow.map(({ event }) => event)), page: (flow) => flow }),
)

// So is a branch that no value can take.
//! no value has the tag pgae
export const misspelt = events.pipe(
  Branch.match("type", { pgae: (flow: never) => flow }, (flow) => flow),
)

// A tag is a property that all have.
//! Argument of type '"kind"' is not assignable to parameter of type '"type"'
export const untagged = events.pipe(Branch.match("kind", {}))

// What a function answers must have branches too.
//! readonly "no branch for": "odd"
export const half = decoded.pipe(
  Branch.matchBy(({ at }) => at % 2 === 0 ? "even" : "odd", { even: (flow) => flow }),
)

// A bare stage as a branch forgets what it can fail with, and a pipeline says so.
const bare = events.pipe(
  Branch.match("type", { track: Flow.map(({ type }) => type) }, (rest) => rest),
  Failures.route({ DecodeError: DeadLetter.to(Dlt) }),
)
//! write the branch as (flow) => flow.pipe(stage)
export const piped = Pipeline.make("bare", bare, Guarantee.atLeastOnce())

// Values that a throttle fails must go somewhere.
const throttled = decoded.pipe(
  Throttle.by({ perSecond: 1, excess: "fail" }),
  Failures.route({ DecodeError: DeadLetter.to(Dlt) }),
)
//! "unrouted failures": "Throttled"
export const unrouted = Pipeline.make("throttled", throttled, Guarantee.atLeastOnce())

// Failures that count must be ones that can occur.
const policy = { name: "price", failures: 3, within: "10 seconds", wait: "5 seconds" } as const
//! Type '"Donw"' is not assignable to type '"TimedOut"'
export const circuit = decoded.pipe(
  CircuitBreaker.effect(({ at }) => Effect.succeed(at), { ...policy, counts: ["Donw"], whileOpen: "hold" }),
)

// Of a part of a flow it must be said which failures count.
//! Property 'counts' is missing
export const around = decoded.pipe(CircuitBreaker.around((flow) => flow, { ...policy, whileOpen: "hold" }))

// A mask is for values that have what its schema has.
//! Property 'email' is missing
export const unmasked = decoded.pipe(Mask.by(Schema.Struct({ email: Personal.mark(Schema.String) })))
