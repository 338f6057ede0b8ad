/** Reading partitions from one offset to another. */
import { Effect } from "effect"
import { Cluster, type KafkaError, type TopicPartition } from "../../kafka/Cluster.ts"
import * as Fetcher from "../../kafka/Fetcher.ts"
import * as Leaders from "../../kafka/Leaders.ts"
import type { Readable } from "../../kafka/ReadCommitted.ts"
import { unstuck } from "../../kafka/Stuck.ts"

/** Hands the committed records of a partition to `take`, those below `to`, in their order. */
export const read = Effect.fnUntraced(function* (
  where: TopicPartition,
  from: number,
  to: number,
  take: (records: Readable, length: number) => void,
): Effect.fn.Return<void, KafkaError, Cluster> {
  if (from >= to) return
  yield* Effect.scoped(Effect.gen(function* () {
    const fetcher = yield* Fetcher.make(yield* Leaders.make, { ...Fetcher.defaults, reset: "fail" })
    const reading = yield* fetcher.read(where, from)
    for (let position = from; position < to;) {
      const records = yield* unstuck(reading.next, where, position)
      let length = 0
      while (length < records.length && records.offsets[length]! < to) length++
      if (length > 0) take(records, length)
      reading.release(records.size)
      position = records.next
    }
  }))
})

/** How many committed records stand from one offset to another: markers of transactions are none. */
export const countRecords = (
  where: TopicPartition,
  from: number,
  to: number,
): Effect.Effect<number, KafkaError, Cluster> =>
  Effect.suspend(() => {
    let count = 0
    return Effect.map(read(where, from, to, (_, length) => void (count += length)), () => count)
  })
