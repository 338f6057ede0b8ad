/** From topics to tables: rows and positions in one transaction. */
import { Effect } from "effect"
import { type Naming, topics } from "../../schemas/index.ts"
import { DeadLetter, Decode, Failures, Flow, Ingest, merge, Pipeline, Postgres } from "../index.ts"
import { pipelines, tablePrefix } from "./Names.ts"
import * as Rows from "./Rows.ts"
import { clean, storable } from "./Storable.ts"

/** The pipelines that fill the tables, one per table: each at its own pace, and none held up by another. */
export const store = (naming: Naming) => {
  const { enriched, counts, sessions, identities, dlt, late } = topics(naming)
  const names = pipelines(naming)
  const into = tables(tablePrefix(naming))
  const routes = { DecodeError: DeadLetter.to(dlt) }
  const refused = Ingest.topic(dlt).pipe(
    Decode.schema,
    merge(Ingest.topic(late).pipe(Decode.schema), { idle: "1 second" }),
  )
  return [
    Pipeline.make(
      names.storeClicks,
      Ingest.topic(enriched).pipe(Decode.schema, Failures.route(routes)),
      Postgres.exactlyOnce(into.clicks),
    ),
    Pipeline.make(
      names.storeCounts,
      Ingest.topic(counts).pipe(Decode.schema, Failures.route(routes)),
      Postgres.exactlyOnce(into.counts),
    ),
    Pipeline.make(
      names.storeSessions,
      Ingest.topic(sessions).pipe(Decode.schema, Failures.route(routes)),
      Postgres.exactlyOnce(into.sessions),
    ),
    Pipeline.make(
      names.storeIdentities,
      Ingest.topic(identities).pipe(Decode.schema, Failures.route(routes)),
      Postgres.exactlyOnce(into.identities),
    ),
    Pipeline.make(
      names.storeDeadLetters,
      // Bytes always decode: a failure here would be a mistake of ours, and dead letters have no dead letters.
      refused.pipe(Flow.map(Rows.deadLetter), Failures.route({ DecodeError: Failures.stop })),
      Postgres.exactlyOnce(into.deadLetters),
    ),
  ] as const
}

/** What writes the rows of each table. */
export const tables = (prefix: string) => ({
  clicks: table(`${prefix}clicks`, "event_id", Rows.click, "on conflict (event_id) do nothing"),
  counts: table(
    `${prefix}clicks_per_minute`,
    "user and minute",
    Rows.count,
    `on conflict ("user", minute) do update set clicks = excluded.clicks, final = excluded.final`,
    ({ user, minute }) => `${minute} ${user}`,
  ),
  sessions: table(
    `${prefix}sessions`,
    "session_id",
    Rows.session,
    `on conflict (session_id) do update set "user" = excluded."user", started_at = excluded.started_at,
      last_at = excluded.last_at, clicks = excluded.clicks, first_page = excluded.first_page,
      last_page = excluded.last_page`,
    ({ id }) => id,
  ),
  identities: table(
    `${prefix}identities`,
    "identity",
    Rows.identity,
    `on conflict (identity) do update set event_id = excluded.event_id, anonymous_id = excluded.anonymous_id,
      traits = excluded.traits, at = excluded.at`,
    ({ id }) => id,
  ),
  deadLetters: table(
    `${prefix}dead_letters`,
    "topic, partition, offset and time",
    (row: Rows.DeadLetter) => row,
    `on conflict (topic, partition, "offset", at) do nothing`,
  ),
})

/** Of rows with one key, as it is stored, the last is written: a statement cannot change a row twice. */
const table = <A>(
  name: string,
  /** What its rows are unique by. */
  key: string,
  row: (value: A) => object,
  onConflict: string,
  keyOf?: (value: A) => string,
): Postgres.Sink<A> => ({
  idempotentBy: `table ${name} by ${key}`,
  write: (values, query) => {
    const chosen = keyOf === undefined ? values : new Map(values.map((value) => [clean(keyOf(value)), value])).values()
    const rows = storable(Array.from(chosen, row))
    return Effect.asVoid(query((sql) =>
      sql.unsafe(
        `insert into ${name} select * from jsonb_populate_recordset(null::${name}, $1::text::jsonb) ${onConflict}`,
        [rows],
      )
    ))
  },
})
