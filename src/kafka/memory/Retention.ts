/**
 * What a log forgets, and when: whole segments by time and size under `delete`, all but the last record of each key
 * under `compact`. Sizes are kept at every append, so memory stays bounded; times are looked at in intervals, as brokers
 * do, with one deadline per log and no polling.
 */
import { Buffer } from "node:buffer"
import type { Headers } from "../../Batch.ts"
import type { Log, Segment } from "./Log.ts"
import { nobody, RecordBatch } from "./RecordBatch.ts"
import { encodedSize } from "./RecordSize.ts"
import type { Timer, Timers } from "./Timers.ts"

export class Retention {
  readonly #log: Log
  readonly #timers: Timers
  /** Milliseconds between looks at what has expired. */
  readonly #interval: number
  /** When tombstones may go, by offset: counted from the first compaction that saw them. */
  #horizons: ReadonlyMap<number, number> = new Map()
  /** Below this offset no key stands twice. */
  #cleanTo = 0
  #timer: Timer | undefined
  #segments = 1

  constructor(log: Log, timers: Timers, interval: number) {
    this.#log = log
    this.#timers = timers
    this.#interval = interval
  }

  /** To be called after every append. */
  appended(now: number): void {
    const { length } = this.#log.segments
    if (length !== this.#segments) this.#tidy(now, false)
    else if (this.#timer === undefined) this.#arm(now)
  }

  /** Forgets all that may be forgotten at `now`, however little it is. */
  run(now: number): void {
    this.#log.roll()
    this.#tidy(now, true)
  }

  stop(): void {
    this.#timers.cancel(this.#timer)
  }

  #tidy(now: number, anyway: boolean): void {
    const log = this.#log
    const { config } = log
    log.producers.forget(now - producerExpiry)
    if (config.deletes) {
      log.drop(expired(log, now))
      log.drop(tooMany(log))
    }
    if (config.compacts) {
      if (this.#earliestDirty() + config.maxCompactionLag <= now) log.roll()
      const count = compactable(log, now)
      if (anyway || this.#mustCompact(count, now)) this.#compact(count, now)
    }
    this.#segments = log.segments.length
    this.#arm(now)
  }

  #mustCompact(count: number, now: number): boolean {
    const { config, segments } = this.#log
    let dirty = 0
    let total = 0
    for (const { baseOffset, size } of segments.slice(0, count)) {
      total += size
      if (baseOffset >= this.#cleanTo) dirty += size
    }
    return dirty > total * config.minDirtyRatio || this.#earliestDirty() + config.maxCompactionLag <= now ||
      this.#firstHorizon() <= now
  }

  #compact(count: number, now: number): void {
    if (count === 0) return
    const log = this.#log
    const { batches, horizons } = compacted(log, log.segments.slice(0, count), this.#horizons, now)
    const upTo = log.segments[count]!.baseOffset
    log.replace(count, batches)
    this.#horizons = horizons
    this.#cleanTo = upTo
  }

  #earliestDirty(): number {
    const dirty = this.#log.segments.find(({ baseOffset, batches }) =>
      baseOffset >= this.#cleanTo && batches.length > 0
    )
    return dirty?.batches[0]?.minTimestamp ?? Infinity
  }

  #firstHorizon(): number {
    let first = Infinity
    for (const at of this.#horizons.values()) if (at < first) first = at
    return first
  }

  /** Sets the deadline for what expires next, on the next full interval. */
  #arm(now: number): void {
    const { config, segments } = this.#log
    this.#timers.cancel(this.#timer)
    this.#timer = undefined
    let next = Infinity
    if (config.deletes && config.retentionMs >= 0 && segments[0]!.batches.length > 0) {
      next = segments[0]!.maxTimestamp + config.retentionMs + 1
    }
    if (config.compacts) {
      const waiting = segments.slice(0, -1).find(({ baseOffset }) => baseOffset >= this.#cleanTo)
      const lag = config.minCompactionLag > 0
        ? (waiting?.maxTimestamp ?? Infinity) + config.minCompactionLag + 1
        : Infinity
      next = Math.min(next, lag, this.#earliestDirty() + config.maxCompactionLag, this.#firstHorizon())
    }
    if (!Number.isFinite(next)) return
    const at = Math.ceil(Math.max(next, now + 1) / this.#interval) * this.#interval
    this.#timer = this.#timers.schedule(at, (now) => this.#tidy(now, false))
  }
}

/** Producers that a broker has not seen for this long are forgotten (`producer.id.expiration.ms`). */
const producerExpiry = 86_400_000

/** How many of the oldest segments hold nothing younger than the retention time. */
const expired = ({ config, segments }: Log, now: number): number => {
  if (config.retentionMs < 0) return 0
  const first = segments.findIndex(({ batches, maxTimestamp }) =>
    batches.length === 0 || maxTimestamp + config.retentionMs >= now
  )
  return first < 0 ? segments.length : first
}

/** How many of the oldest segments can go with still `retention.bytes` left. */
const tooMany = ({ config, segments, size }: Log): number => {
  if (config.retentionBytes < 0) return 0
  let over = size - config.retentionBytes
  const first = segments.findIndex((segment) => (over -= segment.size) < 0)
  return Math.max(0, first)
}

/** How many of the oldest segments may be compacted: closed, decided, and older than the compaction lag. */
const compactable = ({ config, segments, lastStable }: Log, now: number): number => {
  const closed = segments.slice(0, -1)
  const first = closed.findIndex((segment, i) =>
    segments[i + 1]!.baseOffset > lastStable || segment.maxTimestamp + config.minCompactionLag > now
  )
  return first < 0 ? closed.length : first
}

/**
 * The committed records of `segments` that are the last of their key, in batches of their own. Tombstones stay for the
 * delete retention time; markers and aborted records go.
 */
const compacted = (log: Log, segments: ReadonlyArray<Segment>, known: ReadonlyMap<number, number>, now: number) => {
  const last = new Map<string, number>()
  for (const segment of segments) {
    const { keys, offsets } = log.committed(segment)
    keys.forEach((key, i) => last.set(text(key), offsets[i]!))
  }
  const horizons = new Map<number, number>()
  const batches: Array<RecordBatch> = []
  let open = new Survivors()
  const close = () => {
    if (open.keys.length > 0) batches.push(new RecordBatch(open, encodedSize(open), nobody, null, open.offsets))
    open = new Survivors()
  }
  for (const segment of segments) {
    const { keys, bytes, headers, timestamps, offsets } = log.committed(segment)
    for (let i = 0; i < keys.length; i++) {
      const offset = offsets[i]!
      if (last.get(text(keys[i]!)) !== offset) continue
      if (bytes[i] === null) {
        const horizon = known.get(offset) ?? now + log.config.deleteRetention
        if (horizon <= now) continue
        horizons.set(offset, horizon)
      }
      open.add(keys[i]!, bytes[i]!, headers[i]!, timestamps[i]!, offset)
      if (open.keys.length === recordsPerBatch || open.bytes >= bytesPerBatch) close()
    }
  }
  close()
  return { batches, horizons }
}

class Survivors {
  readonly keys: Array<Uint8Array | null> = []
  readonly values: Array<Uint8Array | null> = []
  readonly headers: Array<Headers> = []
  readonly timestamps: Array<number> = []
  readonly offsets: Array<number> = []
  bytes = 0

  add(key: Uint8Array | null, value: Uint8Array | null, headers: Headers, timestamp: number, offset: number): void {
    this.keys.push(key)
    this.values.push(value)
    this.headers.push(headers)
    this.timestamps.push(timestamp)
    this.offsets.push(offset)
    this.bytes += (key?.length ?? 0) + (value?.length ?? 0)
  }
}

const recordsPerBatch = 500
const bytesPerBatch = 65_536

/** A key's bytes as a string to look it up by. */
const text = (key: Uint8Array | null): string =>
  key === null ? "" : Buffer.from(key.buffer, key.byteOffset, key.length).toString("latin1")
