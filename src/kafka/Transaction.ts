/**
 * Transactions of one transactional id: records and consumer positions that become visible together or not at all.
 *
 * The first transaction protocol throughout (AddPartitionsToTxn, AddOffsetsToTxn, EndTxn without epoch bump). One
 * transaction at a time, and every one is short: it begins when everything that it will hold is at hand.
 */
import { Effect } from "effect"
import { type Cluster, type GroupIdentity, KafkaError, type OffsetToCommit, unknownOutcome } from "./Cluster.ts"
import type { ProducerRecord, Undelivered } from "./Delivery.ts"
import { fenced, stale } from "./Errors.ts"
import { patiently } from "./Retry.ts"
import type { Writer } from "./Writer.ts"

/** What a transaction commits. */
export interface Contents {
  readonly records: ReadonlyArray<ProducerRecord>
  /** Whose positions; absent where there are none. */
  readonly member?: GroupIdentity
  readonly offsets: ReadonlyArray<OffsetToCommit>
}

/**
 * How a transaction ended:
 * - `committed`, and visible as soon as its markers are written;
 * - `undelivered`: not committed, because these batches are not written;
 * - `stale`: not committed, because the group has moved on: the positions are somebody else's now;
 * - `unknown`: it is decided or will be when the writer is renewed, but not known how: the group's positions tell then.
 */
export type Outcome =
  | { readonly _tag: "committed" }
  | { readonly _tag: "undelivered"; readonly batches: ReadonlyArray<Undelivered> }
  | { readonly _tag: "stale"; readonly error: KafkaError }
  | { readonly _tag: "unknown"; readonly error: KafkaError }

/**
 * Runs one transaction. Fails with PRODUCER_FENCED when another process has taken the transactional id; with any other
 * failure nothing is committed. What could not be aborted is, before the writer is used again. Every request waits at most
 * `patience` milliseconds.
 */
export const run = Effect.fnUntraced(
  function* (
    cluster: Cluster["Service"],
    transactionalId: string,
    writer: Writer,
    { records, member, offsets }: Contents,
    patience: number,
  ): Effect.fn.Return<Outcome, KafkaError> {
    if (member !== undefined && (member.generation < 0 || member.memberId === "")) return yield* anonymous(member.group)
    yield* writer.ready
    const txn = () => ({ transactionalId, ...writer.identity() })
    /** A request that was given up may still arrive, and would count for the next transaction under this epoch. */
    let astray = false
    const ask = (request: Effect.Effect<void, KafkaError>) =>
      patiently(
        Effect.tapError(request, ({ code }) =>
          Effect.sync(() => {
            astray ||= unknownOutcome.has(code)
          })),
        patience,
      )
    const end = (commit: boolean) => ask(Effect.suspend(() => cluster.endTxn(txn(), commit)))
    const fill = Effect.gen(function* () {
      const undelivered = yield* writer.write(
        records,
        (partitions) => ask(cluster.addPartitionsToTxn(txn(), partitions)),
      )
      if (undelivered.length > 0) return undelivered
      if (member === undefined) return []
      yield* ask(cluster.addOffsetsToTxn(txn(), member.group))
      yield* ask(cluster.txnOffsetCommit(txn(), member, offsets))
      return []
    })
    const filled = yield* Effect.result(fill)
    if (filled._tag === "Success" && filled.success.length === 0) {
      const ended = yield* Effect.result(end(true))
      if (ended._tag === "Failure" || astray) writer.abandon()
      if (ended._tag === "Success") return { _tag: "committed" }
      return { _tag: "unknown", error: givenUp(transactionalId, ended.failure) }
    }
    writer.abandon()
    // Renewing would abort what is open as well; asking first spares the readers a wait where renewing fails.
    yield* Effect.ignore(end(false))
    yield* Effect.catchIf(writer.renew, ({ code }) => code !== "PRODUCER_FENCED", () => Effect.void)
    if (filled._tag === "Success") return { _tag: "undelivered", batches: filled.success }
    const error = filled.failure
    return stale.has(error.code) ? { _tag: "stale", error } : yield* givenUp(transactionalId, error)
  },
  (transaction, _, __, writer) => Effect.onInterrupt(transaction, () => Effect.sync(writer.abandon)),
)

/** Whose transaction it was is settled when the writer is renewed: until then the answer means that it is over. */
const givenUp = (transactionalId: string, error: KafkaError): KafkaError =>
  !fenced.has(error.code) ? error : new KafkaError({
    code: "INVALID_PRODUCER_EPOCH",
    operation: error.operation,
    message: `the transaction of ${transactionalId} was ended by the brokers: it took longer than its timeout, or a ` +
      `process that took over our work ended it (${error.code})`,
    cause: error,
  })

const anonymous = (group: string): KafkaError =>
  new KafkaError({
    code: "CLIENT",
    operation: "TxnOffsetCommit",
    message: `group ${group}: positions without a generation and a member id would be accepted from anybody and are ` +
      "never sent; join the group first",
  })
