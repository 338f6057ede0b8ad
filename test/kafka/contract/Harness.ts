/** What the contract suite does over and over: topics of its own, records in and out, members of groups. */
import { assert } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import {
  Cluster,
  type FetchedPartition,
  type GroupIdentity,
  KafkaError,
  type ProduceBatch,
  type ProduceResult,
  type Records,
  type TopicPartition,
  type TransactionIdentity,
} from "../../../src/kafka/Cluster.ts"
import { decodeSubscription, encodeSubscription } from "../../../src/kafka/ConsumerProtocol.ts"
import { readable } from "../../../src/kafka/ReadCommitted.ts"

export const unique = (name: string): string => `${name}-${randomUUID().slice(0, 8)}`

/** Asks until the answer is right; after 30 seconds fails with the last one. */
export const eventually = <A, E, R>(what: string, ask: Effect.Effect<A, E, R>, isRight: (answer: A) => boolean) =>
  Effect.gen(function* () {
    const deadline = (yield* Clock.currentTimeMillis) + 30_000
    for (;;) {
      const answer = yield* ask
      if (isRight(answer)) return answer
      if ((yield* Clock.currentTimeMillis) > deadline) assert.fail(`${what}: still ${JSON.stringify(answer)}`)
      yield* Effect.sleep(20)
    }
  })

/** Asks until the coordinator is there and done with what came before. */
export const settled = <A, R>(ask: Effect.Effect<A, KafkaError, R>): Effect.Effect<A, KafkaError, R> =>
  Effect.map(
    eventually("a coordinator that answers", Effect.result(ask), (answer) =>
      answer._tag === "Success" || !unsettled.has(answer.failure.code)),
    (answer) =>
      answer,
  ).pipe(Effect.flatMap(Effect.fromResult))

const unsettled = new Set([
  "COORDINATOR_NOT_AVAILABLE",
  "COORDINATOR_LOAD_IN_PROGRESS",
  "NOT_COORDINATOR",
  "CONCURRENT_TRANSACTIONS",
])

/** The code that a request is refused with, once the coordinator is settled. */
export const refusal = <A, R>(ask: Effect.Effect<A, KafkaError, R>): Effect.Effect<string, never, R> =>
  settled(ask).pipe(Effect.matchEffect({
    onFailure: (error) => Effect.succeed(error.code),
    onSuccess: (answer) => Effect.sync(() => assert.fail(`not refused: ${JSON.stringify(answer)}`)),
  }))

/** A new topic whose partitions have leaders. */
export const newTopic = Effect.fnUntraced(function* (partitions = 1, config: Readonly<Record<string, string>> = {}) {
  const cluster = yield* Cluster
  const topic = unique("topic")
  const [created] = yield* cluster.createTopics([{ topic, partitions, replicationFactor: -1, config }])
  assert.strictEqual(created!.error, null)
  yield* leaders(topic, partitions)
  // Metadata names leaders before they know of it themselves.
  const where = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
  yield* eventually(
    `offsets of ${topic}`,
    cluster.listOffsets(where, "latest", "read_uncommitted"),
    (listed) => listed.every(({ error }) => error === null),
  )
  return topic
})

export const leaders = (topic: string, partitions: number) =>
  eventually(
    `leaders of ${topic}`,
    Cluster.use((cluster) => cluster.metadata([topic])),
    ({ topics: [found] }) =>
      found!.partitions.length === partitions && found!.partitions.every(({ leader }) => leader >= 0),
  ).pipe(Effect.map(({ topics: [found] }) => found!.partitions.map(({ leader }) => leader)))

const leaderOf = Effect.fnUntraced(function* ({ topic, partition }: TopicPartition) {
  const { topics: [found] } = yield* Cluster.use((cluster) => cluster.metadata([topic]))
  return found!.partitions[partition]!.leader
})

/** Records with these values, without keys and headers, stamped now unless told. */
export const recordsOf = Effect.fnUntraced(function* (values: ReadonlyArray<string>, timestamp?: number) {
  const at = timestamp ?? (yield* Clock.currentTimeMillis)
  return {
    keys: values.map(() => null),
    values: values.map((value) => Buffer.from(value)),
    headers: values.map(() => []),
    timestamps: values.map(() => at),
  } satisfies Records
})

/** One request to each leader. */
export const produce = Effect.fnUntraced(function* (
  batches: ReadonlyArray<ProduceBatch>,
  transactionalId: string | null = null,
): Effect.fn.Return<ReadonlyArray<ProduceResult>, KafkaError, Cluster> {
  const cluster = yield* Cluster
  const nodes = yield* Effect.forEach(batches, leaderOf)
  const results = yield* Effect.forEach(new Set(nodes), (node) => {
    const own = batches.filter((_, i) => nodes[i] === node)
    return cluster.produce({ node, transactionalId, timeout: 10_000, compression: "none", batches: own })
  })
  return results.flat()
})

/** Writes records with these values to a partition, without a producer id, and answers the base offset. */
export const write = Effect.fnUntraced(function* (topic: string, values: ReadonlyArray<string>, partition = 0) {
  const [result] = yield* produce([{ topic, partition, records: yield* recordsOf(values) }])
  assert.strictEqual(result!.error, null)
  return result!.baseOffset
})

export const fetch = Effect.fnUntraced(function* (
  where: TopicPartition,
  offset: number,
  options: { readonly maxWait?: number; readonly maxBytes?: number } = {},
): Effect.fn.Return<FetchedPartition, KafkaError, Cluster> {
  const cluster = yield* Cluster
  const node = yield* leaderOf(where)
  const { maxWait = 0, maxBytes = 1_048_576 } = options
  const answers = yield* cluster.fetch({ node, maxWait, maxBytes, partitions: [{ ...where, offset, maxBytes }] })
  assert.strictEqual(answers.length, 1)
  return answers[0]!
})

