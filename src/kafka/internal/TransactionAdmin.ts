/** Transactions as an operator sees them: what is open, where, and since when; and its end where nobody else can end it. */
import { Writer } from "@platformatic/kafka"
import { Effect } from "effect"
import type { Cluster, KafkaError, PartitionProducers, TopicPartition, TransactionDescription } from "../Cluster.ts"
import type { Brokers } from "./Brokers.ts"
import { type Api, call } from "./Connections.ts"
import { nameOf, refused } from "./Failure.ts"
import { byTopic, inOrder } from "./Partitions.ts"
import { DescribeProducers, DescribeTransactions, ListTransactions } from "./Protocol.ts"
import type { Topics } from "./Topics.ts"
import { check } from "./Transactions.ts"

type Methods = Pick<
  Cluster["Service"],
  "describeProducers" | "describeTransactions" | "listTransactions" | "writeTxnMarkers"
>

export const make = (brokers: Brokers, topics: Topics): Methods => {
  const describe = (transactionalId: string): Effect.Effect<TransactionDescription, KafkaError> =>
    brokers.coordinated(
      { kind: "transactional id", key: transactionalId },
      Effect.fnUntraced(function* (send) {
        const { transactionStates: [found] } = yield* send("admin", call(DescribeTransactions, [transactionalId]))
        const error = found === undefined ? "COORDINATOR_NOT_AVAILABLE" : nameOf(found.errorCode)
        if (found === undefined || error !== null) {
          return yield* refused("DescribeTransactions", `transactional id ${transactionalId}`, error ?? "")
        }
        return {
          transactionalId,
          error: null,
          state: found.transactionState,
          timeout: found.transactionTimeoutMs,
          started: Number(found.transactionStartTimeMs),
          producerId: Number(found.producerId),
          producerEpoch: found.producerEpoch,
          partitions: found.topics.flatMap(({ topic, partitions }) =>
            partitions.map((partition) => ({ topic, partition }))
          ),
        }
      }),
    )

  /** Asks each leader for its partitions; those without a leader, or whose leader does not answer, have that as their error. */
  const ofLeaders = Effect.fnUntraced(function* <A extends TopicPartition>(
    partitions: ReadonlyArray<TopicPartition>,
    failed: (where: TopicPartition, error: string) => A,
    ask: (node: number, partitions: ReadonlyArray<TopicPartition>) => Effect.Effect<ReadonlyArray<A>, KafkaError>,
  ): Effect.fn.Return<ReadonlyArray<A>, KafkaError> {
    if (partitions.length === 0) return []
    const { topics: known } = yield* topics.metadata([...new Set(partitions.map(({ topic }) => topic))])
    const leaders = new Map(
      known.flatMap(({ topic, partitions }) =>
        partitions.map(({ partition, leader }) => [`${topic}/${partition}`, leader])
      ),
    )
    const leaderOf = ({ topic, partition }: TopicPartition) => leaders.get(`${topic}/${partition}`)
    const answers = yield* Effect.forEach(Map.groupBy(partitions, leaderOf), ([node, led]) => {
      if (node === undefined) return Effect.succeed(led.map((one) => failed(one, "UNKNOWN_TOPIC_OR_PARTITION")))
      if (node < 0) return Effect.succeed(led.map((one) => failed(one, "LEADER_NOT_AVAILABLE")))
      return Effect.catch(ask(node, led), ({ code }) => Effect.succeed(led.map((one) => failed(one, code))))
    }, { concurrency: "unbounded" })
    return inOrder(partitions, answers.flat(), (one) => failed(one, "UNKNOWN_SERVER_ERROR"))
  })

  return {
    listTransactions: Effect.fn("Cluster.listTransactions")(function* () {
      const lists = yield* Effect.forEach(
        yield* brokers.nodes,
        (node) =>
          Effect.flatMap(
            brokers.node("admin", node, call(ListTransactions, [], [], -1n, null)),
            (response) =>
              Effect.as(
                check("ListTransactions", `broker ${node}`, response.errorCode),
                response.transactionStates.map(({ transactionalId, producerId, transactionState }) => ({
                  transactionalId,
                  producerId: Number(producerId),
                  state: transactionState,
                })),
              ),
          ),
        { concurrency: "unbounded" },
      )
      return lists.flat()
    }),

    describeTransactions: Effect.fn("Cluster.describeTransactions")((ids) =>
      Effect.forEach(
        ids,
        (transactionalId) =>
          Effect.catch(describe(transactionalId), ({ code }) => Effect.succeed(undescribed(transactionalId, code))),
        { concurrency: 8 },
      )
    ),

    describeProducers: Effect.fn("Cluster.describeProducers")((partitions) =>
      ofLeaders<PartitionProducers>(partitions, (where, error) => ({ ...where, error, producers: [] }), (node, led) => {
        const asked = byTopic(led, ({ partition }) => partition)
          .map(({ name, partitions }) => ({ name, partitionIndexes: partitions }))
        return Effect.map(
          brokers.node("admin", node, call(DescribeProducers, asked)),
          ({ topics }) =>
            topics.flatMap(({ name, partitions }) =>
              partitions.map(({ partitionIndex, errorCode, activeProducers }) => ({
                topic: name,
                partition: partitionIndex,
                error: nameOf(errorCode),
                producers: activeProducers.map((producer) => ({
                  producerId: Number(producer.producerId),
                  producerEpoch: producer.producerEpoch,
                  lastTimestamp: Number(producer.lastTimestamp),
                  coordinatorEpoch: producer.coordinatorEpoch,
                  transactionStart: Number(producer.currentTxnStartOffset),
                })),
              }))
            ),
        )
      })
    ),

    writeTxnMarkers: Effect.fn("Cluster.writeTxnMarkers")(({ partitions, ...marker }) =>
      ofLeaders<Marked>(
        partitions,
        (where, error) => ({ ...where, error }),
        (node, led) =>
          Effect.map(
            brokers.node("admin", node, call(WriteTxnMarkers, marker, led)),
            (answers) => answers.map(({ errorCode, ...where }) => ({ ...where, error: nameOf(errorCode) })),
          ),
      )
    ),
  }
}

