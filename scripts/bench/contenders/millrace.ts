/** The job as two pipelines of Millrace. `millrace.ts BROKERS RUN [exactlyOnce|atLeastOnce]` */
import { Effect, Result, Schema } from "effect"
import * as Sessions from "../../../src/clickstream/Sessions.ts"
import {
  Aggregate,
  Check,
  DeadLetter,
  Decode,
  Deduplicate,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  KafkaClient,
  Pipeline,
  Runner,
  Topic,
  Window,
} from "../../../src/index.ts"
import { collectGarbageSooner } from "../../../src/programs/memory.ts"
import { partitions } from "../job.ts"

collectGarbageSooner()

const [brokers = "", run = "", guaranteed = "exactlyOnce"] = process.argv.slice(2)
const guarantee = () => guaranteed === "atLeastOnce" ? Guarantee.atLeastOnce() : Guarantee.exactlyOnce()
const common = { description: "Benchmark", owner: "bench", partitions }

const click = {
  eventId: Schema.String,
  user: Schema.String,
  path: Schema.String,
  at: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)),
  referrer: Schema.String,
  agent: Schema.String,
}
const Raw = Topic.make({ ...common, name: "raw", schema: Schema.Struct(click), eventTime: ({ at }) => at })
const Enriched = Topic.make({
  ...common,
  name: `${run}-enriched`,
  schema: Schema.Struct({ ...click, session: Schema.String }),
  eventTime: ({ at }) => at,
})
const Counts = Topic.make({
  ...common,
  name: `${run}-counts`,
  schema: Schema.Struct({ user: Schema.String, minute: Schema.Int, clicks: Schema.Int }),
  key: ["user and minute", ({ user, minute }) => `${user}@${minute}`],
})
const Dlt = Topic.bytes({ ...common, name: `${run}-dlt` })

class NoPath extends Schema.TaggedError<NoPath>()("NoPath", { message: Schema.String }) {}

const enrich = Pipeline.make(
  `${run}-enrich`,
  Ingest.topic(Raw).pipe(
    Decode.schema,
    Check.with((click) =>
      click.path.startsWith("/")
        ? Result.succeed({ ...click, eventTime: click.at })
        : Result.fail(new NoPath({ message: "" }))
    ),
    Deduplicate.by({ name: "seen", id: ({ eventId }) => eventId }),
    Sessions.by({ name: "sessions" }),
    Flow.map(({ session, eventTime: _, ...click }) => ({ ...click, session: session.id })),
    Deliver.to(Enriched),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  guarantee(),
)

const count = Pipeline.make(
  `${run}-count`,
  Ingest.topic(Enriched).pipe(
    Decode.schema,
    Aggregate.count({ name: "minutes", window: Window.tumbling({ size: "1 minute", grace: "10 minutes" }) }),
    Flow.map(({ key, start, value }) => ({ user: key, minute: start, clicks: value })),
    Deliver.to(Counts),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  guarantee(),
)

const both = Effect.all([Runner.run(enrich), Runner.run(count)], { concurrency: "unbounded", discard: true })
const fiber = Effect.runFork(Effect.provide(both, KafkaClient.layer({ brokers: brokers.split(",") })))
process.on("SIGTERM", () => fiber.interruptUnsafe())
fiber.addObserver(() => process.exit(0))
