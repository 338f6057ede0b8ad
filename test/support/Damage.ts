/** A cluster whose answers come as bytes that are damaged on their way: what a reader makes of them is the port's answer. */
import { Effect } from "effect"
import { Cluster, type FetchedPartition } from "../../src/kafka/Cluster.ts"
import { decode } from "../../src/kafka/internal/FetchedRecords.ts"
import { encode, field, writeInt64 } from "../../src/kafka/internal/RecordBatch.ts"

/** What becomes of the bytes of the batch at this offset: changed in place. */
export type Damage = (bytes: Buffer, offset: number, partition: number) => void

/** Batches of records are written as a broker keeps them, damaged, and read again; those with a marker stay as they are. */
const through = (answer: FetchedPartition, offset: number, damage: Damage): FetchedPartition => {
  const batches: Array<FetchedPartition["batches"][number]> = []
  for (const batch of answer.batches) {
    if (batch.control !== null || batch.keys.length === 0) {
      batches.push(batch)
      continue
    }
    const bytes = encode(batch, { compression: "none", transactional: batch.transactional })
    writeInt64(bytes, batch.baseOffset, field.baseOffset)
    damage(bytes, batch.baseOffset, answer.partition)
    const read = decode(bytes, offset)
    if (read.error !== null && batches.length === 0) {
      return { ...answer, batches, error: read.error, ...read.message !== undefined && { message: read.message } }
    }
    if (read.error !== null) break
    batches.push(batch)
  }
  return { ...answer, batches }
}

/** Damages what is read of one topic. */
export const of = (topic: string, damage: Damage): Effect.Effect<Cluster["Service"], never, Cluster> =>
  Effect.map(Cluster, (cluster) =>
    Cluster.of({
      ...cluster,
      fetch: (request) =>
        Effect.map(cluster.fetch(request), (answers) =>
          answers.map((answer, i) =>
            answer.topic === topic && answer.error === null
              ? through(answer, request.partitions[i]!.offset, damage)
              : answer
          )),
    }))
