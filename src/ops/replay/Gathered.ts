/** What a partition holds by key, in little room: of every value only a digest. */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { Effect } from "effect"
import type { Cluster, KafkaError, TopicPartition } from "../../kafka/Cluster.ts"
import { text } from "../../Topic.ts"
import { read } from "./Records.ts"

/** The part of a partition that is compared. */
export interface Part {
  readonly where: TopicPartition
  readonly from: number
  readonly to: number
  /** The inputs of the pipeline: dead letters of others in the same topic are left out. */
  readonly reads: ReadonlySet<string>
  /** Whether the last value of a key counts, and not all of them. */
  readonly isTable: boolean
}

/** By key, in latin1, records without one together: digests of what counts, in their order; `deleted` for a deletion. */
export type ByKey = ReadonlyMap<string | null, ReadonlyArray<string>>

export const deleted = ""

/** Some 150 bytes are in memory for each key, and 50 for each record of a stream. */
export const gathered = Effect.fnUntraced(function* (
  part: Part,
): Effect.fn.Return<
  { readonly byKey: ByKey; readonly keyless: ReadonlyArray<string>; readonly records: number },
  KafkaError,
  Cluster
> {
  const byKey = new Map<string | null, Array<string>>()
  const keyless: Array<string> = []
  let records = 0
  yield* each(part, (key, value) => {
    records++
    const digest = value === null
      ? deleted
      : createHash("sha256").update(comparable(value)).digest().toString("latin1", 0, 16)
    if (key === null) return void keyless.push(digest)
    const digests = byKey.get(key)
    if (digests === undefined) byKey.set(key, [digest])
    else if (part.isTable) digests[0] = digest
    else digests.push(digest)
  })
  return { byKey, keyless, records }
})

/** The values of some keys as text: of each the one at the index given, of a table the last. */
export const shown = Effect.fnUntraced(function* (
  part: Part,
  wanted: ReadonlyMap<string | null, number>,
): Effect.fn.Return<ReadonlyMap<string | null, string>, KafkaError, Cluster> {
  const found = new Map<string | null, string>()
  const passed = new Map<string | null, number>()
  yield* each(part, (key, value) => {
    const index = wanted.get(key)
    if (index === undefined) return
    const at = passed.get(key) ?? 0
    passed.set(key, at + 1)
    if (part.isTable || at === index) found.set(key, value === null ? "(deleted)" : comparable(value))
  })
  return found
})

const each = (
  { where, from, to, reads }: Part,
  take: (key: string | null, value: Uint8Array | null) => void,
): Effect.Effect<void, KafkaError, Cluster> =>
  read(where, from, to, ({ keys, bytes, headers }, length) => {
    for (let i = 0; i < length; i++) {
      const origin = headers[i]!.find(([name]) => name === "kafka_dlt-original-topic")?.[1]
      if (origin !== undefined && !reads.has(text(origin))) continue
      const key = keys[i]!
      take(key === null ? null : Buffer.from(key).toString("latin1"), bytes[i]!)
    }
  })

/** A value as text that is the same where the value is: JSON with its fields in one order. */
const comparable = (value: Uint8Array): string => {
  const as = text(value)
  if (as[0] !== "{" && as[0] !== "[") return as
  try {
    return JSON.stringify(
      JSON.parse(as),
      (_, inner) =>
        typeof inner !== "object" || inner === null || Array.isArray(inner)
          ? inner
          : Object.fromEntries(Object.entries(inner).sort(([a], [b]) => a < b ? -1 : 1)),
    )
  } catch {
    return as
  }
}
