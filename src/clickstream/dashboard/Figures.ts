/** What the dashboard shows, as read from the tables and from the consumer groups. */
import { Clock, Duration, Effect, Option } from "effect"
import { type Kafka, Postgres, type Task } from "../../index.ts"
import { tablePrefix } from "../Names.ts"
import * as Lag from "./Lag.ts"

export interface Options {
  /** Stands in front of topics and tables. */
  readonly prefix: string
  /** The silence that ends a session. */
  readonly sessionGap: Duration.Duration
}

/** Figures that change every second. Times are milliseconds since 1970. */
export interface Current {
  readonly at: number
  /** Clicks per minute of event time over the last hour; minutes without clicks are left out. */
  readonly minutes: ReadonlyArray<readonly [minute: number, clicks: number]>
  /** Clicks of the 59 full minutes an hour before the last 59 full ones; null where there was no such hour yet. */
  readonly before: number | null
  /** Clicks stored since the database began to count. */
  readonly stored: number
  readonly activeSessions: number
  readonly sessionGap: number
  /** The first and the newest minute that have clicks, however long ago. */
  readonly first: number | null
  readonly newest: number | null
}

/** Figures that take longer to find and change more slowly. */
export interface Slow {
  readonly at: number
  readonly users: ReadonlyArray<readonly [user: string, clicks: number]>
  readonly pages: ReadonlyArray<readonly [path: string, clicks: number]>
  /** Of the last 24 hours, by reason. */
  readonly deadLetters: ReadonlyArray<readonly [reason: string, letters: number]>
  /** Clicks of the last 24 hours that were too late for a session or a minute. */
  readonly late: number
  /** Null where Kafka did not answer. */
  readonly lag: ReadonlyArray<Lag.Lag> | null
}

const minute = 60_000
const hour = 60 * minute

export const current = Effect.fn("Figures.current")(function* (
  { prefix, sessionGap }: Options,
): Effect.fn.Return<Current, Task.PipelineError, Postgres.Postgres> {
  const { query } = yield* Postgres.Postgres
  const at = yield* Clock.currentTimeMillis
  const time = (ago: number) => new Date(at - ago).toISOString()
  const table = tables(prefix)
  const gap = Duration.toMillis(sessionGap)
  // What is stored is taken from the database's own statistics: counting a large table takes too long, and the arrival of
  // clicks says nothing of how fast a backlog is stored.
  const [row] = yield* query((sql) =>
    sql<Array<{ minutes: Current["minutes"] | null; before: number } & Record<Numbers, string | null>>>`
      select
        (select json_agg(json_build_array(minute, clicks) order by minute) from (
          select (extract(epoch from minute) * 1000)::bigint as minute, sum(clicks)::int as clicks
          from ${sql(table.counts)} where minute > ${time(hour)} and minute <= ${time(0)} group by 1
        ) m) as minutes,
        (select coalesce(sum(clicks), 0)::int from ${sql(table.counts)}
          where minute > ${time(2 * hour - minute)} and minute <= ${time(hour)}) as before,
        pg_stat_get_tuples_inserted(${table.clicks}::regclass) as stored,
        (select count(*) from ${sql(table.sessions)} where last_at > ${time(gap)}) as sessions,
        (select (extract(epoch from min(minute)) * 1000)::bigint from ${sql(table.counts)}) as first,
        (select (extract(epoch from max(minute)) * 1000)::bigint from ${sql(table.counts)}) as newest`
  )
  const { minutes, before, stored, sessions, first, newest } = row!
  return {
    at,
    minutes: minutes ?? [],
    before: first === null || Number(first) > at - 2 * hour ? null : before,
    stored: Number(stored),
    activeSessions: Number(sessions),
    sessionGap: gap,
    first: first === null ? null : Number(first),
    newest: newest === null ? null : Number(newest),
  }
})

/** 64 bits wide, which the driver gives as text. */
type Numbers = "stored" | "sessions" | "first" | "newest"

export const slow = Effect.fn("Figures.slow")(function* (
  { prefix }: Options,
): Effect.fn.Return<Slow, Task.PipelineError, Postgres.Postgres | Kafka.Cluster> {
  const { query } = yield* Postgres.Postgres
  const at = yield* Clock.currentTimeMillis
  const time = (ago: number) => new Date(at - ago).toISOString()
  const table = tables(prefix)
  const users = yield* query((sql) =>
    sql<Array<{ user: string; clicks: number }>>`
      select "user", sum(clicks)::int as clicks from ${sql(table.counts)}
      where minute > ${time(hour / 4)} group by 1 order by 2 desc, 1 limit 8`
  )
  const pages = yield* query((sql) =>
    sql<Array<{ path: string; clicks: number }>>`
      select path, count(*)::int as clicks from ${sql(table.clicks)}
      where event_time > ${time(hour / 4)} and path is not null group by 1 order by 2 desc, 1 limit 8`
  )
  const letters = yield* query((sql) =>
    sql<Array<{ reason: string; letters: number }>>`
      select reason, count(*)::int as letters from ${sql(table.deadLetters)}
      where at > ${time(24 * hour)} group by 1 order by 2 desc, 1`
  )
  const lag = yield* Effect.option(Lag.read(prefix))
  return {
    at,
    users: users.map(({ user, clicks }) => [user, clicks] as const),
    pages: pages.map(({ path, clicks }) => [path, clicks] as const),
    deadLetters: letters.filter(({ reason }) => reason !== "Late").map(({ reason, letters }) =>
      [reason, letters] as const
    ),
    late: letters.find(({ reason }) => reason === "Late")?.letters ?? 0,
    lag: Option.getOrNull(lag),
  }
})

const tables = (prefix: string) => {
  const inFront = tablePrefix({ prefix })
  return {
    clicks: `${inFront}clicks`,
    counts: `${inFront}clicks_per_minute`,
    sessions: `${inFront}sessions`,
    deadLetters: `${inFront}dead_letters`,
  }
}
