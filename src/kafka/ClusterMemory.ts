/**
 * Kafka in memory: the same port, the same protocol, no broker. For tests on Effect's test clock, and for programs that
 * are to run without installing anything.
 *
 * It answers request by request what an Apache Kafka 4 broker answers (classic group protocol, first transaction
 * protocol), on the clock of the layer. Two runs that make the same requests at the same times get the same answers:
 * all ids are counted, after one that is drawn from Effect's `Random`. Memory is bounded by the topics' own retention. Nothing survives the layer's scope.
 *
 * It differs from a cluster where that cannot be observed through the port, and in this: replicas lag only where `replicationLag` says so, segments
 * are smaller (so retention is finer), compaction also writes what is left into fewer batches, a transaction that takes
 * too long is aborted at once and not at the next sweep, and positions of idle groups never expire.
 */
import { Clock, Context, Deferred, Duration, Effect, Exit, FiberHandle, Layer, type Scope } from "effect"
import type { Headers } from "../Batch.ts"
import * as Identifier from "../Identifier.ts"
import {
  Cluster,
  type FetchedPartition,
  type FetchRequest,
  KafkaError,
  type Records,
  type TopicPartition,
} from "./Cluster.ts"
import { Broker } from "./memory/Broker.ts"
import type { Reply } from "./memory/Group.ts"
import type { Log } from "./memory/Log.ts"
import { attempt, Refusal } from "./memory/Refusal.ts"
import { firstNode } from "./memory/Topics.ts"
import type { TransactionState } from "./memory/Transactions.ts"

export interface Options {
  /** How many brokers; 1 unless given. They are numbered from 1, and lead partitions in turn. */
  readonly nodes?: number
  /** How long after EndTxn answers the markers are written; 0 unless given: before the next request is answered. */
  readonly markerDelay?: Duration.Input
  /**
   * How long followers take to have what a leader appended; 0 unless given. Until then nothing of it is acknowledged or
   * read, and a restart of the leader loses it.
   */
  readonly replicationLag?: Duration.Input
  /** How often expired and compactable data is looked for; 5 minutes unless given. Sizes hold at all times. */
  readonly retentionInterval?: Duration.Input
  /** How long a new group waits for more members; not at all unless given (a broker's default is 3 seconds). */
  readonly initialRebalanceDelay?: Duration.Input
  /** The shortest session timeout that a member may ask for; 6 seconds unless given. */
  readonly minSessionTimeout?: Duration.Input
}

/** A record of a topic, as a reader under read_committed sees it. */
export interface TopicRecord {
  readonly partition: number
  readonly offset: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: Headers
  readonly timestamp: number
}

/** What a test may see and do beyond the protocol. */
export class Control extends Context.Service<Control, {
  /** A topic's records as committed so far, by partition and offset. */
  records(topic: string): Effect.Effect<ReadonlyArray<TopicRecord>, KafkaError>
  /** By partition: the offset after the last committed record. Markers and undecided records behind it do not count. */
  ends(topic: string): Effect.Effect<ReadonlyArray<number>, KafkaError>
  /** Writes a batch without a producer and answers its base offset. */
  append(where: TopicPartition, records: Records): Effect.Effect<number, KafkaError>
  /** Forgets now all that retention and compaction allow, as if segments were as small as could be. */
  readonly expire: Effect.Effect<void>
  /**
   * Loses what stands at `offset` and above, as a broker does that returns without what was not replicated. Transactions
   * whose markers are lost stay open in the partition.
   */
  truncate(where: TopicPartition, offset: number): Effect.Effect<void, KafkaError>
  /** Adds partitions to a topic, so that it has so many, as an operator does. */
  grow(topic: string, partitions: number): Effect.Effect<void, KafkaError>
  /**
   * Restarts a broker that dies without what only it has: records and markers that its followers do not have yet are lost,
   * writers that wait for it hear of a broken connection, and another replica leads where there is one. Answers how many
   * batches and markers were lost. Coordinators lose nothing: that is a refused request.
   */
  restart(node: number): Effect.Effect<number, KafkaError>
  /** Makes another broker the leader of a partition. */
  lead(where: TopicPartition, node: number): Effect.Effect<void, KafkaError>
  /** Transactions that are open or being completed. */
  readonly openTransactions: Effect.Effect<
    ReadonlyArray<{ readonly transactionalId: string; readonly state: TransactionState }>
  >
  /** Removes a member from its group, as when its session ends. */
  kick(group: string, memberId: string): Effect.Effect<void, KafkaError>
  /** Bytes that a topic takes, in Kafka's format. */
  size(topic: string): Effect.Effect<number, KafkaError>
}>()("millrace/kafka/ClusterMemory/Control") {}

