/** Rows and positions in one Postgres transaction. */
import { Clock, Config, Context, Duration, Effect, Layer, type Scope } from "effect"
import type { Outgoing } from "../Batch.ts"
import { Cluster, type GroupIdentity } from "../kafka/Cluster.ts"
import type { ProducerRecord } from "../kafka/Delivery.ts"
import { asPipelineError, moved } from "../kafka/Errors.ts"
import * as Leaders from "../kafka/Leaders.ts"
import { committedOrStart, partitionsOf } from "../kafka/Positions.ts"
import { patiently } from "../kafka/Retry.ts"
import * as Writer from "../kafka/Writer.ts"
import type { Claim, Committed, Committer, Guarantee, Membership, Plan, Work } from "../Pipeline.ts"
import { PipelineError } from "../Task.ts"
import { make, type Options, patience, type Pool, type Query, type Sql } from "./PostgresPool.ts"

export type { Options, Query, Sql }

/** A pool of connections to one database. */
export class Postgres extends Context.Service<Postgres, Pool>()("millrace/sinks/Postgres") {}

export const layer = (options: Options): Layer.Layer<Postgres, PipelineError> => Layer.effect(Postgres, make(options))

/** `DATABASE_URL`, `DATABASE_CONNECTIONS` (4) and `DATABASE_LOCK_TIMEOUT` (5 seconds). */
export const layerConfig = Layer.unwrap(Effect.map(
  Config.all({
    url: Config.Redacted("DATABASE_URL"),
    connections: Config.Int("DATABASE_CONNECTIONS").pipe(Config.withDefault(4)),
    lockTimeout: Config.Duration("DATABASE_LOCK_TIMEOUT").pipe(Config.withDefault(Duration.seconds(5))),
  }),
  layer,
))

export interface Sink<in A> {
  /**
   * Writes rows in the transaction that also moves the positions. May be called again for the same rows after a
   * rollback, never after a commit.
   */
  write(rows: ReadonlyArray<A>, query: Query): Effect.Effect<void, PipelineError>
}

/**
 * Every row is written exactly once: rows and positions are one database transaction, and the database's positions are
 * the ones that count. Each assignment raises an epoch in the position's row, so that what a previous owner still tries to
 * write is rolled back. Positions are also committed to the group, for tools that show lag; nothing is read from there
 * once the database has its own.
 *
 * Keeps no changelog: a flow with logged state does not compile with it. Records that routes produce (dead letters) go
 * through the table `millrace_outbox` in the same transaction and are published at least once, in order, with the
 * header `millrace-outbox-id` set to topic-partition-offset of the record that caused them. What the brokers refuse for
 * good stays in the table with the reason in `refused`; set it to null to have it tried again.
 */
export const exactlyOnce = <A>(sink: Sink<A>): Guarantee<A, Postgres | Cluster> & { readonly logs: false } => ({
  name: "Postgres.exactlyOnce",
  state: "same",
  writes: "values",
  logs: false,
  open: (plan) => open(plan, sink),
})

