/** Transactions by the first transaction protocol. */
import { Effect } from "effect"
import { type Cluster, KafkaError, type TopicPartition, type TransactionIdentity } from "../Cluster.ts"
import type { Brokers, Coordinated } from "./Brokers.ts"
import { call } from "./Connections.ts"
import { nameOf, refused } from "./Failure.ts"
import { byTopic } from "./Partitions.ts"
import { AddOffsetsToTxn, AddPartitionsToTxn, EndTxn, InitProducerId, TxnOffsetCommit } from "./Protocol.ts"

type Methods = Pick<
  Cluster["Service"],
  "addOffsetsToTxn" | "addPartitionsToTxn" | "endTxn" | "initProducerId" | "txnOffsetCommit"
>

const about = ({ transactionalId }: { readonly transactionalId: string }): Coordinated => ({
  kind: "transactional id",
  key: transactionalId,
})

const subject = ({ transactionalId, producerId, producerEpoch }: TransactionIdentity): string =>
  `transactional id ${transactionalId} (producer ${producerId}, epoch ${producerEpoch})`

/** Fails for a request with one error code for all of it. */
export const check = (operation: string, subject: string, errorCode: number): Effect.Effect<void, KafkaError> => {
  const error = nameOf(errorCode)
  return error === null ? Effect.void : Effect.fail(refused(operation, subject, error))
}

/** Fails with the first partition that was refused, or with OPERATION_NOT_ATTEMPTED only where that is all there is. */
export const checkAll = (
  operation: string,
  subject: string,
  answers: Iterable<TopicPartition & { readonly errorCode: number }>,
): Effect.Effect<void, KafkaError> => {
  let first: (TopicPartition & { readonly error: string }) | undefined
  for (const { topic, partition, errorCode } of answers) {
    const error = nameOf(errorCode)
    if (error !== null && (first === undefined || first.error === "OPERATION_NOT_ATTEMPTED")) {
      first = { topic, partition, error }
    }
  }
  return first === undefined
    ? Effect.void
    : Effect.fail(refused(operation, `${subject}, topic ${first.topic} partition ${first.partition}`, first.error))
}

export const make = (brokers: Brokers): Methods => ({
  initProducerId: Effect.fn("Cluster.initProducerId")(function* (transactionalId, transactionTimeout, current) {
    const { producerId, producerEpoch } = current ?? { producerId: -1, producerEpoch: -1 }
    const request = call(InitProducerId, transactionalId, transactionTimeout, BigInt(producerId), producerEpoch)
    const of = transactionalId === null ? "a producer without transactions" : `transactional id ${transactionalId}`
    const init = <Response extends { readonly errorCode: number }>(answer: Effect.Effect<Response, KafkaError>) =>
      Effect.tap(answer, ({ errorCode }) => check("InitProducerId", of, errorCode))
    const got = yield* transactionalId === null
      ? init(brokers.any(request, "repeatable"))
      : brokers.coordinated(about({ transactionalId }), (send) => init(send("control", request)))
    return { producerId: Number(got.producerId), producerEpoch: got.producerEpoch }
  }),

  addPartitionsToTxn: Effect.fn("Cluster.addPartitionsToTxn")((txn, partitions) =>
    brokers.coordinated(
      about(txn),
      Effect.fnUntraced(function* (send) {
        const { transactionalId, producerId, producerEpoch } = txn
        const topics = byTopic(partitions, ({ partition }) => partition)
        const { resultsByTransaction: [result] } = yield* send(
          "control",
          call(AddPartitionsToTxn, [{
            transactionalId,
            producerId: BigInt(producerId),
            producerEpoch,
            verifyOnly: false,
            topics,
          }]),
        )
        yield* checkAll(
          "AddPartitionsToTxn",
          subject(txn),
          (result?.topicResults ?? []).flatMap(({ name, resultsByPartition }) =>
            resultsByPartition.map(({ partitionIndex, partitionErrorCode }) => ({
              topic: name,
              partition: partitionIndex,
              errorCode: partitionErrorCode,
            }))
          ),
        )
      }),
    )
  ),

  addOffsetsToTxn: Effect.fn("Cluster.addOffsetsToTxn")((txn, group) =>
    brokers.coordinated(about(txn), (send) =>
      Effect.flatMap(
        send("control", call(AddOffsetsToTxn, txn.transactionalId, BigInt(txn.producerId), txn.producerEpoch, group)),
        ({ errorCode }) => check("AddOffsetsToTxn", `${subject(txn)}, group ${group}`, errorCode),
      ))
  ),

  txnOffsetCommit: Effect.fn("Cluster.txnOffsetCommit")((
    txn,
    { group, generation, memberId, instanceId = null },
    offsets,
  ) =>
    brokers.coordinated(
      { kind: "group", key: group },
      Effect.fnUntraced(function* (send) {
        const { transactionalId, producerId, producerEpoch } = txn
        const topics = byTopic(offsets, toCommit)
        const response = yield* send(
          "control",
          call(
            TxnOffsetCommit,
            transactionalId,
            group,
            BigInt(producerId),
            producerEpoch,
            generation,
            memberId,
            instanceId,
            topics,
          ),
        )
        yield* checkAll("TxnOffsetCommit", `${subject(txn)}, group ${group}`, committed(response))
      }),
    )
  ),

  endTxn: Effect.fn("Cluster.endTxn")((txn, commit) =>
    brokers.coordinated(about(txn), (send) =>
      Effect.flatMap(
        send("control", call(EndTxn, txn.transactionalId, BigInt(txn.producerId), txn.producerEpoch, commit)),
        ({ errorCode }) => check("EndTxn", subject(txn), errorCode),
      ))
  ),
})

export const toCommit = (
  { partition, offset, metadata }: { readonly partition: number; readonly offset: number; readonly metadata: string },
) => ({
  partitionIndex: partition,
  committedOffset: BigInt(offset),
  committedLeaderEpoch: -1,
  committedMetadata: metadata,
})

export const committed = (response: {
  readonly topics: ReadonlyArray<{
    readonly name: string
    readonly partitions: ReadonlyArray<{ readonly partitionIndex: number; readonly errorCode: number }>
  }>
}) =>
  response.topics.flatMap(({ name, partitions }) =>
    partitions.map(({ partitionIndex, errorCode }) => ({ topic: name, partition: partitionIndex, errorCode }))
  )
