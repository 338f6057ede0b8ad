/** What the dashboard shows, as read from the tables and from the consumer groups. */
import { Clock, Effect } from "effect"
import { Admin, type Kafka, Postgres, type Task } from "../../index.ts"
import { pipelines, tablePrefix } from "../Names.ts"

/** Figures that change every second. Times are milliseconds since 1970. */
export interface Current {
  readonly at: number
  /** Clicks per minute of event time over the last hour; minutes without clicks are left out. */
  readonly minutes: ReadonlyArray<readonly [minute: number, clicks: number]>
  /** Stored per second, over the last ten seconds. */
  readonly rate: number
  readonly activeSessions: number
  /** The newest minute that has clicks, however long ago. */
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
  /** Records not yet processed, per group and topic; null where Kafka did not answer. */
  readonly lag: ReadonlyArray<{ readonly group: string; readonly topic: string; readonly records: number }> | null
}

const minute = 60_000
const hour = 60 * minute

export const current = Effect.fn("Figures.current")(function* (
  prefix: string,
): Effect.fn.Return<Current, Task.PipelineError, Postgres.Postgres> {
  const { query } = yield* Postgres.Postgres
  const at = yield* Clock.currentTimeMillis
  const time = (ago: number) => new Date(at - ago).toISOString()
  const table = tables(prefix)
  const [row] = yield* query((sql) =>
    sql<Array<{ minutes: Current["minutes"] | null; stored: number; sessions: number; newest: string | null }>>`
      select
        (select json_agg(json_build_array(minute, clicks) order by minute) from (
          select (extract(epoch from minute) * 1000)::bigint as minute, sum(clicks)::int as clicks
          from ${sql(table.counts)} where minute > ${time(hour)} and minute <= ${time(0)} group by 1
        ) m) as minutes,
        (select count(*)::int from ${sql(table.clicks)} where received_at > ${time(10_000)}) as stored,
        (select count(*)::int from ${sql(table.sessions)} where last_at > ${time(hour / 2)}) as sessions,
        (select (extract(epoch from max(minute)) * 1000)::bigint from ${sql(table.counts)}) as newest`
  )
  return {
    at,
    minutes: row!.minutes ?? [],
    rate: row!.stored / 10,
    activeSessions: row!.sessions,
    newest: row!.newest === null ? null : Number(row!.newest),
  }
})

export const slow = Effect.fn("Figures.slow")(function* (
  prefix: string,
): Effect.fn.Return<Slow, Task.PipelineError, Postgres.Postgres | Kafka.Cluster> {
  const { query } = yield* Postgres.Postgres
  const at = yield* Clock.currentTimeMillis
  const time = (ago: number) => new Date(at - ago).toISOString()
  const table = tables(prefix)
  const users = yield* query((sql) =>
    sql<Array<{ user: string; clicks: number }>>`
      select "user", sum(clicks)::int as clicks from ${sql(table.counts)}
      where minute > ${time(hour / 4)} group by 1 order by 2 desc, 1 limit 10`
  )
  const pages = yield* query((sql) =>
    sql<Array<{ path: string; clicks: number }>>`
      select path, count(*)::int as clicks from ${sql(table.clicks)}
      where event_time > ${time(hour / 4)} and path is not null group by 1 order by 2 desc, 1 limit 10`
  )
  const letters = yield* query((sql) =>
    sql<Array<{ reason: string; letters: number }>>`
      select reason, count(*)::int as letters from ${sql(table.deadLetters)}
      where at > ${time(24 * hour)} group by 1 order by 2 desc, 1`
  )
  const lag = yield* Effect.option(Admin.lag(Object.values(pipelines({ prefix }))))
  return {
    at,
    users: users.map(({ user, clicks }) => [user, clicks] as const),
    pages: pages.map(({ path, clicks }) => [path, clicks] as const),
    deadLetters: letters.filter(({ reason }) => reason !== "Late").map(({ reason, letters }) =>
      [reason, letters] as const
    ),
    late: letters.find(({ reason }) => reason === "Late")?.letters ?? 0,
    lag: lag._tag === "None" ? null : byTopic(lag.value),
  }
})

const byTopic = (lags: ReadonlyArray<Admin.Lag>): NonNullable<Slow["lag"]> => {
  const sums = new Map<string, { group: string; topic: string; records: number }>()
  for (const { group, topic, records } of lags) {
    const key = `${group} ${topic}`
    const sum = sums.get(key)
    if (sum === undefined) sums.set(key, { group, topic, records })
    else sum.records += records
  }
  return [...sums.values()].sort((a, b) => a.group < b.group ? -1 : a.group > b.group ? 1 : a.topic < b.topic ? -1 : 1)
}

const tables = (prefix: string) => {
  const inFront = tablePrefix({ prefix })
  return {
    clicks: `${inFront}clicks`,
    counts: `${inFront}clicks_per_minute`,
    sessions: `${inFront}sessions`,
    deadLetters: `${inFront}dead_letters`,
  }
}
