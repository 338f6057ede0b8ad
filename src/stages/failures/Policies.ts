/** What a stage does about a failure before it gives the record up. */
import { Schedule, type Types } from "effect"
import type { Named, Route } from "../../Failures.ts"
import { spread } from "../../Jitter.ts"
import type { Logged, Task } from "../../Task.ts"
import type { Order, RetryTopics, Unretriable } from "../Retry.ts"

/** The task waits, and tries the records again until they succeed. */
export interface Hold {
  readonly policy: "hold"
  readonly schedule: Schedule.Schedule<unknown>
}

/** The records are tried again while the task waits; when the schedule ends, `then`. */
export interface InPlace<in F, out Then> {
  readonly policy: "retry"
  readonly schedule: Schedule.Schedule<unknown, F>
  readonly then: Then
}

/** The records wait in retry topics while the task goes on; when they have failed in the last one too, `then`. */
export interface Later<in out A, out O extends Order, out Then> {
  readonly policy: "later"
  readonly topics: RetryTopics<A, O>
  readonly then: Then
}

type End<F> = Route<F> | undefined

/** What can stand beside a tag in the table of `handle`. */
export type Policy<A, F> =
  | Route<F>
  | Hold
  | InPlace<F, End<F> | Later<A, Order, End<F>>>
  | Later<A, Order, End<F>>

/** About a second after the first failure, about twice as long each time, up to about half a minute. */
const patient: Schedule.Schedule<unknown> = Schedule.min([
  Schedule.exponential("1 second"),
  Schedule.spaced("30 seconds"),
]).pipe(spread)

/**
 * For outages: the task waits and tries the records that failed so again until they succeed, by default after 1, 2, 4, 8,
 * 16 and then every 30 seconds, each a fifth more or less, so that the tasks of many do not come back at one moment. Where the schedule ends, its last delay goes on.
 *
 * Everything that this task reads waits meanwhile, and no other task does. A task that is to let go, for a rebalance or a
 * stop, does not wait for the outage: the batch at hand is read again wherever the task goes on, with the effects of its
 * other records.
 */
export const hold = (schedule: Schedule.Schedule<unknown> = patient): Hold => ({ policy: "hold", schedule })

/**
 * Tries the records that failed so again in place, by the schedule, while the task waits. When the schedule ends the record
 * takes the route `then`, or waits in retry topics; without `then` it has failed, and a later table routes it.
 *
 * The schedule must end by itself: what never ends is a `hold`.
 */
export const retry: {
  <F = unknown>(schedule: Schedule.Schedule<unknown, F>): InPlace<F, undefined>
  <F, Then>(schedule: Schedule.Schedule<unknown, F>, then: Then): InPlace<F, Then>
} = <F, Then>(schedule: Schedule.Schedule<unknown, F>, then?: Then) =>
  ({ policy: "retry", schedule, then }) as InPlace<F, Then & undefined>

/**
 * Sends the record to the first of `topics`, with the commit of its position, and goes on. When it is due it is tried
 * again at this stage, never above it, and when it fails again it goes to the next; from the last one it takes the route
 * `then`. Without `then` it has failed, and a later table routes it.
 */
export const later: {
  <A, O extends Order>(topics: RetryTopics<A, O>): Later<A, O, undefined>
  <A, O extends Order, Then>(topics: RetryTopics<A, O>, then: Then): Later<A, O, Then>
} = <A, O extends Order, Then>(topics: RetryTopics<A, O>, then?: Then) =>
  ({ policy: "later", topics, then }) as Later<A, O, Then & undefined>

/** A table of policies, one per tag. */
export type Table<A, F> = { readonly [K in Types.Tags<F>]?: Policy<A, Types.ExtractTag<F, K>> }

/**
 * What a table lacks where it names failures that cannot occur: the compiler's message names them. Where it is wrong in
 * another way, that is said and not this.
 */
export type Occurring<T, F> = unknown extends F ? unknown : [Exclude<keyof T, Types.Tags<F>>] extends [never] ? unknown
: { readonly "the stages inside do not fail with": Exclude<keyof T, Types.Tags<F>> }

/** Whether a record can come out of a policy as failed as it went in. */
type Leaves<P> = P extends { readonly then: infer Then } ? undefined extends Then ? true : Leaves<Then> : false

/** The tags that a table leaves nothing of. */
type Settled<T> = { [K in Named<T>]: true extends Leaves<T[K]> ? never : K }[Named<T>] & string

type OrderOf<P> = P extends { readonly topics: { readonly order: infer O } } ? O
  : P extends { readonly then: infer Then } ? OrderOf<Then>
  : never

type Orders<T> = { [K in keyof T]-?: OrderOf<T[K]> }[keyof T]

/** What can be wrong with a record after a table: what it leaves, and records of retry topics that cannot be tried. */
export type Left<T, F> =
  | Types.ExcludeTag<F, Settled<T>>
  | ([Orders<T>] extends [never] ? never : Unretriable)

/** What a table needs of the task. */
export type Needs<T> = [Orders<T>] extends [never] ? never : "kept" extends Orders<T> ? Task | Logged : Task

type AnyPolicy = Policy<never, never>

/** The policies by tag, as they are at work. */
export const byTag = (table: object): ReadonlyMap<string, AnyPolicy> =>
  new Map(Object.entries(table).filter(([, policy]) => policy !== undefined))

export const isRoute = (policy: AnyPolicy): policy is Route<never> => !("policy" in policy)

/** The part of a policy that is about retry topics. */
export const laterOf = (policy: AnyPolicy | undefined): Later<never, Order, End<never>> | undefined => {
  if (policy === undefined || isRoute(policy)) return undefined
  if (policy.policy === "later") return policy
  if (policy.policy === "hold" || policy.then === undefined) return undefined
  return "policy" in policy.then ? policy.then : undefined
}

/** The route that a policy ends with, where it has one. */
export const routeOf = (policy: AnyPolicy | undefined): Route<never> | undefined => {
  if (policy === undefined || isRoute(policy)) return policy
  if (policy.policy === "hold") return undefined
  const { then } = policy
  return then !== undefined && "policy" in then ? then.then : then
}