const open = Effect.fnUntraced(function* <A>(
  plan: Plan,
  sink: Sink<A>,
): Effect.fn.Return<Committer<A>, PipelineError, Postgres | Cluster | Scope.Scope> {
  const { query, transaction } = yield* Postgres
  const cluster = yield* Cluster
  const topicIds = yield* idsOf(cluster, plan)
  const epochs = new Map<string, number>()
  const outbox = yield* openOutbox(plan)
  let commits = 0

  // Tables that are created at the same time get in each other's way, "if not exists" or not.
  yield* Effect.retry(
    transaction((query) =>
      Effect.andThen(query((sql) => sql`select pg_advisory_xact_lock(7203406)`), query((sql) => sql.unsafe(tables)))
    ),
    { schedule: patience, while: (error) => error.retriable },
  )

  const identity = ({ generation, memberId }: Membership): GroupIdentity => ({
    group: plan.group,
    generation,
    memberId,
  })
  const key = (topic: string, partition: number) => `${topic}/${partition}`

  /** For tools that show lag: a failure here changes nothing, the next commit tries again. */
  const show = (
    member: Membership,
    work: ReadonlyArray<{ readonly topic: string; readonly partition: number; readonly next: number }>,
  ) =>
    Effect.ignore(cluster.offsetCommit(
      identity(member),
      work.map(({ topic, partition, next }) => ({ topic, partition, offset: next, metadata: "" })),
    ))

  const commitTogether = Effect.fnUntraced(function* (work: ReadonlyArray<Work<A>>, member: Membership) {
    const moves = work.flatMap(({ task: { partition }, from, positions }) =>
      Array.from(positions, ([topic, next]) => ({
        topic,
        partition,
        old: from.get(topic)!,
        next,
        epoch: epochs.get(key(topic, partition)) ?? -1,
      }))
    )
    yield* transaction(Effect.fnUntraced(function* (query) {
      const moved = yield* query((sql) =>
        sql`update millrace_positions p set next = m.next, moved_at = now()
          from unnest(
            ${moves.map(({ topic }) => topicIds.get(topic)!)}::text[], ${
          moves.map(({ partition }) => partition)
        }::int[],
            ${moves.map(({ old }) => old)}::bigint[], ${moves.map(({ next }) => next)}::bigint[],
            ${moves.map(({ epoch }) => epoch)}::bigint[]
          ) as m(topic_id, partition, old, next, epoch)
          where p."group" = ${plan.group} and p.topic_id = m.topic_id and p.partition = m.partition
            and p.next = m.old and p.epoch = m.epoch`
      )
      if (moved.count !== moves.length) return yield* fenced(plan)
      const rows = work.flatMap(({ batches }) => batches.flatMap((batch) => batch.values))
      if (rows.length > 0) yield* sink.write(rows, query)
      yield* outbox.add(work.flatMap(outgoingOf), query)
    })).pipe(
      Effect.catchIf(
        // The connection broke: whether the commit was carried out stands in the positions themselves.
        (error) => error.reason === "Sink" && error.retriable,
        (error) =>
          Effect.flatMap(positionsAre(query, plan, topicIds, moves), (done) => done ? Effect.void : Effect.fail(error)),
      ),
    )
    yield* outbox.publish
    yield* show(member, moves)
  })

  return {
    claim: Effect.fnUntraced(function* (tasks, member) {
      const partitions = tasks.flatMap((task) => partitionsOf(plan, task))
      if (partitions.length === 0) return []
      const starts = yield* Effect.mapError(committedOrStart(cluster, plan, partitions), asPipelineError)
      const rows = starts.toSorted((a, b) => a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : a.partition - b.partition)
      const claimed = yield* query((sql) =>
        sql<
          Array<
            { readonly topic_id: string; readonly partition: number; readonly next: string; readonly epoch: string }
          >
        >`
          insert into millrace_positions ("group", topic_id, topic, partition, next, epoch)
          select ${plan.group}, topic_id, topic, partition, next, 1
          from unnest(
            ${rows.map(({ topic }) => topicIds.get(topic)!)}::text[], ${rows.map(({ topic }) => topic)}::text[],
            ${rows.map(({ partition }) => partition)}::int[], ${rows.map(({ offset }) => offset)}::bigint[]
          ) as r(topic_id, topic, partition, next)
          on conflict ("group", topic_id, partition) do update set epoch = millrace_positions.epoch + 1
          returning topic_id, partition, next, epoch`
      )
      const next = new Map<string, number>()
      for (const { topic } of starts) {
        for (const row of claimed) {
          if (row.topic_id !== topicIds.get(topic)) continue
          next.set(key(topic, row.partition), Number(row.next))
          epochs.set(key(topic, row.partition), Number(row.epoch))
        }
      }
      yield* outbox.publish
      yield* show(member, partitions.map((one) => ({ ...one, next: next.get(key(one.topic, one.partition))! })))
      return tasks.map((task): Claim => ({
        positions: new Map(
          partitionsOf(plan, task).map(({ topic, partition }) => [topic, next.get(key(topic, partition))!]),
        ),
        // There is no state to be kept, and no clock: a task that is claimed starts anew at the database's position.
        clocks: new Map(),
        commit: undefined,
        previous: undefined,
      }))
    }),
    commit: Effect.fnUntraced(function* (work, member): Effect.fn.Return<Committed, PipelineError> {
      const commit = `${plan.group}:${++commits}`
      const together = yield* Effect.result(commitTogether(work, member))
      if (together._tag === "Success") return { commit, refused: [] }
      if (work.length === 1 && blamesRows(together.failure)) {
        return { commit, refused: [{ task: work[0]!.task, error: together.failure }] }
      }
      if (!blamesRows(together.failure)) return yield* together.failure
      const refused = yield* Effect.forEach(
        work,
        (one) =>
          Effect.map(
            Effect.result(commitTogether([one], member)),
            (result) => result._tag === "Success" ? [] : [{ task: one.task, error: result.failure }],
          ),
      )
      return { commit, refused: refused.flat() }
    }),
  }
})

