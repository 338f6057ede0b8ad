/** What a table around stages makes of values that branches have woven: the same, whatever is tried again beside them. */
import { assert, it } from "@effect/vitest"
import { Effect, References, Schedule, Schema } from "effect"
import { Aggregate, Failures, Flow, merge, Window } from "../../src/index.ts"
import { type Rec, run, sources } from "../support/FlowRunner.ts"
import { by, JumpingClock } from "../support/JumpingClock.ts"
import { decoded, Readings } from "../support/StageCases.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", { message: Schema.String }) {}

const rec = (key: string, at: number): Rec => ({ key, value: JSON.stringify({ id: key, n: 1, at }), timestamp: at })

/** Each result twice: as it is, and before all of them with a minus. */
const counts = decoded.pipe(
  Aggregate.count({ name: "counts", window: Window.tumbling({ size: 10 }), emit: "final" }),
  Flow.map(({ key, start }) => `${key}${start}`),
)
const twice = counts.pipe(Flow.map((name) => `-${name}`), merge(counts))

const outcome = (cuts: ReadonlyArray<number>) => {
  let tries = 0
  const attempt = Flow.effect((name: string) =>
    name === "-a20" && tries++ === 0 ? Effect.fail(new Busy({ message: "later" })) : Effect.succeed(name)
  )
  const handled = twice.pipe(
    Failures.handle({ name: "tell" }, (flow: Flow.Flow<string>) => flow.pipe(attempt), {
      Busy: Failures.hold(Schedule.spaced("1 second")),
    }),
    by(new JumpingClock(0)),
  )
  const records = [rec("a", 0), rec("b", 1), rec("a", 20), rec("a", 40)]
  return run(handled, new Map([[Readings, sources(Readings, records, cuts)]])).pipe(
    Effect.map(({ batches }) => batches.flatMap(({ values }) => values)),
    Effect.provideService(References.MinimumLogLevel, "None"),
  )
}

it.effect("values of one record or result stand together, wherever batches are cut", () =>
  Effect.gen(function* () {
    const whole = yield* outcome([])
    assert.deepStrictEqual(whole, ["-a0", "a0", "-b0", "b0", "-a20", "a20"])
    assert.deepStrictEqual(yield* outcome([3]), whole)
  }))
