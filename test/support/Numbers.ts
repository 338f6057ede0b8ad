/** One topic of numbers, for direct tests of stages: what a flow over it makes of records. */
import { Effect, Schema } from "effect"
import { Decode, type Flow, Ingest, type Task, Topic } from "../../src/index.ts"
import type { Any as AnyTopic } from "../../src/Topic.ts"
import { row } from "../../src/Batch.ts"
import { committed, run, sources, type Start } from "./FlowRunner.ts"

export const Numbers = Topic.make({
  name: "numbers",
  description: "Test",
  owner: "tests",
  schema: Schema.Int,
  partitions: 1,
})

export const numbers = Ingest.topic(Numbers).pipe(Decode.schema)

/** A number, under the key `k` unless another is given, that arrived then. */
export type Given = number | readonly [n: number, key: string | null, arrival?: number]

const record = (given: Given) => {
  const [n, key, arrival = 0] = typeof given === "number" ? [given, "k"] as const : given
  return { key, value: String(n), timestamp: arrival }
}

/** Runs a flow over numbers, cut into batches before the given places. */
export const running = <A, F, E>(
  flow: Flow.Flow<A, F, E, Task.Task | Task.Logged>,
  given: ReadonlyArray<Given>,
  cuts: ReadonlyArray<number> = [],
  start: Start = committed([]),
) =>
  Effect.map(
    run(
      flow,
      new Map([[
        Numbers as AnyTopic,
        sources(Numbers, given.map(record), cuts, { position: start.positions.get(Numbers) ?? 0 }),
      ]]),
      start,
    ),
    ({ batches }) => ({
      batches,
      values: batches.flatMap(({ values }) => values),
      rows: batches.flatMap((batch) => batch.values.map((_, i) => batch.source.offsets[row(batch, i)]!)),
      dropped: batches.flatMap(({ source, dropped }) =>
        dropped.map(({ row, reason }) => `${source.offsets[row]} ${reason}`)
      ),
      failed: batches.flatMap(({ source, failed }) =>
        failed.map(({ row, reason }) =>
          `${source.offsets[row]} ${(reason as { readonly _tag: string } | undefined)?._tag}`
        )
      ),
      outgoing: batches.flatMap(({ outgoing }) =>
        outgoing.map(({ topic, key, value }) => `${topic} ${key && Buffer.from(key)}=${value && Buffer.from(value)}`)
      ),
    }),
  )