/** An empty cluster of its own. */
export const layer = (options: Options = {}): Layer.Layer<Cluster | Control> =>
  Layer.effectContext(Effect.gen(function* () {
    const clusterId = yield* Identifier.make
    const broker = new Broker({
      clusterId,
      nodes: options.nodes ?? 1,
      markerDelay: millis(options.markerDelay, 0),
      replicationLag: millis(options.replicationLag, 0),
      retentionInterval: millis(options.retentionInterval, 300_000),
      initialRebalanceDelay: millis(options.initialRebalanceDelay, 0),
      minSessionTimeout: millis(options.minSessionTimeout, 6_000),
      maxSessionTimeout: 1_800_000,
    })
    const door = yield* openDoor(broker)
    return Context.make(Cluster, cluster(broker, door, clusterId, options.nodes ?? 1)).pipe(
      Context.add(Control, control(broker, door)),
    )
  }))

const millis = (given: Duration.Input | undefined, otherwise: number): number =>
  given === undefined ? otherwise : Duration.toMillis(given)

/** The way in: brings the broker's time up to date before each request, and sees to its deadlines in between. */
interface Door {
  /** Answers at once. */
  ask<A>(operation: string, handle: (now: number) => A): Effect.Effect<A, KafkaError>
  /** Answers when the broker does. An interrupted request goes on without its caller, as over a network. */
  await<A>(operation: string, handle: (now: number, reply: Reply<A>) => void): Effect.Effect<A, KafkaError>
  now(): number
}

const openDoor = Effect.fnUntraced(function* (broker: Broker): Effect.fn.Return<Door, never, Scope.Scope> {
  const { timers } = broker
  const clock = yield* Clock.clockWith(Effect.succeed)
  const run = yield* FiberHandle.makeRuntime<never>()
  let armed = Infinity

  const keepTime = Effect.gen(function* () {
    for (;;) {
      armed = timers.next
      if (armed === Infinity) return
      const left = armed - clock.currentTimeMillisUnsafe()
      // What is due at once still waits for the answer to the request that caused it.
      yield* left > 0 ? clock.sleep(Duration.millis(left)) : Effect.yieldNow
      timers.advance(clock.currentTimeMillisUnsafe())
    }
  })

  const handled = <A>(handle: (now: number) => A): A | Refusal => {
    const now = timers.advance(clock.currentTimeMillisUnsafe())
    const answer = attempt(() => handle(now))
    if (timers.next < armed) run(keepTime)
    return answer
  }

  return {
    ask: (operation, handle) =>
      Effect.suspend(() => {
        const answer = handled(handle)
        return answer instanceof Refusal ? Effect.fail(refused(operation, answer)) : Effect.succeed(answer)
      }),
    await: (operation, handle) =>
      Effect.callback((resume) => {
        const answer = handled((now) =>
          handle(now, (exit) => resume(aside(Effect.mapError(exit, (refusal) => refused(operation, refusal)))))
        )
        if (answer instanceof Refusal) resume(Effect.fail(refused(operation, answer)))
      }),
    now: () => clock.currentTimeMillisUnsafe(),
  }
})

/**
 * Continues in a turn of its own: a fiber that is resumed runs at once, and what it asks next must not come in the middle
 * of the request that resumed it.
 */
