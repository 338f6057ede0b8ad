/** What a test reads from topics. */
import { Effect, Result, Schema } from "effect"
import type { Headers } from "../Batch.ts"
import type { KafkaError } from "../kafka/Cluster.ts"
import type { Control, TopicRecord } from "../kafka/ClusterMemory.ts"
import { text, type Topic } from "../Topic.ts"

/** A committed record, decoded by its topic's contract; the value of a tombstone is null. */
export interface Read<out A> {
  readonly partition: number
  readonly offset: number
  readonly key: string | null
  readonly value: A | null
  readonly timestamp: number
  readonly headers: Headers
}

export type ReadBytes = TopicRecord

/** A record in a topic is not what the topic's contract promises. */
export class Undecodable extends Schema.TaggedError<Undecodable>()("Undecodable", { message: Schema.String }) {}

export const readBytes = (
  control: Control["Service"],
  topic: string,
): Effect.Effect<ReadonlyArray<ReadBytes>, KafkaError> => control.records(topic)

export const decoded = <A>(
  topic: Topic<A>,
  records: ReadonlyArray<ReadBytes>,
): Effect.Effect<ReadonlyArray<Read<A>>, Undecodable> =>
  Effect.forEach(records, ({ partition, offset, key, value, timestamp, headers }) => {
    const read = { partition, offset, key: key && text(key), timestamp, headers }
    const result = value === null ? Result.succeed(null) : topic.decode(value)
    if (Result.isSuccess(result)) return Effect.succeed({ ...read, value: result.success })
    const { field, message } = result.failure
    return Effect.fail(
      new Undecodable({
        message: `topic ${topic.name} partition ${partition} offset ${offset}` +
          `${field === "" ? "" : ` at ${field}`}: ${message}`,
      }),
    )
  })
