/** What goes wrong in functions and effects of users stops their task, at the record, and says so: never silently. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Result, Schedule, Schema } from "effect"
import {
  type Batch,
  CircuitBreaker,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  Topic,
} from "../../src/index.ts"
import { Driver } from "../../src/testing/index.ts"

const about = { owner: "tests", partitions: 1, description: "Numbers" }
const In = Topic.make({ ...about, name: "in", schema: Schema.Int })
const Out = Topic.make({ ...about, name: "out", schema: Schema.Int })
const Dlt = Topic.bytes({ ...about, name: "dlt" })

class Odd extends Schema.TaggedError<Odd>()("Odd", { message: Schema.String }) {}
const odd = new Odd({ message: "odd" })

const pipeline = <F extends { readonly _tag: string; readonly message: string }, E>(flow: Flow.Flow<number, F, E>) =>
  Pipeline.make("numbers", flow.pipe(Deliver.to(Out), Failures.routeAll(DeadLetter.to(Dlt))), Guarantee.exactlyOnce())

const read = Ingest.topic(In).pipe(Decode.schema) as Flow.Flow<number, Decode.DecodeError>

/** Runs until its task stops; what it says then. */
const failing = <F extends { readonly _tag: string; readonly message: string }, E>(
  flow: Flow.Flow<number, F, E>,
  values = [0, 1, 2],
) =>
  Driver.run({ pipelines: pipeline(flow) }, (driver) =>
    Effect.gen(function* () {
      yield* driver.feed(In, values)
      const { message, reason } = yield* Effect.flip(driver.settle)
      assert.strictEqual(reason, "Ended", message)
      assert.deepStrictEqual(yield* driver.values(Out), [])
      return message
    }))

const throws = (): never => {
  throw new TypeError("boom")
}

describe("a stage", () => {
  it.effect("stops at the record whose effect somebody else has interrupted", () =>
    Effect.gen(function* () {
      const joined = Effect.flatMap(
        Effect.forkChild(Effect.never),
        (fiber) => Effect.andThen(Fiber.interrupt(fiber), Fiber.join(fiber)),
      )
      const interrupted = (n: number) => n === 1 ? joined : Effect.succeed(n)
      assert.include(
        yield* failing(read.pipe(Flow.effect(interrupted))),
        "at topic in partition 0 offset 1: Error: its effect was interrupted",
      )
      assert.include(yield* failing(read.pipe(Flow.effect(interrupted, { concurrency: 3 }))), "offset 1")
    }))

  it.effect("stops its task where its own step was interrupted", () =>
    Effect.gen(function* () {
      const own = Flow.perTask<number, number, never, never, never, never, never>(
        Effect.succeed(<F>(_: Batch.Batch<number, F>) => Effect.interrupt),
        { stage: "own" },
      )
      assert.include(yield* failing(read.pipe(own)), "a stage was interrupted, and not by its task")
    }))
})

describe("a policy", () => {
  it.effect("names the record at which its route throws", () =>
    Effect.gen(function* () {
      const flow = read.pipe(Failures.route({ DecodeError: { writes: [], send: throws } }))
      const message = yield* Driver.run(
        { pipelines: Pipeline.make("numbers", flow, Guarantee.exactlyOnce()) },
        (driver) =>
          Effect.gen(function* () {
            yield* driver.feedBytes(In, ["1", "{"])
            return (yield* Effect.flip(driver.settle)).message
          }),
      )
      assert.include(message, "at topic in partition 0 offset 1: TypeError: boom")
    }))

  it.effect("names the record at which its schedule throws", () =>
    Effect.gen(function* () {
      const retry = Failures.retry(
        Schedule.while(Schedule.spaced("1 second"), (): boolean => throws()),
        Failures.skip,
      )
      const flow = read.pipe(
        Failures.handle(
          { name: "even" },
          Flow.effect((n: number) => n === 2 ? Effect.fail(odd) : Effect.succeed(n)),
          { Odd: retry },
        ),
      )
      assert.include(
        yield* failing(flow as Flow.Flow<number, Decode.DecodeError>),
        "at topic in partition 0 offset 2: TypeError: boom",
      )
    }))
})

describe("a pipeline", () => {
  it.effect("commits no failure that its types do not know of", () =>
    Effect.gen(function* () {
      const flow = read as Flow.Flow<number>
      const message = yield* Driver.run(
        {
          pipelines: Pipeline.make(
            "numbers",
            flow.pipe(Deliver.to(Out), Failures.routeAll(DeadLetter.to(Dlt))),
            Guarantee.exactlyOnce(),
          ),
        },
        (driver) =>
          Effect.gen(function* () {
            yield* driver.feedBytes(In, ["1", "{"])
            yield* driver.settle
            return (yield* driver.letters(Dlt)).length
          }),
      )
      assert.strictEqual(message, 1, "routed at runtime all the same")
      const unrouted = Pipeline.make("numbers", flow, Guarantee.exactlyOnce())
      const failure = yield* Driver.run({ pipelines: unrouted }, (driver) =>
        Effect.gen(function* () {
          yield* driver.feedBytes(In, ["1", "{"])
          return (yield* Effect.flip(driver.settle)).message
        }))
      assert.include(
        failure,
        "DecodeError at topic in partition 0 offset 1: the value is not JSON. No route is there for it",
      )
    }))
})

describe("a circuit that holds", () => {
  it.effect("lets its task go although its calls fail too slowly to open it", () =>
    Driver.run({
      pipelines: pipeline(read.pipe(
        CircuitBreaker.effect(
          (n: number) => n === 1 ? Effect.delay(Effect.fail(odd), "400 millis") : Effect.succeed(n),
          { name: "slow", failures: 5, within: "1 second", wait: "1 second", whileOpen: "hold", concurrency: 2 },
        ),
      ) as Flow.Flow<number, Decode.DecodeError>),
    }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(In, [0, 1, 1])
        yield* driver.advance("5 seconds")
        const [member] = yield* driver.members
        const from = yield* Clock.currentTimeMillis
        yield* member!.stop
        assert.isBelow((yield* Clock.currentTimeMillis) - from, 2_000)
        assert.isUndefined(yield* member!.ended)
      })))

  it.effect("takes a name without a route for none, as programs without exact optional properties can write it", () =>
    Effect.gen(function* () {
      const none = undefined as unknown as Failures.Route
      const routed = read.pipe(
        Failures.handle(
          { name: "all" },
          (flow: Flow.Flow<number>) => flow.pipe(Flow.check((n) => n === 1 ? Result.fail(odd) : Result.succeed(n))),
          { Odd: none },
        ),
        Failures.route({ DecodeError: none }),
      )
      const unrouted = Pipeline.make("numbers", routed, Guarantee.exactlyOnce())
      for (const [bytes, told] of [["1", "Odd at topic in partition 0 offset 1"], ["{", "DecodeError at topic in"]]) {
        const failure = yield* Driver.run({ pipelines: unrouted }, (driver) =>
          Effect.gen(function* () {
            yield* driver.feedBytes(In, ["0", bytes!])
            return (yield* Effect.flip(driver.settle)).message
          }))
        assert.include(failure, told!)
        assert.include(failure, "No route is there for it")
      }
    }))
})