/** All committed values of a partition, read in fetches of `maxBytes`, and how many fetches it took. */
export const readAll = Effect.fnUntraced(function* (topic: string, partition = 0, maxBytes = 1_048_576) {
  const values: Array<string> = []
  let fetches = 0
  for (let position = 0;;) {
    const answer = yield* fetch({ topic, partition }, position, { maxBytes })
    assert.strictEqual(answer.error, null)
    const records = readable(answer, position)
    values.push(...records.bytes.map(text))
    if (records.next === position) return { values, fetches, position }
    position = records.next
    fetches++
  }
})

export const text = (bytes: Uint8Array | null): string => bytes === null ? "null" : Buffer.from(bytes).toString()

export const end = Effect.fnUntraced(
  function* (topic: string, isolation: "read_committed" | "read_uncommitted", partition = 0) {
    const cluster = yield* Cluster
    const [listed] = yield* cluster.listOffsets([{ topic, partition }], "latest", isolation)
    assert.strictEqual(listed!.error, null)
    return listed!.offset
  },
)

/** Waits until everything up to the end of the partition is decided. */
export const decided = (topic: string, partition = 0) =>
  eventually(
    `last stable offset of ${topic} ${partition}`,
    Effect.all([end(topic, "read_committed", partition), end(topic, "read_uncommitted", partition)]),
    ([stable, high]) => stable === high,
  )

/** A transactional producer that writes in sequence. */
export interface Transactor {
  readonly identity: TransactionIdentity
  begin(topic: string, ...partitions: ReadonlyArray<number>): Effect.Effect<void, KafkaError, Cluster>
  write(
    topic: string,
    values: ReadonlyArray<string>,
    partition?: number,
  ): Effect.Effect<ProduceResult, KafkaError, Cluster>
  end(commit: boolean): Effect.Effect<void, KafkaError, Cluster>
}

export const transactor = Effect.fnUntraced(function* (transactionalId: string, timeout = 60_000) {
  const cluster = yield* Cluster
  const { producerId, producerEpoch } = yield* settled(cluster.initProducerId(transactionalId, timeout))
  const identity: TransactionIdentity = { transactionalId, producerId, producerEpoch }
  const sequences = new Map<string, number>()
  const one: Transactor = {
    identity,
    begin: (topic, ...partitions) =>
      settled(cluster.addPartitionsToTxn(
        identity,
        (partitions.length === 0 ? [0] : partitions).map((partition) => ({ topic, partition })),
      )),
    write: Effect.fnUntraced(function* (topic, values, partition = 0) {
      const key = `${topic}/${partition}`
      const baseSequence = sequences.get(key) ?? 0
      sequences.set(key, baseSequence + values.length)
      const records = yield* recordsOf(values)
      const producer = { producerId, producerEpoch, baseSequence }
      const [result] = yield* produce([{ topic, partition, records, producer }], transactionalId)
      return result!
    }),
    end: (commit) => settled(cluster.endTxn(identity, commit)),
  }
  return one
})

/** One transaction with these values, committed or aborted. */
export const transact = Effect.fnUntraced(function* (
  one: Transactor,
  topic: string,
  values: ReadonlyArray<string>,
  commit: boolean,
) {
  yield* one.begin(topic)
  const { error } = yield* one.write(topic, values)
  assert.strictEqual(error, null)
  yield* one.end(commit)
})

export interface JoinOptions {
  readonly sessionTimeout?: number
  readonly rebalanceTimeout?: number
  readonly metadata?: string
  readonly instanceId?: string
}

export const protocol = "contract"

/** What a member said of itself. Brokers read subscriptions of consumer groups too, so it must be a proper one. */
export const saidBy = ({ metadata }: { readonly metadata: Uint8Array }): string =>
  text(decodeSubscription(metadata).userData)

/** The request that joins as a member, or anew with an empty id. */
export const join = Effect.fnUntraced(function* (group: string, memberId: string, options: JoinOptions = {}) {
  const cluster = yield* Cluster
  return yield* settled(cluster.joinGroup({
    group,
    memberId,
    instanceId: options.instanceId,
    sessionTimeout: options.sessionTimeout ?? 30_000,
    rebalanceTimeout: options.rebalanceTimeout ?? 30_000,
    protocol,
    metadata: encodeSubscription({ topics: [], userData: Buffer.from(options.metadata ?? "metadata") }),
  }))
})

/** The id that a new member is to join with. */
export const newMember = Effect.fnUntraced(function* (group: string, options: JoinOptions = {}) {
  const { error, memberId } = yield* join(group, "", options)
  assert.strictEqual(error, "MEMBER_ID_REQUIRED")
  assert.notStrictEqual(memberId, "")
  return memberId
})

/** A new group with one member in a stable generation. */
export const soleMember = Effect.fnUntraced(function* (group: string, options: JoinOptions = {}) {
  const cluster = yield* Cluster
  const memberId = yield* newMember(group, options)
  const { generation, leader } = yield* join(group, memberId, options)
  assert.strictEqual(leader, memberId)
  const identity: GroupIdentity = { group, generation, memberId }
  yield* cluster.syncGroup(identity, protocol, [{ memberId, assignment: Buffer.from("all") }])
  return identity
})

export const stateOf = (group: string) =>
  Cluster.use((cluster) => Effect.map(cluster.describeGroups([group]), ([found]) => found!.state))
