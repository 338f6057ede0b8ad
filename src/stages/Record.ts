/** Values as records of their topics. */
import { Buffer } from "node:buffer"
import { Result, Schema } from "effect"
import type { Topic } from "../Topic.ts"

/** A value cannot be written to the topic it is meant for: its schema refuses it, or it is too large. */
export class Undeliverable extends Schema.TaggedError<Undeliverable>()("Undeliverable", {
  topic: Schema.String,
  field: Schema.String,
  message: Schema.String,
}) {}

export interface Written {
  readonly topic: string
  readonly key: Uint8Array | null
  readonly value: Uint8Array
}

/** A value as it will stand in `topic`, under `own` where the contract has no key; or why it cannot. */
export const recordOf = <B>(topic: Topic<B>, value: B, own: Uint8Array | null): Written | Undeliverable => {
  const bytes = encoded(topic, value)
  if (bytes instanceof Undeliverable) return bytes
  const key = topic.key === null ? own : bytesOf(topic.keyOf(value))
  return tooLarge(topic, key, bytes) ?? { topic: topic.name, key, value: bytes }
}

const bytesOf = (key: string | null): Uint8Array | null => key === null ? null : Buffer.from(key)

/** The bytes of a value, or why `topic` does not take it. */
export const encoded = <B>(topic: Topic<B>, value: B): Uint8Array | Undeliverable => {
  const encoded = topic.encode(value)
  if (Result.isSuccess(encoded)) return encoded.success
  return undeliverable(topic, encoded.failure.field, encoded.failure.message)
}

/** Room for the record batch around one record: with it, a value that fits here fits in the topic. */
const batchOverhead = 128

export const tooLarge = (
  topic: Pick<Topic<never>, "name" | "maxMessageBytes">,
  key: Uint8Array | null,
  value: Uint8Array | null,
): Undeliverable | undefined => {
  const size = (value?.length ?? 0) + (key?.length ?? 0) + batchOverhead
  if (size <= topic.maxMessageBytes) return undefined
  const message = `${size} bytes do not fit into topic ${topic.name}, which takes ${topic.maxMessageBytes}`
  return undeliverable(topic, "", message)
}

export const undeliverable = (topic: Pick<Topic<never>, "name">, field: string, message: string): Undeliverable =>
  new Undeliverable({ topic: topic.name, field, message })
