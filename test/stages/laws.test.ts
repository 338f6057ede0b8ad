/** Laws 0 to 4 of every stage, over random records cut into batches anywhere. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Result, Schema } from "effect"
import type { Batch, Failed } from "../../src/Batch.ts"
import { row } from "../../src/Batch.ts"
import {
  Aggregate,
  Branch,
  Check,
  Decode,
  Deduplicate,
  Deliver,
  Flow,
  Ingest,
  merge,
  Topic,
  Window,
} from "../../src/index.ts"
import * as Sessions from "../../src/clickstream/Sessions.ts"
import type { Logged, PipelineError, Task } from "../../src/Task.ts"
import { type Rec, run, sources } from "../support/FlowRunner.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"

const Reading = Schema.Struct({ id: Schema.String, n: Schema.Int, at: Schema.Int })
type Reading = typeof Reading.Type

const Readings = Topic.make({
  name: "readings",
  description: "Test input",
  owner: "tests",
  schema: Reading,
  eventTime: (reading: Reading) => reading.at,
  partitions: 1,
})
const Results = Topic.make({
  name: "results",
  description: "Test output",
  owner: "tests",
  schema: Schema.Struct({ id: Schema.String, n: Schema.Int }),
  partitions: 1,
  maxMessageBytes: 160,
})

class Odd extends Schema.TaggedError<Odd>()("Odd", { message: Schema.String }) {}

const decoded = Ingest.topic(Readings).pipe(Decode.schema)
const odd = (reading: Reading) => reading.n % 2 === 1
const refuseOdd = Check.with((reading: Reading) =>
  odd(reading) ? Result.fail(new Odd({ message: "odd" })) : Result.succeed(reading)
)

/** What is observed of a value, for comparing runs. */
type Outcome = readonly [key: string | null, value: unknown]

interface Case {
  readonly name: string
  readonly flow: Flow.Flow<unknown, unknown, PipelineError, Task | Logged>
  /** Streams keep every value; of a table the last value per key counts. */
  readonly table?: (value: never) => string
  /** How many of the stage's values may come from one value; 1 unless said. */
  readonly fansOut?: true
}

const cases: ReadonlyArray<Case> = [
  { name: "decode", flow: decoded },
  { name: "map", flow: decoded.pipe(Flow.map((reading) => ({ ...reading, twice: reading.n * 2 }))) },
  { name: "filter", flow: decoded.pipe(Flow.filter((reading) => reading.n > 3, "small")) },
  {
    name: "flatMap",
    flow: decoded.pipe(Flow.flatMap((reading) => Array.from({ length: reading.n % 4 }, (_, i) => ({ ...reading, i })))),
    fansOut: true,
  },
  { name: "check", flow: decoded.pipe(refuseOdd) },
  {
    name: "check after flatMap",
    flow: decoded.pipe(
      Flow.flatMap((reading) => [reading, { ...reading, n: reading.n + 1 }]),
      refuseOdd,
    ),
    fansOut: true,
  },
  {
    name: "effect",
    flow: decoded.pipe(
      Flow.effect((reading) => odd(reading) ? Effect.fail(new Odd({ message: "odd" })) : Effect.succeed(reading.n), {
        concurrency: 4,
      }),
    ),
  },
  {
    name: "branch",
    flow: decoded.pipe(
      Branch.when(
        odd,
        (flow) => flow.pipe(Flow.map((reading) => ({ ...reading, odd: true })), Flow.filter((r) => r.n > 3)),
      ),
    ),
  },
  {
    name: "branch that fails",
    flow: decoded.pipe(
      Flow.flatMap((reading) => [reading, { ...reading, n: reading.n + 1 }]),
      Branch.when(odd, (flow) => flow.pipe(refuseOdd)),
    ),
    fansOut: true,
  },
  {
    name: "merge of two branches",
    flow: decoded.pipe(Flow.filter(odd), Flow.map((r) => r.id), merge(decoded.pipe(refuseOdd, Flow.map((r) => r.n)))),
    fansOut: true,
  },
  {
    name: "merge of two branches of a flow that drops, sends and fails",
    flow: (() => {
      const prefix = decoded.pipe(Flow.filter((r) => r.n > 1), Deliver.to(Results), refuseOdd)
      return prefix.pipe(Flow.filter((r) => r.n > 3), merge(prefix.pipe(Flow.filter((r) => r.n <= 3))))
    })(),
    fansOut: true,
  },
  { name: "deliver", flow: decoded.pipe(Deliver.to(Results)) },
  { name: "deliver, then check", flow: decoded.pipe(Deliver.to(Results), refuseOdd) },
  {
    name: "window finals of what a filter left",
    flow: decoded.pipe(
      Flow.filter((reading) => reading.n > 7),
      Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }), emit: "final" }),
    ),
  },
  {
    name: "deduplicate",
    flow: decoded.pipe(Deduplicate.by({ name: "seen", id: (reading) => reading.id, window: "2 minutes" })),
  },
  {
    name: "deduplicate with a cap",
    flow: decoded.pipe(Deduplicate.by({ name: "seen", id: (reading) => reading.id, window: "2 minutes", atMost: 2 })),
  },
  {
    name: "window updates",
    flow: decoded.pipe(
      Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute", grace: "30 seconds" }) }),
    ),
    table: (value: Aggregate.Windowed<number>) => `${value.key}@${value.start}`,
  },
  {
    name: "window finals",
    flow: decoded.pipe(
      Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }), emit: "final" }),
    ),
  },
  {
    name: "sessions",
    flow: decoded.pipe(
      Flow.map(({ id, at }) => ({ eventId: id, eventTime: at, path: `/${id}` })),
      Sessions.by({ name: "sessions", gap: "30 seconds", grace: "30 seconds" }),
    ),
  },
  {
    name: "running aggregate",
    flow: decoded.pipe(
      Aggregate.running({ name: "sums", state: Schema.Int, initial: () => 0, add: (sum, reading) => sum + reading.n }),
    ),
    table: (value: { readonly key: string }) => value.key,
  },
]

