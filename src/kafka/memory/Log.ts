/**
 * One partition's log: record batches and markers at growing offsets, with gaps where markers stood or compaction took
 * something away. Its high watermark is its end, unless followers lag (`Replication`).
 */
import type { FetchedPartition, Records, TopicPartition } from "../Cluster.ts"
import { type Readable, readable } from "../ReadCommitted.ts"
import { Producers, type Sequenced } from "./Producers.ts"
import { marker, nobody, RecordBatch } from "./RecordBatch.ts"
import { encodedSize } from "./RecordSize.ts"
import { Refusal } from "./Refusal.ts"
import type { TopicConfig } from "./TopicConfig.ts"

export interface Segment {
  readonly baseOffset: number
  readonly batches: Array<RecordBatch>
  size: number
  maxTimestamp: number
}

interface Aborted {
  readonly producerId: number
  readonly firstOffset: number
  /** Where the marker stands. */
  readonly lastOffset: number
  /** The last stable offset after it: what is aborted later begins no lower. */
  readonly lastStable: number
}

export interface Read {
  readonly batches: ReadonlyArray<RecordBatch>
  readonly size: number
  readonly aborted: FetchedPartition["aborted"]
}

export class Log implements TopicPartition {
  readonly topic: string
  readonly partition: number
  readonly config: TopicConfig
  producers = new Producers()
  /** Called when there is more to read than before, and when reading can only fail from now on. */
  readonly readers = new Set<() => void>()
  #segments: Array<Segment> = [emptySegment(0)]
  #aborted: Array<Aborted> = []
  #start = 0
  #end = 0
  /** From where on followers have nothing yet, where they lag. */
  #unreplicated: number | undefined
  /** Where the first transaction begins whose marker followers do not have yet. */
  #undecided = Infinity
  #size = 0

  constructor(topic: string, partition: number, config: TopicConfig) {
    this.topic = topic
    this.partition = partition
    this.config = config
  }

  /** The lowest offset that can be read. */
  get start(): number {
    return this.#start
  }

  /** The offset of the next record. */
  get end(): number {
    return this.#end
  }

  /** What followers have ends here: nobody reads further. */
  get highWatermark(): number {
    return this.#unreplicated ?? this.#end
  }

  /** Tells from where on followers have nothing (nothing where they have all), and which transaction is undecided for them. */
  replicated(upTo: number | undefined, undecided = Infinity): void {
    const stable = this.lastStable
    this.#unreplicated = upTo
    this.#undecided = undecided
    this.#wakeAbove(stable)
  }

  /** Bytes in Kafka's format. */
  get size(): number {
    return this.#size
  }

  /** The last one is the active segment: the one that is written to. */
  get segments(): ReadonlyArray<Segment> {
    return this.#segments
  }

  get active(): Segment {
    return this.#segments[this.#segments.length - 1]!
  }

