/** Rows and positions in one Postgres transaction. */
import { Config, Context, Duration, Effect, Layer, type Scope } from "effect"
import { taskKey } from "../kafka/Assignment.ts"
import { Cluster, type TopicPartition } from "../kafka/Cluster.ts"
import { asPipelineError, moved } from "../kafka/Errors.ts"
import { committedOrStart, metadataOf, partitionsOf } from "../kafka/Positions.ts"
import type { Claim, Committed, Committer, Guarantee, Membership, Plan, Work } from "../Pipeline.ts"
import type * as Pipeline from "../Pipeline.ts"
import { PipelineError } from "../Task.ts"
import * as Outbox from "./PostgresOutbox.ts"
import * as Positions from "./PostgresPositions.ts"
import * as Shown from "./PostgresShown.ts"
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
  /**
   * What makes that a row is there once however often it is written, in words: "table clicks by event_id". Without it,
   * replays in place are refused.
   */
  readonly idempotentBy?: string
}

/**
 * Every row is written exactly once: rows and positions are one database transaction, and the database's positions are
 * the ones that count. Each assignment raises an epoch in the position's row, so that what a previous owner still tries to
 * write is rolled back. Positions are also committed to the group, for tools that show lag, at the latest when the brokers
 * take them again; nothing is read from there once the database has its own.
 *
 * Keeps no changelog: a flow with logged state does not compile with it. Records that routes produce (dead letters) go
 * through the table `millrace_outbox` in the same transaction and are published at least once, in order, with the
 * header `millrace-outbox-id`: `topic-partition-offset-index`, where topic, partition and offset are those of the record
 * that caused it, and index counts what that record caused, from 0. Published twice, a record has the same id.
 *
 * What the brokers refuse for good is logged as an error and stays in the table, with the reason in its column `refused`,
 * while what comes behind it goes on; it is tried again when a program of the group starts. While they do not answer,
 * records wait in the table, and commits do not wait for them.
 */
export const exactlyOnce = <A>(sink: Sink<A>): Guarantee<A, Postgres | Cluster> & { readonly logs: false } => ({
  name: "Postgres.exactlyOnce",
  state: "same",
  writes: "values",
  logs: false,
  open: (plan) => open(plan, sink),
  keeper: (plan) => Effect.flatMap(Postgres, (pool) => Positions.keeper(plan, pool)),
  sink: { name: "Postgres", idempotentBy: sink.idempotentBy },
})