const minute = Duration.toMillis("1 minute")

/** Records whose event time wanders forward, with repeats, gaps, and every kind of bad record. */
const records = (dice: Dice): Array<Rec> => {
  let at = 100 * minute
  return dice.list(0, 60, (i) => {
    const key = dice.pick(["ann", "ben", "cho"])
    const id = `${key}-${dice.int(0, 9)}`
    const n = dice.int(0, 9)
    at += dice.int(-60, 70) * 1_000
    const good = JSON.stringify({ id, n, at })
    const value = dice.pick([good, good, good, good, good, good, "{", JSON.stringify({ id: 1, n, at }), null])
    return { key: dice.int(0, 9) === 0 ? null : key, value, timestamp: 200 * minute + i * 5_000 }
  })
}

const key = (batch: Batch<unknown, unknown>, i: number): string | null => {
  const bytes = batch.keys === undefined ? batch.source.keys[row(batch, i)]! : batch.keys[i]!
  return bytes === null ? null : new TextDecoder().decode(bytes)
}

/** Everything that a run commits, by source offset, so that runs with different cuts can be compared. */
const committed = (of: Case, batches: ReadonlyArray<Batch<unknown, unknown>>) => {
  const values: Array<Outcome> = batches.flatMap((batch) =>
    batch.values.map((value, i): Outcome => [key(batch, i), value])
  )
  const reasons = (rows: (batch: Batch<unknown, unknown>) => ReadonlyArray<readonly [row: number, reason: unknown]>) =>
    batches.flatMap((batch) => rows(batch).map(([row, reason]) => `${batch.source.offsets[row]} ${reason}`)).sort()
  return {
    values: of.table === undefined
      ? values
      : [...new Map(values.map((value) => [of.table!(value[1] as never), value]))].sort(([a], [b]) => a < b ? -1 : 1),
    failed: reasons((batch) => batch.failed.map((failed) => [failed.row, tag(failed)])),
    dropped: reasons((batch) => batch.dropped.map((dropped) => [dropped.row, dropped.reason])),
    outgoing: batches.flatMap((batch) =>
      batch.outgoing.map((out) => [out.topic, String(out.value), batch.source.offsets[out.row]])
    ),
    folded: batches.flatMap((batch) => batch.folded).reduce((sum, folded) => sum + folded.count, 0),
  }
}

const tag = (failed: Failed<unknown>): string => (failed.reason as { readonly _tag: string })._tag

describe.each(cases)("$name", (of) => {
  it.effect("laws", () =>
    forSeeds(200, (dice) =>
      Effect.gen(function* () {
        const all = records(dice)
        const cuts = dice.list(0, 12, () => dice.int(0, 60))
        const inputs = new Map([[Readings as Topic.Any, sources(Readings, all, cuts)]])
        const { batches, inputs: given, stores } = yield* run(of.flow, inputs)

        // 0 and 1: one batch in, one batch out, in order, with its positions.
        assert.strictEqual(batches.length, given.length)
        batches.forEach((batch, i) => assert.strictEqual(batch.source, given[i]))

        for (const batch of batches) {
          // 2: every row is accounted for, once.
          const forwarded = new Set(batch.values.map((_, i) => row(batch, i)))
          const failed = batch.failed.map((failed) => failed.row)
          const dropped = batch.dropped.map((dropped) => dropped.row)
          const folded = batch.folded.reduce((sum, folded) => sum + folded.count, 0)
          assert.strictEqual(new Set(failed).size, failed.length, "one failure per row")
          for (const list of [batch.failed, batch.dropped, batch.folded, batch.outgoing] as Array<Array<unknown>>) {
            assert.strictEqual(new Set(list).size, list.length, "nothing is counted twice")
          }
          for (const row of failed) {
            assert.isFalse(batch.outgoing.some((out) => out.row === row), "a failed row sends nothing")
          }
          if (batch.folded.length > 0) {
            assert.strictEqual(folded + failed.length + dropped.length, batch.source.length)
          } else if (of.fansOut) {
            const rows = new Set([...forwarded, ...failed, ...dropped])
            assert.strictEqual(rows.size, batch.source.length)
            for (const row of failed) assert.isFalse(forwarded.has(row), "a failed row has no values")
          } else {
            assert.strictEqual(forwarded.size + failed.length + dropped.length, batch.source.length)
            assert.strictEqual(forwarded.size, batch.values.length)
          }
          // 3: order.
          for (let i = 1; i < batch.values.length; i++) assert.isAtMost(row(batch, i - 1), row(batch, i))
        }

        // 4: cuts do not matter.
        const whole = yield* run(of.flow, new Map([[Readings as Topic.Any, sources(Readings, all, [])]]))
        assert.deepStrictEqual(committed(of, batches), committed(of, whole.batches))
        if (of.name !== "deduplicate" && of.name !== "deduplicate with a cap") {
          assert.deepStrictEqual(stores, whole.stores)
        }
      })))
})
