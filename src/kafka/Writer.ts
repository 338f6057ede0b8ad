/** One producer identity and its sequence numbers: writes batches exactly once under it, or says which may be missing. */
import { Clock, Effect } from "effect"
import type { Cluster, KafkaError, ProducerIdentity, TopicPartition } from "./Cluster.ts"
import {
  deliver,
  nextSequence,
  OpenBatch,
  type ProducerRecord,
  type Settings,
  sizeOf,
  type Undelivered,
} from "./Delivery.ts"
import type { Leaders } from "./Leaders.ts"
import { forKey } from "./Partitioner.ts"
import { patiently } from "./Retry.ts"

export interface Options extends Settings {
  /** After this long the brokers abort a transaction that was left open, in milliseconds. */
  readonly transactionTimeout: number
  /** The largest record batch, in bytes; stays below the topics' `max.message.bytes`. */
  readonly maxBatchBytes: number
}

export interface Writer {
  readonly identity: () => ProducerIdentity
  /** A new epoch or producer id: sequences begin anew, and a transaction that was open is aborted. */
  readonly renew: Effect.Effect<void, KafkaError>
  /** The partition that a record goes to. */
  partitionOf(record: ProducerRecord): number
  /**
   * Writes records, those of one partition in the order given, and answers the batches that were refused or are not known
   * to be written. After any of those the identity must be renewed. `begin` is run with the partitions before the first.
   */
  write<E>(
    records: ReadonlyArray<ProducerRecord>,
    begin: (partitions: ReadonlyArray<TopicPartition>) => Effect.Effect<void, E>,
  ): Effect.Effect<ReadonlyArray<Undelivered>, E | KafkaError>
}

export const make = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  leaders: Leaders,
  options: Options,
): Effect.fn.Return<Writer, KafkaError> {
  const { transactionalId, transactionTimeout, deliveryTimeout } = options
  const init = (current?: ProducerIdentity) =>
    patiently(cluster.initProducerId(transactionalId, transactionTimeout, current), deliveryTimeout)
  let identity = yield* init()
  let sequences = new Map<string, number>()
  /** Keyless records of one write go to one partition, those of the next to another. */
  let sticky = 0

  const partitionOf = ({ topic, partition, key }: ProducerRecord): number => {
    if (partition !== undefined) return partition
    const partitions = Math.max(1, leaders.partitions(topic) ?? 1)
    return key === null ? sticky % partitions : forKey(key, partitions)
  }

  return {
    identity: () => identity,
    renew: Effect.map(Effect.suspend(() => init(transactionalId === null ? undefined : identity)), (renewed) => {
      identity = renewed
      sequences = new Map()
    }),
    partitionOf,
    write: Effect.fnUntraced(function* (records, begin) {
      if (records.length === 0) return []
      yield* patiently(leaders.ensure(records.map(({ topic }) => topic)), deliveryTimeout)
      sticky++
      const rounds = inRounds(records, partitionOf, options.maxBatchBytes, yield* Clock.currentTimeMillis)
      yield* begin(rounds[0]!)
      for (const round of rounds) {
        const sequenced = round.map((batch) => {
          const partition = `${batch.topic}/${batch.partition}`
          const baseSequence = sequences.get(partition) ?? 0
          sequences.set(partition, nextSequence(baseSequence, batch.length))
          return { batch, producer: { ...identity, baseSequence } }
        })
        const failed = yield* deliver(cluster, leaders, sequenced, options)
        if (failed.length > 0) return failed
      }
      return []
    }),
  }
})

/** Batches below the size limit, in rounds of at most one per partition: a round is acknowledged before the next begins. */
const inRounds = (
  records: ReadonlyArray<ProducerRecord>,
  partitionOf: (record: ProducerRecord) => number,
  maxBatchBytes: number,
  now: number,
): ReadonlyArray<ReadonlyArray<OpenBatch>> => {
  const byPartition = new Map<string, Array<OpenBatch>>()
  for (const record of records) {
    const partition = partitionOf(record)
    const id = `${record.topic}/${partition}`
    let batches = byPartition.get(id)
    if (batches === undefined) byPartition.set(id, batches = [new OpenBatch(record.topic, partition)])
    const size = sizeOf(record)
    let batch = batches[batches.length - 1]!
    if (batch.length > 0 && batch.size + size > maxBatchBytes) {
      batch = new OpenBatch(record.topic, partition)
      batches.push(batch)
    }
    batch.add(record, now, size)
  }
  const rounds: Array<Array<OpenBatch>> = []
  for (const batches of byPartition.values()) batches.forEach((batch, i) => (rounds[i] ??= []).push(batch))
  return rounds
}
