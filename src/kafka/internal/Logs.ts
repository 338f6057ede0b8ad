/** Writing to logs and reading from them: the two requests that carry records. */
import { Reader, Writer } from "@platformatic/kafka"
import type { Buffer } from "node:buffer"
import { Effect } from "effect"
import type { Cluster, FetchedPartition, ProduceRequest, ProduceResult, TopicPartition } from "../Cluster.ts"
import type { Brokers } from "./Brokers.ts"
import { type Api, type Call, call } from "./Connections.ts"
import { nameOf, refused } from "./Failure.ts"
import { decode } from "./FetchedRecords.ts"
import { byTopic, inOrder } from "./Partitions.ts"
import { Fetch, Produce } from "./Protocol.ts"
import { encode } from "./RecordBatch.ts"
import type { Topics } from "./Topics.ts"

const allInSync = -1
const readCommitted = 1

export const make = (brokers: Brokers, topics: Topics): Pick<Cluster["Service"], "fetch" | "produce"> => {
  /** Why a position in the topic `wanted` cannot be asked for where the topic of its name is the one with `id`, if it is so. */
  const unreadable = (wanted: string | undefined, id: string | undefined): string | undefined =>
    id === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : (wanted ?? id) === id ? undefined : "INCONSISTENT_TOPIC_ID"

  const failed = (where: TopicPartition, error: string): FetchedPartition => ({
    topic: where.topic,
    partition: where.partition,
    error,
    highWatermark: -1,
    lastStableOffset: -1,
    logStartOffset: -1,
    aborted: [],
    batches: [],
  })

  return {
    fetch: Effect.fn("Cluster.fetch")(function* ({ node, maxWait, maxBytes, partitions }) {
      const ids = yield* topics.ids(partitions.map(({ topic }) => topic))
      const answers: Array<FetchedPartition> = []
      const wanted = partitions.filter((one) => {
        const error = unreadable(one.topicId, ids.get(one.topic))
        if (error !== undefined) answers.push(failed(one, error))
        return error === undefined
      })
      if (wanted.length === 0) return answers
      const request = byTopic(wanted, ({ partition, offset, maxBytes }) => ({
        partition,
        currentLeaderEpoch: -1,
        fetchOffset: BigInt(offset),
        lastFetchedEpoch: -1,
        partitionMaxBytes: maxBytes,
      })).map(({ name, partitions }) => ({ topicId: ids.get(name)!, partitions }))
      const offsets = new Map(wanted.map((one) => [`${ids.get(one.topic)} ${one.partition}`, one.offset]))
      const response = yield* brokers.node(
        "fetch",
        node,
        call(fetchColumns(offsets), maxWait, 1, maxBytes, readCommitted, noSession, noEpoch, request, [], ""),
        maxWait + brokers.timeout,
      )
      const error = nameOf(response.errorCode)
      if (error !== null) return yield* refused("Fetch", `${wanted.length} partitions of broker ${node}`, error)
      // A reader above its quota is answered at once, and about no partition.
      const unanswered = response.partitions.length === 0 ? "THROTTLING_QUOTA_EXCEEDED" : "UNKNOWN_SERVER_ERROR"
      const names = new Map(Array.from(ids, ([name, id]) => [id, name]))
      for (const { topicId, ...answer } of response.partitions) {
        answers.push({ topic: names.get(topicId) ?? "", ...answer })
      }
      const other = answers.filter(({ error }) => error !== null && otherTopic.has(error))
      if (other.length === 0) return inOrder(partitions, answers, (one) => failed(one, unanswered))
      yield* topics.metadata([...new Set(other.map(({ topic }) => topic))])
      const now = yield* topics.ids(other.map(({ topic }) => topic))
      return inOrder(partitions, answers, (one) => failed(one, unanswered)).map((answer, i) =>
        answer.error !== null && otherTopic.has(answer.error)
          ? { ...answer, error: unreadable(partitions[i]!.topicId, now.get(answer.topic)) ?? "UNKNOWN_TOPIC_ID" }
          : answer
      )
    }),

    produce: Effect.fn("Cluster.produce")(function* (request) {
      const response = yield* brokers.node(
        "produce",
        request.node,
        produceCall(request),
        request.timeout + brokers.timeout,
      )
      const answers = response.responses.flatMap(({ name, partitionResponses }) =>
        partitionResponses.map(({ index, errorCode, errorMessage, baseOffset }): ProduceResult => ({
          topic: name,
          partition: index,
          error: nameOf(errorCode),
          baseOffset: errorCode === 0 ? Number(baseOffset) : -1,
          ...typeof errorMessage === "string" ? { message: errorMessage } : {},
        }))
      )
      return inOrder(
        request.batches,
        answers,
        (one): ProduceResult => ({ ...one, error: "UNKNOWN_SERVER_ERROR", baseOffset: -1 }),
      )
    }),
  }
}