const aside = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> => Effect.andThen(Effect.yieldNow, effect)

const refused = (operation: string, { code, message }: Refusal): KafkaError =>
  new KafkaError({ code, operation, message })

const cluster = (broker: Broker, door: Door, clusterId: string, nodes: number): Cluster["Service"] => {
  const { topics, transactions, groups } = broker
  const brokers = Array.from({ length: nodes }, (_, i) => ({ node: firstNode + i, host: "memory", port: 9092 + i }))
  return {
    metadata: (wanted) =>
      door.ask("Metadata", () => ({
        clusterId,
        brokers,
        topics: (wanted ?? topics.names).map((topic) => topics.describe(topic)),
      })),
    createTopics: (wanted) =>
      door.ask("CreateTopics", () => wanted.map((topic) => outcome(topic.topic, () => topics.create(topic)))),
    deleteTopics: (wanted) =>
      door.ask("DeleteTopics", () => wanted.map((topic) => outcome(topic, () => broker.delete(topic)))),
    topicConfig: (topic) => door.ask("DescribeConfigs", () => topics.settings(topic)),
    listOffsets: (partitions, at, isolation) =>
      door.ask("ListOffsets", () => broker.listOffsets(partitions, at, isolation)),
    fetch: (request) => fetch(broker, door, request),
    produce: (request) =>
      broker.replication.isImmediate
        ? door.ask("Produce", (now) => broker.produce(request, now))
        : door.await("Produce", (now, reply) =>
          broker.replication.acknowledge(request, broker.produce(request, now), now, reply)),
    initProducerId: (transactionalId, timeout, current) =>
      door.ask(
        "InitProducerId",
        (now) =>
          transactionalId === null ? transactions.fresh() : transactions.init(transactionalId, timeout, current, now),
      ),
    addPartitionsToTxn: (txn, partitions) =>
      door.ask("AddPartitionsToTxn", (now) => broker.addPartitions(txn, partitions, now)),
    addOffsetsToTxn: (txn, group) => door.ask("AddOffsetsToTxn", (now) => transactions.add(txn, [{ group }], now)),
    txnOffsetCommit: (txn, member, offsets) =>
      door.ask("TxnOffsetCommit", (now) => broker.prepareOffsets(txn, member, offsets, now)),
    endTxn: (txn, commit) => door.ask("EndTxn", (now) => transactions.end(txn, commit ? "commit" : "abort", now)),
    listTransactions: () => door.ask("ListTransactions", () => transactions.listed),
    describeTransactions: (ids) => door.ask("DescribeTransactions", () => ids.map((id) => transactions.describe(id))),
    describeProducers: (partitions) => door.ask("DescribeProducers", () => broker.describeProducers(partitions)),
    writeTxnMarkers: (marker) => door.ask("WriteTxnMarkers", (now) => broker.writeMarkers(marker, now)),
    offsetCommit: (member, offsets) => door.ask("OffsetCommit", (now) => broker.commitOffsets(member, offsets, now)),
    offsetFetch: (group, partitions, requireStable) =>
      door.ask("OffsetFetch", () => broker.offsets.fetch(group, partitions, requireStable)),
    joinGroup: (request) => door.await("JoinGroup", (now, reply) => groups.join(request, now, reply)),
    syncGroup: (member, protocol, assignments) =>
      door.await("SyncGroup", (now, reply) => groups.sync(member, protocol, assignments, now, reply)),
    heartbeat: (member) => door.ask("Heartbeat", (now) => groups.heartbeat(member, now)),
    leaveGroup: (group, memberId) => door.ask("LeaveGroup", (now) => groups.leave(group, memberId, now)),
    describeGroups: (names) => door.ask("DescribeGroups", () => names.map((name) => groups.describe(name))),
    listGroups: () => door.ask("ListGroups", () => groups.names),
  }
}

const outcome = (topic: string, act: () => void) => {
  const refusal = attempt(act)
  return refusal instanceof Refusal ? { topic, error: refusal.code, message: refusal.message } : { topic, error: null }
}

