/** Waiting for records that are known to be there, but not for ever. */
import { Effect, Option } from "effect"
import { KafkaError, type TopicPartition } from "./Cluster.ts"

/** After this long without a record it is told, and after three times as long it is given up. */
const patience = "10 seconds"

/**
 * Waits for what must come next in a partition. Where nothing does for 30 seconds, it fails with TIMEOUT: somebody's open
 * transaction can hold records back for as long as its time-out, or for ever, and a topic can be deleted meanwhile.
 */
export const unstuck = <A, R>(
  next: Effect.Effect<A, KafkaError, R>,
  { topic, partition }: TopicPartition,
  offset: number,
): Effect.Effect<A, KafkaError, R> =>
  Effect.gen(function* () {
    const place = `topic ${topic} partition ${partition}`
    for (let waited = 1;; waited++) {
      const came = yield* Effect.timeoutOption(next, patience)
      if (Option.isSome(came)) return came.value
      if (waited === 3) {
        return yield* new KafkaError({
          code: "TIMEOUT",
          operation: "Fetch",
          message:
            `${place} gives nothing from offset ${offset} on for 30 seconds: a transaction that somebody else has ` +
            "left open holds it back (the program transactions lists and ends them), the topic was deleted, or its broker " +
            "does not answer",
        })
      }
      yield* Effect.logWarning(
        `${place} gives nothing from offset ${offset} on: a transaction that is open there may hold it back; waiting`,
      )
    }
  })
