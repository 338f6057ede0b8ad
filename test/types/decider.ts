/** A decider and its stage, with the failures that it must have. */
import { Result, Schema } from "effect"
import { DeadLetter, Decider, Failures, type Flow, Guarantee, Pipeline, Reply, Topic } from "../../src/index.ts"
import { checked, Click, Dlt } from "./support.ts"

export class TooOld extends Schema.TaggedError<TooOld>()("TooOld", { message: Schema.String, at: Schema.Int }) {}
export class TooMany extends Schema.TaggedError<TooMany>()("TooMany", { message: Schema.String }) {}

const about = { name: "seen", description: "", owner: "", partitions: 1 }
export const Seen = Topic.make({ ...about, schema: Schema.Struct({ version: Schema.Int, at: Schema.Int }) })
export const Refused = Topic.make({ ...about, name: "refused", schema: Schema.Struct({ at: Schema.Int }) })

type Click = typeof Click.Type

export const rules = {
  name: "clicks",
  state: Schema.Int,
  event: Schema.Struct({ at: Schema.Int }),
  rejection: Schema.Union([TooOld, TooMany]),
  initial: 0,
  aggregate: (click: Click) => click.userId,
  commandId: (click: Click) => click.url,
  evolve: (_: number, { at }: { readonly at: number }) => at,
}

export const clicks = Decider.make({
  ...rules,
  decide: (last, { at }) => {
    if (at < last) return Result.fail(new TooOld({ message: "older than the last", at }))
    return at === last ? Result.fail(new TooMany({ message: "two at a time" })) : Result.succeed([{ at }])
  },
})

type Check<T extends true> = T
type Eq<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
type Tags<T> = T extends Flow.Flow<unknown, infer F, unknown, unknown>
  ? F extends { readonly _tag: infer K } ? K : never
  : never

export const decided = checked.pipe(Decider.stage(clicks))
type OfStage = "DecodeError" | "InvalidClick" | "TooOld" | "TooMany" | "Keyless" | "Undecidable"
export type AllTags = Check<Eq<Tags<typeof decided>, OfStage>>

export const published = checked.pipe(
  Decider.stage(clicks, { publish: Decider.to(Seen, ({ version, event }) => ({ version, at: event.at })) }),
)
export type PublishedTags = Check<Eq<Tags<typeof published>, OfStage | "Undeliverable">>

export const pipeline = Pipeline.make(
  "clicks",
  published.pipe(
    Failures.route({ TooOld: Reply.to(Refused, ({ at }) => ({ at })), TooMany: Failures.skip }),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Guarantee.exactlyOnce(),
)

/** A decider that refuses nothing adds no tag of its own. */
export const willing = checked.pipe(
  Decider.stage(Decider.make({ ...rules, rejection: Schema.Never, decide: (_, { at }) => Result.succeed([{ at }]) })),
)
export type WillingTags = Check<Eq<Tags<typeof willing>, Exclude<OfStage, "TooOld" | "TooMany">>>
