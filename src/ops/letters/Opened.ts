/** A topic of dead letters as it stands when it is opened: what comes later is not looked at. */
import { Effect, Schema } from "effect"
import { Cluster, type KafkaError } from "../../kafka/Cluster.ts"
import { patiently } from "../../kafka/Retry.ts"
import * as Letter from "./Letter.ts"
import { ends, patience, reading } from "./Reading.ts"

/** Why dead letters cannot be listed or sent. What was sent before is sent, and is not sent again. */
export class RedriveError extends Schema.TaggedError<RedriveError>()("RedriveError", {
  /**
   * `Unknown`: there is no such topic or letter. `Fenced`: another redrive of the topic has begun. `Stopped`: it was told to
   * stop. `Kafka`: the brokers refused or did not answer.
   */
  reason: Schema.Literals(["Unknown", "Fenced", "Stopped", "Kafka"]),
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

export interface Opened {
  readonly topic: string
  readonly topicId: string
  /** The first and the next offset of each partition. */
  readonly starts: ReadonlyArray<number>
  readonly ends: ReadonlyArray<number>
  /** Offsets in all of them: as many letters, or fewer. */
  readonly total: number
}

export const open = Effect.fnUntraced(function* (
  topic: string,
): Effect.fn.Return<Opened, KafkaError | RedriveError, Cluster> {
  const { topics: [found] } = yield* patiently(Cluster.use((cluster) => cluster.metadata([topic])), patience)
  if (found === undefined || found.partitions.length === 0) {
    return yield* new RedriveError({ reason: "Unknown", message: `topic ${topic} does not exist` })
  }
  const { length } = found.partitions
  const first = yield* ends(topic, length, "earliest", "read_committed")
  const next = yield* ends(topic, length, "latest", "read_committed")
  const total = next.reduce((sum, end, partition) => sum + end - first[partition]!, 0)
  return { topic, topicId: found.id, starts: first, ends: next, total }
})

/** Hands every letter to `take`, partition by partition and in their order, until it answers `false`. */
export const each = <E, R>(
  { topic, starts, ends }: Opened,
  take: (letter: Letter.Letter) => Effect.Effect<boolean | void, E, R>,
): Effect.Effect<void, E | KafkaError, R | Cluster> =>
  Effect.gen(function* () {
    for (let partition = 0; partition < ends.length; partition++) {
      const end = ends[partition]!
      let goesOn = true
      yield* reading({ topic, partition }, starts[partition]!, end, (records) =>
        Effect.gen(function* () {
          for (let i = 0; i < records.length && records.offsets[i]! < end; i++) {
            const letter = Letter.read({
              partition,
              offset: records.offsets[i]!,
              timestamp: records.timestamps[i]!,
              key: records.keys[i]!,
              value: records.bytes[i]!,
              headers: records.headers[i]!,
            })
            goesOn = (yield* take(letter)) !== false
            if (!goesOn) return false
          }
          return true
        }))
      if (!goesOn) return
    }
  })
