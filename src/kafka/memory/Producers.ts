/**
 * What one partition knows of the idempotent producers that write to it: their epoch, their last batches, and where
 * their open transaction begins.
 *
 * The rules are the broker's (KIP-98, KIP-360, KIP-890): a batch that equals one of the last five is not written again;
 * the next batch must follow the last one in sequence; a new epoch starts at sequence 0; where nothing is known of a
 * producer, any sequence is taken.
 */
import type { ActiveProducer, ProduceBatch } from "../Cluster.ts"
import { Refusal } from "./Refusal.ts"

export type Sequenced = NonNullable<ProduceBatch["producer"]>

interface Written {
  readonly firstSequence: number
  readonly lastSequence: number
  readonly baseOffset: number
}

interface Producer {
  epoch: number
  lastSeen: number
  /** Whether a marker of its was written: then it has the epoch of the one coordinator that there is. */
  isMarked: boolean
  readonly written: Array<Written>
}

export class Producers {
  readonly #known = new Map<number, Producer>()
  /** First offset of each open transaction, by producer. Offsets only grow, so the first entry is the lowest. */
  readonly #open = new Map<number, number>()

  /** The first offset of the oldest open transaction. */
  get firstUnstable(): number | undefined {
    for (const offset of this.#open.values()) return offset
    return undefined
  }

  get active(): ReadonlyArray<ActiveProducer> {
    return Array.from(this.#known, ([producerId, { epoch, lastSeen, isMarked }]) => ({
      producerId,
      producerEpoch: epoch,
      lastTimestamp: lastSeen,
      coordinatorEpoch: isMarked ? 0 : -1,
      transactionStart: this.#open.get(producerId) ?? -1,
    }))
  }

  hasOpen(producerId: number): boolean {
    return this.#open.has(producerId)
  }

  /** The base offset of the batch that this one repeats, if it does. Throws a refusal when it may not be written. */
  check(producer: Sequenced, count: number, transactional: boolean): number | undefined {
    const { producerId, producerEpoch, baseSequence } = producer
    const known = this.#known.get(producerId)
    if (known !== undefined) {
      const last = lastOf(baseSequence, count)
      const repeated = known.epoch === producerEpoch
        ? known.written.find((one) => one.firstSequence === baseSequence && one.lastSequence === last)
        : undefined
      if (repeated !== undefined) return repeated.baseOffset
      checkEpoch(known, producerId, producerEpoch)
      checkSequence(known, producer)
    }
    if (!transactional && this.#open.has(producerId)) {
      throw new Refusal("INVALID_TXN_STATE", `producer ${producerId} has a transaction open and wrote outside of it`)
    }
  }

  wrote(producer: Sequenced, count: number, baseOffset: number, transactional: boolean, now: number): void {
    const { producerId, producerEpoch, baseSequence } = producer
    const known = this.#at(producerId, producerEpoch, now)
    known.written.push({ firstSequence: baseSequence, lastSequence: lastOf(baseSequence, count), baseOffset })
    if (known.written.length > remembered) known.written.shift()
    if (transactional && !this.#open.has(producerId)) this.#open.set(producerId, baseOffset)
  }

  /** A marker ends the producer's transaction; answers where that began, if it wrote here at all. */
  ended(producerId: number, producerEpoch: number, now: number): number | undefined {
    const known = this.#known.get(producerId)
    if (known !== undefined) checkEpoch(known, producerId, producerEpoch)
    this.#at(producerId, producerEpoch, now).isMarked = true
    const from = this.#open.get(producerId)
    this.#open.delete(producerId)
    return from
  }

  /** Forgets producers that have nothing open and were not seen since `time`. */
  forget(time: number): void {
    for (const [producerId, { lastSeen }] of this.#known) {
      if (lastSeen < time && !this.#open.has(producerId)) this.#known.delete(producerId)
    }
  }

  #at(producerId: number, epoch: number, now: number): Producer {
    let known = this.#known.get(producerId)
    if (known === undefined) {
      known = { epoch, lastSeen: now, isMarked: false, written: [] }
      this.#known.set(producerId, known)
    }
    if (known.epoch !== epoch) {
      known.epoch = epoch
      known.written.length = 0
    }
    known.lastSeen = now
    return known
  }
}

/** How many of a producer's last batches are recognised when they come again. */
const remembered = 5

const sequences = 2 ** 31

const lastOf = (baseSequence: number, count: number): number => (baseSequence + count - 1) % sequences

const checkEpoch = ({ epoch }: Producer, producerId: number, producerEpoch: number): void => {
  if (producerEpoch < epoch) {
    throw new Refusal(
      "INVALID_PRODUCER_EPOCH",
      `producer ${producerId} wrote with epoch ${producerEpoch}, but epoch ${epoch} was seen already`,
    )
  }
}

const checkSequence = (known: Producer, { producerId, producerEpoch, baseSequence }: Sequenced): void => {
  const last = known.epoch === producerEpoch ? known.written.at(-1)?.lastSequence : undefined
  const expected = last === undefined ? 0 : (last + 1) % sequences
  if (baseSequence !== expected) {
    throw new Refusal(
      "OUT_OF_ORDER_SEQUENCE_NUMBER",
      `producer ${producerId} wrote sequence ${baseSequence} where ${expected} comes next`,
    )
  }
}
