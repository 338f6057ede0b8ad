/** A value as a record of its topic. */
import { Buffer } from "node:buffer"
import { Result } from "effect"
import type { Topic } from "../Topic.ts"
import { Undeliverable } from "./Deliver.ts"

/** Room for the record batch around one record: with it, a value that fits here fits in the topic. */
const batchOverhead = 128

export interface Written {
  readonly topic: string
  readonly key: Uint8Array | null
  readonly value: Uint8Array
}

/** A value as it will stand in `topic`, under `own` where the contract has no key; or why it cannot. */
export const recordOf = <B>(topic: Topic<B>, value: B, own: Uint8Array | null): Written | Undeliverable => {
  const { name, maxMessageBytes } = topic
  const encoded = topic.encode(value)
  if (Result.isFailure(encoded)) return new Undeliverable({ topic: name, ...encoded.failure })
  const key = topic.key === null ? own : keyed(topic.keyOf(value))
  const size = encoded.success.length + (key?.length ?? 0) + batchOverhead
  if (size <= maxMessageBytes) return { topic: name, key, value: encoded.success }
  const message = `${size} bytes do not fit into topic ${name}, which takes ${maxMessageBytes}`
  return new Undeliverable({ topic: name, field: "", message })
}

const keyed = (key: string | null): Uint8Array | null => key === null ? null : Buffer.from(key)
