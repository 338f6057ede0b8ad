/** The tables that the clickstream is stored in, and how they come about. */
import { Clock, Duration, Effect } from "effect"
import { Postgres, type Task } from "../index.ts"

/**
 * Schema migrations in order; each runs once, in one transaction. A prefix names the tables of an import that has topics
 * of its own.
 */
const migrations = (prefix: string): ReadonlyArray<string> => [
  `
create table ${prefix}clicks (
  event_id text primary key,
  kind text not null,
  name text,
  "user" text not null,
  user_id text,
  anonymous_id text,
  event_time timestamptz not null,
  time_rule text not null,
  received_at timestamptz not null,
  url text,
  path text,
  title text,
  referrer_host text,
  campaign_source text,
  campaign_medium text,
  campaign_name text,
  campaign_term text,
  campaign_content text,
  browser text,
  os text,
  device text,
  bot boolean not null,
  source text not null,
  session_id text not null,
  session_number int not null,
  first_page text
);
create index on ${prefix}clicks (event_time);
create index on ${prefix}clicks (received_at);

create table ${prefix}clicks_per_minute (
  "user" text not null,
  minute timestamptz not null,
  clicks int not null,
  final boolean not null,
  primary key ("user", minute)
);
create index on ${prefix}clicks_per_minute (minute);

create table ${prefix}sessions (
  session_id text primary key,
  "user" text not null,
  started_at timestamptz not null,
  last_at timestamptz not null,
  clicks int not null,
  first_page text,
  last_page text
);
create index on ${prefix}sessions (last_at);

create table ${prefix}identities (
  identity text primary key,
  event_id text not null,
  kind text not null,
  user_id text,
  anonymous_id text,
  previous_id text,
  group_id text,
  traits jsonb not null,
  at timestamptz not null
);

create table ${prefix}dead_letters (
  topic text not null,
  partition int not null,
  "offset" bigint not null,
  reason text not null,
  field text not null,
  message text not null,
  program text not null,
  original_topic text,
  original_partition int,
  original_offset bigint,
  at timestamptz not null,
  primary key (topic, partition, "offset")
);
create index on ${prefix}dead_letters (at);
`,
  // A topic that is deleted and made again, as one in memory is at every start, begins again at offset 0.
  `
alter table ${prefix}dead_letters
  drop constraint ${prefix}dead_letters_pkey,
  add primary key (topic, partition, "offset", at);
`,
  // What was left out of a click under load: to be found, and made up for.
  `
alter table ${prefix}clicks add column skipped text;
create index on ${prefix}clicks (event_time) where skipped is not null;
`,
]

/** Brings the tables up to date. Programs that start at the same time wait for each other. */
export const migrate = (
  prefix = "",
): Effect.Effect<void, Task.PipelineError, Postgres.Postgres> =>
  Effect.gen(function* () {
    const { transaction } = yield* Postgres.Postgres
    yield* transaction(Effect.fnUntraced(function* (query) {
      yield* query((sql) => sql`select pg_advisory_xact_lock(7203405)`)
      yield* query((sql) =>
        sql`create table if not exists millrace_migrations (
          application text not null, version int not null, at timestamptz not null default now(),
          primary key (application, version))`
      )
      const application = `clickstream${prefix}`
      const done = yield* query((sql) =>
        sql<Array<{ readonly version: number }>>`
          select version from millrace_migrations where application = ${application}`
      )
      for (const [version, text] of migrations(prefix).entries()) {
        if (done.some((row) => row.version === version)) continue
        yield* query((sql) => sql.unsafe(text))
        yield* query((sql) =>
          sql`insert into millrace_migrations (application, version) values (${application}, ${version})`
        )
      }
    }))
  })

/**
 * Deletes what is older than `age`, by arrival or last change, and of the clicks all but the latest `clicks`; then gives
 * the room back for new rows. For databases that are to stay small.
 */
export const prune = (
  { age, clicks }: { readonly age: Duration.Input; readonly clicks: number },
  prefix = "",
): Effect.Effect<void, Task.PipelineError, Postgres.Postgres> =>
  Effect.gen(function* () {
    const { query } = yield* Postgres.Postgres
    const before = new Date((yield* Clock.currentTimeMillis) - Duration.toMillis(age)).toISOString()
    const old: ReadonlyArray<readonly [table: string, column: string]> = [
      ["clicks", "received_at"],
      ["clicks_per_minute", "minute"],
      ["sessions", "last_at"],
      ["identities", "at"],
      ["dead_letters", "at"],
    ]
    yield* query((sql) =>
      sql.unsafe(
        `delete from ${prefix}clicks where received_at <
          (select received_at from ${prefix}clicks order by received_at desc offset $1 limit 1)`,
        [clicks],
      )
    )
    for (const [table, column] of old) {
      yield* query((sql) => sql.unsafe(`delete from ${prefix}${table} where ${column} < $1`, [before]))
      yield* query((sql) => sql.unsafe(`vacuum ${prefix}${table}`))
    }
    // An embedded database has nobody else to do it, and keeps its log until then.
    yield* query((sql) => sql`checkpoint`)
  })