  /** Every transaction that begins below is decided. */
  get lastStable(): number {
    const first = Math.min(this.producers.firstUnstable ?? Infinity, this.#undecided)
    return first >= this.highWatermark ? this.highWatermark : Math.max(first, this.#start)
  }

  /** Writes one batch and answers its base offset; that of the batch written before where this one repeats it. */
  append(records: Records, producer: Sequenced | undefined, transactional: boolean, now: number): number {
    const batch = this.#pack(records, producer, transactional, now)
    if (producer !== undefined) {
      const repeated = this.producers.check(producer, batch.count, transactional)
      if (repeated !== undefined) return repeated
    }
    const stable = this.lastStable
    batch.place(this.#end)
    this.#write(batch)
    if (producer !== undefined) this.producers.wrote(producer, batch.count, batch.baseOffset, transactional, now)
    this.#wakeAbove(stable)
    return batch.baseOffset
  }

  /** Ends a producer's transaction with a marker, and answers where it began. */
  mark(producerId: number, producerEpoch: number, decision: "commit" | "abort", now: number): number | undefined {
    const stable = this.lastStable
    const firstOffset = this.producers.ended(producerId, producerEpoch, now)
    const batch = marker({ producerId, producerEpoch, baseSequence: -1, transactional: true }, decision, now)
    batch.place(this.#end)
    this.#write(batch)
    this.#ended(batch, firstOffset)
    this.#wakeAbove(stable)
    return firstOffset
  }

  /**
   * Whole batches below the last stable offset, from the one that contains `offset` on: at most `maxBytes`, or one batch
   * where `atLeastOne` is set and the first is larger.
   */
  read(offset: number, maxBytes: number, atLeastOne: boolean): Read {
    if (offset < this.#start || offset > this.#end) {
      throw new Refusal(
        "OFFSET_OUT_OF_RANGE",
        `offset ${offset} is not in the log, which is ${this.#start} to ${this.#end}`,
      )
    }
    const end = this.lastStable
    const batches: Array<RecordBatch> = []
    let size = 0
    read: for (let s = this.#segmentOf(offset); s < this.#segments.length; s++) {
      const segment = this.#segments[s]!
      for (let b = firstIndex(segment.batches, offset); b < segment.batches.length; b++) {
        const batch = segment.batches[b]!
        if (batch.baseOffset >= end) break read
        if (size + batch.size > maxBytes && !(atLeastOne && size === 0)) break read
        batches.push(batch)
        size += batch.size
      }
    }
    return { batches, size, aborted: this.#abortedWithin(offset, (batches.at(-1)?.lastOffset ?? offset - 1) + 1) }
  }

  /** The first offset with at least this timestamp; markers count, as they do on a broker. */
  offsetAt(timestamp: number): number | undefined {
    for (const segment of this.#segments) {
      if (segment.maxTimestamp < timestamp) continue
      for (const batch of segment.batches) {
        if (batch.maxTimestamp < timestamp || batch.lastOffset < this.#start) continue
        const offset = batch.offsetAt(timestamp)
        if (offset !== undefined) return offset
      }
    }
  }

  /** Closes the active segment, so that it can be compacted or dropped. */
  roll(): void {
    if (this.active.batches.length > 0) this.#segments.push(emptySegment(this.#end))
  }

  /** Drops the oldest `count` segments. */
  drop(count: number): void {
    if (count >= this.#segments.length) this.roll()
    const dropped = this.#segments.splice(0, Math.min(count, this.#segments.length - 1))
    for (const segment of dropped) this.#size -= segment.size
    this.#start = this.#segments[0]!.baseOffset
    this.#aborted = this.#aborted.filter(({ lastOffset }) => lastOffset >= this.#start)
  }

  /** Puts the batches that compaction left in place of the oldest `count` segments. */
  replace(count: number, batches: ReadonlyArray<RecordBatch>): void {
    const upTo = this.#segments[count]!.baseOffset
    const compacted: Array<Segment> = []
    for (const batch of batches) {
      const last = compacted.at(-1)
      if (last !== undefined && last.size + batch.size <= segmentLimit(this.config)) add(last, batch)
      else compacted.push(add(emptySegment(batch.baseOffset), batch))
    }
    const replaced = this.#segments.splice(0, count, ...compacted)
    this.#size += sizeOf(compacted) - sizeOf(replaced)
    this.#aborted = this.#aborted.filter(({ lastOffset }) => lastOffset >= upTo)
  }

  /**
   * Loses everything from `offset` on, as a broker does that comes back without what only it had. A transaction whose
   * marker is lost is open again, and nobody will end it.
   */
  truncate(offset: number, now: number): void {
    const kept = this.#segments.flatMap(({ batches }) => batches.filter((batch) => batch.lastOffset < offset))
    this.#segments = [emptySegment(Math.min(this.#segments[0]!.baseOffset, offset))]
    this.#aborted = []
    this.#size = 0
    this.#end = this.active.baseOffset
    this.producers = new Producers()
    for (const batch of kept) {
      const { producerId, producerEpoch, baseSequence, transactional } = batch.writer
      this.#write(batch)
      if (batch.control !== null) this.#ended(batch, this.producers.ended(producerId, producerEpoch, now))
      else if (producerId >= 0) {
        const producer = { producerId, producerEpoch, baseSequence }
        this.producers.wrote(producer, batch.count, batch.baseOffset, transactional, now)
      }
    }
    this.#start = Math.min(this.#start, this.#end)
    this.wake()
  }

  /** What was read, as a fetch answers it. */
  answer({ batches, aborted }: Read): FetchedPartition {
    return {
      topic: this.topic,
      partition: this.partition,
      error: null,
      highWatermark: this.highWatermark,
      lastStableOffset: this.lastStable,
      logStartOffset: this.#start,
      aborted,
      batches: batches.map((batch) => batch.fetched()),
    }
  }

  /** What a reader under read_committed sees of one segment. */
  committed({ baseOffset, batches }: Segment): Readable {
    const end = (batches.at(-1)?.lastOffset ?? baseOffset - 1) + 1
    const aborted = this.#abortedWithin(baseOffset, end)
    return readable(this.answer({ batches, size: 0, aborted }), Math.max(baseOffset, this.#start))
  }

  wake(): void {
    for (const reader of [...this.readers]) reader()
  }

  #pack(records: Records, producer: Sequenced | undefined, transactional: boolean, now: number): RecordBatch {
    const { config } = this
    const size = encodedSize(records)
    if (size > config.maxMessageBytes) {
      throw new Refusal(
        "MESSAGE_TOO_LARGE",
        `the batch takes ${size} bytes, max.message.bytes is ${config.maxMessageBytes}`,
      )
    }
    if (size > config.segmentBytes) {
      throw new Refusal(
        "RECORD_LIST_TOO_LARGE",
        `the batch takes ${size} bytes, segment.bytes is ${config.segmentBytes}`,
      )
    }
    if (config.compacts && records.keys.includes(null)) {
      throw new Refusal("INVALID_RECORD", "a compacted topic takes no record without a key")
    }
    const stamped = config.appendTime ? { ...records, timestamps: records.timestamps.map(() => now) } : records
    const writer = producer === undefined ? nobody : { ...producer, transactional }
    const batch = new RecordBatch(stamped, size, writer)
    if (batch.maxTimestamp > now + config.timestampAfterMax || batch.minTimestamp < now - config.timestampBeforeMax) {
      throw new Refusal(
        "INVALID_TIMESTAMP",
        `timestamps ${batch.minTimestamp} to ${batch.maxTimestamp} are not within ${config.timestampBeforeMax} ms before ` +
          `and ${config.timestampAfterMax} ms after the broker's time ${now}`,
      )
    }
    return batch
  }

  #write(batch: RecordBatch): void {
    if (this.#isFull(batch)) this.roll()
    add(this.active, batch)
    this.#size += batch.size
    this.#end = batch.lastOffset + 1
  }

  #ended({ writer: { producerId }, control, lastOffset }: RecordBatch, firstOffset: number | undefined): void {
    if (control !== "abort" || firstOffset === undefined) return
    this.#aborted.push({ producerId, firstOffset, lastOffset, lastStable: this.lastStable })
  }

  #isFull(next: RecordBatch): boolean {
    const { config, active } = this
    const first = active.batches[0]
    if (first === undefined) return false
    return active.size + next.size > segmentLimit(config) || next.maxTimestamp - first.minTimestamp > config.segmentMs
  }

  #wakeAbove(stable: number): void {
    if (this.lastStable > stable) this.wake()
  }

  /** The last segment that begins at or below the offset. */
  #segmentOf(offset: number): number {
    let low = 0
    let high = this.#segments.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (this.#segments[middle]!.baseOffset <= offset) low = middle
      else high = middle - 1
    }
    return low
  }

  /** By the position of their markers; whether their records are still there does not matter to the reader. */
  #abortedWithin(from: number, to: number): FetchedPartition["aborted"] {
    const found: Array<{ producerId: number; firstOffset: number }> = []
    for (let i = firstIndex(this.#aborted, from); i < this.#aborted.length; i++) {
      const { producerId, firstOffset, lastStable } = this.#aborted[i]!
      if (firstOffset < to) found.push({ producerId, firstOffset })
      if (lastStable >= to) break
    }
    return found
  }
}

/**
 * Segments are smaller than a broker's, which only makes what is dropped as a whole finer: small enough for
 * `retention.bytes` to hold within a few percent.
 */
const segmentLimit = ({ segmentBytes, retentionBytes }: TopicConfig): number =>
  Math.min(segmentBytes, retentionBytes < 0 ? 1_048_576 : Math.min(1_048_576, Math.max(65_536, retentionBytes / 16)))

const emptySegment = (baseOffset: number): Segment => ({ baseOffset, batches: [], size: 0, maxTimestamp: -Infinity })

const sizeOf = (segments: ReadonlyArray<Segment>): number => segments.reduce((size, segment) => size + segment.size, 0)

const add = (segment: Segment, batch: RecordBatch): Segment => {
  segment.batches.push(batch)
  segment.size += batch.size
  if (batch.maxTimestamp > segment.maxTimestamp) segment.maxTimestamp = batch.maxTimestamp
  return segment
}

/** The first of them that ends at `offset` or later; they are in order. */
const firstIndex = (ordered: ReadonlyArray<{ readonly lastOffset: number }>, offset: number): number => {
  let low = 0
  let high = ordered.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (ordered[middle]!.lastOffset < offset) low = middle + 1
    else high = middle
  }
  return low
}
