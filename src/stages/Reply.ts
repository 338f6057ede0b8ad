/** Answers to records that failed: values of a contract, where a dead letter is the record itself. */
import type { Failed, Failure, Headers } from "../Batch.ts"
import { offsetOf } from "../Batch.ts"
import type { Rejected, Route } from "../Failures.ts"
import type { Topic } from "../Topic.ts"
import { recordOf, Undeliverable } from "./Record.ts"

/** The record that failed, as it came. */
export interface Origin {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: Headers
}

/**
 * Sends to `topic` what `of` makes of a failure and its record, keyed as the contract says, or by the record's own key.
 * A throw in `of`, or an answer that the contract refuses, stops the task and names the record.
 */
export const to = <G extends Failure, A>(topic: Topic<A>, of: (reason: G, origin: Origin) => NoInfer<A>): Route<G> => ({
  writes: [topic],
  send: ({ source, failed }: Rejected<G>) => {
    const origin = originOf(source, failed)
    const record = recordOf(topic, of(failed.reason, origin), origin.key)
    if (record instanceof Undeliverable) {
      const at = record.field === "" ? "" : ` at ${record.field}`
      throw new Error(`no answer to ${failed.reason._tag} for topic ${topic.name}${at}: ${record.message}`)
    }
    const { key, value } = record
    return { _tag: "Outgoing", outgoing: { topic: topic.name, key, value, row: failed.row } }
  },
})

const originOf = (source: Rejected<unknown>["source"], { row, record }: Failed<unknown>): Origin => ({
  topic: source.topic.name,
  partition: source.partition,
  offset: offsetOf(source, row),
  key: record === undefined ? source.keys[row]! : record.key,
  value: record === undefined ? source.bytes[row]! : record.value,
  headers: source.headers[row] ?? [],
})
