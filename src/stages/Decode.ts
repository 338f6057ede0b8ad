/** From bytes to values, by the contract of the topic they came from. */
import { Effect, Function, Result, Schema } from "effect"
import type { Batch, Failed, Time } from "../Batch.ts"
import { fail, gather, RecordDefect, row } from "../Batch.ts"
import { type Flow, perTask } from "../Flow.ts"
import { type Clock, StreamTime } from "../StreamTime.ts"
import { writtenBy } from "../WriterHeaders.ts"
import { type Raw, Task } from "../Task.ts"
import type { Topic } from "../Topic.ts"

/** A record's value is not what its topic's contract promises. */
export class DecodeError extends Schema.TaggedError<DecodeError>()("DecodeError", {
  /** The path of the field that is wrong; empty where it is the value as a whole. */
  field: Schema.String,
  message: Schema.String,
}) {}

/**
 * Decodes every record by its topic's schema, and takes event time from the contract's extractor (the Kafka timestamp
 * without one). Stream time is kept for every record that decodes, before any later stage drops it, and is committed with
 * the topic's position.
 */
export const schema = <A, F, E, R>(flow: Flow<Raw<A>, F, E, R>): Flow<A, F | DecodeError, E, R | Task> =>
  decode<A>()(flow)

const decode = <A>() =>
  perTask<Raw<A>, A, DecodeError, never, never, never, Task>(
    Effect.map(Task, (task) => {
      let clock: StreamTime | undefined
      return <F>(batch: Batch<Raw<A>, F>) =>
        Effect.sync(() => step(batch, clock ??= new StreamTime(task.clock(batch.source.topic))))
    }),
    { stage: "decode" },
  )

const step = <A, F>(batch: Batch<Raw<A>, F>, clock: StreamTime): Batch<A, F | DecodeError> => {
  const { source } = batch
  const topic = source.topic as Topic<A>
  const eventTime = topic.eventTime as ((value: A) => number) | undefined
  const length = batch.values.length
  const values: Array<A> = []
  const from = new Uint32Array(length)
  const timestamps = new Float64Array(length)
  const clocks = new Float64Array(length)
  const rowClock = new Float64Array(source.length)
  const failures: Array<Failed<DecodeError>> = []
  const before = clock.clock
  if (source.silence !== undefined) clock.goOn(source.silence)
  const said: Array<Said> = []
  let passed = 0
  for (let i = 0; i < length; i++) {
    const at = row(batch, i)
    while (passed < at) rowClock[passed++] = clock.now
    const decoded = topic.decode(source.bytes[at]!)
    if (Result.isFailure(decoded)) {
      failures.push({ row: at, reason: new DecodeError(decoded.failure) })
      continue
    }
    const arrival = source.timestamps[at]!
    const time = eventTime === undefined ? arrival : extracted(eventTime, decoded.success, batch, i)
    if (!(time >= 0 && time < Infinity)) {
      failures.push({ row: at, reason: new DecodeError({ field: "event time", message: "is not a time since 1970" }) })
      continue
    }
    const kept = values.length
    from[kept] = i
    timestamps[kept] = time
    if (source.upstream === undefined) clocks[kept] = clock.advance("", time, arrival, 1)
    else {
      const [writer, written] = writtenBy(source.headers[at]!, time)
      clocks[kept] = clock.advance(writer, written, arrival, source.upstream)
      if (source.upstream > 1) said.push({ row: at, writer, time: written, arrival })
    }
    values.push(decoded.success)
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
  return fail({ ...gather<Raw<A>, A, F>(batch, values, from.subarray(0, kept)), time, clockAfter }, failures)
}

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
