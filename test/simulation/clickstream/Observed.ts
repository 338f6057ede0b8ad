/** What stands in the clickstream's topics, in the form that the reference has. */
import { Buffer } from "node:buffer"
import type { TopicRecord } from "../../../src/kafka/ClusterMemory.ts"
import type { Enriched, Result } from "./Reference.ts"

// deno-lint-ignore no-explicit-any
const json = (bytes: Uint8Array | null) => JSON.parse(String(bytes)) as Readonly<Record<string, any>>

/** The last value of each key, tombstones taken away. */
const last = (records: ReadonlyArray<TopicRecord>) => {
  const found = new Map<string, Uint8Array>()
  for (const { key, value } of records) {
    found.delete(String(key))
    if (value !== null) found.set(String(key), value)
  }
  return found
}

const click = (value: Uint8Array | null): Enriched => {
  const { eventId, user, eventTime, timeRule, path, session } = json(value)
  const { id, number, firstPage } = session
  return { eventId, user, eventTime, timeRule, path, sessionId: id, number, firstPage }
}

/** Reason and origin of a dead letter. */
const letter = ({ headers }: TopicRecord) => {
  const header = (name: string) => Buffer.from(headers.find(([of]) => of === name)?.[1] ?? [])
  const topic = String(header("kafka_dlt-original-topic"))
  const partition = header("kafka_dlt-original-partition").readInt32BE()
  return {
    topic,
    text: `${header("millrace-reason")} ${topic}/${partition}@${header("kafka_dlt-original-offset").readBigInt64BE()}`,
  }
}

const lateName = (record: TopicRecord): string => {
  const { messageId, eventId } = json(record.value)
  return letter(record).topic === "user.clicks.raw" ? `raw ${messageId}` : `enriched ${eventId}`
}

export interface Read {
  (topic: string): ReadonlyArray<TopicRecord>
}

/** Everything but what only the reference can know. */
export const observed = (read: Read, partitions: number): Omit<Result, "repeats"> => {
  const enriched = Array.from(
    { length: partitions },
    (_, partition) =>
      read("user.clicks.enriched").filter((one) => one.partition === partition).map(({ value }) => click(value)),
  )
  const sessions = [...last(read("user.sessions"))].map(([id, value]) => [id, json(value)] as const)
  const identities = [...last(read("user.identities"))].map(([id, value]) => {
    const { eventId, traits, at } = json(value)
    return [id, { eventId, traits, at }] as const
  })
  const counts = [...last(read("user.clicks.aggregates")).values()].map((value) => {
    const { user, minute, clicks, final } = json(value)
    return [`${user}@${minute}`, { clicks, final }] as const
  })
  const open = [...last(read("clickstream-enrich-sessions-changelog"))]
    .filter(([key]) => key !== "\ufffd").map(([key, value]) => [key, json(value)] as const)
  return {
    enriched,
    sessions: Object.fromEntries(sessions) as Result["sessions"],
    identities: Object.fromEntries(identities),
    counts: Object.fromEntries(counts),
    told: read("user.identities").length,
    dead: read("user.clicks.dlt").map((record) => letter(record).text).sort(),
    late: read("user.clicks.late").map(lateName).sort(),
    open: Object.fromEntries(open) as unknown as Result["open"],
  }
}
