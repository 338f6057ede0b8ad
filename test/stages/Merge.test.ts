/** Merging two topics, against a reading of its rule that is as simple as can be. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Aggregate, Decode, Deduplicate, Flow, Ingest, merge, Task, Topic, Window } from "../../src/index.ts"
import { type Rec, run, sources } from "../support/FlowRunner.ts"
import { forSeeds } from "../support/Seeds.ts"

const topic = (name: string) =>
  Topic.make({
    name,
    description: "",
    owner: "",
    schema: Schema.Struct({ at: Schema.Int }),
    eventTime: (event) => event.at,
    partitions: 1,
  })
const Left = topic("left")
const Right = topic("right")
const left = Ingest.topic(Left).pipe(Decode.schema)
const right = Ingest.topic(Right).pipe(Decode.schema)

const recs = (times: ReadonlyArray<number>): ReadonlyArray<Rec> =>
  times.map((at) => ({ key: "k", value: JSON.stringify({ at }), timestamp: 0 }))

interface Input {
  readonly times: ReadonlyArray<number>
  readonly cuts?: ReadonlyArray<number>
}

const merging = <A, F, E>(flow: Flow.Flow<A, F, E, Task.Task | Task.Logged>, a: Input, b: Input) =>
  run(
    flow,
    new Map([
      [Left as Topic.Any, sources(Left, recs(a.times), a.cuts ?? [])],
      [Right as Topic.Any, sources(Right, recs(b.times), b.cuts ?? [])],
    ]),
  )

/** Which records go on, in order: the one with the lower clock, the left one where clocks are equal. */
const expected = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): ReadonlyArray<string> => {
  const order: Array<string> = []
  let [i, j, clockA, clockB] = [0, 0, -Infinity, -Infinity]
  while (i < a.length || j < b.length) {
    const nextA = i < a.length ? Math.max(clockA, a[i]!) : Infinity
    const nextB = j < b.length ? Math.max(clockB, b[j]!) : Infinity
    if (nextA <= nextB) {
      clockA = nextA
      order.push(`left ${a[i++]}`)
    } else {
      clockB = nextB
      order.push(`right ${b[j++]}`)
    }
  }
  return order
}

describe("merge of two topics", () => {
  it.effect("takes the record that is behind, wherever batches are cut", () =>
    forSeeds(300, (dice, seed) =>
      Effect.gen(function* () {
        const input = () => ({
          times: dice.list(0, 12, () => dice.int(0, 20)),
          cuts: dice.list(0, 4, () => dice.int(0, 12)),
        })
        const [a, b] = [input(), input()]
        const { batches } = yield* merging(left.pipe(merge(right)), a, b)
        const order = batches.flatMap(({ source, values }) => values.map(({ at }) => `${source.topic.name} ${at}`))
        assert.deepStrictEqual(order, expected(a.times, b.times), `SEED=${seed}`)
      })))

  it.effect("finds the same records late, wherever batches are cut", () =>
    Effect.gen(function* () {
      const windows = Aggregate.count({ name: "tens", window: Window.tumbling({ size: 10 }), emit: "final" })
      for (const cuts of [[], [1]]) {
        const { batches } = yield* merging(left.pipe(merge(right), windows), { times: [100, 10] }, {
          times: [60, 120],
          cuts,
        })
        const late = batches.flatMap(({ source, failed }) => failed.map(({ row }) => String(source.bytes[row])))
        assert.deepStrictEqual(late, ['{"at":10}'], `cut at ${cuts}`)
      }
    }))

  it("is refused after stages with state, which change with whole batches", () => {
    const seen = Deduplicate.by({ name: "seen", id: ({ at }: { readonly at: number }) => String(at) })
    for (const made of [() => left.pipe(seen, merge(right)), () => left.pipe(merge(right.pipe(seen)))]) {
      assert.throws(made, /every join .* store seen .*: put that stage behind it, or a repartition/)
    }
    left.pipe(seen, merge(left.pipe(Flow.map(({ at }) => at))))
  })

  it("is refused with an idle time that makes no sense", () => {
    for (const idle of [0, -1, NaN]) assert.throws(() => merge(right, { idle }), RangeError, "idle")
    left.pipe(merge(right, { idle: Infinity }))
  })
})
