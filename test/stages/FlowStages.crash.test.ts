/** Effects, branches, chosen topics, samples and masks in one pipeline that dies at every request it makes. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Result, Schema } from "effect"
import {
  Branch,
  Check,
  CircuitBreaker,
  DeadLetter,
  Decode,
  Deduplicate,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Mask,
  Personal,
  Pipeline,
  Sample,
  Throttle,
  Topic,
} from "../../src/index.ts"
import { atEveryStep } from "../../src/testing/index.ts"

const about = { description: "Test", owner: "tests", partitions: 2 }
const Event = Schema.Struct({
  id: Schema.Int,
  user: Personal.mark(Schema.String, { policy: Mask.tokenise() }),
  kind: Schema.Literals(["a", "b", "c"]),
})
const key = ["user", ({ user }: typeof Event.Type) => user] as const
const Events = Topic.make({ ...about, name: "events", schema: Event, key })
const Low = Topic.make({ ...about, name: "low", schema: Event, key })
const High = Topic.make({ ...about, name: "high", schema: Event, key })
const Dlt = Topic.bytes({ ...about, name: "dlt" })

class Twelve extends Schema.TaggedError<Twelve>()("Twelve", { message: Schema.String }) {}

/** Takes longer for some, so that effects at the same time end in another order. */
const slowly = (event: typeof Event.Type) => Effect.delay(Effect.succeed(event), (event.id * 7) % 5)

const pipeline = Pipeline.make(
  "sorting",
  Ingest.topic(Events).pipe(
    Decode.schema,
    Deduplicate.by({ name: "seen", id: ({ id }) => String(id) }),
    Flow.effect(slowly, { concurrency: 4, timeout: "1 minute", rate: { perSecond: 200, burst: 3 } }),
    Flow.effectAll((events) => Effect.succeed(events.map((event) => Result.succeed(event))), {
      size: 2,
      concurrency: 2,
    }),
    Mask.by(Events, { key: { id: "k", secret: Redacted.make("0123456789abcdef") } }),
    Branch.match("kind", {
      a: (flow) =>
        flow.pipe(
          Check.with((event) => event.id === 12 ? Result.fail(new Twelve({ message: "no" })) : Result.succeed(event)),
        ),
      b: (flow) => flow.pipe(Sample.by({ rate: 0.5, key: ({ id }) => String(id) })),
    }, (rest) => rest.pipe(Throttle.by({ perSecond: 100, burst: 2 }))),
    CircuitBreaker.effect(slowly, { name: "c", failures: 1, within: 1_000, wait: 1_000, whileOpen: "hold" }),
    Deliver.route({ topics: [Low, High], to: ({ id }) => id < 10 ? "low" : High }),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Guarantee.exactlyOnce(),
)

const kinds = ["a", "b", "c"] as const
const events = Array.from(
  { length: 16 },
  (_, id) => ({ id, user: `user ${id % 3}`, kind: kinds[id % 3 === 0 ? 0 : id % 2 + 1]! }),
)

describe("a pipeline of flow stages", () => {
  it("writes the same whatever request it dies at", async () => {
    const crashes = await Effect.runPromise(
      atEveryStep({ pipelines: pipeline, logLevel: "None" }, (driver) =>
        Effect.gen(function* () {
          yield* driver.feed(Events, events.slice(0, 9))
          yield* driver.settle
          yield* driver.feed(Events, events.slice(5))
          yield* driver.settle
          // Per key, in order: which batches partitions were in when the process died may differ.
          const ids = (of: ReadonlyArray<{ readonly value: typeof Event.Type | null }>) =>
            [...Map.groupBy(of, ({ value }) => value!.user)].map(([user, of]) =>
              `${user}: ${of.map(({ value }) => value!.id).join()}`
            ).sort()
          const refused = (yield* driver.readBytes(Dlt)).map(({ value }) => JSON.parse(String(Buffer.from(value!))))
          assert.deepStrictEqual(refused, [events[12]])
          const low = ids(yield* driver.read(Low))
          assert.strictEqual(low.length, 3)
          return [low, ids(yield* driver.read(High))]
        })),
    )
    assert.isAbove(crashes, 30)
  }, 120_000)
})