/** The database refuses what was to be written: then every task is tried alone, so that one cannot hold up the others. */
const blamesRows = (error: PipelineError): boolean => error.reason === "Sink" && !error.retriable

const fenced = (plan: Plan): PipelineError =>
  moved(
    plan,
    new PipelineError({
      reason: "Fenced",
      retriable: true,
      message: "positions in the database were moved or claimed by another process",
    }),
  )

const positionsAre = (
  query: Query,
  plan: Plan,
  topicIds: ReadonlyMap<string, string>,
  moves: ReadonlyArray<
    { readonly topic: string; readonly partition: number; readonly next: number; readonly epoch: number }
  >,
): Effect.Effect<boolean, PipelineError> =>
  Effect.map(
    query((sql) =>
      sql<
        Array<{ readonly topic_id: string; readonly partition: number; readonly next: string; readonly epoch: string }>
      >`
      select topic_id, partition, next, epoch from millrace_positions where "group" = ${plan.group}`
    ),
    (rows) =>
      moves.every(({ topic, partition, next, epoch }) =>
        rows.some((row) =>
          row.topic_id === topicIds.get(topic) && row.partition === partition && Number(row.next) === next &&
          Number(row.epoch) === epoch
        )
      ),
  )

const idsOf = (cluster: Cluster["Service"], plan: Plan): Effect.Effect<ReadonlyMap<string, string>, PipelineError> =>
  patiently(cluster.metadata(plan.flows.flatMap(({ reads }) => reads.map(({ name }) => name))), 30_000).pipe(
    Effect.map(({ topics }) => new Map(topics.map(({ topic, id }) => [topic, id]))),
    Effect.mapError(asPipelineError),
  )

/** A record on its way through the outbox. */
interface Parcel {
  readonly id: string
  readonly out: Outgoing
}

const outgoingOf = ({ batches }: Work): ReadonlyArray<Parcel> =>
  batches.flatMap(({ source, outgoing }) =>
    outgoing.map((out) => ({ id: `${source.topic.name}-${source.partition}-${source.offsets[out.row]}`, out }))
  )

