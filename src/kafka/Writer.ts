/** One producer identity and its sequence numbers: writes batches exactly once under it, or says which may be missing. */
import { Clock, Effect } from "effect"
import type { Plan } from "../Pipeline.ts"
import { type Cluster, KafkaError, type ProducerIdentity, type TopicPartition, unknownOutcome } from "./Cluster.ts"
import {
  deliver,
  nextSequence,
  OpenBatch,
  type ProducerRecord,
  type Settings,
  sizeOf,
  type Undelivered,
} from "./Delivery.ts"
import { fenced } from "./Errors.ts"
import type { Leaders } from "./Leaders.ts"
import { forKey } from "./Partitioner.ts"
import { patiently } from "./Retry.ts"

export interface Options extends Settings {
  /** After this long the brokers abort a transaction that was left open, in milliseconds. */
  readonly transactionTimeout: number
  /** The largest record batch, in bytes. */
  readonly maxBatchBytes: number
  /** The largest record batch that a topic takes (`max.message.bytes`), where it is known. */
  readonly limits?: ReadonlyMap<string, number>
  /** Asked when somebody else has initialised the transactional id: whether it may be taken back. It may not unless told. */
  readonly mayTakeBack?: Effect.Effect<boolean>
}

export interface Writer {
  readonly identity: () => ProducerIdentity
  /**
   * A new epoch or producer id: sequences begin anew, and a transaction that was open is aborted. Fails with
   * PRODUCER_FENCED where the transactional id was taken over for good.
   */
  readonly renew: Effect.Effect<void, KafkaError>
  /** Renews what was abandoned. */
  readonly ready: Effect.Effect<void, KafkaError>
  /** Nothing more is written under this identity: whatever comes next renews it first. */
  abandon(): void
  /**
   * Writes records, those of one partition in the order given, and answers the batches that were refused or are not known
   * to be written; after any of those the identity is abandoned. A batch that is larger than its topic takes is written as
   * smaller ones. `begin` is run with the partitions before the first.
   */
  write<E>(
    records: ReadonlyArray<ProducerRecord>,
    begin: (partitions: ReadonlyArray<TopicPartition>) => Effect.Effect<void, E>,
  ): Effect.Effect<ReadonlyArray<Undelivered>, E | KafkaError>
}

/** What the topics that a pipeline writes take; a topic may be declared in several places. */
export const limitsOf = ({ flows }: Plan): ReadonlyMap<string, number> =>
  new Map(flows.flatMap(({ writes }) => writes.map(({ name, maxMessageBytes }) => [name, maxMessageBytes] as const)))

