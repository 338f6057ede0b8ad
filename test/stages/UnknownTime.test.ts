/** A merge has no stream time before it has heard both of its inputs: folds that go by it keep what comes until then. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Aggregate, Flow, Fold, merge, type Task, Window } from "../../src/index.ts"
import { committed, type Rec, run, sources } from "../support/FlowRunner.ts"
import { decoded, Others, read, type Reading, Readings } from "../support/StageCases.ts"

const rec = (key: string, at: number): Rec => ({ key, value: JSON.stringify({ id: key, n: 1, at }), timestamp: at })

/** The first three come before the other topic was heard. */
const given = [rec("a", 100), rec("c", 105), rec("a", 110), rec("a", 120), rec("a", 300)]
const others = [rec("b", 115), rec("b", 290), rec("b", 400)]

const fold = Fold.sum(({ n }: Reading) => n)
const emit = { every: 100 }
const windows = {
  tumbling: Window.tumbling({ size: 50 }),
  sliding: Window.sliding({ difference: 50 }),
  session: Window.session({ gap: 50 }),
  count: Window.count({ size: 3 }),
  "count with a time-out": Window.count({ size: 2, timeout: 100 }),
}

const merged = decoded.pipe(merge(read(Others)))

const outcome = (flow: Flow.Flow<string, unknown, Task.PipelineError, Task.Task | Task.Logged>, restartAfter: number) =>
  Effect.gen(function* () {
    const from = (start = committed([])) => {
      const input = (topic: typeof Readings, records: ReadonlyArray<Rec>) =>
        [topic, sources(topic, records, [1, 2], { position: start.positions.get(topic) ?? 0 })] as const
      return run(flow, new Map([input(Readings, given), input(Others, others)]), start)
    }
    const before = (yield* from()).batches.slice(0, restartAfter)
    const { batches } = yield* from(committed(before))
    return [...before, ...batches].flatMap(({ values }) => values)
  })

const shown = Flow.map((result: { readonly key: string; readonly value: number }, { timestamp }) =>
  `${result.key} ${result.value} at ${timestamp}`
)

describe("folds before stream time is known", () => {
  const stages = Object.entries(windows).map(([name, window]) =>
    [name, merged.pipe(Aggregate.windowed({ name: "w", window: window as Window.Session, fold, emit }), shown)] as const
  )
  const running = ["running", merged.pipe(Aggregate.running({ name: "r", fold, emit }), shown)] as const

  it.effect.each([...stages, running])(
    "%s: goes on from what was committed then",
    ([, flow]) =>
      Effect.gen(function* () {
        const whole = yield* outcome(flow, 0)
        assert.isAbove(whole.length, 0)
        for (const value of whole) assert.notInclude(value, "Infinity")
        for (let batches = 1; batches < 3; batches++) {
          assert.deepStrictEqual(yield* outcome(flow, batches), whole, `begun anew after ${batches}`)
        }
      }),
  )

  it.effect("count windows are of the time of the record that fills them, and time out by the records' own times", () =>
    Effect.gen(function* () {
      const [, flow] = stages[4]!
      assert.deepStrictEqual(yield* outcome(flow, 0), [
        "a 2 at 110",
        "c 1 at 110",
        "b 2 at 120",
        "c 1 at 205",
        "a 1 at 215",
        "a 1 at 390",
      ])
    }))
})
