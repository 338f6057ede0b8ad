/** From bytes to values, by the contract of the topic they came from. */
import { Effect, Result, Schema } from "effect"
import type { Batch, Failed, Time } from "../Batch.ts"
import { fail, gather, RecordDefect, row } from "../Batch.ts"
import { type Flow, perTask } from "../Flow.ts"
import { StreamTime, writtenBy } from "../StreamTime.ts"
import type { Raw } from "../Task.ts"
import type { Topic } from "../Topic.ts"

/** A record's value is not what its topic's contract promises. */
export class DecodeError extends Schema.TaggedError<DecodeError>()("DecodeError", {
  /** The path of the field that is wrong; empty where it is the value as a whole. */
  field: Schema.String,
  message: Schema.String,
}) {}

/**
 * Decodes every record by its topic's schema, and takes event time from the contract's extractor (the Kafka timestamp
 * without one). Stream time is kept for every record that decodes, before any later stage drops it.
 */
export const schema = <A, F, E, R>(flow: Flow<Raw<A>, F, E, R>): Flow<A, F | DecodeError, E, R> => decode<A>()(flow)

const decode = <A>() =>
  perTask<Raw<A>, A, DecodeError, never, never, never, never>(
    Effect.sync(() => {
      const clock = new StreamTime()
      return <F>(batch: Batch<Raw<A>, F>) => Effect.sync(() => step(batch, clock))
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
  const failures: Array<Failed<DecodeError>> = []
  for (let i = 0; i < length; i++) {
    const at = row(batch, i)
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
    clocks[kept] = source.upstream === undefined
      ? clock.advance("", time, arrival, 1)
      : clock.advance(...writtenBy(source.headers[at]!, time), arrival, source.upstream)
    values.push(decoded.success)
  }
  const kept = values.length
  const time: Time = {
    timestamps: kept === length ? timestamps : timestamps.subarray(0, kept),
    clock: kept === length ? clocks : clocks.subarray(0, kept),
    now: clock.now,
  }
  if (kept === length) return { ...batch, values, time }
  return fail({ ...gather<Raw<A>, A, F>(batch, values, from.subarray(0, kept)), time }, failures)
}

const extracted = <A>(of: (value: A) => number, value: A, batch: Batch<unknown, unknown>, i: number): number => {
  try {
    return of(value)
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
}
