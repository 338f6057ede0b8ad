/** From bytes to values, by the contract of the topic they came from. */
import { Duration, Effect, Function, Result, Schema } from "effect"
import type { Batch, Failed, Headers, Time } from "../Batch.ts"
import { fail, gather, keyBytes, RecordDefect, row } from "../Batch.ts"
import { type Flow, perTask } from "../Flow.ts"
import { type Clock, StreamTime } from "../StreamTime.ts"
import { writtenBy } from "../WriterHeaders.ts"
import { type Raw, Task } from "../Task.ts"
import { type Invalid, text, type Topic } from "../Topic.ts"
import { type Change, deletion, timeHeader, upsert } from "./Change.ts"

/** A record's value is not what its topic's contract promises. */
export class DecodeError extends Schema.TaggedError<DecodeError>()("DecodeError", {
  /** The path of the field that is wrong; empty where it is the value as a whole. */
  field: Schema.String,
  message: Schema.String,
}) {}

/** A record says that it happened later than it arrived, and by more than is taken. */
export class FromTheFuture extends Schema.TaggedError<FromTheFuture>()("FromTheFuture", {
  field: Schema.String,
  message: Schema.String,
  /** Milliseconds. */
  ahead: Schema.Finite,
}) {}

/**
 * Decodes every record by its topic's schema, and takes event time from the contract's extractor (the Kafka timestamp
 * without one). Stream time is kept for every record that decodes, before any later stage drops it, and is committed with
 * the topic's position.
 */
export const schema = <A, F, E, R>(flow: Flow<Raw<A>, F, E, R>): Flow<A, F | DecodeError, E, R | Task> =>
  decode<A, A>(false, Infinity)(flow) as Flow<A, F | DecodeError, E, R | Task>

/**
 * Decodes like `schema`, and fails records whose event time is later than their arrival, the Kafka timestamp, by more than
 * `ahead`: one sender whose clock is wrong then cannot move stream time, by which windows close for all. Where the
 * contract has no event time, none fails.
 */
export const within = (options: { readonly ahead: Duration.Input }) => {
  const ahead = Duration.toMillis(options.ahead)
  if (!(ahead >= 0 && ahead < Infinity)) {
    throw new RangeError(`Decode.within: ahead is a finite time of at least 0; it was ${ahead} milliseconds`)
  }
  return <A, F, E, R>(flow: Flow<Raw<A>, F, E, R>): Flow<A, F | DecodeError | FromTheFuture, E, R | Task> =>
    decode<A, A>(false, ahead)(flow)
}

/**
 * Decodes every record as a change of the row of its key: a value by its topic's schema, like `schema`, and a null value,
 * a tombstone, as the row's deletion. A record without a key fails.
 *
 * When a change happened is in the header `millrace-time` where `Deliver.table` wrote it. Without one a value has its event
 * time as in a stream; a tombstone, which has no value, that of the Kafka timestamp where the contract has no event time, and
 * otherwise the topic's stream time, which stays as it is: what came before it is deleted, and nothing becomes late by it.
 */
export const table = <A, F, E, R>(flow: Flow<Raw<A>, F, E, R>): Flow<Change<A>, F | DecodeError, E, R | Task> =>
  decode<A, Change<A>>(true, Infinity)(flow) as Flow<Change<A>, F | DecodeError, E, R | Task>

const decode = <A, B>(asTable: boolean, ahead: number) =>
  perTask<Raw<A>, B, DecodeError | FromTheFuture, never, never, never, Task>(
    Effect.map(Task, (task) => {
      let clock: StreamTime | undefined
      return <F>(batch: Batch<Raw<A>, F>) =>
        Effect.sync(() => {
          clock ??= new StreamTime(task.clock(batch.source.topic))
          const topic = batch.source.topic as Topic<A>
          return step<A, B, F>(batch, clock, asTable ? new Changes(topic) : new Values(topic), ahead)
        })
    }),
    { stage: "decode" },
  )

/** Reads records one by one: what it has read last, and that one's event time, `undefined` where it has none. */
interface Reader {
  value: unknown
  time: number | undefined
  read(batch: Batch<unknown, unknown>, i: number): Invalid | undefined
}

class Values<A> implements Reader {
  value: unknown
  time: number | undefined
  readonly topic: Topic<A>
  readonly #eventTime: ((value: A) => number) | undefined

  constructor(topic: Topic<A>) {
    this.topic = topic
    this.#eventTime = topic.eventTime as ((value: A) => number) | undefined
  }

  read(batch: Batch<unknown, unknown>, i: number): Invalid | undefined {
    const decoded = this.topic.decode(batch.source.bytes[row(batch, i)]!)
    if (Result.isFailure(decoded)) return decoded.failure
    this.value = decoded.success
    this.time = this.timeOf(decoded.success, batch, i)
    return wrong(this.time)
  }

  timeOf(value: A, batch: Batch<unknown, unknown>, i: number): number {
    const of = this.#eventTime
    return of === undefined ? batch.source.timestamps[row(batch, i)]! : extracted(of, value, batch, i)
  }
}

