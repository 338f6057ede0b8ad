/**
 * What must come of messages in `user.clicks.raw`, computed from them alone by the rules in the documentation: nothing of the
 * library or the application is used. It goes over each partition once, in order, and knows neither batches nor crashes.
 */
import { createHash } from "node:crypto"

/** A message as it stands in the topic; `offset` is its place in its partition. */
export interface Raw {
  readonly partition: number
  readonly offset: number
  readonly key: string | null
  readonly value: string | null
  /** When it arrived: milliseconds since 1970. */
  readonly arrival: number
}

export interface Enriched {
  readonly eventId: string
  readonly user: string
  readonly eventTime: number
  readonly timeRule: string
  readonly path: string | null
  readonly sessionId: string
  readonly number: number
  readonly firstPage: string | null
}

export interface Session {
  readonly id: string
  readonly start: number
  readonly last: number
  readonly clicks: number
  readonly firstPage: string | null
  readonly lastPage: string | null
}

export interface Result {
  /** By partition, in order. */
  readonly enriched: ReadonlyArray<ReadonlyArray<Enriched>>
  /** The last of each, by id. */
  readonly sessions: Readonly<Record<string, Session & { readonly user: string }>>
  readonly identities: Readonly<
    Record<string, { readonly eventId: string; readonly traits: unknown; readonly at: number }>
  >
  /** The last of each, by user and minute. */
  readonly counts: Readonly<Record<string, { readonly clicks: number; readonly final: boolean }>>
  /** Reason and place, sorted. */
  readonly dead: ReadonlyArray<string>
  /** Place or event id, sorted. */
  readonly late: ReadonlyArray<string>
  readonly repeats: number
  /** How many messages said who somebody is. */
  readonly told: number
  /** By key: the sessions that are still kept. */
  readonly open: Readonly<Record<string, ReadonlyArray<Session>>>
}

const minute = 60_000
const gap = 30 * minute
const sessionGrace = 60 * minute
const longest = 24 * 60 * minute
const countGrace = 10 * minute
/** Ids are remembered for an hour at least and a twenty-fourth more at most; input keeps away from what is between. */
export const repeatWindow = 60 * minute

interface Message {
  readonly type: string
  readonly messageId: string
  readonly userId?: string | null
  readonly anonymousId?: string | null
  readonly timestamp?: string | null
  readonly sentAt?: string | null
  readonly receivedAt: string
  readonly traits?: unknown
  readonly context?: { readonly page?: { readonly url?: string } }
}

/** The message, and when it happened; nothing where the contract refuses it. */
const decode = (value: string | null) => {
  try {
    const message = JSON.parse(value ?? "") as Message
    if ((message.userId ?? message.anonymousId) == null) return undefined
    const [received, stamp, sent] = [message.receivedAt, message.timestamp, message.sentAt].map((text) =>
      text == null ? undefined : Date.parse(text)
    )
    const told = stamp === undefined ? received! : sent === undefined ? stamp : stamp + received! - sent
    const rule = stamp === undefined
      ? "received"
      : told > received!
      ? "clamped"
      : sent === undefined
      ? "given"
      : "corrected"
    const at = Math.min(told, received!)
    return Number.isNaN(at) || at < 0 ? undefined : { message, at, rule }
  } catch {
    return undefined
  }
}

const pathOf = (url: string | undefined): string | null =>
  url === undefined ? null : url.replace(/^https:\/\/[^/]*/, "")