export const make = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  leaders: Leaders,
  options: Options,
): Effect.fn.Return<Writer, KafkaError> {
  const { transactionalId, transactionTimeout, deliveryTimeout, maxBatchBytes } = options
  /** Requests for an identity that were given up: each may still come, and take the id from us. */
  let givenUp = 0
  const init = (current?: ProducerIdentity) =>
    patiently(
      Effect.tapError(
        cluster.initProducerId(transactionalId, transactionTimeout, current),
        ({ code }) =>
          Effect.sync(() => {
            if (unknownOutcome.has(code)) givenUp++
          }),
      ),
      deliveryTimeout,
    )
  let identity = yield* init()
  let abandoned = false
  let sequences = new Map<string, number>()
  const limits = new Map(options.limits)
  const limitOf = (topic: string): number => Math.min(maxBatchBytes, limits.get(topic) ?? maxBatchBytes)
  /** Keyless records of one write go to one partition, those of the next to another. */
  let sticky = 0

  const partitionOf = ({ topic, partition, key }: ProducerRecord): number => {
    if (partition !== undefined) return partition
    const partitions = Math.max(1, leaders.partitions(topic) ?? 1)
    return key === null ? sticky % partitions : forKey(key, partitions)
  }

  const abandon = () => {
    abandoned = true
  }

  const mayTakeBack = Effect.suspend(() => {
    if (givenUp === 0) return options.mayTakeBack ?? Effect.succeed(false)
    givenUp--
    return Effect.succeed(true)
  })

  // Brokers that have timed a transaction out let its producer go on; they refuse it after anybody else's InitProducerId.
  const next = Effect.suspend(() => init(transactionalId === null ? undefined : identity)).pipe(
    Effect.catchIf(
      ({ code }) => fenced.has(code),
      (error) =>
        Effect.flatMap(
          mayTakeBack,
          (may) => may ? init() : Effect.fail(takenOver(transactionalId, error)),
        ),
    ),
  )
  const renew = Effect.map(next, (renewed) => {
    identity = renewed
    sequences = new Map()
    abandoned = false
  })
  const ready = Effect.suspend(() => abandoned ? renew : Effect.void)

  /** Batches that were too large come again in halves, before any that follow them. */
  const writeRounds = Effect.fnUntraced(function* (rounds: Array<ReadonlyArray<OpenBatch>>) {
    for (let round = rounds.shift(); round !== undefined; round = rounds.shift()) {
      const sequenced = round.map((batch) => {
        const partition = nameOf(batch)
        const baseSequence = sequences.get(partition) ?? 0
        sequences.set(partition, nextSequence(baseSequence, batch.length))
        return { batch, producer: { ...identity, baseSequence } }
      })
      const failed = yield* deliver(cluster, leaders, sequenced, options)
      const large = new Set(failed.filter(isTooLarge).map(({ batch }) => batch))
      if (large.size < failed.length) return failed
      if (large.size === 0) continue
      for (const { batch, producer } of sequenced) {
        if (large.has(batch)) sequences.set(nameOf(batch), producer.baseSequence)
      }
      for (const { topic, size } of large) limits.set(topic, Math.min(limitOf(topic), size >> 1))
      const halves = [...large].map((batch) => batch.halves())
      rounds.unshift(halves.map(([first]) => first), halves.map(([, second]) => second))
    }
    return []
  })

  return {
    identity: () => identity,
    renew,
    ready,
    abandon,
    write: Effect.fnUntraced(function* (records, begin) {
      yield* ready
      if (records.length === 0) return []
      yield* patiently(leaders.ensure(records.map(({ topic }) => topic)), deliveryTimeout)
      sticky++
      const rounds = inRounds(records, partitionOf, limitOf, yield* Clock.currentTimeMillis)
      yield* begin(rounds[0]!)
      const failed = yield* Effect.onInterrupt(writeRounds(rounds), () => Effect.sync(abandon))
      if (failed.length > 0) abandon()
      return failed
    }),
  }
})

const nameOf = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`

/** The broker takes less than was known; of a single record nothing can be split off. */
const isTooLarge = ({ batch, error }: Undelivered): boolean => error.code === "MESSAGE_TOO_LARGE" && batch.length > 1

const takenOver = (transactionalId: string | null, cause: KafkaError): KafkaError =>
  new KafkaError({
    code: "PRODUCER_FENCED",
    operation: cause.operation,
    message:
      `transactional id ${transactionalId} was taken over by another process (${cause.code}): nothing more may be ` +
      "written under it",
    cause,
  })

/** Batches below the size limit, in rounds of at most one per partition: a round is acknowledged before the next begins. */
const inRounds = (
  records: ReadonlyArray<ProducerRecord>,
  partitionOf: (record: ProducerRecord) => number,
  limitOf: (topic: string) => number,
  now: number,
): Array<ReadonlyArray<OpenBatch>> => {
  const byPartition = new Map<string, Array<OpenBatch>>()
  for (const record of records) {
    const partition = partitionOf(record)
    const id = `${record.topic}/${partition}`
    let batches = byPartition.get(id)
    if (batches === undefined) byPartition.set(id, batches = [new OpenBatch(record.topic, partition)])
    const size = sizeOf(record)
    let batch = batches[batches.length - 1]!
    if (batch.length > 0 && batch.size + size > limitOf(record.topic)) {
      batch = new OpenBatch(record.topic, partition)
      batches.push(batch)
    }
    batch.add(record, now, size)
  }
  const rounds: Array<Array<OpenBatch>> = []
  for (const batches of byPartition.values()) batches.forEach((batch, i) => (rounds[i] ??= []).push(batch))
  return rounds
}
