/** A pipeline with a repartition, windows, dead letters and late records, and a second one behind it. */
import { Result, Schema } from "effect"
import {
  Aggregate,
  Check,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  repartition,
  Topic,
  Window,
} from "../../src/index.ts"
import type { Cluster } from "../../src/kafka/Cluster.ts"

const minute = 60_000
export const common = { description: "Test", owner: "tests", partitions: 3 }

export const Click = Schema.Struct({ user: Schema.String, page: Schema.String, at: Schema.Int })
export type Click = typeof Click.Type
export const Count = Schema.Struct({
  page: Schema.String,
  start: Schema.Int,
  clicks: Schema.Int,
  final: Schema.Boolean,
})
export type Count = typeof Count.Type

const clicks = (name: string, key: "user" | "page") =>
  Topic.make({
    ...common,
    name,
    schema: Click,
    key: [key, (click) => click[key]],
    eventTime: (click: Click) => click.at,
  })
export const Clicks = clicks("clicks", "user")
export const ByPage = clicks("clicks.by-page", "page")
export const Counts = Topic.make({
  ...common,
  name: "counts",
  schema: Count,
  key: ["page and minute", ({ page, start }) => `${page}@${start / minute}`],
  cleanup: "compact",
})
export const Popular = Topic.make({
  ...common,
  name: "popular",
  schema: Count,
  key: ["page", ({ page }) => page],
  partitions: 1,
})
export const Refused = Topic.bytes({ ...common, name: "clicks.dlt", partitions: 1 })
export const Late = Topic.bytes({ ...common, name: "clicks.late", partitions: 1 })

class Nowhere extends Schema.TaggedError<Nowhere>()("Nowhere", { field: Schema.String, message: Schema.String }) {}

const counting = (guarantee: Pipeline.Guarantee<unknown, Cluster>) =>
  Pipeline.make(
    "counting",
    Ingest.topic(Clicks).pipe(
      Decode.schema,
      Flow.filter((click) => click.user !== "robot", "robot"),
      Check.with((click) =>
        click.page.startsWith("/")
          ? Result.succeed(click)
          : Result.fail(new Nowhere({ field: "page", message: "not a path" }))
      ),
      Failures.route({ DecodeError: DeadLetter.to(Refused), Nowhere: DeadLetter.to(Refused) }),
      repartition(ByPage, { undeliverable: DeadLetter.to(Refused) }),
      Aggregate.count({ name: "minutes", window: Window.tumbling({ size: "1 minute", grace: "30 seconds" }) }),
      Flow.map(({ key, start, value, final }) => ({ page: key, start, clicks: value, final })),
      Deliver.to(Counts),
      Failures.route({
        DecodeError: DeadLetter.to(Refused),
        Keyless: DeadLetter.to(Refused),
        Undeliverable: DeadLetter.to(Refused),
        Late: DeadLetter.to(Late),
      }),
    ),
    guarantee,
  )

export const exactly = counting(Guarantee.exactlyOnce())
export const atLeast = counting(Guarantee.atLeastOnce())

export const popular = Pipeline.make(
  "popular",
  Ingest.topic(Counts).pipe(
    Decode.schema,
    Flow.filter(({ clicks, final }) => final && clicks >= 2, "not popular"),
    Deliver.to(Popular),
    Failures.routeAll(Failures.stop),
  ),
  Guarantee.exactlyOnce(),
)

export const click = (user: string, page: string, seconds: number): Click => ({ user, page, at: seconds * 1_000 })

export const some = [
  click("ann", "/a", 1),
  click("ben", "/a", 2),
  click("robot", "/a", 3),
  click("ann", "/b", 4),
  click("ann", "nowhere", 5),
]

/** Every task's clock is moved on, so that windows of the first minute close. */
export const later = Array.from({ length: 40 }, (_, i) => click(`u${i}`, `/later${i}`, 200))
