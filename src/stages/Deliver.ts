/** Results on their way to a topic. */
import { Buffer } from "node:buffer"
import { Result, Schema } from "effect"
import type { Batch, Failed, Outgoing } from "../Batch.ts"
import { fail, keyBytes, row } from "../Batch.ts"
import { each, type Flow } from "../Flow.ts"
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
    each<A, A, Undeliverable>((batch) => deliver(batch, topic), { stage: "deliver", writes: [topic] })(flow)

/** Room for the record batch around one record: with it, a value that fits here fits in the topic. */
const batchOverhead = 128

const deliver = <B, A extends B, F>(batch: Batch<A, F>, topic: Topic<B>): Batch<A, F | Undeliverable> => {
  const { values } = batch
  const outgoing = new Array<Outgoing>(values.length)
  const failures: Array<Failed<Undeliverable>> = []
  for (let i = 0; i < values.length; i++) {
    const at = row(batch, i)
    const encoded = topic.encode(values[i]!)
    const key = topic.key === null ? keyBytes(batch, i) : keyed(topic.keyOf(values[i]!))
    if (Result.isFailure(encoded)) {
      const { field, message } = encoded.failure
      failures.push({ row: at, reason: new Undeliverable({ topic: topic.name, field, message }) })
      continue
    }
    const size = encoded.success.length + (key?.length ?? 0) + batchOverhead
    if (size > topic.maxMessageBytes) {
      const message = `${size} bytes do not fit into topic ${topic.name}, which takes ${topic.maxMessageBytes}`
      failures.push({ row: at, reason: new Undeliverable({ topic: topic.name, field: "", message }) })
      continue
    }
    outgoing[i - failures.length] = { topic: topic.name, key, value: encoded.success, row: at }
  }
  outgoing.length = values.length - failures.length
  return fail<A, F, Undeliverable>({
    ...batch,
    outgoing: batch.outgoing.length === 0 ? outgoing : [...batch.outgoing, ...outgoing],
  }, failures)
}

const keyed = (key: string | null): Uint8Array | null => key === null ? null : Buffer.from(key)