export const resultOf = (raw: ReadonlyArray<Raw>, partitions: number): Result => {
  const enriched: Array<Array<Enriched>> = []
  const latest: Record<string, Session & { user: string }> = {}
  const identities: Record<string, { eventId: string; traits: unknown; at: number }> = {}
  const counts: Record<string, { clicks: number; final: boolean }> = {}
  const dead: Array<string> = []
  const late: Array<string> = []
  const open: Record<string, ReadonlyArray<Session>> = {}
  let repeats = 0
  let told = 0
  for (let partition = 0; partition < partitions; partition++) {
    const clicks: Array<Enriched> = []
    const seen = new Map<string, number>()
    const sessions = new Map<string, ReadonlyArray<Session>>()
    let clock = -Infinity
    let arrived = -Infinity
    const isKept = ({ last }: Session) => Math.floor((last + gap + sessionGrace) / minute) >= Math.floor(clock / minute)
    for (const { offset, key, value, arrival } of raw.filter((one) => one.partition === partition)) {
      const place = `user.clicks.raw/${partition}@${offset}`
      const decoded = decode(value)
      if (decoded === undefined) {
        dead.push(`DecodeError ${place}`)
        continue
      }
      const { message, at, rule } = decoded
      clock = Math.max(clock, at)
      arrived = Math.max(arrived, arrival)
      const id = message.messageId
      const before = seen.get(id)
      if (before !== undefined && before > arrived - repeatWindow) {
        repeats++
        continue
      }
      seen.set(id, arrived)
      const user = (message.userId ?? message.anonymousId)!
      if (message.type === "identify") {
        told++
        identities[`identify/${user}`] = { eventId: id, traits: message.traits, at }
        continue
      }
      const url = message.context?.page?.url
      if (url !== undefined && !url.startsWith("https://") && !url.startsWith("/")) {
        dead.push(`InvalidClick ${place}`)
        continue
      }
      const path = pathOf(url)
      const known = (sessions.get(key!) ?? []).filter(({ last }) => last >= clock - gap - sessionGrace)
      const mine = known.find(({ start, last }) =>
        at >= start - gap && at <= last + gap && Math.max(last, at) - Math.min(start, at) <= longest
      )
      if (mine === undefined && at < clock - gap - sessionGrace) {
        late.push(`raw ${id}`)
        continue
      }
      const sessionId = () => createHash("sha256").update(`${key}\0${id}`).digest("base64url").slice(0, 22)
      const session: Session = mine === undefined
        ? { id: sessionId(), start: at, last: at, clicks: 1, firstPage: path, lastPage: path }
        : {
          id: mine.id,
          start: Math.min(mine.start, at),
          last: Math.max(mine.last, at),
          clicks: mine.clicks + 1,
          firstPage: at < mine.start ? path : mine.firstPage,
          lastPage: at >= mine.last ? path : mine.lastPage,
        }
      sessions.set(key!, [...known.filter((one) => one !== mine), session].sort((a, b) => a.start - b.start))
      latest[session.id] = { ...session, user }
      clicks.push({
        eventId: id,
        user,
        eventTime: at,
        timeRule: rule,
        path,
        sessionId: session.id,
        number: session.clicks,
        firstPage: session.firstPage,
      })
    }
    for (const [key, all] of sessions) {
      const kept = all.filter(isKept)
      if (kept.length > 0) open[key] = kept
    }
    enriched.push(clicks)
    count(clicks, counts, late)
  }
  return {
    enriched,
    sessions: latest,
    identities,
    counts,
    dead: dead.sort(),
    late: late.sort(),
    repeats,
    told,
    open,
  }
}

/** Counts the clicks of one partition. */
const count = (
  clicks: ReadonlyArray<Enriched>,
  counts: Record<string, { clicks: number; final: boolean }>,
  late: Array<string>,
): void => {
  const minutes = new Map<string, { start: number; clicks: number }>()
  let clock = -Infinity
  for (const { eventId, user, eventTime } of clicks) {
    clock = Math.max(clock, eventTime)
    for (const [name, { start, clicks }] of minutes) {
      if (start + minute > clock - countGrace) continue
      counts[name] = { clicks, final: true }
      minutes.delete(name)
    }
    const start = Math.floor(eventTime / minute) * minute
    if (start + minute <= clock - countGrace) {
      late.push(`enriched ${eventId}`)
      continue
    }
    const name = `${user}@${start}`
    const before = minutes.get(name) ?? { start, clicks: 0 }
    minutes.set(name, { start, clicks: before.clicks + 1 })
    counts[name] = { clicks: before.clicks + 1, final: false }
  }
}
