/** Where a flow begins: the records of one topic. */
import { Effect, Stream } from "effect"
import { type Flow, fromStream } from "../Flow.ts"
import { type PipelineError, type Raw, Task } from "../Task.ts"
import type { Topic } from "../Topic.ts"

/**
 * Reads a topic, one batch per fetch of one partition, in the order of its offsets.
 *
 * A pipeline reads a topic once: use the same flow value twice where two stages need it.
 */
export const topic = <A>(topic: Topic<A>): Flow<Raw<A>, never, PipelineError, Task> =>
  fromStream(Stream.unwrap(Effect.map(Task, (task) => task.read(topic))), { stage: "ingest", reads: [topic] })
