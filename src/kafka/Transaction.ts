/**
 * Transactions of one transactional id: records and consumer positions that become visible together or not at all.
 *
 * The first transaction protocol throughout (AddPartitionsToTxn, AddOffsetsToTxn, EndTxn without epoch bump). One
 * transaction at a time, and every one is short: it begins when everything that it will hold is at hand.
 */
import { Effect } from "effect"
import { type Cluster, type GroupIdentity, KafkaError, type OffsetToCommit, type TopicPartition } from "./Cluster.ts"
import type { ProducerRecord, Undelivered } from "./Delivery.ts"
import { stale } from "./Errors.ts"
import { patiently } from "./Retry.ts"
import type { Writer } from "./Writer.ts"

/** What a transaction commits. */
export interface Contents {
  readonly records: ReadonlyArray<ProducerRecord>
  readonly member: GroupIdentity
  readonly offsets: ReadonlyArray<OffsetToCommit>
}

export interface Refusal extends TopicPartition {
  readonly error: KafkaError
}

/**
 * How a transaction ended:
 * - `committed`, and visible as soon as its markers are written;
 * - `refused`: aborted because the brokers refuse records of these partitions for good;
 * - `stale`: aborted because the group has moved on: the positions are somebody else's now;
 * - `unknown`: it is decided, but not known how: the group's positions tell.
 */
export type Outcome =
  | { readonly _tag: "committed" }
  | { readonly _tag: "refused"; readonly partitions: ReadonlyArray<Refusal> }
  | { readonly _tag: "stale"; readonly error: KafkaError }
  | { readonly _tag: "unknown"; readonly error: KafkaError }

/**
 * Runs one transaction. Fails with PRODUCER_FENCED when another producer has taken the transactional id, or the brokers
 * have given up on an open transaction; with any other failure it is aborted, or will be before the id is used again.
 * Every request waits at most `patience` milliseconds.
 */
export const run = Effect.fnUntraced(
  function* (
    cluster: Cluster["Service"],
    transactionalId: string,
    writer: Writer,
    { records, member, offsets }: Contents,
    patience: number,
  ): Effect.fn.Return<Outcome, KafkaError> {
    if (member.generation < 0 || member.memberId === "") return yield* anonymous(member.group)
    const txn = () => ({ transactionalId, ...writer.identity() })
    const end = (commit: boolean) => patiently(Effect.suspend(() => cluster.endTxn(txn(), commit)), patience)
    const fill = Effect.gen(function* () {
      const undelivered = yield* writer.write(
        records,
        (partitions) => patiently(cluster.addPartitionsToTxn(txn(), partitions), patience),
      )
      if (undelivered.length > 0) return undelivered
      yield* patiently(cluster.addOffsetsToTxn(txn(), member.group), patience)
      yield* patiently(cluster.txnOffsetCommit(txn(), member, offsets), patience)
      return []
    })
    const filled = yield* Effect.result(fill)
    if (filled._tag === "Success" && filled.success.length === 0) {
      const ended = yield* Effect.result(end(true))
      if (ended._tag === "Success") return { _tag: "committed" }
      if (fenced.has(ended.failure.code)) return yield* ended.failure
      yield* writer.renew
      return { _tag: "unknown", error: ended.failure }
    }
    const error = filled._tag === "Failure" ? filled.failure : filled.success[0]!.error
    if (fenced.has(error.code)) return yield* error
    // Renewing would abort what is open as well; asking first keeps an abort apart from a fence.
    yield* Effect.ignore(end(false))
    yield* writer.renew
    if (stale.has(error.code)) return { _tag: "stale", error }
    const refused = filled._tag === "Success" ? filled.success.filter(forGood) : []
    return refused.length === 0 ? yield* error : {
      _tag: "refused",
      partitions: refused.map(({ batch, error }) => ({ topic: batch.topic, partition: batch.partition, error })),
    }
  },
  (transaction, _, transactionalId) =>
    Effect.catchIf(transaction, ({ code }) => fenced.has(code), (error) => takenOver(transactionalId, error)),
)

const forGood = ({ error }: Undelivered): boolean => error.code !== "TIMEOUT"

/** Answers after which the id is somebody else's, or its transaction was given up. */
const fenced: ReadonlySet<string> = new Set([
  "PRODUCER_FENCED",
  "INVALID_PRODUCER_EPOCH",
  "INVALID_PRODUCER_ID_MAPPING",
  "TRANSACTION_COORDINATOR_FENCED",
])

const takenOver = (transactionalId: string, cause: KafkaError): KafkaError =>
  new KafkaError({
    code: "PRODUCER_FENCED",
    operation: cause.operation,
    message: `transactional id ${transactionalId} was taken over, or its open transaction timed out (${cause.code}): ` +
      "nothing more may be written under it",
    cause,
  })

const anonymous = (group: string): KafkaError =>
  new KafkaError({
    code: "CLIENT",
    operation: "TxnOffsetCommit",
    message: `group ${group}: positions without a generation and a member id would be accepted from anybody and are ` +
      "never sent; join the group first",
  })
