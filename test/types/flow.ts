/** What stages of effects, branches and limits must compile to. */
import { Config, Effect, Result, Schema } from "effect"
import {
  Branch,
  CircuitBreaker,
  Decode,
  Deliver,
  Flow,
  Ingest,
  Mask,
  Personal,
  Sample,
  Shed,
  Throttle,
  Topic,
} from "../../src/index.ts"
import { Clicks, Paths } from "./support.ts"

type Check<T extends true> = T
type Eq<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
type Failing<T> = T extends Flow.Flow<unknown, infer F, unknown, unknown> ? F : never
type Tags<T> = Failing<T> extends infer F ? F extends { readonly _tag: infer K } ? K : never : never
type Value<T> = T extends Flow.Flow<infer A, unknown, unknown, unknown> ? A : never

class Slow extends Schema.TaggedError<Slow>()("Slow", { message: Schema.String }) {}
class Down extends Schema.TaggedError<Down>()("Down", { message: Schema.String }) {}
const slow = new Slow({ message: "slow" })

export const decoded = Ingest.topic(Clicks).pipe(Decode.schema)
type Click = Value<typeof decoded>

// Only a time-out makes an effect time out; options that are known later may have one.
export const plain = decoded.pipe(
  Flow.effect((click) => click.at > 1 ? Effect.succeed(click.url) : Effect.fail(slow), { concurrency: 4 }),
)
export type Plain = Check<Eq<[Value<typeof plain>, Tags<typeof plain>], [string, "DecodeError" | "Slow"]>>
export const timed = decoded.pipe(Flow.effect(({ at }) => Effect.succeed(at), { timeout: "1 second" }))
export type Timed = Check<Eq<[Value<typeof timed>, Tags<typeof timed>], [number, "DecodeError" | "TimedOut"]>>
const later: Flow.EffectOptions = {}
export const open = decoded.pipe(Flow.effect(({ at }) => Effect.succeed(at), later))
export type Open = Check<Eq<Tags<typeof open>, "DecodeError" | "TimedOut">>
export const bulk = decoded.pipe(
  Flow.effectAll(
    (clicks) => Effect.succeed(clicks.map(({ at }) => at > 1 ? Result.succeed(at) : Result.fail(slow))),
    { size: 4 },
  ),
)
export type Bulk = Check<Eq<[Value<typeof bulk>, Tags<typeof bulk>], [number, "DecodeError" | "Slow"]>>

// A tap's failures are counted unless it is told to fail records.
export const tapped = decoded.pipe(Flow.tap(({ url }) => void url), Flow.tapEffect(() => Effect.fail(slow)))
export type Tapped = Check<Eq<[Value<typeof tapped>, Tags<typeof tapped>], [Click, "DecodeError"]>>
export const strict = decoded.pipe(Flow.tapEffect(() => Effect.fail(slow), { failures: "fail", timeout: 5 }))
export type Strict = Check<Eq<Tags<typeof strict>, "DecodeError" | "Slow" | "TimedOut">>

// What is beyond a rate or a bound fails records only where it is told to.
export const limited = decoded.pipe(
  Throttle.by({ perSecond: 1, excess: "drop", key: ({ userId }) => userId }),
  Shed.by({ above: "1 minute", keep: ({ at }) => at > 1 }),
  Sample.by({ rate: 0.1, key: ({ userId }) => userId }),
)
export type Limited = Check<Eq<[Value<typeof limited>, Tags<typeof limited>], [Click, "DecodeError"]>>
export const refusing = decoded.pipe(
  Throttle.by({ perSecond: 1, excess: "fail", key: ({ userId }) => userId }),
  Shed.by({ above: "1 minute", excess: "fail" }),
)
export type Refusing = Check<Eq<Tags<typeof refusing>, "DecodeError" | "Throttled" | "Shed">>

// Branches get what has their tag, and the last one the rest.
const Event = Schema.Union([
  Schema.Struct({ type: Schema.Literal("track"), event: Schema.String }),
  Schema.Struct({ type: Schema.Literal("page"), name: Schema.String }),
  Schema.Struct({ type: Schema.Literal("group"), size: Schema.Int }),
])
const Events = Topic.make({ name: "events", description: "", owner: "", schema: Event, partitions: 1 })
export const events = Ingest.topic(Events).pipe(Decode.schema)
type Group = { readonly type: "group"; readonly size: number }
type Page = { readonly type: "page"; readonly name: string }
export const matched = events.pipe(Branch.match("type", {
  track: (flow) => flow.pipe(Flow.map(({ event }) => event)),
  page: (flow) => flow.pipe(Flow.effect(({ name }) => name === "" ? Effect.fail(slow) : Effect.succeed(name.length))),
  group: (flow) => flow.pipe(Flow.filter(({ size }) => size > 1)),
}))
export type Matched = Check<
  Eq<[Value<typeof matched>, Tags<typeof matched>], [string | number | Group, "DecodeError" | "Slow"]>
