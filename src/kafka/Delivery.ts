/**
 * Getting record batches into the log: grouped by leader, sent again with the same bytes and sequences while that can
 * help, and given up after a bounded time. Shared by the idempotent producer and the transactional one.
 */
import { Effect, Option } from "effect"
import {
  type Cluster,
  type Compression,
  KafkaError,
  type ProduceBatch,
  type ProduceResult,
  type ProducerIdentity,
  type Records,
  retriable,
  type TopicPartition,
  unknownOutcome,
} from "./Cluster.ts"
import type { Headers } from "../Batch.ts"
import { backoff, pause } from "../Jitter.ts"
import { elapsed } from "../Pace.ts"
import type { Leaders } from "./Leaders.ts"

/** A record on its way into a topic. */
export interface ProducerRecord {
  readonly topic: string
  /** Absent: chosen by the key, as Java's producer does; without a key, one partition per batch in turn. */
  readonly partition?: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers?: Headers
  /** Milliseconds since 1970; the time of writing unless given. */
  readonly timestamp?: number
}

/** Records of one partition in the order they were given, about to become one record batch. */
export class OpenBatch implements TopicPartition {
  readonly topic: string
  readonly partition: number
  readonly keys: Array<Uint8Array | null> = []
  readonly values: Array<Uint8Array | null> = []
  readonly headers: Array<Headers> = []
  readonly timestamps: Array<number> = []
  /** What it was made of. */
  readonly from: Array<ProducerRecord> = []
  /** An upper bound of the encoded size. */
  size = batchOverhead
  constructor(topic: string, partition: number) {
    this.topic = topic
    this.partition = partition
  }
  get length(): number {
    return this.keys.length
  }
  get records(): Records {
    return this
  }
  add(record: ProducerRecord, now: number, size: number): void {
    this.keys.push(record.key)
    this.values.push(record.value)
    this.headers.push(record.headers ?? noHeaders)
    this.timestamps.push(record.timestamp ?? now)
    this.from.push(record)
    this.size += size
  }
  /** The same records in two batches. */
  halves(): readonly [OpenBatch, OpenBatch] {
    const halves = [new OpenBatch(this.topic, this.partition), new OpenBatch(this.topic, this.partition)] as const
    const middle = this.length >> 1
    this.from.forEach((record, i) => halves[i < middle ? 0 : 1].add(record, this.timestamps[i]!, sizeOf(record)))
    return halves
  }
}

const noHeaders: Headers = []

/** The header of a record batch of version 2, in bytes. */
export const batchOverhead = 61

/** An upper bound of what a record takes in a batch: lengths, deltas and counts are variable-length integers. */
export const sizeOf = (record: ProducerRecord): number => {
  let size = 32 + (record.key?.length ?? 0) + (record.value?.length ?? 0)
  for (const [name, value] of record.headers ?? noHeaders) size += 10 + name.length * 3 + value.length
  return size
}

/** Sequence numbers count records per partition and wrap at 2^31. */
export const nextSequence = (sequence: number, records: number): number => (sequence + records) % 2147483648

/** A batch with its place in the producer's sequence for its partition. */
export interface Sequenced {
  readonly batch: OpenBatch
  readonly producer: ProducerIdentity & { readonly baseSequence: number }
}

export interface Settings {
  readonly transactionalId: string | null
  readonly compression: Compression
  /** How long a batch may take with all its retries, in milliseconds. */
  readonly deliveryTimeout: number
  /** How long a broker may wait for its replicas. */
  readonly requestTimeout: number
  /** Told of every batch as soon as it is in the log. */
  delivered?(batch: OpenBatch): void
  /** Told when a batch must be sent again, and why. */
  retrying?(batch: OpenBatch, code: string): void
}

/** How a batch ended that is not in the log, or not known to be. */
export interface Undelivered {
  readonly batch: OpenBatch
  readonly error: KafkaError
  /** The batch may be in the log all the same: nothing may be sent again under these sequences. */
  readonly unknown: boolean
}

/**
 * Sends batches, at most one per partition, until each is acknowledged by all in-sync replicas, refused for good, or out
 * of time. Answers those that are not known to be written.
 */
