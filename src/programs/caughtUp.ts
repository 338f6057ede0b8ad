/** Waiting for pipelines. */
import { Effect } from "effect"
import { Admin, type Kafka, Pipeline } from "../index.ts"

/** Waits until pipelines have committed all that stands in the topics that they read. */
export const caughtUp = (
  pipelines: ReadonlyArray<Pipeline.Pipeline<unknown, unknown>>,
): Effect.Effect<void, never, Kafka.Cluster> => {
  const partitions = pipelines.flatMap((pipeline) => Pipeline.plan(pipeline).flows).flatMap(({ reads }) => reads)
    .reduce((sum, { partitions }) => sum + partitions, 0)
  const isDone = Admin.lag(pipelines.map(({ name }) => name)).pipe(
    Effect.map((lags) => lags.length === partitions && lags.every(({ records }) => records === 0)),
    // Brokers that are away are what the pipelines have to deal with.
    Effect.orElseSucceed(() => false),
  )
  return Effect.gen(function* () {
    while (!(yield* isDone)) yield* Effect.sleep("100 millis")
  })
}
