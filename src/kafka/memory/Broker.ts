/** The cluster in memory: what each request does, given the time. Everything here is synchronous; nothing waits. */
import type {
  FetchedPartition,
  FetchRequest,
  GroupIdentity,
  Isolation,
  ListedOffset,
  OffsetAt,
  OffsetToCommit,
  PartitionProducers,
  ProduceBatch,
  ProduceRequest,
  ProduceResult,
  ProducerIdentity,
  TopicPartition,
  TransactionIdentity,
  TransactionMarker,
} from "../Cluster.ts"
import { Groups } from "./Groups.ts"
import type { Log } from "./Log.ts"
import { Offsets } from "./Offsets.ts"
import { attempt, Refusal } from "./Refusal.ts"
import { Replication } from "./Replication.ts"
import { Timers } from "./Timers.ts"
import { Topics } from "./Topics.ts"
import { type Decision, type Participant, Transactions } from "./Transactions.ts"

export interface Options {
  readonly nodes: number
  readonly markerDelay: number
  readonly replicationLag: number
  readonly retentionInterval: number
  readonly initialRebalanceDelay: number
  readonly clusterId: string
  readonly minSessionTimeout: number
  readonly maxSessionTimeout: number
}

export class Broker {
  readonly timers = new Timers()
  readonly topics: Topics
  readonly transactions: Transactions
  readonly offsets = new Offsets()
  readonly groups: Groups
  readonly replication: Replication

  constructor(options: Options) {
    const { timers } = this
    this.replication = new Replication(timers, options.replicationLag)
    this.topics = new Topics(options.nodes, options.clusterId, timers, options.retentionInterval)
    this.groups = new Groups({ ...options, timers })
    this.transactions = new Transactions({
      timers,
      markerDelay: options.markerDelay,
      mark: (participant, producer, decision, now) => this.#mark(participant, producer, decision, now),
    })
  }

  delete(topic: string): void {
    this.topics.delete(topic)
    this.offsets.forget(topic)
  }