/** The broker knows no topic of this id, or another one by its name: not yet, or no longer. */
const otherTopic: ReadonlySet<string> = new Set(["UNKNOWN_TOPIC_ID", "INCONSISTENT_TOPIC_ID"])

/** Every request names all its partitions. */
const noSession = 0
const noEpoch = -1

const produceCall = (request: ProduceRequest): Call<ReturnType<typeof Produce.parseResponse>> =>
  call({
    ...Produce,
    createRequest: ({ transactionalId, timeout, compression, batches }: ProduceRequest) =>
      Writer.create()
        .appendString(transactionalId)
        .appendInt16(allInSync)
        .appendInt32(timeout)
        .appendArray(byTopic(batches, (batch) => batch), (topic, { name, partitions }) => {
          topic.appendString(name).appendArray(partitions, (one, { partition, records, producer }) => {
            const batch = encode(records, {
              compression,
              transactional: transactionalId !== null,
              ...producer === undefined ? {} : { producer },
            })
            one.appendInt32(partition).appendUnsignedVarInt(batch.length + 1).append(batch)
          })
        })
        .appendTaggedFields(),
  }, request)

interface FetchResponse {
  readonly errorCode: number
  readonly partitions: ReadonlyArray<Omit<FetchedPartition, "topic"> & { readonly topicId: string }>
}

const parseFetchResponse =
  (offsets: ReadonlyMap<string, number>): Api<never, FetchResponse>["parseResponse"] =>
  (_correlationId, _key, _version, answer) => {
    // One copy, so that all records can point into one buffer.
    const bytes = answer.buffer.buffer
    const reader = Reader.from(bytes)
    reader.readInt32() // How long the broker held the answer back for a quota.
    const errorCode = reader.readInt16()
    reader.readInt32() // The session: none.
    const partitions = reader.readArray((reader) => {
      const topicId = reader.readUUID()
      return reader.readArray((reader) => readPartition(reader, bytes, topicId, offsets))
    })
    return { errorCode, partitions: partitions.flat() }
  }

/** The request, and how its answer is read, by the offsets that were asked for: of each topic's id and partition. */
const fetchColumns = (offsets: ReadonlyMap<string, number>) => ({
  api: Fetch.api,
  createRequest: Fetch.createRequest,
  parseResponse: parseFetchResponse(offsets),
})

const readPartition = (
  reader: Reader,
  bytes: Buffer,
  topicId: string,
  offsets: ReadonlyMap<string, number>,
): FetchResponse["partitions"][number] => {
  const partition = reader.readInt32()
  const error = nameOf(reader.readInt16())
  const highWatermark = Number(reader.readInt64())
  const lastStableOffset = Number(reader.readInt64())
  const logStartOffset = Number(reader.readInt64())
  const aborted = reader.readArray((reader) => ({
    producerId: Number(reader.readInt64()),
    firstOffset: Number(reader.readInt64()),
  }))
  reader.readInt32() // A replica to read from instead: only for readers that name their rack.
  const size = Math.max(0, reader.readUnsignedVarInt() - 1)
  const decoded = decode(
    bytes.subarray(reader.position, reader.position + size),
    offsets.get(`${topicId} ${partition}`),
  )
  reader.skip(size)
  return {
    topicId,
    partition,
    error: error ?? decoded.error,
    ...decoded.message !== undefined && { message: decoded.message },
    highWatermark,
    lastStableOffset,
    logStartOffset,
    aborted,
    batches: decoded.batches,
  }
}
