/** Joins that must not compile. */
import { Guarantee, Join, Pipeline } from "../../src/index.ts"
import { asOf, orders, users } from "./joins.ts"

//! 'user' is possibly 'undefined'
export const missing = orders.pipe(Join.table(users, { name: "a", kind: "left", join: (_, user) => user.name }))

//! Property 'value' is missing
export const unlogged = orders.pipe(Join.asOf(users, { name: "a", history: 1, grace: 1, join: (_, user) => user }))

//! "unrouted failures": "DecodeError" | "Keyless" | "Late"
export const unrouted = Pipeline.make("unrouted", asOf, Guarantee.exactlyOnce())

//! Property 'row' is missing
export const untold = orders.pipe(Join.table(orders, { name: "a", join: (order) => order }))