  produce({ node, transactionalId, batches }: ProduceRequest, now: number): ReadonlyArray<ProduceResult> {
    return batches.map((batch) => {
      const { topic, partition } = batch
      const written = attempt(() => this.#append(node, transactionalId, batch, now))
      if (!(written instanceof Refusal)) return { topic, partition, error: null, baseOffset: written }
      return { topic, partition, error: written.code, message: written.message, baseOffset: -1 }
    })
  }

  /** What there is to read now. The first partition with data answers at least one batch. */
  read(
    { node, maxBytes, partitions }: FetchRequest,
  ): { readonly found: boolean; readonly answers: Array<FetchedPartition> } {
    let taken = 0
    let found = false
    const answers = partitions.map((wanted): FetchedPartition => {
      const read = attempt(() => {
        const { log } = this.topics.led(wanted, node, wanted.topicId)
        return { log, ...log.read(wanted.offset, Math.min(maxBytes - taken, wanted.maxBytes), taken === 0) }
      })
      if (read instanceof Refusal) {
        found = true
        return unreadable(wanted, read)
      }
      taken += read.size
      found ||= read.size > 0
      return read.log.answer(read)
    })
    return { found, answers }
  }

  /** The logs to wait at for more to read. */
  logs({ partitions }: FetchRequest): ReadonlyArray<Log> {
    return partitions.filter((one) => this.topics.has(one)).map((one) => this.topics.get(one).log)
  }

  listOffsets(partitions: ReadonlyArray<TopicPartition>, at: OffsetAt, isolation: Isolation): Array<ListedOffset> {
    return partitions.map(({ topic, partition }) => {
      const found = attempt(() => offsetAt(this.topics.get({ topic, partition }).log, at, isolation))
      return found instanceof Refusal
        ? { topic, partition, error: found.code, offset: -1 }
        : { topic, partition, error: null, offset: found }
    })
  }

  describeProducers(partitions: ReadonlyArray<TopicPartition>): Array<PartitionProducers> {
    return partitions.map(({ topic, partition }) => {
      const found = attempt(() => this.topics.get({ topic, partition }).log.producers.active)
      return found instanceof Refusal
        ? { topic, partition, error: found.code, producers: [] }
        : { topic, partition, error: null, producers: found }
    })
  }

  writeMarkers({ partitions, commit, ...producer }: TransactionMarker, now: number) {
    return partitions.map(({ topic, partition }) => {
      const refused = attempt(() => {
        this.topics.get({ topic, partition })
        this.#mark({ topic, partition }, producer, commit ? "commit" : "abort", now)
      })
      return { topic, partition, error: refused instanceof Refusal ? refused.code : null }
    })
  }

  addPartitions(txn: TransactionIdentity, partitions: ReadonlyArray<TopicPartition>, now: number): void {
    for (const partition of partitions) this.topics.get(partition)
    this.transactions.add(txn, partitions, now)
  }

  prepareOffsets(
    txn: TransactionIdentity,
    member: GroupIdentity,
    offsets: ReadonlyArray<OffsetToCommit>,
    now: number,
  ): void {
    for (const position of offsets) this.topics.get(position)
    const { group } = member
    if (!this.offsets.hasPending(group, txn.producerId)) this.transactions.verify(txn, { group })
    this.groups.checkCommit(member, true, now)
    this.offsets.prepare(group, txn.producerId, txn.producerEpoch, offsets)
  }

  commitOffsets(member: GroupIdentity, offsets: ReadonlyArray<OffsetToCommit>, now: number): void {
    for (const position of offsets) this.topics.get(position)
    this.groups.checkCommit(member, false, now)
    this.offsets.commit(member.group, offsets)
  }

  #append(node: number, transactionalId: string | null, batch: ProduceBatch, now: number): number {
    const { records, producer } = batch
    const { log, retention } = this.topics.led(batch, node)
    if (records.keys.length === 0) throw new Refusal("INVALID_RECORD", "a batch has at least one record")
    // A leader asks the coordinator only before a transaction's first batch.
    if (transactionalId !== null && producer !== undefined && !log.producers.hasOpen(producer.producerId)) {
      this.#verify({ transactionalId, ...producer }, log)
    }
    const from = log.end
    const offset = log.append(records, producer, transactionalId !== null && producer !== undefined, now)
    this.replication.appended(log, from, now)
    retention.appended(now)
    return offset
  }

  /** A leader passes on what the coordinator answers, except for what producers are to try again. */
  #verify(txn: TransactionIdentity, log: Log): void {
    const refused = attempt(() => this.transactions.verify(txn, log))
    if (!(refused instanceof Refusal)) return
    throw refused.code === "CONCURRENT_TRANSACTIONS" ? new Refusal("NOT_ENOUGH_REPLICAS", refused.message) : refused
  }

  #mark(participant: Participant, producer: ProducerIdentity, decision: Decision, now: number): void {
    if ("group" in participant) return this.offsets.complete(participant.group, producer.producerId, decision)
    if (!this.topics.has(participant)) return
    const { log, retention } = this.topics.get(participant)
    const from = log.end
    const began = log.mark(producer.producerId, producer.producerEpoch, decision, now)
    this.replication.appended(log, from, now, { producer, decision, began })
    retention.appended(now)
  }
}

const unreadable = ({ topic, partition }: TopicPartition, { code }: Refusal): FetchedPartition => ({
  topic,
  partition,
  error: code,
  highWatermark: -1,
  lastStableOffset: -1,
  logStartOffset: -1,
  aborted: [],
  batches: [],
})

const offsetAt = (log: Log, at: OffsetAt, isolation: Isolation): number => {
  const end = isolation === "read_committed" ? log.lastStable : log.highWatermark
  if (at === "earliest") return log.start
  if (at === "latest") return end
  const offset = log.offsetAt(at)
  return offset === undefined || offset >= end ? -1 : offset
}
