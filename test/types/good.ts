/** What must compile, with the types that it must have. */
import { Effect, Schedule, Schema } from "effect"
import {
  Aggregate,
  Branch,
  DeadLetter,
  Deliver,
  Failures,
  Flow,
  Fold,
  Guarantee,
  merge,
  Pipeline,
  Postgres,
  repartition,
  Retry,
  type Task,
  Window,
} from "../../src/index.ts"
import type { Cluster } from "../../src/kafka/Cluster.ts"
import { checked, Click, Clicks, Dlt, Paths, Slow } from "./support.ts"

type Check<T extends true> = T
type Eq<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
type Failing<T> = T extends Flow.Flow<unknown, infer F, unknown, unknown> ? F : never
type Tags<T> = Failing<T> extends infer F ? F extends { readonly _tag: infer K } ? K : never : never

export const twelve = checked.pipe(
  Flow.map((click) => ({ ...click, path: new URL(click.url).pathname })),
  Flow.filter((click) => click.at > 0),
  Flow.flatMap((click) => [click, { ...click, copy: true }]),
  Flow.effect((click) => click.at > 1 ? Effect.succeed(click) : Effect.fail(new Slow({ message: "slow" }))),
  Branch.when((click) => click.path === "/", (flow) => flow.pipe(Flow.map((click) => ({ ...click, home: true })))),
  Deliver.to(Paths),
)
export type AllTags = Check<Eq<Tags<typeof twelve>, "DecodeError" | "InvalidClick" | "Slow" | "Undeliverable">>

export const routed = twelve.pipe(
  Failures.route({ DecodeError: DeadLetter.to(Dlt), Slow: Failures.skip }),
  Failures.routeAll(DeadLetter.to(Dlt)),
)
export type NoTags = Check<Eq<Failing<typeof routed>, never>>

export const pipeline = Pipeline.make("pipeline", routed, Guarantee.exactlyOnce())
export type Needs = Check<
  Eq<typeof pipeline extends Pipeline.Pipeline<unknown, infer R> ? R : 0, Task.Task | Cluster>
>

export const moved = routed.pipe(repartition(Paths, { undeliverable: DeadLetter.to(Dlt) }))
export type MovedTags = Check<Eq<Tags<typeof moved>, "DecodeError">>

export const both = checked.pipe(Flow.map(() => 1), merge(checked.pipe(Flow.map(() => "one"))))
export type Both = Check<Eq<typeof both extends Flow.Flow<infer A, unknown, unknown, unknown> ? A : 0, string | number>>

export class Gone extends Schema.TaggedError<Gone>()("Gone", { message: Schema.String, after: Schema.Int }) {}
const visit = (click: typeof Click.Type): Effect.Effect<{ readonly seen: string }, Slow | Gone> =>
  Effect.succeed({ seen: click.url })
const retries = <const O extends Retry.Order>(order: O) =>
  Retry.topics({ name: "visit", of: Clicks, value: Click, delays: ["1 minute", "1 hour"], order })

export const inPlace = checked.pipe(
  Failures.handle({ name: "visit" }, Flow.effect(visit, { concurrency: 8 }), {
    Slow: Failures.hold(),
    Gone: Failures.retry(
      Schedule.exponential("1 second").pipe(Schedule.while(({ input }: { readonly input: Gone }) => input.after > 0)),
      DeadLetter.to(Dlt),
    ),
  }),
)
export type InPlaceTags = Check<Eq<Tags<typeof inPlace>, "DecodeError" | "InvalidClick">>
export type InPlaceValues = Check<
  Eq<typeof inPlace extends Flow.Flow<infer A, unknown, unknown, unknown> ? A : 0, { readonly seen: string }>
>

export const later = checked.pipe(
  Failures.handle({ name: "visit" }, (flow) => flow.pipe(Deliver.to(Clicks), Flow.effect((click) => visit(click))), {
    Slow: Failures.later(retries("free"), DeadLetter.to(Dlt)),
    Gone: Failures.retry(Schedule.recurs(3), Failures.later(retries("free"))),
  }),
)
export type LaterTags = Check<
  Eq<Tags<typeof later>, "DecodeError" | "InvalidClick" | "Gone" | "Undeliverable" | "Unretriable">
>

/** Without order there is no state, so that any guarantee will do. */
export const stateless = Pipeline.make(
  "stateless",
  later.pipe(Failures.routeAll(DeadLetter.to(Dlt))),
  Postgres.exactlyOnce({ write: (_rows: ReadonlyArray<{ readonly seen: string }>) => Effect.void }),
)

export const kept = checked.pipe(
  Failures.handle({ name: "visit" }, Flow.effect(visit), {
    Slow: Failures.retry(Schedule.recurs(3), Failures.later(retries("kept"), Failures.skip)),
    Gone: Failures.stop,
  }),
  Failures.routeAll(DeadLetter.to(Dlt)),
)
export type KeptNeeds = Check<
  Eq<typeof kept extends Flow.Flow<unknown, unknown, unknown, infer R> ? R : 0, Task.Task | Task.Logged>
>

type Values<T> = T extends Flow.Flow<infer A, unknown, unknown, unknown> ? A : never

export const sessions = checked.pipe(
  Aggregate.windowed({
    name: "sessions",
    window: Window.session({ gap: "30 minutes" }),
    fold: Fold.all({ clicks: Fold.count, last: Fold.max((click) => click.at) }),
  }),
)
export const { clicks, last }: { readonly clicks: number; readonly last: number } =
  (null as unknown as Values<typeof sessions>).value
export type SessionTags = Check<Eq<Tags<typeof sessions>, "DecodeError" | "InvalidClick" | "Late" | "Keyless">>
export const retracted: boolean = (null as unknown as Values<typeof sessions>).retracted

export const tens = checked.pipe(Aggregate.count({ name: "tens", window: Window.count({ size: 10 }) }))
export type CountTags = Check<Eq<Tags<typeof tens>, "DecodeError" | "InvalidClick" | "Keyless">>
export type Tens = Check<Eq<Values<typeof tens>, Window.Counted<number>>>

export const average = checked.pipe(
  Aggregate.windowed({
    name: "average",
    window: Window.hopping({ size: "1 hour", every: "1 minute" }),
    fold: Fold.map(Fold.average((click) => click.at), (at) => `${at}`),
    emit: { every: "10 seconds" },
  }),
)
export type Average = Check<Eq<Values<typeof average>, Window.Windowed<string>>>