class Changes<A> extends Values<A> {
  override read(batch: Batch<unknown, unknown>, i: number): Invalid | undefined {
    if (keyBytes(batch, i) === null) return keyless
    const { source } = batch
    const at = row(batch, i)
    const bytes = source.bytes[at]!
    this.time = writtenTime(source.headers[at]!)
    if (bytes === null) {
      this.value = deletion
      if (this.topic.eventTime === undefined) this.time ??= source.timestamps[at]!
    } else {
      const decoded = this.topic.decode(bytes)
      if (Result.isFailure(decoded)) return decoded.failure
      this.value = upsert(decoded.success)
      this.time ??= this.timeOf(decoded.success, batch, i)
    }
    return this.time === undefined ? undefined : wrong(this.time)
  }
}

/** The latest time that a date can have (ECMA-262, 21.4.1.1); beyond it sums of milliseconds are not exact any more. */
const latest = 8.64e15

const wrong = (time: number): Invalid | undefined =>
  time >= 0 && time <= latest ? undefined : time > latest && time < Infinity ? beyond : timeless

const timeless: Invalid = { field: "event time", message: "is not a time since 1970" }
const beyond: Invalid = { field: "event time", message: "is after the year 275760: it is in milliseconds" }
const keyless: Invalid = { field: "key", message: "a row of a table needs a key, and this record has none" }

const step = <A, B, F>(
  batch: Batch<Raw<A>, F>,
  clock: StreamTime,
  reader: Reader,
  ahead: number,
): Batch<B, F | DecodeError | FromTheFuture> => {
  const { source } = batch
  const length = batch.values.length
  const values: Array<B> = []
  const from = new Uint32Array(length)
  const timestamps = new Float64Array(length)
  const clocks = new Float64Array(length)
  const rowClock = new Float64Array(source.length)
  const failures: Array<Failed<DecodeError | FromTheFuture>> = []
  const before = clock.clock
  if (source.silence !== undefined) clock.goOn(source.silence)
  const said: Array<Said> = []
  let passed = 0
  for (let i = 0; i < length; i++) {
    const at = row(batch, i)
    while (passed < at) rowClock[passed++] = clock.now
    const invalid = reader.read(batch, i)
    if (invalid !== undefined) {
      failures.push({ row: at, reason: new DecodeError(invalid) })
      continue
    }
    const { time } = reader
    const arrival = source.timestamps[at]!
    if (time !== undefined && time > arrival + ahead) {
      failures.push({ row: at, reason: fromTheFuture(time - arrival, ahead) })
      continue
    }
    const kept = values.length
    from[kept] = i
    timestamps[kept] = time ?? Math.max(0, clock.now)
    if (time === undefined) clocks[kept] = clock.now
    else if (source.upstream === undefined) clocks[kept] = clock.advance("", time, arrival, 1)
    else {
      const [writer, written] = writtenBy(source.headers[at]!, time)
      clocks[kept] = clock.advance(writer, written, arrival, source.upstream)
      if (source.upstream > 1) said.push({ row: at, writer, time: written, arrival })
    }
    values.push(reader.value as B)
  }
  while (passed < source.length) rowClock[passed++] = clock.now
  const kept = values.length
  const time: Time = {
    timestamps: kept === length ? timestamps : timestamps.subarray(0, kept),
    clock: kept === length ? clocks : clocks.subarray(0, kept),
    rowClock,
    now: clock.now,
  }
  const clockAfter = source.silence === undefined ? clockAt(before, rowClock, said) : Function.constant(clock.clock)
  if (kept === length) return { ...batch, values, time, clockAfter }
  return fail({ ...gather<Raw<A>, B, F>(batch, values, from.subarray(0, kept)), time, clockAfter }, failures)
}

/** When a change happened, where its writer has said so. */
const writtenTime = (headers: Headers): number | undefined => {
  for (const [name, value] of headers) if (name === timeHeader) return Number(text(value))
  return undefined
}

const fromTheFuture = (ahead: number, most: number): FromTheFuture =>
  new FromTheFuture({
    field: "event time",
    message: `is ${ahead} ms later than the record's arrival, and ${most} ms are taken`,
    ahead,
  })

/** What a record of a repartition topic told of its writer. */
interface Said {
  readonly row: number
  readonly writer: string
  readonly time: number
  readonly arrival: number
}

const clockAt = (before: Clock, rowClock: Float64Array, said: ReadonlyArray<Said>) => (rows: number): Clock => {
  if (rows === 0) return before
  const clock = new StreamTime(before)
  for (const { row, writer, time, arrival } of said) if (row < rows) clock.hear(writer, time, arrival)
  clock.now = rowClock[rows - 1]!
  return clock.clock
}

const extracted = <A>(of: (value: A) => number, value: A, batch: Batch<unknown, unknown>, i: number): number => {
  try {
    return of(value)
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
}
