/** The rows of the tables, column by column. */
import { Buffer } from "node:buffer"
import type { ClickCount } from "../../schemas/ClickCounts.ts"
import type { EnrichedClick } from "../../schemas/EnrichedClicks.ts"
import type { Identity } from "../../schemas/Identities.ts"
import type { Session } from "../../schemas/Sessions.ts"
import type { Batch } from "../index.ts"

const time = (millis: number): string => new Date(millis).toISOString()

export const click = (click: EnrichedClick) => ({
  event_id: click.eventId,
  kind: click.kind,
  name: click.name,
  user: click.user,
  user_id: click.userId,
  anonymous_id: click.anonymousId,
  event_time: time(click.eventTime),
  time_rule: click.timeRule,
  received_at: time(click.receivedAt),
  url: click.url,
  path: click.path,
  title: click.title,
  referrer_host: click.referrerHost,
  campaign_source: click.campaign?.source,
  campaign_medium: click.campaign?.medium,
  campaign_name: click.campaign?.name,
  campaign_term: click.campaign?.term,
  campaign_content: click.campaign?.content,
  browser: click.browser,
  os: click.os,
  device: click.device,
  bot: click.bot,
  source: click.source,
  skipped: click.skipped,
  session_id: click.session.id,
  session_number: click.session.number,
  first_page: click.session.firstPage,
})

export const count = ({ user, minute, clicks, final }: ClickCount) => ({ user, minute: time(minute), clicks, final })

export const session = (session: Session) => ({
  session_id: session.id,
  user: session.user,
  started_at: time(session.start),
  last_at: time(session.last),
  clicks: session.clicks,
  first_page: session.firstPage,
  last_page: session.lastPage,
})

export const identity = (identity: Identity) => ({
  identity: identity.id,
  event_id: identity.eventId,
  kind: identity.kind,
  user_id: identity.userId,
  anonymous_id: identity.anonymousId,
  previous_id: identity.previousId,
  group_id: identity.groupId,
  traits: identity.traits,
  at: time(identity.at),
})

export interface DeadLetter {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly reason: string
  readonly field: string
  readonly message: string
  readonly program: string
  readonly original_topic: string | null
  readonly original_partition: string | null
  readonly original_offset: string | null
  readonly at: string
}

/** What the headers say of a dead letter or a late click; the value itself stays in the topic. */
export const deadLetter = (_value: unknown, record: Batch.RecordContext): DeadLetter => {
  const headers = new Map(record.headers)
  const text = (name: string) => {
    const bytes = headers.get(name)
    return bytes === undefined ? undefined : Buffer.from(bytes).toString()
  }
  return {
    topic: record.topic,
    partition: record.partition,
    offset: record.offset,
    reason: text("millrace-reason") ?? "unknown",
    field: text("millrace-field") ?? "",
    message: text("millrace-message") ?? "",
    program: text("millrace-program") ?? "unknown",
    original_topic: text("kafka_dlt-original-topic") ?? null,
    original_partition: integer(headers.get("kafka_dlt-original-partition"), 4),
    original_offset: integer(headers.get("kafka_dlt-original-offset"), 8),
    at: time(record.arrival),
  }
}

/** A big-endian integer of so many bytes, as the headers of dead letters hold it; null for anything else. */
const integer = (bytes: Uint8Array | undefined, length: 4 | 8): string | null => {
  if (bytes?.length !== length) return null
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, length)
  return String(length === 4 ? buffer.readInt32BE() : buffer.readBigInt64BE())
}
