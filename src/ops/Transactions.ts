/**
 * Transactions that are open: which they are, whose, and how far they hold back readers of committed records; and their end. An
 * open transaction keeps every such reader from all that was written after it began, in each partition that it wrote to.
 */
import { Clock, Effect, Schema } from "effect"
import { type ActiveProducer, Cluster, KafkaError, type TopicPartition } from "../kafka/Cluster.ts"
import { patiently } from "../kafka/Retry.ts"
import { ended, type HeldPartition, heldUp, known, patience, producersOf } from "./transactions/Held.ts"
import * as Owner from "./transactions/Owner.ts"

export { type Owner } from "./transactions/Owner.ts"

/** Why transactions cannot be listed, or one not be aborted. Nothing was done. */
export class TransactionsError extends Schema.TaggedError<TransactionsError>()("TransactionsError", {
  /**
   * `Unknown`: there is no such transaction, or it is over. `Alive`: its owner is a member of its group, or may be; or it has
   * written lately.
   * `Coordinated`: its coordinator knows it, and ends it. `Deciding`: it is decided, and its markers are being written.
   * `Kafka`: the brokers refused or did not answer.
   */
  reason: Schema.Literals(["Unknown", "Alive", "Coordinated", "Deciding", "Kafka"]),
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/** A partition that a transaction has written to. */
export interface Held extends TopicPartition {
  /** Where readers of committed records stop, and where the partition ends; equal where nothing is held back. */
  readonly lastStable: number
  readonly high: number
  /** Whether readers stop at this transaction, and not at an earlier one. */
  readonly isFirst: boolean
}

export interface Transaction {
  /** `null` for one that hangs: no coordinator knows it, and no time-out ends it. */
  readonly transactionalId: string | null
  readonly producerId: number
  readonly producerEpoch: number
  /** As the coordinator has it; `Hanging` where none does. */
  readonly state: string
  /** Milliseconds since 1970: when it began, or of one that hangs when its producer was last heard of. */
  readonly started: number
  /** After this long its coordinator aborts it; `null` for one that hangs. */
  readonly timeout: number | null
  /** `null` where the id is none of our programs'. */
  readonly owner: Owner.Owner | null
  readonly partitions: ReadonlyArray<Held>
}

/**
 * All open transactions, the oldest first. Those that hang are told from those that end while they are looked at: they stand in
 * their partition before and after the coordinators were asked, which know nothing of them.
 */
export const list: Effect.Effect<ReadonlyArray<Transaction>, TransactionsError, Cluster> = Effect.gen(function* () {
  const held = yield* heldUp()
  const coordinated = yield* known
  const still = yield* producersOf(held)
  const hanging = held.flatMap((where, i) =>
    where.open.filter((producer) =>
      still[i]!.some((one) => isSame(one, producer)) &&
      !coordinated.some(({ producerId, partitions }) => producerId === producer.producerId && has(partitions, where))
    ).map((producer): Transaction => ({
      transactionalId: null,
      producerId: producer.producerId,
      producerEpoch: producer.producerEpoch,
      state: "Hanging",
      started: producer.lastTimestamp,
      timeout: null,
      owner: null,
      partitions: [standing(where, producer)],
    }))
  )
  const open = yield* Effect.forEach(
    coordinated,
    (one) =>
      Effect.map(Owner.of(one.transactionalId), (owner): Transaction => ({
        transactionalId: one.transactionalId,
        producerId: one.producerId,
        producerEpoch: one.producerEpoch,
        state: one.state,
        started: one.started,
        timeout: one.timeout,
        owner: owner ?? null,
        partitions: one.partitions.flatMap((where) => {
          const found = held.find((other) => other.topic === where.topic && other.partition === where.partition)
          const producer = found?.open.find(({ producerId }) => producerId === one.producerId)
          return found === undefined || producer === undefined ? [] : [standing(found, producer)]
        }),
      })),
    { concurrency: 4 },
  )
  return [...open, ...hanging].sort((a, b) => a.started - b.started)
}).pipe(Effect.mapError((error) => wrapped(error)))

/**
 * Aborts the open transaction of a transactional id: takes the id, so that its owner can do nothing more under it. One of our
 * programs that is alive begins anew, or ends, and repeats what was not committed; where its owner is a member of its group, or
 * may be, that is refused unless forced.
 */
export const abort = Effect.fn("Transactions.abort")(
  function* (
    transactionalId: string,
    options: { readonly force?: boolean } = {},
  ): Effect.fn.Return<void, KafkaError | TransactionsError, Cluster> {
    const cluster = yield* Cluster
    const [found] = yield* patiently(cluster.describeTransactions([transactionalId]), patience)
    const name = `transactional id ${transactionalId}`
    if (found === undefined || found.error !== null || ended.has(found.state)) {
      const why = found?.error === null ? `has nothing open (${found.state})` : `is not known (${found?.error})`
      return yield* refused("Unknown", `${name} ${why}`)
    }
    if (found.state !== "Ongoing") {
      return yield* refused(
        "Deciding",
        `${name} is decided (${found.state}): its end is being written, and nothing can change it`,
      )
    }
    const owner = yield* Owner.of(transactionalId)
    if (options.force !== true && owner !== undefined && owner.isAlive !== "no") {
      const words = owner.isAlive === "yes" ? "is" : "may be"
      return yield* refused(
        "Alive",
        `the owner of ${name} ${words} at work as a member of group ${owner.pipeline}: ` +
          "stop it first, or force it",
      )
    }
    yield* patiently(cluster.initProducerId(transactionalId, found.timeout), patience)
  },
  (aborting) => Effect.mapError(aborting, wrapped),
)

/** Brokers let no transaction be open for longer unless they are told to (`transaction.max.timeout.ms`), in milliseconds. */
const longest = 900_000

/**
 * Ends a transaction that hangs in a partition, as an abort, by a marker. Refused where a coordinator knows of it: markers of
 * two kinds for one transaction would commit a part of it. Coordinators do not tell of ids that we may not describe, so that
 * it is also refused, unless forced, where its producer has written here in the last 15 minutes.
 */
export const abortHanging = Effect.fn("Transactions.abortHanging")(
  function* (
    where: TopicPartition,
    producerId: number,
    options: { readonly force?: boolean } = {},
  ): Effect.fn.Return<void, KafkaError | TransactionsError, Cluster> {
    const cluster = yield* Cluster
    const { topic, partition } = where
    const place = `topic ${topic} partition ${partition}`
    const producer = yield* openHere(where, producerId)
    if (producer === undefined) return yield* refused("Unknown", `producer ${producerId} has nothing open in ${place}`)
    const coordinated = (yield* known).find((one) => one.producerId === producerId && has(one.partitions, where))
    if (coordinated !== undefined) {
      return yield* refused(
        "Coordinated",
        `the transaction of producer ${producerId} is that of transactional id ` +
          `${coordinated.transactionalId} (${coordinated.state}): abort it by that`,
      )
    }
    const still = yield* openHere(where, producerId)
    if (still === undefined || !isSame(still, producer)) {
      return yield* refused("Unknown", `the transaction of producer ${producerId} in ${place} has ended by itself`)
    }
    const silent = (yield* Clock.currentTimeMillis) - producer.lastTimestamp
    if (options.force !== true && silent < longest) {
      return yield* refused(
        "Alive",
        `producer ${producerId} wrote to ${place} ${
          Math.max(0, Math.round(silent / 1_000))
        } seconds ago: a coordinator ` +
          "may know its transaction by an id that we must not see, and end it yet; wait until 15 minutes have passed, or " +
          "force it",
      )
    }
    const marker = {
      producerId,
      producerEpoch: producer.producerEpoch,
      // Where none has written a marker yet, any may.
      coordinatorEpoch: Math.max(0, producer.coordinatorEpoch),
      commit: false,
      partitions: [{ topic, partition }],
    }
    const written = Effect.flatMap(
      cluster.writeTxnMarkers(marker),
      ([answer]) =>
        answer!.error === null ? Effect.void : Effect.fail(
          new KafkaError({
            code: answer!.error,
            operation: "WriteTxnMarkers",
            message: `${place}: no marker can be written (${answer!.error})`,
          }),
        ),
    )
    yield* patiently(written, patience)
  },
  (aborting) => Effect.mapError(aborting, wrapped),
)

/** How long it has been open, in milliseconds. */
export const age = ({ started }: Transaction): Effect.Effect<number> =>
  Effect.map(Clock.currentTimeMillis, (now) => Math.max(0, now - started))

const openHere = (where: TopicPartition, producerId: number) =>
  Effect.map(producersOf([where]), ([open]) => open!.find((one) => one.producerId === producerId))

const isSame = (a: ActiveProducer, b: ActiveProducer): boolean =>
  a.producerId === b.producerId && a.transactionStart === b.transactionStart

const has = (partitions: ReadonlyArray<TopicPartition>, { topic, partition }: TopicPartition): boolean =>
  partitions.some((one) => one.topic === topic && one.partition === partition)

const standing = (
  { topic, partition, lastStable, high }: HeldPartition,
  { transactionStart }: ActiveProducer,
): Held => ({ topic, partition, lastStable, high, isFirst: transactionStart <= lastStable })

const refused = (reason: TransactionsError["reason"], message: string): TransactionsError =>
  new TransactionsError({ reason, message })

const wrapped = (error: KafkaError | TransactionsError): TransactionsError =>
  error instanceof TransactionsError
    ? error
    : new TransactionsError({ reason: "Kafka", message: `${error.operation}: ${error.message}`, cause: error })
