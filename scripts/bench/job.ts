/** The job that all contenders do, its input, and what must come out: computed with no contender's code. */
import { createHash } from "node:crypto"

export const partitions = 12
export const gap = 30 * 60_000
export const kept = gap + 60 * 60_000
export const longest = 24 * 60 * 60_000

export interface Click {
  readonly eventId: string
  readonly user: string
  readonly path: string
  readonly at: number
}

/** Numbers from 0 to below 1, the same in every run (mulberry32). */
const generator = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/**
 * Clicks of skewed users over some hours: 3 in 100 are repeats, 1 in 100 is not valid, and event times wander by up to
 * two minutes.
 */
export function* input(count: number): Generator<readonly [key: string, value: string]> {
  const random = generator(1)
  const start = Date.parse("2026-01-01T00:00:00Z")
  const users = Math.max(100, Math.floor(count / 500))
  const recent: Array<readonly [string, string]> = []
  for (let i = 0; i < count; i++) {
    if (recent.length > 0 && random() < 0.03) {
      yield recent[Math.floor(random() * recent.length)]!
      continue
    }
    const user = `user-${Math.floor(users * random() ** 3)}`
    if (random() < 0.01) {
      yield [user, random() < 0.5 ? "{not json" : JSON.stringify({ eventId: `bad-${i}`, user, path: "nowhere", at: 1 })]
      continue
    }
    const at = start + Math.floor(i / count * 4 * 3_600_000) - Math.floor(random() * 120_000)
    const value = JSON.stringify({
      eventId: createHash("md5").update(String(i)).digest("hex"),
      user,
      path: `/articles/${Math.floor(random() * 500)}`,
      at,
      referrer: "https://search.example/results?q=streams",
      agent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    })
    const record = [user, value] as const
    if (recent.length < 5_000) recent.push(record)
    else recent[Math.floor(random() * 5_000)] = record
    yield record
  }
}

export const isClick = (value: unknown): value is Click => {
  if (typeof value !== "object" || value === null) return false
  const { eventId, user, path, at } = value as Record<string, unknown>
  return typeof eventId === "string" && typeof user === "string" && typeof path === "string" && path.startsWith("/") &&
    typeof at === "number" && at >= 0
}

export const sessionId = (key: string, eventId: string): string =>
  createHash("sha256").update(key).update("\0").update(eventId).digest("base64url").slice(0, 22)

export interface Session {
  readonly id: string
  start: number
  last: number
}

/** The session of a click among those of its user, which it joins or begins; undefined where it is too late for one. */
export const joinSession = (
  sessions: Array<Session>,
  streamTime: number,
  key: string,
  click: Click,
): string | undefined => {
  const live = sessions.filter(({ last }) => last >= streamTime - kept)
  let session = live.find(({ start, last }) =>
    click.at >= start - gap && click.at <= last + gap && Math.max(last, click.at) - Math.min(start, click.at) <= longest
  )
  if (session === undefined) {
    if (click.at < streamTime - kept) return undefined
    live.push(session = { id: sessionId(key, click.eventId), start: click.at, last: click.at })
  }
  session.start = Math.min(session.start, click.at)
  session.last = Math.max(session.last, click.at)
  sessions.splice(0, sessions.length, ...live.sort((a, b) => a.start - b.start))
  return session.id
}

export interface Outputs {
  /** Session by event id. */
  readonly enriched: Map<string, string>
  /** Clicks by user and minute. */
  readonly counts: Map<string, number>
  readonly refused: number
}

/** What comes out of records of one partition after the other. */
export const expected = (byPartition: Iterable<Iterable<readonly [key: string, value: string]>>): Outputs => {
  const enriched = new Map<string, string>()
  const counts = new Map<string, number>()
  let refused = 0
  for (const records of byPartition) {
    const seen = new Set<string>()
    const sessions = new Map<string, Array<Session>>()
    let streamTime = -Infinity
    for (const [key, value] of records) {
      let click: unknown
      try {
        click = JSON.parse(value)
      } catch {
        click = undefined
      }
      if (!isClick(click)) {
        refused++
        continue
      }
      streamTime = Math.max(streamTime, click.at)
      if (seen.has(click.eventId)) continue
      seen.add(click.eventId)
      let own = sessions.get(key)
      if (own === undefined) sessions.set(key, own = [])
      const id = joinSession(own, streamTime, key, click)
      if (id === undefined) continue
      enriched.set(click.eventId, id)
      const minute = `${key}@${click.at - click.at % 60_000}`
      counts.set(minute, (counts.get(minute) ?? 0) + 1)
    }
  }
  return { enriched, counts, refused }
}