/** Opened with the pipeline; its producer only when there is something to publish. */
const openOutbox = Effect.fnUntraced(function* (plan: Plan) {
  const { transaction } = yield* Postgres
  const cluster = yield* Cluster
  const writes = plan.flows.some((flow) => flow.writes.length > 0)
  if (!writes) return { add: () => Effect.void, publish: Effect.void }
  const writer = yield* Writer.make(cluster, yield* Leaders.make, {
    transactionalId: null,
    transactionTimeout: 60_000,
    deliveryTimeout: 30_000,
    requestTimeout: 30_000,
    compression: "none",
    maxBatchBytes: 1_000_000,
    limits: Writer.limitsOf(plan),
  }).pipe(Effect.mapError(asPipelineError))
  type Stored = {
    readonly seq: string
    readonly id: string
    readonly topic: string
    readonly partition: number | null
    readonly key: Uint8Array | null
    readonly value: Uint8Array | null
    readonly headers: ReadonlyArray<readonly [string, string]>
  }
  const recordOf = (one: Stored): ProducerRecord => ({
    topic: one.topic,
    ...(one.partition === null ? {} : { partition: one.partition }),
    key: one.key,
    value: one.value,
    headers: [
      ...one.headers.map(([name, value]) => [name, Buffer.from(value, "base64")] as const),
      ["millrace-outbox-id", Buffer.from(one.id)],
    ],
  })
  /** The first error, if any. */
  const write = (stored: ReadonlyArray<Stored>) =>
    Effect.map(
      Effect.mapError(writer.write(stored.map(recordOf), () => Effect.void), asPipelineError),
      ([failed]) => failed === undefined ? undefined : asPipelineError(failed.error),
    )
  let waitUntil = -Infinity

  const publishAll = Effect.fnUntraced(function* (query: Query): Effect.fn.Return<void, PipelineError> {
    for (;;) {
      const stored = yield* query((sql) =>
        sql<
          Array<Stored>
        >`select seq, id, topic, partition, key, value, headers::jsonb as headers from millrace_outbox
          where "group" = ${plan.group} and refused is null order by seq limit 500 for update`
      )
      if (stored.length === 0) return
      const refused = new Map<Stored, PipelineError>()
      if ((yield* write(stored)) !== undefined) {
        for (const one of stored) {
          const error = yield* write([one])
          if (error?.retriable) return yield* error
          if (error !== undefined) refused.set(one, error)
        }
      }
      for (const [{ seq, id, topic }, { message }] of refused) {
        yield* query((sql) => sql`update millrace_outbox set refused = ${message} where seq = ${seq}::bigint`)
        yield* Effect.logError(
          `group ${plan.group}: ${id} in the outbox cannot be written to topic ${topic}: ${message}`,
        )
      }
      const published = stored.filter((one) => !refused.has(one)).map(({ seq }) => seq)
      yield* query((sql) => sql`delete from millrace_outbox where seq = any(${published}::bigint[])`)
    }
  })

  return {
    add: (parcels: ReadonlyArray<Parcel>, query: Query): Effect.Effect<void, PipelineError> =>
      Effect.forEach(
        parcels,
        ({ id, out }) =>
          query((sql) =>
            sql`insert into millrace_outbox ("group", id, topic, partition, key, value, headers) values (
            ${plan.group}, ${id}, ${out.topic}, ${out.partition ?? null}, ${out.key as Buffer | null},
            ${out.value as Buffer | null}, ${headersText(out)})`
          ),
        { discard: true },
      ),
    publish: Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      if (now < waitUntil) return
      yield* Effect.catch(transaction(publishAll), (error) => {
        if (error.reason === "Kafka") waitUntil = now + outboxPause
        return Effect.logWarning(`group ${plan.group}: the outbox is not empty and will be published later`, error)
      })
    }),
  }
})

const headersText = ({ headers }: Outgoing): string =>
  JSON.stringify((headers ?? []).map(([name, value]) => [name, Buffer.from(value).toString("base64")]))

const tables = `
create table if not exists millrace_positions (
  "group" text not null,
  topic_id text not null,
  topic text not null,
  partition int not null,
  next bigint not null,
  epoch bigint not null,
  moved_at timestamptz not null default now(),
  primary key ("group", topic_id, partition)
);
create table if not exists millrace_outbox (
  seq bigserial primary key,
  "group" text not null,
  id text not null,
  topic text not null,
  partition int,
  key bytea,
  value bytea,
  headers text not null,
  -- why the brokers will never take it: it stays here, and others pass it
  refused text
);
alter table millrace_outbox add column if not exists refused text;`

/** How long nothing is published after brokers did not answer, in milliseconds: commits do not wait for it each time. */
const outboxPause = 30_000