export const deliver = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  leaders: Leaders,
  batches: ReadonlyArray<Sequenced>,
  settings: Settings,
): Effect.fn.Return<ReadonlyArray<Undelivered>> {
  const deadline = (yield* elapsed) + settings.deliveryTimeout
  const failed: Array<Undelivered> = []
  /** What the last try of a batch met: once the outcome of a try is unknown, it stays so unless a later one succeeds. */
  const met = new Map<Sequenced, { code: string; message: string; unknown: boolean }>()
  let pending = batches
  for (let attempt = 0; pending.length > 0; attempt++) {
    if (attempt > 0) {
      yield* pause(backoff(40, 1_000, attempt))
      yield* Effect.ignore(leaders.refresh)
    }
    if ((yield* elapsed) >= deadline) {
      return [...failed, ...pending.map((one) => outOfTime(one, met.get(one), settings))]
    }
    yield* Effect.ignore(leaders.ensure(pending.map(({ batch }) => batch.topic)))
    const left = deadline - (yield* elapsed)
    const answered = yield* Effect.forEach(
      Map.groupBy(pending, ({ batch }) => leaders.of(batch.topic, batch.partition)),
      ([node, sent]) =>
        Effect.map(send(cluster, leaders, node, sent, settings, left), (results) => ({ sent, results })),
      { concurrency: "unbounded" },
    )
    const again: Array<Sequenced> = []
    for (const { sent, results } of answered) {
      sent.forEach((one, i) => {
        const { error, message } = results[i]!
        if (error === null || error === "DUPLICATE_SEQUENCE_NUMBER") return settings.delivered?.(one.batch)
        const unknown = unknownOutcome.has(error) || (met.get(one)?.unknown ?? false)
        if (retriable.has(error)) {
          settings.retrying?.(one.batch, error)
          met.set(one, { code: error, message: message ?? "", unknown })
          again.push(one)
        } else failed.push({ batch: one.batch, error: refused(one.batch, error, message), unknown })
      })
    }
    pending = again
  }
  return failed
})

/** One request; a failure of the whole is the failure of each batch. Without a leader there is nobody to ask. */
const send = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  leaders: Leaders,
  node: number,
  batches: ReadonlyArray<Sequenced>,
  settings: Settings,
  within: number,
): Effect.fn.Return<ReadonlyArray<Pick<ProduceResult, "error" | "message">>> {
  if (node < 0) return batches.map(() => ({ error: "LEADER_NOT_AVAILABLE" }))
  const request = cluster.produce({
    node,
    transactionalId: settings.transactionalId,
    timeout: settings.requestTimeout,
    compression: settings.compression,
    batches: batches.map(({ batch, producer }): ProduceBatch => ({
      topic: batch.topic,
      partition: batch.partition,
      records: batch.records,
      producer,
    })),
  })
  const answer = yield* Effect.result(
    Effect.timeoutOption(
      Effect.raceFirst(Effect.asSome(request), Effect.as(deposed(leaders, node, batches), Option.none())),
      within,
    ).pipe(Effect.map(Option.flatten)),
  )
  if (answer._tag === "Failure") {
    const { code, message } = answer.failure
    return batches.map(() => ({ error: code, message }))
  }
  if (answer.success._tag === "None") return batches.map(() => ({ error: "TIMEOUT" }))
  const byPartition = new Map(answer.success.value.map((result) => [`${result.topic}/${result.partition}`, result]))
  return batches.map(({ batch }) => byPartition.get(`${batch.topic}/${batch.partition}`) ?? { error: "NETWORK" })
})

/** A broker that hangs, or is cut off without a word, leads nothing after a while: ends when another leads one of these. */
const deposed = (leaders: Leaders, node: number, batches: ReadonlyArray<Sequenced>): Effect.Effect<void> =>
  Effect.interruptible(Effect.gen(function* () {
    do {
      yield* Effect.sleep(silence)
      yield* Effect.ignore(leaders.refresh)
    } while (batches.every(({ batch }) => leaders.of(batch.topic, batch.partition) === node))
  }))

/** How long an answer is waited for before others are asked who leads. */
const silence = "2 seconds"

const refused = (batch: OpenBatch, code: string, message: string | undefined): KafkaError =>
  new KafkaError({
    code,
    operation: "Produce",
    message: `topic ${batch.topic} partition ${batch.partition}: the broker refused ${batch.length} records (${code}` +
      `${message === undefined || message === "" ? "" : `: ${message}`})`,
  })

const outOfTime = (
  { batch }: Sequenced,
  last: { readonly code: string; readonly message: string; readonly unknown: boolean } | undefined,
  { deliveryTimeout }: Settings,
): Undelivered => ({
  batch,
  unknown: last?.unknown ?? false,
  error: new KafkaError({
    code: "TIMEOUT",
    operation: "Produce",
    message:
      `topic ${batch.topic} partition ${batch.partition}: ${batch.length} records were not acknowledged within ` +
      `${deliveryTimeout} ms (last answer: ${last?.code ?? "none"}); ` +
      (last?.unknown ? "whether they were written is not known" : "they were not written"),
  }),
})
