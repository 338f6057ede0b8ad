/**
 * The transaction coordinator: who holds a transactional id, with which epoch, and what their transaction is doing.
 *
 * The first transaction protocol, as a Kafka 4 broker answers it (KIP-98, KIP-360): partitions are added one request at
 * a time, EndTxn does not change the epoch, and whatever is asked while a decision is being written into the partitions
 * answers CONCURRENT_TRANSACTIONS.
 */
import type {
  ListedTransaction,
  ProducerIdentity,
  TopicPartition,
  TransactionDescription,
  TransactionIdentity,
} from "../Cluster.ts"
import { Refusal } from "./Refusal.ts"
import type { Timer, Timers } from "./Timers.ts"

export type TransactionState =
  | "Empty"
  | "Ongoing"
  | "PrepareCommit"
  | "PrepareAbort"
  | "CompleteCommit"
  | "CompleteAbort"

export type Decision = "commit" | "abort"

/** Where a transaction has written: a partition, or a group's positions. */
export type Participant = TopicPartition | { readonly group: string }

interface Transaction {
  readonly transactionalId: string
  producerId: number
  producerEpoch: number
  /** The epoch before, for as long as whoever had it may ask for the current one again. */
  lastEpoch: number
  /** The producer id before, when epochs ran out. */
  lastProducerId: number
  timeout: number
  state: TransactionState
  /** When the open one began. */
  started: number
  readonly participants: Map<string, Participant>
  timer: Timer | undefined
}

export interface Options {
  readonly timers: Timers
  /** How long after the decision its markers are written, in milliseconds. */
  readonly markerDelay: number
  /** Writes the decision where the transaction has written. */
  readonly mark: (participant: Participant, producer: ProducerIdentity, decision: Decision, now: number) => void
}

export class Transactions {
  readonly #known = new Map<string, Transaction>()
  readonly #options: Options
  #producerIds = 0

  constructor(options: Options) {
    this.#options = options
  }

  /** A producer id that nobody has. */
  fresh(): ProducerIdentity {
    return { producerId: this.#producerIds++, producerEpoch: 0 }
  }

  /** Makes the caller the holder of the id. While an open transaction must be aborted first: CONCURRENT_TRANSACTIONS. */
  init(id: string, timeout: number, current: ProducerIdentity | undefined, now: number): ProducerIdentity {
    if (id === "") throw new Refusal("INVALID_REQUEST", "a transactional id cannot be empty")
    if (timeout <= 0 || timeout > maxTimeout) {
      throw new Refusal(
        "INVALID_TRANSACTION_TIMEOUT",
        `a transaction timeout of ${timeout} ms is not within 1 to ${maxTimeout}`,
      )
    }
    const txn = this.#known.get(id) ?? this.#create(id)
    if (current !== undefined && !isHolder(txn, current)) throw fenced(txn, current)
    switch (txn.state) {
      case "PrepareCommit":
      case "PrepareAbort":
        throw concurrent(txn)
      case "Ongoing":
        this.#fence(txn, now)
        throw concurrent(txn)
      default:
        this.#bump(txn, current)
        txn.timeout = timeout
        txn.state = "Empty"
        return { producerId: txn.producerId, producerEpoch: txn.producerEpoch }
    }
  }

  add(identity: TransactionIdentity, participants: ReadonlyArray<Participant>, now: number): void {
    const txn = this.#held(identity)
    if (isDeciding(txn)) throw concurrent(txn)
    if (txn.state !== "Ongoing") {
      txn.state = "Ongoing"
      txn.started = now
      txn.timer = this.#options.timers.schedule(now + txn.timeout + 1, (now) => this.#fence(txn, now))
    }
    for (const participant of participants) txn.participants.set(nameOf(participant), participant)
  }

  /** Whether the transaction may write there: the check that partition leaders make at a transaction's first batch. */
  verify(identity: TransactionIdentity, participant: Participant): void {
    const txn = this.#known.get(identity.transactionalId)
    if (txn === undefined || txn.producerId !== identity.producerId) throw unmapped(identity)
    if (txn.producerEpoch !== identity.producerEpoch) {
      throw new Refusal("INVALID_PRODUCER_EPOCH", fenced(txn, identity).message)
    }
    if (isDeciding(txn)) throw concurrent(txn)
    if (txn.state !== "Ongoing" || !txn.participants.has(nameOf(participant))) {
      throw new Refusal(
        "TRANSACTION_ABORTABLE",
        `${nameOf(participant)} was not added to the transaction of ${identity.transactionalId}`,
      )
    }
  }

  /** Decides. Asked again with the same decision it answers the same. */
  end(identity: TransactionIdentity, decision: Decision, now: number): void {
    const txn = this.#held(identity)
    switch (txn.state) {
      case "Ongoing":
        return this.#decide(txn, decision, now)
      case "PrepareCommit":
      case "PrepareAbort":
        if (txn.state === prepared[decision]) throw concurrent(txn)
        break
      case "CompleteCommit":
      case "CompleteAbort":
        if (txn.state === completed[decision]) return
    }
    throw new Refusal(
      "INVALID_TXN_STATE",
      `cannot ${decision} the transaction of ${txn.transactionalId}: it is ${txn.state}`,
    )
  }

  /** Transactional ids with a transaction that is not complete. */
  get open(): ReadonlyArray<{ readonly transactionalId: string; readonly state: TransactionState }> {
    return [...this.#known.values()].filter((txn) => txn.state === "Ongoing" || isDeciding(txn))
      .map(({ transactionalId, state }) => ({ transactionalId, state }))
  }

  get listed(): ReadonlyArray<ListedTransaction> {
    return [...this.#known.values()]
      .map(({ transactionalId, producerId, state }) => ({ transactionalId, producerId, state }))
  }

  describe(id: string): TransactionDescription {
    const txn = this.#known.get(id)
    if (txn === undefined) {
      const unknown = { state: "", timeout: -1, started: -1, producerId: -1, producerEpoch: -1, partitions: [] }
      return { transactionalId: id, error: "TRANSACTIONAL_ID_NOT_FOUND", ...unknown }
    }
    const { transactionalId, state, timeout, producerId, producerEpoch } = txn
    const isOpen = state === "Ongoing" || isDeciding(txn)
    const partitions = Array.from(
      txn.participants.values(),
      (where): TopicPartition =>
        "group" in where
          ? { topic: "__consumer_offsets", partition: 0 }
          : { topic: where.topic, partition: where.partition },
    )
    return {
      ...{ transactionalId, error: null, state, timeout, producerId, producerEpoch, partitions },
      started: isOpen ? txn.started : -1,
    }
  }

  #create(transactionalId: string): Transaction {
    const { producerId } = this.fresh()
    const txn: Transaction = {
      transactionalId,
      producerId,
      producerEpoch: -1,
      lastEpoch: -1,
      lastProducerId: -1,
      timeout: 0,
      state: "Empty",
      started: -1,
      participants: new Map(),
      timer: undefined,
    }
    this.#known.set(transactionalId, txn)
    return txn
  }

  #held(identity: TransactionIdentity): Transaction {
    const txn = this.#known.get(identity.transactionalId)
    if (txn === undefined || txn.producerId !== identity.producerId) throw unmapped(identity)
    if (txn.producerEpoch !== identity.producerEpoch) throw fenced(txn, identity)
    return txn
  }

  /** Shuts the holder out and aborts what they left open. */
  #fence(txn: Transaction, now: number): void {
    txn.lastEpoch = txn.producerEpoch
    txn.producerEpoch++
    this.#decide(txn, "abort", now)
  }

