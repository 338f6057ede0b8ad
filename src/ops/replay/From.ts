/** Where a replay begins and ends: by time, by offset, or by a file of positions. */
import { Effect, Result, Schema } from "effect"
import { type Cluster, KafkaError, type TopicPartition } from "../../kafka/Cluster.ts"
import { placeOf } from "../../kafka/Bounded.ts"
import { patiently } from "../../kafka/Retry.ts"

/** By topic and partition: an offset. Partitions that are not named stay where they are. */
export type Offsets = ReadonlyMap<string, ReadonlyMap<number, number>>

export type From =
  | { readonly _tag: "Earliest" }
  /** The first records with at least this Kafka timestamp, in milliseconds since 1970: when they were written. */
  | { readonly _tag: "Time"; readonly at: number }
  | { readonly _tag: "Offsets"; readonly offsets: Offsets }

export const earliest: From = { _tag: "Earliest" }
export const time = (at: number): From => ({ _tag: "Time", at })
export const offsets = (offsets: Offsets): From => ({ _tag: "Offsets", offsets })

/**
 * Reads `earliest`, an ISO 8601 time (`2026-05-17T10:00:00Z`), or offsets as `topic:partition:offset` with commas between
 * them. The failure completes the sentence "... ".
 */
export const parse = (text: string): Result.Result<From, string> => {
  if (text === "earliest") return Result.succeed(earliest)
  if (/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text)) {
    const at = Date.parse(text)
    return Number.isNaN(at) ? Result.fail(`${text} is no time`) : Result.succeed(time(at))
  }
  if (/^\d{4}-\d\d-\d\dT/.test(text)) {
    return Result.fail(`${text} is no time with its zone, such as 2026-05-17T10:00:00Z`)
  }
  const named = new Map<string, Map<number, number>>()
  for (const part of text.split(",")) {
    const match = /^([\w.-]+):(\d+):(\d+)$/.exec(part.trim())
    if (match === null) {
      return Result.fail(
        `${text} is neither "earliest", nor a time with its zone such as 2026-05-17T10:00:00Z, nor offsets such as ` +
          "topic:0:1200,topic:1:900, nor a file",
      )
    }
    const [, topic, partition, offset] = match
    const ofTopic = named.get(topic!) ?? new Map<number, number>()
    named.set(topic!, ofTopic.set(Number(partition), Number(offset)))
  }
  return Result.succeed(offsets(named))
}

const Natural = Schema.Int.pipe(Schema.check(Schema.isGreaterThanOrEqualTo(0)))
const File = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Record(Schema.String, Natural)))
const decodeFile = Schema.decodeUnknownResult(File)

/** Reads the text of a positions file: `{ "topic": { "0": 1200, "1": 900 } }`. */
export const parseFile = (text: string): Result.Result<From, string> =>
  Result.match(decodeFile(text), {
    onFailure: () => Result.fail('is not of the form { "topic": { "0": 1200, "1": 900 } }'),
    onSuccess: (file) =>
      Result.succeed(
        offsets(
          new Map(
            Object.entries(file).map(([topic, of]) => [
              topic,
              new Map(Object.entries(of).map(([partition, offset]) => [Number(partition), offset])),
            ]),
          ),
        ),
      ),
  })

/** The offset that is meant in each partition, by `topic/partition`; `undefined` where it is not named. */
export const resolve = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  from: From,
  partitions: ReadonlyArray<TopicPartition>,
): Effect.fn.Return<ReadonlyMap<string, number>, KafkaError> {
  switch (from._tag) {
    case "Offsets":
      return new Map(partitions.flatMap((where) => {
        const offset = from.offsets.get(where.topic)?.get(where.partition)
        return offset === undefined ? [] : [[placeOf(where), offset] as const]
      }))
    case "Earliest":
      return yield* listed(cluster, partitions, "earliest")
    case "Time": {
      const ends = yield* listed(cluster, partitions, "latest")
      const found = yield* listed(cluster, partitions, from.at)
      return new Map(Array.from(found, ([place, offset]) => [place, offset < 0 ? ends.get(place)! : offset]))
    }
  }
})

/** Offsets by `topic/partition`. */
export const listed = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  partitions: ReadonlyArray<TopicPartition>,
  at: "earliest" | "latest" | number,
  isolation: "read_committed" | "read_uncommitted" = "read_committed",
): Effect.fn.Return<ReadonlyMap<string, number>, KafkaError> {
  if (partitions.length === 0) return new Map()
  const answers = yield* patiently(
    Effect.flatMap(cluster.listOffsets(partitions, at, isolation), (answers) => {
      const failed = answers.find(({ error }) => error !== null)
      return failed === undefined ? Effect.succeed(answers) : Effect.fail(
        new KafkaError({
          code: failed.error!,
          operation: "ListOffsets",
          message:
            `topic ${failed.topic} partition ${failed.partition}: its offsets cannot be listed (${failed.error})`,
        }),
      )
    }),
    30_000,
  )
  return new Map(answers.map((one) => [placeOf(one), one.offset]))
})