type Marked = TopicPartition & { readonly error: string | null }

type Marker = Omit<Parameters<Cluster["Service"]["writeTxnMarkers"]>[0], "partitions">

/**
 * WriteTxnMarkers 1, which the client does not have (Kafka's message definition WriteTxnMarkersRequest.json, KIP-98): markers =>
 * producer id int64, producer epoch int16, whether to commit, topics, coordinator epoch int32.
 */
const WriteTxnMarkers: Api<
  [Marker, ReadonlyArray<TopicPartition>],
  ReadonlyArray<TopicPartition & { readonly errorCode: number }>
> = {
  api: { key: 27, version: 1 },
  createRequest: ({ producerId, producerEpoch, coordinatorEpoch, commit }, partitions) =>
    Writer.create()
      .appendArray([byTopic(partitions, ({ partition }) => partition)], (writer, topics) => {
        writer.appendInt64(BigInt(producerId))
          .appendInt16(producerEpoch)
          .appendBoolean(commit)
          .appendArray(topics, (writer, { name, partitions }) => {
            writer.appendString(name)
              .appendArray(partitions, (writer, partition) => writer.appendInt32(partition), true, false)
          })
          .appendInt32(coordinatorEpoch)
      })
      .appendTaggedFields(),
  parseResponse: (_correlation, _key, _version, reader) => {
    const answers = reader.readArray((reader) => {
      reader.readInt64()
      return reader.readArray((reader) => {
        const topic = reader.readString()
        return reader.readArray((reader) => (
          { topic, partition: reader.readInt32(), errorCode: reader.readInt16() }
        )).flat()
      }).flat()
    }).flat()
    reader.readTaggedFields()
    return answers
  },
}

const undescribed = (transactionalId: string, error: string): TransactionDescription => ({
  transactionalId,
  error,
  state: "",
  timeout: -1,
  started: -1,
  producerId: -1,
  producerEpoch: -1,
  partitions: [],
})
