/**
 * The port to the brokers: one method per request of the Kafka protocol, one attempt per call, no policy. What is built
 * on it (Fetcher, Producer, Transaction, Membership, Admin) is therefore the same code over a real cluster and over the
 * one in memory, and every step of a commit is a call that a test can make fail.
 *
 * A method fails with `KafkaError` when the request as a whole was refused or not answered; where the protocol answers
 * per topic, partition or group, the method answers so too, with the error's name in `error`.
 */
import { Context, type Effect, Schema } from "effect"
import type { Headers } from "../Batch.ts"

/** A protocol error by its name in the Kafka documentation (`NOT_COORDINATOR`, ...), or one of the client's own. */
export type ErrorCode =
  | "NETWORK" // no connection, or it broke: the request may or may not have been carried out
  | "TIMEOUT" // no answer in time: the request may or may not have been carried out
  | "AUTHENTICATION" // SASL or TLS refused us
  | "CLIENT" // the request could not be written or the answer not be read: a fault of ours
  | "UNREADABLE" // records that stay unreadable however often they are read
  | "TOPIC_REPLACED" // the topic was deleted and created again: positions in the old one mean nothing in the new one
  | string & Record<never, never>

/** A request that was refused or not answered. */
export class KafkaError extends Schema.TaggedError<KafkaError>()("KafkaError", {
  code: Schema.String,
  /** The request by its protocol name: `Fetch`, `EndTxn`, ... */
  operation: Schema.String,
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/** Errors that pass by themselves: a leader or coordinator moves, a broker restarts, a transaction is being completed. */
export const retriable: ReadonlySet<string> = new Set([
  "NETWORK",
  "TIMEOUT",
  "CORRUPT_MESSAGE",
  "UNKNOWN_TOPIC_OR_PARTITION",
  "LEADER_NOT_AVAILABLE",
  "NOT_LEADER_OR_FOLLOWER",
  "REQUEST_TIMED_OUT",
  "BROKER_NOT_AVAILABLE",
  "REPLICA_NOT_AVAILABLE",
  "NETWORK_EXCEPTION",
  "COORDINATOR_LOAD_IN_PROGRESS",
  "COORDINATOR_NOT_AVAILABLE",
  "NOT_COORDINATOR",
  "NOT_ENOUGH_REPLICAS",
  "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
  "NOT_CONTROLLER",
  "KAFKA_STORAGE_ERROR",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
  "OFFSET_NOT_AVAILABLE",
  "PREFERRED_LEADER_NOT_AVAILABLE",
  "UNSTABLE_OFFSET_COMMIT",
  "CONCURRENT_TRANSACTIONS",
  "UNKNOWN_TOPIC_ID",
  "INCONSISTENT_TOPIC_ID",
  "THROTTLING_QUOTA_EXCEEDED",
  "FETCH_SESSION_ID_NOT_FOUND",
])

/** Errors after which nobody knows whether the request was carried out. */
export const unknownOutcome: ReadonlySet<string> = new Set(["NETWORK", "TIMEOUT", "REQUEST_TIMED_OUT"])

export interface TopicPartition {
  readonly topic: string
  readonly partition: number
}

/** Records to write to one partition, as columns. All columns have the same length, at least 1. */
export interface Records {
  readonly keys: ReadonlyArray<Uint8Array | null>
  readonly values: ReadonlyArray<Uint8Array | null>
  readonly headers: ReadonlyArray<Headers>
  /** Milliseconds since 1970. */
  readonly timestamps: ReadonlyArray<number>
}

export interface ProducerIdentity {
  readonly producerId: number
  readonly producerEpoch: number
}

/** One record batch for one partition. Sequences count records per partition and wrap from 2^31 - 1 to 0. */
export interface ProduceBatch extends TopicPartition {
  readonly records: Records
  /** Absent for a producer that is not idempotent. */
  readonly producer?: ProducerIdentity & { readonly baseSequence: number }
}

export type Compression = "none" | "gzip" | "snappy" | "lz4" | "zstd"

export interface ProduceRequest {
  /** The broker that leads all the partitions below, by `Metadata`. */
  readonly node: number
  readonly transactionalId: string | null
  /** How long the broker may wait for its replicas, in milliseconds. Acknowledgement is by all in-sync replicas. */
  readonly timeout: number
  readonly compression: Compression
  /** At most one batch per partition. */
  readonly batches: ReadonlyArray<ProduceBatch>
}

export interface ProduceResult extends TopicPartition {
  readonly error: ErrorCode | null
  /** The broker's own words on `error`, if any. */
  readonly message?: string
  /** The offset of the batch's first record; -1 on an error. A duplicate of a batch already written answers 0 or its offset. */
  readonly baseOffset: number
}

export interface FetchRequest {
  readonly node: number
  /** How long to wait for data when there is none, in milliseconds. */
  readonly maxWait: number
  readonly maxBytes: number
  readonly partitions: ReadonlyArray<
    TopicPartition & {
      readonly offset: number
      readonly maxBytes: number
      /** The topic that the offset belongs to, where it is known: another of its name answers INCONSISTENT_TOPIC_ID. */
      readonly topicId?: string
    }
  >
}

/** One record batch as it stands in the log. Control batches carry a transaction marker instead of records. */
export interface FetchedBatch {
  readonly baseOffset: number
  /** The offset of the last record the batch was written with: compaction may have removed it. */
  readonly lastOffset: number
  /** -1 without an idempotent producer. */
  readonly producerId: number
  readonly transactional: boolean
  /** For a control batch, which marker it is. */
  readonly control: "commit" | "abort" | null
  readonly keys: ReadonlyArray<Uint8Array | null>
  readonly values: ReadonlyArray<Uint8Array | null>
  readonly headers: ReadonlyArray<Headers>
  readonly offsets: ReadonlyArray<number>
  readonly timestamps: ReadonlyArray<number>
}

export interface FetchedPartition extends TopicPartition {
  readonly error: ErrorCode | null
  /** What is wrong with records that cannot be read. */
  readonly message?: string
  readonly highWatermark: number
  /** Every transaction that begins below is decided: nothing above may be read under read_committed. */
  readonly lastStableOffset: number
  readonly logStartOffset: number
  /** Aborted transactions that overlap what was fetched; in no particular order. */
  readonly aborted: ReadonlyArray<{ readonly producerId: number; readonly firstOffset: number }>
  /**
   * From the batch that contains the requested offset on: the first may begin below it. Batches are whole; data above
   * the last stable offset is not answered.
   */
  readonly batches: ReadonlyArray<FetchedBatch>
}

export interface Broker {
  readonly node: number
  readonly host: string
  readonly port: number
}

export interface TopicMetadata {
  readonly topic: string
  /** Unlike the name, not shared by a topic that is deleted and created again; empty on an error. */
  readonly id: string
  readonly error: ErrorCode | null
  /** By partition number; `leader` is -1 while there is none. */
  readonly partitions: ReadonlyArray<{
    readonly partition: number
    readonly leader: number
    readonly replicas: ReadonlyArray<number>
    readonly inSync: ReadonlyArray<number>
  }>
}

export interface Metadata {
  readonly clusterId: string
  readonly brokers: ReadonlyArray<Broker>
  readonly topics: ReadonlyArray<TopicMetadata>
}

export interface NewTopic {
  readonly topic: string
  readonly partitions: number
  /** -1 for the cluster's default. */
  readonly replicationFactor: number
  readonly config: Readonly<Record<string, string>>
}

export interface CommittedOffset extends TopicPartition {
  readonly error: ErrorCode | null
  /** -1 where nothing was committed. */
  readonly offset: number
  readonly metadata: string
}

export interface OffsetToCommit extends TopicPartition {
  readonly offset: number
  readonly metadata: string
}

export interface GroupMember {
  readonly memberId: string
  readonly clientId: string
  readonly clientHost: string
  readonly metadata: Uint8Array
  readonly assignment: Uint8Array
}

export interface GroupDescription {
  readonly group: string
  readonly error: ErrorCode | null
  /** `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`. */
  readonly state: string
  readonly members: ReadonlyArray<GroupMember>
}

export interface JoinRequest {
  readonly group: string
  /**
   * Empty at first: the coordinator then answers MEMBER_ID_REQUIRED with an id, carried in `JoinResult.memberId`; to a
   * static member it gives an id at once, and whoever had its instance id before is fenced.
   */
  readonly memberId: string
  /** Makes a static member: one that comes back under this id within its session keeps its work, without a rebalance. */
  readonly instanceId?: string | undefined
  readonly sessionTimeout: number
  readonly rebalanceTimeout: number
  readonly protocol: string
  /** What this member tells the leader: the consumer protocol's subscription bytes. */
  readonly metadata: Uint8Array
}

export interface JoinResult {
  /** `MEMBER_ID_REQUIRED` is answered here, because it brings the id to join again with. */
  readonly error: "MEMBER_ID_REQUIRED" | null
  readonly memberId: string
  readonly generation: number
  readonly leader: string
  /** Told to a leader that has come back: the generation has its assignments already. */
  readonly skipAssignment: boolean
  /** Filled for the leader only. */
  readonly members: ReadonlyArray<{ readonly memberId: string; readonly metadata: Uint8Array }>
}

export interface GroupIdentity {
  readonly group: string
  readonly generation: number
  readonly memberId: string
  /** Of a static member: a request of one whose instance id another has taken is refused with FENCED_INSTANCE_ID. */
  readonly instanceId?: string | undefined
}

export interface TransactionIdentity extends ProducerIdentity {
  readonly transactionalId: string
}

/** A transactional id that has written before, and what its last transaction is doing. */
export interface ListedTransaction {
  readonly transactionalId: string
  readonly producerId: number
  /** `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit` or `CompleteAbort`, and others of newer brokers. */
  readonly state: string
}

export interface TransactionDescription extends ListedTransaction {
  readonly error: ErrorCode | null
  readonly producerEpoch: number
  /** After this long its coordinator aborts it, in milliseconds. */
  readonly timeout: number
  /** When it began, in milliseconds since 1970; -1 where none is open. */
  readonly started: number
  /** Where it has written; positions of groups are in `__consumer_offsets`. */
  readonly partitions: ReadonlyArray<TopicPartition>
}

/** What a partition knows of a producer with an id. */
export interface ActiveProducer extends ProducerIdentity {
  /** When it wrote last, in milliseconds since 1970. */
  readonly lastTimestamp: number
  /** Of the coordinator that wrote its last marker; -1 before the first. */
  readonly coordinatorEpoch: number
  /** Where its open transaction begins; -1 where none is. */
  readonly transactionStart: number
}

export interface PartitionProducers extends TopicPartition {
  readonly error: ErrorCode | null
  readonly producers: ReadonlyArray<ActiveProducer>
}

/** The end of a producer's transaction in some partitions. */
export interface TransactionMarker extends ProducerIdentity {
  /** At least that of the last marker: brokers take none of an older coordinator. */
  readonly coordinatorEpoch: number
  readonly commit: boolean
  readonly partitions: ReadonlyArray<TopicPartition>
}

export type Isolation = "read_uncommitted" | "read_committed"

/** Which offset to list: the first, the next to be written, or the first with at least this timestamp. */
export type OffsetAt = "earliest" | "latest" | number

export interface ListedOffset extends TopicPartition {
  readonly error: ErrorCode | null
  /** -1 where no record has such a timestamp. */
  readonly offset: number
}

export class Cluster extends Context.Service<Cluster, {
  /** Brokers, and the topics named (all topics without a list). Never creates a topic. */
  metadata(topics?: ReadonlyArray<string>): Effect.Effect<Metadata, KafkaError>
  createTopics(
    topics: ReadonlyArray<NewTopic>,
  ): Effect.Effect<
    ReadonlyArray<{ readonly topic: string; readonly error: ErrorCode | null; readonly message?: string }>,
    KafkaError
  >
  deleteTopics(
    topics: ReadonlyArray<string>,
  ): Effect.Effect<ReadonlyArray<{ readonly topic: string; readonly error: ErrorCode | null }>, KafkaError>
  /** A topic's configuration in force, defaults included, by Kafka's names. */
  topicConfig(topic: string): Effect.Effect<Readonly<Record<string, string>>, KafkaError>
  /** Under read_committed, `latest` is the last stable offset. Asks each leader itself. */
  listOffsets(
    partitions: ReadonlyArray<TopicPartition>,
    at: OffsetAt,
    isolation: Isolation,
  ): Effect.Effect<ReadonlyArray<ListedOffset>, KafkaError>

  /** Read committed as far as the broker takes it: aborted records are still in the answer, and it says which. */
  fetch(request: FetchRequest): Effect.Effect<ReadonlyArray<FetchedPartition>, KafkaError>
  produce(request: ProduceRequest): Effect.Effect<ReadonlyArray<ProduceResult>, KafkaError>

  /**
   * With a transactional id: fences whoever holds it, aborts what they left open and bumps the epoch; `current` is what
   * the caller holds already, if anything. Without: a fresh producer id.
   */
  initProducerId(
    transactionalId: string | null,
    transactionTimeout: number,
    current?: ProducerIdentity,
  ): Effect.Effect<ProducerIdentity, KafkaError>
  /** Fails if any partition is refused. */
  addPartitionsToTxn(
    txn: TransactionIdentity,
    partitions: ReadonlyArray<TopicPartition>,
  ): Effect.Effect<void, KafkaError>
  addOffsetsToTxn(txn: TransactionIdentity, group: string): Effect.Effect<void, KafkaError>
  /** All positions in one request. Fails if any is refused. */
  txnOffsetCommit(
    txn: TransactionIdentity,
    member: GroupIdentity,
    offsets: ReadonlyArray<OffsetToCommit>,
  ): Effect.Effect<void, KafkaError>
  /** Answers once the decision is logged; the markers in the partitions may follow a little later. */
  endTxn(txn: TransactionIdentity, commit: boolean): Effect.Effect<void, KafkaError>

  /** All transactional ids that the coordinators know. */
  listTransactions(): Effect.Effect<ReadonlyArray<ListedTransaction>, KafkaError>
  describeTransactions(
    transactionalIds: ReadonlyArray<string>,
  ): Effect.Effect<ReadonlyArray<TransactionDescription>, KafkaError>
  /** Asks each leader itself. */
  describeProducers(
    partitions: ReadonlyArray<TopicPartition>,
  ): Effect.Effect<ReadonlyArray<PartitionProducers>, KafkaError>
  /**
   * Writes the end of a transaction into partitions, whatever its coordinator says: the only end of one that no coordinator
   * knows. Each leader is asked itself.
   */
  writeTxnMarkers(
    marker: TransactionMarker,
  ): Effect.Effect<ReadonlyArray<TopicPartition & { readonly error: ErrorCode | null }>, KafkaError>

  /** Plain commit. Fails if any position is refused. Generation -1 with an empty member id commits for an empty group. */
  offsetCommit(member: GroupIdentity, offsets: ReadonlyArray<OffsetToCommit>): Effect.Effect<void, KafkaError>
  /**
   * Committed positions of `partitions`, or of all the group has. With `requireStable`, a position that a transaction
   * has pending answers UNSTABLE_OFFSET_COMMIT instead of the older one.
   */
  offsetFetch(
    group: string,
    partitions: ReadonlyArray<TopicPartition> | undefined,
    requireStable: boolean,
  ): Effect.Effect<ReadonlyArray<CommittedOffset>, KafkaError>
  /** The classic protocol's join: answers when all members have joined or the rebalance timeout has passed. */
  joinGroup(request: JoinRequest): Effect.Effect<JoinResult, KafkaError>
  /** The leader brings everybody's assignment; all get their own. */
  syncGroup(
    member: GroupIdentity,
    protocol: string,
    assignments: ReadonlyArray<{ readonly memberId: string; readonly assignment: Uint8Array }>,
  ): Effect.Effect<Uint8Array, KafkaError>
  /** Fails with REBALANCE_IN_PROGRESS when this member must join again. */
  heartbeat(member: GroupIdentity): Effect.Effect<void, KafkaError>
  leaveGroup(group: string, memberId: string): Effect.Effect<void, KafkaError>
  describeGroups(groups: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<GroupDescription>, KafkaError>
  listGroups(): Effect.Effect<ReadonlyArray<string>, KafkaError>
}>()("millrace/kafka/Cluster") {}
