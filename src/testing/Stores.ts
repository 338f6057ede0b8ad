/** State stores as their changelogs hold them. */
import { Buffer } from "node:buffer"
import { Effect, Result, Schema } from "effect"
import * as JsonCodec from "../JsonCodec.ts"
import { isPositions, stampOf } from "../kafka/Changelog.ts"
import type { TopicRecord } from "../kafka/ClusterMemory.ts"
import type { StoreSpec } from "../Task.ts"
import { text } from "../Topic.ts"
import { DriverError } from "./DriverError.ts"
import { undecodable } from "./Reading.ts"

/** What a task's store holds under a key. */
export interface Entry {
  /** The task's. */
  readonly partition: number
  readonly key: string
  readonly value: unknown
}

/**
 * The entries that a restore would find, by partition and key. Without transactions a record may stand after newer ones:
 * it does not count, as in a restore.
 */
export const entries = (
  topic: string,
  { value }: StoreSpec<unknown>,
  records: ReadonlyArray<TopicRecord>,
): Effect.Effect<ReadonlyArray<Entry>, DriverError> => {
  const decode = Schema.decodeUnknownResult(Schema.fromJsonString(JsonCodec.of(value)))
  const newest = new Map<number, Uint8Array>()
  const last = new Map<string, TopicRecord>()
  for (const record of records) {
    const { partition, key, headers } = record
    const stamp = stampOf(headers)
    const before = newest.get(partition)
    const age = stamp === undefined || before === undefined ? 0 : Buffer.compare(stamp, before)
    if (stamp !== undefined && (before === undefined || age > 0)) newest.set(partition, stamp)
    if (key === null || isPositions(key)) continue
    const id = `${partition}/${text(key)}`
    if (age >= 0 || !last.has(id)) last.set(id, record)
  }
  return Effect.forEach(
    Array.from(last.values()).filter((record) => record.value !== null),
    (record): Effect.Effect<Entry, DriverError> => {
      const decoded = decode(text(record.value!))
      return Result.isSuccess(decoded)
        ? Effect.succeed({ partition: record.partition, key: text(record.key!), value: decoded.success })
        : Effect.fail(undecodable(topic, record, "", "it is not what the store's codec reads"))
    },
  ).pipe(
    Effect.map((found) =>
      found.toSorted((a, b) => a.partition - b.partition || (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    ),
  )
}

/** The entries of all tasks by key; fails where two tasks hold one. */
export const byKey = Effect.fnUntraced(function* (entries: ReadonlyArray<Entry>) {
  const values = new Map<string, unknown>()
  for (const { partition, key, value } of entries) {
    if (values.has(key)) {
      const message = `task ${partition} and one before it have an entry ${key} each: read them with entries`
      return yield* new DriverError({ reason: "Unknown", message })
    }
    values.set(key, value)
  }
  return values as ReadonlyMap<string, unknown>
})