/** Answers as soon as there is something to read, or with nothing after the time that the reader wants to wait. */
const fetch = Effect.fnUntraced(function* (
  broker: Broker,
  door: Door,
  request: FetchRequest,
): Effect.fn.Return<ReadonlyArray<FetchedPartition>, KafkaError> {
  const read = door.ask("Fetch", () => broker.read(request))
  const first = yield* read
  if (first.found || request.maxWait <= 0) return first.answers
  const until = door.now() + request.maxWait
  const woken = (wait: Deferred.Deferred<void>) =>
    Effect.timeoutOption(Effect.andThen(Deferred.await(wait), Effect.yieldNow), Duration.millis(until - door.now()))
  for (;;) {
    const wait = Deferred.makeUnsafe<void>()
    const wake = () => Deferred.doneUnsafe(wait, Exit.void)
    const logs = broker.logs(request)
    // Listens before it looks: what comes in between is not missed.
    const { found, answers } = yield* Effect.acquireUseRelease(
      Effect.sync(() => logs.forEach(({ readers }) => readers.add(wake))),
      () => Effect.tap(read, ({ found }) => found || door.now() >= until ? Effect.void : woken(wait)),
      () => Effect.sync(() => logs.forEach(({ readers }) => readers.delete(wake))),
    )
    if (found || door.now() >= until) return answers
  }
})

const control = (broker: Broker, door: Door): Control["Service"] => {
  const { topics, transactions, groups } = broker
  return {
    records: (topic) => door.ask("Control", () => topics.partitions(topic).flatMap(({ log }) => committed(log))),
    ends: (topic) => door.ask("Control", () => topics.partitions(topic).map(({ log }) => endOfRecords(log))),
    append: (where, records) =>
      door.ask("Control", (now) => {
        const { log, retention } = topics.get(where)
        const offset = log.append(records, undefined, false, now)
        retention.appended(now)
        return offset
      }),
    expire: Effect.orDie(door.ask("Control", (now) => {
      for (const topic of topics.names) for (const { retention } of topics.partitions(topic)) retention.run(now)
    })),
    truncate: (where, offset) => door.ask("Control", (now) => topics.get(where).log.truncate(offset, now)),
    grow: (topic, partitions) => door.ask("Control", () => topics.grow(topic, partitions)),
    restart: (node) => door.ask("Control", (now) => broker.replication.restart(topics, node, now)),
    lead: (where, node) => door.ask("Control", () => topics.lead(where, node)),
    openTransactions: Effect.orDie(door.ask("Control", () => transactions.open)),
    kick: (group, memberId) => door.ask("Control", (now) => groups.expire(group, memberId, now)),
    size: (topic) => door.ask("Control", () => topics.partitions(topic).reduce((size, { log }) => size + log.size, 0)),
  }
}

const committed = (log: Log): ReadonlyArray<TopicRecord> =>
  log.segments.flatMap((segment) => {
    const { keys, bytes, headers, timestamps, offsets } = log.committed(segment)
    return keys.map((key, i) => ({
      partition: log.partition,
      offset: offsets[i]!,
      key,
      value: bytes[i]!,
      headers: headers[i]!,
      timestamp: timestamps[i]!,
    }))
  })

/** Looks at no more than the last segments, and only where something has changed: a test asks at every step of its clock. */
const endOfRecords = (log: Log): number => {
  const { end, lastStable } = log
  const known = ends.get(log)
  if (known !== undefined && known.end === end && known.lastStable === lastStable) return known.records
  let records = log.start
  for (let s = log.segments.length - 1; s >= 0; s--) {
    const last = log.committed(log.segments[s]!).offsets.at(-1)
    if (last === undefined) continue
    records = last + 1
    break
  }
  ends.set(log, { end, lastStable, records })
  return records
}

const ends = new WeakMap<Log, { readonly end: number; readonly lastStable: number; readonly records: number }>()
