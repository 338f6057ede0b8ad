/** An idempotent producer: records are gathered for a moment, and acknowledged by all in-sync replicas. */
import { Buffer } from "node:buffer"
import { Clock, Context, Deferred, Duration, Effect, Exit, Layer, Option, Result, Schema, Semaphore } from "effect"
import type { Topic } from "../Topic.ts"
import { within } from "../Within.ts"
import { Cluster, type Compression, KafkaError, type ProducerIdentity } from "./Cluster.ts"
import {
  deliver,
  nextSequence,
  OpenBatch,
  type ProducerRecord,
  type Sequenced,
  sizeOf,
  type Undelivered,
} from "./Delivery.ts"
import * as Counters from "./Counters.ts"
import * as Leaders from "./Leaders.ts"
import { forKey } from "./Partitioner.ts"
import { patiently } from "./Retry.ts"
import * as Trouble from "./Trouble.ts"

export type { ProducerRecord }

/** Records that were not written, or are not known to be. */
export class ProducerError extends Schema.TaggedError<ProducerError>()("ProducerError", {
  reason: Schema.Literals([
    "BufferFull", // too much is waiting already: nothing of this call was taken
    "Timeout", // not acknowledged in time: it may or may not have been written
    "Refused", // the broker will never take it as it is
    "Invalid", // a value is not what its topic's contract says: nothing of this call was taken
  ]),
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

export interface Options {
  /** How long a batch waits for more records. */
  readonly linger: Duration.Input
  /** Bytes at which a batch does not wait; no batch is larger unless it is a single record. */
  readonly batchBytes: number
  /** How long a batch may take with all its retries; after it the call fails with `Timeout`. */
  readonly deliveryTimeout: Duration.Input
  /** Bytes that may wait or be in flight. */
  readonly bufferBytes: number
  /** How long a call waits for room in the buffer before it fails with `BufferFull`. */
  readonly maxBlock: Duration.Input
  readonly compression: Compression
}

export const defaults: Options = {
  linger: "5 millis",
  batchBytes: 512 * 1024,
  deliveryTimeout: "30 seconds",
  bufferBytes: 32 * 1024 * 1024,
  maxBlock: "30 seconds",
  compression: "none",
}

export class Producer extends Context.Service<Producer, {
  /**
   * Writes records, and ends when every one is acknowledged. Records of one partition keep the order of the calls that
   * brought them. Without its acknowledgement a record may have been written all the same; it is never written twice.
   */
  send(records: ReadonlyArray<ProducerRecord>): Effect.Effect<void, ProducerError>
  /**
   * Since when nothing could be delivered although something was to be, in milliseconds since 1970. It ends with a delivery,
   * or where nothing waits for one, with an answer of the brokers: they are asked every second until then.
   */
  readonly failingSince: Effect.Effect<number | undefined>
}>()("millrace/kafka/Producer") {}

/**
 * Writes values to a topic, encoded and keyed as its contract says, and ends when every one is acknowledged. Fails with
 * `Invalid` where the contract's schema refuses a value; the message says which and why, without the value.
 */
export const publish = Effect.fn("Producer.publish")(function* <A>(
  topic: Topic<A>,
  values: ReadonlyArray<A>,
): Effect.fn.Return<void, ProducerError, Producer> {
  const { send } = yield* Producer
  const records: Array<ProducerRecord> = []
  for (const [i, value] of values.entries()) {
    const encoded = topic.encode(value)
    if (Result.isFailure(encoded)) {
      const { field, message } = encoded.failure
      return yield* new ProducerError({
        reason: "Invalid",
        message: `value ${i} for topic ${topic.name} cannot be written${field && ` because of ${field}`}: ${message}`,
      })
    }
    const key = topic.keyOf(value)
    records.push({ topic: topic.name, key: key === null ? null : Buffer.from(key), value: encoded.success })
  }
  yield* send(records)
})

export const layer = (options?: Partial<Options>): Layer.Layer<Producer, KafkaError, Cluster> =>
  Layer.effect(Producer, make({ ...defaults, ...options }))

/** One call of `send`: done when all its batches are. */
interface Call {
  left: number
  readonly done: Deferred.Deferred<void, ProducerError>
}

interface Batch {
  readonly open: OpenBatch
  readonly calls: Set<Call>
}

interface Partition {
  readonly queue: Array<Batch>
  inFlight: Batch | undefined
  identity: ProducerIdentity | undefined
  sequence: number
}

const nobody: ProducerIdentity = { producerId: -1, producerEpoch: -1 }

const make = Effect.fnUntraced(function* (options: Options) {
  const cluster = yield* Cluster
  const leaders = yield* Leaders.make
  const deliveryTimeout = Duration.toMillis(options.deliveryTimeout)
  const init = cluster.initProducerId(null, 0)
  let identity = yield* patiently(init, deliveryTimeout)
  const partitions = new Map<string, Partition>()
  let buffered = 0
  let sticky = 0
  let closing = false
  let arrived = Deferred.makeUnsafe<void>()
  let full = Deferred.makeUnsafe<void>()
  let room = Deferred.makeUnsafe<void>()
  const trouble = yield* Trouble.make(() => buffered === 0, Effect.andThen(leaders.refresh, init))

  const finish = (partition: Partition, batch: Batch, exit: Exit.Exit<void, ProducerError>) => {
    if (partition.inFlight === batch) partition.inFlight = undefined
    buffered -= batch.open.size
    const waiting = room
    room = Deferred.makeUnsafe()
    Deferred.doneUnsafe(waiting, Exit.void)
    for (const call of batch.calls) {
      if (Exit.isFailure(exit)) Deferred.doneUnsafe(call.done, exit)
      else if (--call.left === 0) Deferred.doneUnsafe(call.done, Exit.void)
    }
    if (partition.queue.length > 0) Deferred.doneUnsafe(arrived, Exit.void)
    // All but the last of them are full.
    if (partition.queue.length > 1) Deferred.doneUnsafe(full, Exit.void)
  }

  const enqueue = (records: ReadonlyArray<ProducerRecord>, now: number): Call => {
    const call: Call = { left: 0, done: Deferred.makeUnsafe() }
    sticky++
    for (const record of records) {
      const count = Math.max(1, leaders.partitions(record.topic) ?? 1)
      const number = record.partition ?? (record.key === null ? sticky % count : forKey(record.key, count))
      const id = `${record.topic}/${number}`
      let partition = partitions.get(id)
      if (partition === undefined) {
        partitions.set(id, partition = { queue: [], inFlight: undefined, identity: undefined, sequence: 0 })
      }
      const size = sizeOf(record)
      let batch = partition.queue.at(-1)
      if (batch === undefined || batch.open.length > 0 && batch.open.size + size > options.batchBytes) {
        if (batch !== undefined) Deferred.doneUnsafe(full, Exit.void)
        batch = { open: new OpenBatch(record.topic, number), calls: new Set() }
        buffered += batch.open.size
        partition.queue.push(batch)
      }
      batch.open.add(record, now, size)
      buffered += size
      if (!batch.calls.has(call)) {
        batch.calls.add(call)
        call.left++
      }
    }
    Deferred.doneUnsafe(arrived, Exit.void)
    return call
  }

  const failed = ({ error, unknown }: Undelivered): ProducerError =>
    new ProducerError({
      reason: unknown || error.code === "TIMEOUT" ? "Timeout" : "Refused",
      message: error.message,
      cause: error,
    })

  /** No producer id can be had, and what waits for one has waited long enough. */
  const giveUp = (error: KafkaError) => {
    for (const partition of partitions.values()) {
      for (const batch of partition.queue.splice(0)) {
        const message = `no producer id could be had, and nothing was sent: ${error.message}`
        finish(partition, batch, Exit.fail(new ProducerError({ reason: "Timeout", message, cause: error })))
      }
    }
  }

  const dispatch = Effect.fnUntraced(function* () {
    // Lost to another dispatch since this one was begun.
    if (identity.producerId < 0) return Deferred.doneUnsafe(arrived, Exit.void)
    const sending = new Map<OpenBatch, { readonly partition: Partition; readonly batch: Batch }>()
    const sequenced: Array<Sequenced> = []
    for (const partition of partitions.values()) {
      if (partition.inFlight !== undefined || partition.queue.length === 0) continue
      const batch = partition.queue.shift()!
      partition.inFlight = batch
      if (partition.identity !== identity) {
        partition.identity = identity
        partition.sequence = 0
      }
      sequenced.push({ batch: batch.open, producer: { ...identity, baseSequence: partition.sequence } })
      partition.sequence = nextSequence(partition.sequence, batch.open.length)
      sending.set(batch.open, { partition, batch })
    }
    if (sequenced.length === 0) return
    const undelivered = yield* deliver(cluster, leaders, sequenced, {
      transactionalId: null,
      compression: options.compression,
      deliveryTimeout,
      requestTimeout: deliveryTimeout,
      delivered: (open) => {
        trouble.over()
        const { partition, batch } = sending.get(open)!
        finish(partition, batch, Exit.void)
      },
      retrying: trouble.met,
    })
    if (undelivered.length === 0) return
    trouble.met()
    // Sequences of these partitions have a hole now: what comes next goes under another producer id.
    identity = nobody
    for (const one of undelivered) {
      const { partition, batch } = sending.get(one.batch)!
      partition.identity = undefined
      finish(partition, batch, Exit.fail(failed(one)))
    }
  })

  const send = Effect.gen(function* () {
    yield* Deferred.await(arrived)
    if (!closing) yield* Effect.raceFirst(Effect.sleep(options.linger), Deferred.await(full))
    arrived = Deferred.makeUnsafe()
    full = Deferred.makeUnsafe()
    if (identity.producerId < 0) identity = yield* patiently(trouble.noticed(init), deliveryTimeout)
    yield* Effect.forkChild(dispatch())
  }).pipe(
    Effect.catch((error) =>
      Effect.andThen(Effect.sync(() => giveUp(error)), Effect.logWarning("no producer id can be had", error))
    ),
  )
  yield* Effect.forkScoped(Effect.forever(send))

  const flushed: Effect.Effect<void> = Effect.suspend(() =>
    buffered === 0 ? Effect.void : Effect.andThen(Deferred.await(room), flushed)
  )
  yield* Effect.addFinalizer(() => {
    closing = true
    Deferred.doneUnsafe(full, Exit.void)
    return within(flushed, options.deliveryTimeout)
  })

  const waitForRoom = (size: number): Effect.Effect<void> =>
    Effect.suspend(() =>
      buffered === 0 || buffered + size <= options.bufferBytes
        ? Effect.void
        : Effect.andThen(Deferred.await(room), waitForRoom(size))
    )

  /** One call after the other, so that none overtakes another while it waits for metadata or for room. */
  const admission = yield* Semaphore.make(1)
  const admit = Effect.fnUntraced(function* (records: ReadonlyArray<ProducerRecord>) {
    yield* patiently(
      trouble.noticed(leaders.ensure(records.map(({ topic }) => topic))),
      Duration.toMillis(options.maxBlock),
    )
    yield* waitForRoom(records.reduce((size, record) => size + sizeOf(record), 0))
    return enqueue(records, yield* Clock.currentTimeMillis)
  }, (admitting) => Semaphore.withPermits(admission, 1)(admitting))

  const notAdmitted = (records: ReadonlyArray<ProducerRecord>): ProducerError => {
    const unknown = records.find(({ topic }) => leaders.partitions(topic) === undefined)
    if (unknown !== undefined) trouble.met()
    return unknown === undefined
      ? new ProducerError({
        reason: "BufferFull",
        message: `${buffered} bytes are waiting for the brokers already, and ${options.bufferBytes} may wait`,
      })
      : new ProducerError({
        reason: "Timeout",
        message: `the brokers did not say in time where topic ${unknown.topic} is; nothing was sent`,
      })
  }

  return Producer.of({
    send: Effect.fn("Producer.send")(function* (records) {
      if (records.length === 0) return
      const admitted = yield* Effect.timeoutOption(admit(records), options.maxBlock).pipe(
        Effect.mapError((error) => new ProducerError({ reason: "Timeout", message: error.message, cause: error })),
      )
      if (Option.isNone(admitted)) return yield* notAdmitted(records)
      yield* Deferred.await(admitted.value.done)
      yield* Counters.acknowledged(records)
    }),
    failingSince: Effect.sync(trouble.since),
  })
})