const open = Effect.fnUntraced(function* <A>(
  plan: Plan,
  sink: Sink<A>,
): Effect.fn.Return<Committer<A>, PipelineError, Postgres | Cluster | Scope.Scope> {
  const pool = yield* Postgres
  const { query, transaction } = pool
  const cluster = yield* Cluster
  const topicIds = yield* Positions.idsOf(cluster, plan)
  const epochs = new Map<string, number>()
  let commits = 0

  // Tables that are created at the same time get in each other's way, "if not exists" or not.
  yield* Effect.retry(
    transaction((query) =>
      Effect.andThen(
        query((sql) => sql`select pg_advisory_xact_lock(7203406)`),
        query((sql) => sql.unsafe(Positions.tables + Outbox.tables)),
      ).pipe(
        Effect.andThen(Outbox.reopen(plan, query)),
      )
    ),
    { schedule: patience, while: (error) => error.retriable },
  )
  const outbox = yield* Outbox.open(plan, pool)

  const key = (topic: string, partition: number) => `${topic}/${partition}`

  const shown = yield* Shown.make(cluster, ({ topic }, { memberId }) => {
    const id = topicIds.get(topic)
    return metadataOf({ txn: null, member: memberId, ...id !== undefined && { topic: id } }, [])
  })
  const show = (member: Membership, positions: ReadonlyArray<Shown.Position>) =>
    shown.show({ group: plan.group, ...member }, positions)

  /** By task: commits that were tried since its last known one, each of which may have been carried out. */
  const tried = new Map<string, Map<number, Pipeline.Positions>>()

  const movesOf = ({ task: { partition }, from, positions }: Work<A>) =>
    Array.from(positions, ([topic, next]) => ({
      topic,
      partition,
      old: from.get(topic)!,
      next,
      epoch: epochs.get(key(topic, partition)) ?? -1,
    }))

  /**
   * What of the work is left to do where an earlier try of it was carried out and its answer lost. The rows are locked:
   * what is still on its way to a commit is waited for.
   */
  const unfinished = Effect.fnUntraced(function* (work: ReadonlyArray<Work<A>>, query: Query) {
    const doubtful = work.filter(({ task }) => tried.has(taskKey(task)))
    if (doubtful.length === 0) return work
    const moves = doubtful.flatMap(movesOf)
    const found = yield* query((sql) =>
      sql<Array<Positions.Row>>`select topic_id, partition, next, epoch from millrace_positions
        where "group" = ${plan.group} and (topic_id, partition) in (
          select * from unnest(${moves.map(({ topic }) => topicIds.get(topic)!)}::text[], ${
        moves.map(({ partition }) => partition)
      }::int[])
        ) order by topic_id, partition for update`
    )
    const stands = ({ task: { partition } }: Work<A>, at: Pipeline.Positions) =>
      Array.from(at).every(([topic, next]) =>
        found.some((row) =>
          row.topic_id === topicIds.get(topic) && row.partition === partition && Number(row.next) === next &&
          Number(row.epoch) === epochs.get(key(topic, partition))
        )
      )
    return work.map((one) => {
      const done = Array.from(tried.get(taskKey(one.task)) ?? []).find(([, positions]) => stands(one, positions))
      return done === undefined ? one : { ...one, from: done[1], batches: one.batches.slice(done[0]) }
    })
  })

  const commitTogether = Effect.fnUntraced(function* (work: ReadonlyArray<Work<A>>, member: Membership) {
    yield* transaction(Effect.fnUntraced(function* (query) {
      const left = yield* unfinished(work, query)
      const moves = left.flatMap(movesOf)
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
      const rows = left.flatMap(({ batches }) => batches.flatMap((batch) => batch.values))
      if (rows.length > 0) yield* sink.write(rows, query)
      yield* outbox.add(left.flatMap(Outbox.parcelsOf), query)
      for (const { task, batches, positions } of work) {
        const ofTask = tried.get(taskKey(task)) ?? new Map<number, Pipeline.Positions>()
        // What is tried again begins with what was tried before: its length tells which.
        tried.set(taskKey(task), ofTask.set(batches.length, positions))
      }
    }))
    for (const { task } of work) tried.delete(taskKey(task))
    if (work.some(({ batches }) => batches.some(({ outgoing }) => outgoing.length > 0))) yield* outbox.publish
    yield* show(member, work.flatMap(movesOf))
  })

  /** Only positions that the database does not have come from the group, or from the reset policy. */
  const claimFirst = Effect.fnUntraced(function* (partitions: ReadonlyArray<TopicPartition>) {
    const starts = yield* Effect.mapError(committedOrStart(cluster, plan, partitions, { topicIds }), asPipelineError)
    const rows = starts.toSorted((a, b) => a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : a.partition - b.partition)
    return yield* query((sql) =>
      sql<Array<Positions.Row>>`
        insert into millrace_positions ("group", topic_id, topic, partition, next, epoch)
        select ${plan.group}, topic_id, topic, partition, next, 1
        from unnest(
          ${rows.map(({ topic }) => topicIds.get(topic)!)}::text[], ${rows.map(({ topic }) => topic)}::text[],
          ${rows.map(({ partition }) => partition)}::int[], ${rows.map(({ offset }) => offset)}::bigint[]
        ) as r(topic_id, topic, partition, next)
        on conflict ("group", topic_id, partition) do update set epoch = millrace_positions.epoch + 1
        returning topic_id, partition, next, epoch, replay, replay_below`
    )
  })

  return {
    claim: Effect.fnUntraced(function* (tasks, member) {
      const partitions = tasks.flatMap((task) => partitionsOf(plan, task))
      if (partitions.length === 0) return []
      const raised = yield* query((sql) =>
        sql<Array<Positions.Row>>`
          update millrace_positions p set epoch = p.epoch + 1
          from (
            select topic_id, partition from millrace_positions
            where "group" = ${plan.group} and (topic_id, partition) in (
              select * from unnest(
                ${partitions.map(({ topic }) => topicIds.get(topic)!)}::text[],
                ${partitions.map(({ partition }) => partition)}::int[]
              )
            ) order by topic_id, partition for update
          ) as owned
          where p."group" = ${plan.group} and p.topic_id = owned.topic_id and p.partition = owned.partition
          returning p.topic_id, p.partition, p.next, p.epoch, p.replay, p.replay_below`
      )
      const unknown = partitions.filter(({ topic, partition }) =>
        !raised.some((row) => row.topic_id === topicIds.get(topic) && row.partition === partition)
      )
      const claimed = unknown.length === 0 ? raised : [...raised, ...yield* claimFirst(unknown)]
      const next = new Map<string, number>()
      const replays = new Map<string, Pipeline.Replayed>()
      for (const topic of new Set(partitions.map(({ topic }) => topic))) {
        for (const row of claimed) {
          if (row.topic_id !== topicIds.get(topic)) continue
          next.set(key(topic, row.partition), Number(row.next))
          epochs.set(key(topic, row.partition), Number(row.epoch))
          const replay = Positions.replayOf(row)
          if (replay !== undefined) replays.set(key(topic, row.partition), replay)
        }
      }
      for (const task of tasks) tried.delete(taskKey(task))
      yield* outbox.publishLater
      yield* show(member, partitions.map((one) => ({ ...one, next: next.get(key(one.topic, one.partition))! })))
      return tasks.map((task): Claim => ({
        topicIds,
        positions: new Map(
          partitionsOf(plan, task).map(({ topic, partition }) => [topic, next.get(key(topic, partition))!]),
        ),
        // There is no state to be kept, and no clock: a task that is claimed starts anew at the database's position.
        clocks: new Map(),
        commit: undefined,
        previous: [],
        replays: new Map(
          partitionsOf(plan, task).flatMap(({ topic, partition }) => {
            const replay = replays.get(key(topic, partition))
            return replay === undefined ? [] : [[topic, replay]]
          }),
        ),
      }))
    }),
    commit: Effect.fnUntraced(function* (work, member): Effect.fn.Return<Committed, PipelineError> {
      const commit = `${plan.group}:${++commits}`
      const together = yield* Effect.result(commitTogether(work, member))
      if (together._tag === "Success") return { commit, refused: [] }
      const { failure } = together
      if (!blamesRows(failure)) return yield* failure
      if (work.length === 1) return { commit, refused: [{ task: work[0]!.task, error: failure }] }
      const failed = yield* Effect.forEach(work, (one) =>
        Effect.match(commitTogether([one], member), {
          onSuccess: () => [],
          onFailure: (error) => [{ task: one.task, error }],
        }))
      return {
        commit,
        refused: failed.flat().filter(({ error }) => blamesRows(error)),
        postponed: failed.flat().filter(({ error }) => !blamesRows(error)),
      }
    }),
  }
})

/**
 * The database refuses what was to be written: then every task is tried alone, so that one cannot hold up the others. What
 * passes, and what was taken over, stops nobody.
 */
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