>
export const rest = events.pipe(
  Branch.match("type", { track: (flow) => flow.pipe(Flow.map(({ event }) => event.length)) }, (rest) => rest),
)
export type Rest = Check<Eq<Value<typeof rest>, number | Page | Group>>
export const byFunction = decoded.pipe(
  Branch.matchBy(
    ({ userId }) => userId,
    { ann: (flow) => flow.pipe(Flow.map(({ at }) => at)) },
    (rest) => rest.pipe(Flow.map(({ url }) => url)),
  ),
)
export type ByFunction = Check<Eq<Value<typeof byFunction>, number | string>>

export const sent = decoded.pipe(
  Deliver.route({ topics: [Paths, Clicks], to: ({ at }) => at > 1 ? Paths : "clicks", of: ({ url }) => url }),
)
export type Sent = Check<
  Eq<[Value<typeof sent>, Tags<typeof sent>], [Click, "DecodeError" | "Undeliverable" | "Unroutable"]>
>

// A circuit that holds lets no failure through that counts.
const policy = { name: "price", failures: 3, within: "10 seconds", wait: "5 seconds" } as const
const price = ({ at }: Click): Effect.Effect<number, Slow | Down> =>
  at > 1 ? Effect.succeed(at) : Effect.fail(at === 1 ? slow : new Down({ message: "down" }))
export const held = decoded.pipe(
  CircuitBreaker.effect((click) => price(click), {
    ...policy,
    counts: ["Down", "TimedOut"],
    whileOpen: "hold",
    timeout: 5,
    concurrency: 3,
  }),
)
export type Held = Check<Eq<[Value<typeof held>, Tags<typeof held>], [number, "DecodeError" | "Slow"]>>
export const allHeld = decoded.pipe(CircuitBreaker.effect((click) => price(click), { ...policy, whileOpen: "hold" }))
export type AllHeld = Check<Eq<Tags<typeof allHeld>, "DecodeError">>
export const failing = decoded.pipe(
  CircuitBreaker.effect((click) => price(click), { ...policy, counts: ["Down"], whileOpen: "fail", timeout: 5 }),
)
export type FailingTags = Check<Eq<Tags<typeof failing>, "DecodeError" | "Slow" | "Down" | "TimedOut" | "CircuitOpen">>
export const instead = decoded.pipe(
  CircuitBreaker.effect((click) => price(click), { ...policy, whileOpen: { fallback: ({ url }) => url } }),
)
export type Instead = Check<
  Eq<[Value<typeof instead>, Tags<typeof instead>], [number | string, "DecodeError" | "Slow" | "Down"]>
>
export const around = decoded.pipe(
  CircuitBreaker.around((flow) => flow.pipe(Flow.effect((click) => price(click)), Flow.map(String)), {
    ...policy,
    counts: ["Down"],
    whileOpen: "hold",
  }),
)
export type Around = Check<Eq<[Value<typeof around>, Tags<typeof around>], [string, "DecodeError" | "Slow" | "Down"]>>
const dynamic: CircuitBreaker.Options<Click, "Down"> = { ...policy, whileOpen: "hold" }
export const unknown = decoded.pipe(CircuitBreaker.effect((click) => price(click), dynamic))
export type Unknown = Check<Eq<Tags<typeof unknown>, "DecodeError" | "Slow" | "Down" | "CircuitOpen">>

// Masked values keep their type, also fields that the schema does not know; the secret may come from anywhere.
const User = Schema.Struct({ userId: Personal.mark(Schema.String) })
export const masked = decoded.pipe(
  Flow.map((click) => ({ ...click, more: 1 })),
  Mask.by(User, { key: { id: "k1", secret: Config.Redacted("SECRET") } }),
)
export type Masked = Check<
  Eq<
    [Value<typeof masked>["more"], Value<typeof masked>["userId"], Tags<typeof masked>],
    [number, string, "DecodeError"]
  >
>
