/** What can be compared of what a pipeline has come to, by the library and by its reference. */
import { Buffer } from "node:buffer"
import { type Batch, keyBytes, type Outgoing } from "../../src/Batch.ts"
import type { TopicRecord } from "../../src/kafka/ClusterMemory.ts"
import { type Any, text } from "../../src/Topic.ts"
import { Dlt, Finals, Kept, type Reading } from "./draw/Steps.ts"
import { Latest } from "./draw/Tables.ts"
import type { Row } from "./reference/Tables.ts"
import type { Stream } from "./reference/Stream.ts"

export type AnyBatch = Batch<Reading, { readonly _tag: string; readonly partly?: true }>

type Pairs = ReadonlyArray<readonly [key: string | null, value: string]>
type Results = Readonly<Record<string, ReadonlyArray<string>>>

/** By key in order. */
const results = (values: Pairs): Results => {
  const byKey: Record<string, Array<string>> = {}
  for (const [key, value] of values) (byKey[String(key)] ??= []).push(value)
  return byKey
}

/** Where only the last counts that is said of a name; what was taken back was perhaps never said. */
const last = (values: Pairs, isTable: boolean, nameOf: (value: string, key: string | null) => string): Results => {
  if (!isTable) return results(values)
  const byName = new Map(values.map(([key, value]) => [`${key} ${nameOf(value, key)}`, value]))
  return Object.fromEntries(
    [...byName].filter(([, value]) => !/( |^)gone( |$)/.test(value) && value !== "null").map((
      [name, value],
    ) => [name, [value]]).sort(),
  )
}

const nameOf = (value: string) => value.split(" ")[0]!

type Written = readonly [topic: string, key: string | null, value: string]

/** By topic: what stands in it, by key. Dead letters have no key of their own, and those of one row no order. */
const sent = (all: ReadonlyArray<Written>, isTable: boolean): Readonly<Record<string, Results>> => {
  const byTopic = [...Map.groupBy(all, ([topic]) => topic)].sort(([a], [b]) => a < b ? -1 : 1)
  const shown = byTopic.map(([topic, written]) => {
    const pairs = written.map(([, key, value]) => [key, value] as const)
    if (topic === Dlt.name) return [topic, results(pairs.toSorted(([, a], [, b]) => a < b ? -1 : 1))] as const
    if (topic === Latest.name) return [topic, last(pairs, true, () => "")] as const
    return [topic, last(pairs, isTable && topic === Finals.name, nameOf)] as const
  })
  return Object.fromEntries(shown.filter(([, results]) => Object.keys(results).length > 0))
}

/** Values as they are compared; of a table's rows the names are their keys. */
const line = ({ id, n }: Row) => `${id} ${n}`

/** Of a stream with event time; the last update of a table's row may have come of any of several records. */
const whole = (value: Reading, isTable: boolean) => isTable ? line(value) : `${line(value)} at ${value.at}`

/** What a reference says. */
export const ofReference = (stream: Stream, isTable: boolean) => {
  const reasons = (of: ReadonlyArray<{ readonly row: number; readonly reason: string }>) =>
    of.map(({ row, reason }) => `${stream.places[row]} ${reason}`).sort()
  return {
    values: last(stream.values.map((value) => [value.key, whole(value, isTable)]), isTable, nameOf),
    sent: sent(stream.sent.map(({ topic, key, value }) => [topic, key, value]), isTable),
    failed: reasons(
      stream.failed.map(({ row, reason, isPartly }) => ({ row, reason: isPartly ? `${reason} partly` : reason })),
    ),
    dropped: reasons(stream.dropped),
  }
}

/** The row that something stands at; what a tick has caused stands at none. */
const placeOf = ({ source }: AnyBatch, row: number): string => `${source.topic.name}@${source.offsets[row] ?? "tick"}`

/** What batches have come to. */
export const ofBatches = (batches: ReadonlyArray<AnyBatch>, isTable: boolean) => {
  const reasons = (of: (batch: AnyBatch) => ReadonlyArray<readonly [row: number, reason: string]>) =>
    batches.flatMap((batch) => of(batch).map(([row, reason]) => `${placeOf(batch, row)} ${reason}`)).sort()
  const textOf = (bytes: Uint8Array | null) => bytes && text(bytes)
  const written = (batch: AnyBatch) => (out: Outgoing): Written =>
    out.topic === Dlt.name
      ? [out.topic, null, `${placeOf(batch, out.row)} ${out.failure}`]
      : [out.topic, textOf(out.key), shownIn(out.topic, textOf(out.value))]
  return {
    values: last(
      batches.flatMap((batch) =>
        batch.values.map((value, i) => [textOf(keyBytes(batch, i)), whole(value, isTable)] as const)
      ),
      isTable,
      nameOf,
    ),
    sent: sent(batches.flatMap((batch) => batch.outgoing.map(written(batch))), isTable),
    failed: reasons(({ failed }) =>
      failed.map(({ row, reason }) => [row, reason.partly ? `${reason._tag} partly` : reason._tag])
    ),
    dropped: reasons(({ dropped }) => dropped.map(({ row, reason }) => [row, reason])),
  }
}

/** The value of a record as it is compared. */
const shownIn = (topic: string, value: string | null): string => {
  if (value === null) return "null"
  const { id, n } = JSON.parse(value) as Reading
  if (topic === Finals.name) return line({ id, n })
  return topic === Kept.name || topic === Latest.name ? JSON.stringify({ id, n }) : value
}

/** What a dead letter says of itself. */
const letter = (headers: TopicRecord["headers"]): string => {
  const header = (name: string) => Buffer.from(headers.find(([of]) => of === name)![1])
  const place = `${header("kafka_dlt-original-topic")}@${header("kafka_dlt-original-offset").readBigInt64BE()}`
  return `${place} ${header("millrace-reason")}`
}

/** What stands in topics in the end. */
export const ofRecords = (
  topics: ReadonlyArray<Any>,
  read: (topic: string) => ReadonlyArray<TopicRecord>,
  isTable: boolean,
) =>
  sent(
    topics.flatMap(({ name }) =>
      read(name).map(({ key, value, headers }): Written =>
        name === Dlt.name
          ? [name, null, letter(headers)]
          : [name, key && text(key), shownIn(name, value && text(value))]
      )
    ),
    isTable,
  )
