/** Results on their way to a topic. */
import { Buffer } from "node:buffer"
import { Result, Schema } from "effect"
import type { Batch, Failed, Outgoing } from "../Batch.ts"
import { fail, failing, keyBytes, RecordDefect, row } from "../Batch.ts"
import { each, type Flow, type Stage } from "../Flow.ts"
import type { Topic } from "../Topic.ts"

/** A value cannot be written to the topic it is meant for: its schema refuses it, or it is too large. */
export class Undeliverable extends Schema.TaggedError<Undeliverable>()("Undeliverable", {
  topic: Schema.String,
  field: Schema.String,
  message: Schema.String,
}) {}

/**
 * Writes every value to `topic` when its batch commits, keyed as the contract says (by the record's own key where the
 * contract has none), and passes it on. Values of one key keep their order.
 */
export const to =
  <B>(topic: Topic<B>) => <A extends B, F, E, R>(flow: Flow<A, F, E, R>): Flow<A, F | Undeliverable, E, R> =>
    derived(topic, (value: A): B => value)(flow)

/** Writes to `topic` what `of` makes of every value, and passes the value itself on. */
export const derived =
  <A, B>(topic: Topic<B>, of: (value: A) => B): Stage<A, A, Undeliverable> => <F, E, R>(flow: Flow<A, F, E, R>) =>
    each<A, A, Undeliverable>((batch) => deliver(batch, topic, of, {}), { stage: "deliver", writes: [topic] })(flow)

/**
 * Like `derived`, for topics of which the last value per key counts: of the values that one batch has for a key, only the
 * last that does not fail is written.
 */
export const latest =
  <A, B>(topic: Topic<B>, of: (value: A) => B): Stage<A, A, Undeliverable> => <F, E, R>(flow: Flow<A, F, E, R>) =>
    each<A, A, Undeliverable>((batch) => deliver(batch, topic, of, { latest: true }), {
      stage: "deliver",
      writes: [topic],
    })(flow)

/** Room for the record batch around one record: with it, a value that fits here fits in the topic. */
const batchOverhead = 128

const deliver = <A, B, F>(
  batch: Batch<A, F>,
  topic: Topic<B>,
  of: (value: A) => B,
  how: Pick<Outgoing, "latest">,
): Batch<A, F | Undeliverable> => {
  const { values, units } = batch
  const made = new Array<B>(values.length)
  const keys = new Array<string | null>(values.length)
  for (let i = 0; i < values.length; i++) {
    try {
      made[i] = of(values[i]!)
      keys[i] = topic.keyOf(made[i]!)
    } catch (cause) {
      throw new RecordDefect(batch, i, cause)
    }
  }
  const outgoing: Array<Outgoing> = []
  const failures: Array<Failed<Undeliverable>> = []
  for (let i = 0; i < values.length; i++) {
    const encoded = topic.encode(made[i]!)
    if (Result.isFailure(encoded)) {
      const { field, message } = encoded.failure
      failures.push(failing(batch, i, new Undeliverable({ topic: topic.name, field, message })))
      continue
    }
    const key = topic.key === null ? keyBytes(batch, i) : keyed(keys[i]!)
    const size = encoded.success.length + (key?.length ?? 0) + batchOverhead
    if (size > topic.maxMessageBytes) {
      const message = `${size} bytes do not fit into topic ${topic.name}, which takes ${topic.maxMessageBytes}`
      failures.push(failing(batch, i, new Undeliverable({ topic: topic.name, field: "", message })))
      continue
    }
    const out = { topic: topic.name, key, value: encoded.success, row: row(batch, i), ...how }
    outgoing.push(units === undefined ? out : { ...out, unit: units[i]! })
  }
  return fail<A, F, Undeliverable>({
    ...batch,
    outgoing: batch.outgoing.length === 0 ? outgoing : [...batch.outgoing, ...outgoing],
  }, failures)
}

const keyed = (key: string | null): Uint8Array | null => key === null ? null : Buffer.from(key)