  #decide(txn: Transaction, decision: Decision, now: number): void {
    const { timers, markerDelay, mark } = this.#options
    timers.cancel(txn.timer)
    txn.state = prepared[decision]
    const { producerId, producerEpoch } = txn
    timers.schedule(now + markerDelay, (now) => {
      for (const participant of txn.participants.values()) {
        mark(participant, { producerId, producerEpoch }, decision, now)
      }
      txn.participants.clear()
      txn.state = completed[decision]
    })
  }

  #bump(txn: Transaction, current: ProducerIdentity | undefined): void {
    const retried = current !== undefined && txn.producerEpoch >= 0 && current.producerEpoch !== txn.producerEpoch
    if (retried && current.producerEpoch !== txn.lastEpoch) throw fenced(txn, current)
    if (retried) return
    txn.lastEpoch = current === undefined ? -1 : txn.producerEpoch
    if (txn.producerEpoch < lastUsableEpoch) {
      txn.producerEpoch++
      return
    }
    txn.lastProducerId = txn.producerId
    txn.producerId = this.fresh().producerId
    txn.producerEpoch = 0
  }
}

const prepared = { commit: "PrepareCommit", abort: "PrepareAbort" } as const
const completed = { commit: "CompleteCommit", abort: "CompleteAbort" } as const

/** `transaction.max.timeout.ms` */
const maxTimeout = 900_000

/** The largest epoch is kept for fencing: whoever has this one gets another producer id instead. */
const lastUsableEpoch = 32_766

const isDeciding = ({ state }: Transaction): boolean => state === "PrepareCommit" || state === "PrepareAbort"

const isHolder = (txn: Transaction, { producerId, producerEpoch }: ProducerIdentity): boolean =>
  txn.producerEpoch < 0 || producerId === txn.producerId ||
  (producerId === txn.lastProducerId && producerEpoch >= lastUsableEpoch)

const nameOf = (where: Participant): string =>
  "group" in where ? `the positions of group ${where.group}` : `topic ${where.topic} partition ${where.partition}`

const concurrent = ({ transactionalId, state }: Transaction): Refusal =>
  new Refusal(
    "CONCURRENT_TRANSACTIONS",
    `the last transaction of ${transactionalId} is being completed (${state}): try again`,
  )

const fenced = (txn: Transaction, { producerEpoch }: ProducerIdentity): Refusal =>
  new Refusal(
    "PRODUCER_FENCED",
    `${txn.transactionalId} is at epoch ${txn.producerEpoch}, the request came with epoch ${producerEpoch}: somebody else ` +
      "holds it now, or its transaction took too long",
  )

const unmapped = ({ transactionalId, producerId }: TransactionIdentity): Refusal =>
  new Refusal("INVALID_PRODUCER_ID_MAPPING", `producer ${producerId} does not hold ${transactionalId}`)
