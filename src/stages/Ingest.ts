/** Where a flow begins: the records of one topic. */
import { Duration, Effect, Stream } from "effect"
import { type Flow, fromStream } from "../Flow.ts"
import { type PipelineError, type Raw, Task } from "../Task.ts"
import type { Topic } from "../Topic.ts"

export interface Options {
  /**
   * After this long without a record stream time goes on with the wall clock, from where the last record left it: windows
   * then close and joins give up although nothing comes. Off unless given; at least a second.
   *
   * It asks for event times that keep pace with the wall clock. A record that comes after a silence longer than the grace
   * of a window, and does not tell of it (an import that is resumed), is late. Where flows are merged, each of their
   * topics needs it. It does not go on while records wait to be read, nor while the brokers do not answer.
   */
  readonly wallClockAfter?: Duration.Input
}

/**
 * Reads a topic, one batch per fetch of one partition, in the order of its offsets.
 *
 * A pipeline reads a topic once: use the same flow value twice where two stages need it.
 */
export const topic = <A>(topic: Topic<A>, options?: Options): Flow<Raw<A>, never, PipelineError, Task> => {
  const tickAfter = options?.wallClockAfter === undefined ? undefined : Duration.toMillis(options.wallClockAfter)
  if (tickAfter !== undefined && !(tickAfter >= 1_000 && tickAfter < Infinity)) {
    throw new RangeError(`topic ${topic.name}: wallClockAfter is a finite time of at least a second`)
  }
  return fromStream(Stream.unwrap(Effect.map(Task, (task) => task.read(topic, tickAfter))), {
    stage: "ingest",
    reads: [topic],
  })
}
