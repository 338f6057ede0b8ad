/** Positions in the database, and moving them from outside of the pipeline. */
import { Data, Effect } from "effect"
import { Cluster, KafkaError, type TopicMetadata } from "../kafka/Cluster.ts"
import { asPipelineError } from "../kafka/Errors.ts"
import { patiently } from "../kafka/Retry.ts"
import type { Keeper, Kept, Move, Plan, Replayed } from "../Pipeline.ts"
import type { PipelineError } from "../Task.ts"
import type { Pool } from "./PostgresPool.ts"

/** A position as the database has it. */
export interface Row {
  readonly topic_id: string
  readonly partition: number
  readonly next: string
  readonly epoch: string
  readonly replay: string | null
  readonly replay_below: string | null
}

/** The replay that a position is in or was moved by. */
export const replayOf = ({ replay, replay_below: below }: Row): Replayed | undefined =>
  replay === null || below === null ? undefined : { id: replay, below: Number(below) }

/** By name, the ids of the topics that a pipeline reads: a topic that is made anew begins without positions. */
export const idsOf = (
  cluster: Cluster["Service"],
  plan: Plan,
): Effect.Effect<ReadonlyMap<string, string>, PipelineError> => {
  const names = [...new Set(plan.flows.flatMap(({ reads }) => reads.map(({ name }) => name)))]
  const asked = Effect.flatMap(cluster.metadata(names), ({ topics }) => {
    const ids = new Map(topics.flatMap(({ topic, id }) => id === "" ? [] : [[topic, id]]))
    const missing = names.find((name) => !ids.has(name))
    return missing === undefined ? Effect.succeed(ids) : Effect.fail(unnamed(missing, topics))
  })
  return Effect.mapError(patiently(asked, 30_000), asPipelineError)
}

/** A broker that has not heard of a topic yet, or one that is older than ids are. */
const unnamed = (topic: string, all: ReadonlyArray<TopicMetadata>): KafkaError =>
  new KafkaError({
    code: all.find((one) => one.topic === topic)?.error ?? "UNKNOWN_TOPIC_OR_PARTITION",
    operation: "Metadata",
    message: `the brokers do not tell the id of topic ${topic}, and positions in the database are by id`,
  })

/** Moves positions, and raises their epochs: what a process still writes that had claimed them is rolled back. */
export const keeper = Effect.fnUntraced(function* (
  plan: Plan,
  { query, transaction }: Pool,
): Effect.fn.Return<Keeper, PipelineError, Cluster> {
  const ids = yield* idsOf(yield* Cluster, plan)
  const names = new Map(Array.from(ids, ([name, id]) => [id, name]))
  yield* transaction((query) =>
    Effect.andThen(
      query((sql) => sql`select pg_advisory_xact_lock(7203406)`),
      query((sql) => sql.unsafe(tables)),
    )
  )
  return {
    read: Effect.map(
      query((sql) =>
        sql<Array<Row>>`select topic_id, partition, next, epoch, replay, replay_below from millrace_positions
          where "group" = ${plan.group} and topic_id = any(${[...ids.values()]}::text[]) order by topic_id, partition`
      ),
      (rows) =>
        rows.map((row): Kept => ({
          topic: names.get(row.topic_id)!,
          partition: row.partition,
          next: Number(row.next),
          epoch: Number(row.epoch),
          replay: replayOf(row),
        })),
    ),
    move: (moves) =>
      transaction((query) => {
        const known = moves.filter(({ from }) => from !== undefined)
        const fresh = moves.filter(({ from }) => from === undefined)
        const columns = (of: ReadonlyArray<Move>) => ({
          ids: of.map(({ topic }) => ids.get(topic)!),
          topics: of.map(({ topic }) => topic),
          partitions: of.map(({ partition }) => partition),
          nexts: of.map(({ next }) => next),
          replays: of.map(({ replay }) => replay.id),
          belows: of.map(({ replay }) => replay.below),
        })
        return Effect.gen(function* () {
          const old = columns(known)
          const moved = yield* query((sql) =>
            sql`update millrace_positions p
              set next = m.next, epoch = p.epoch + 1, replay = m.replay, replay_below = m.below, moved_at = now()
              from unnest(
                ${old.ids}::text[], ${old.partitions}::int[], ${old.nexts}::bigint[], ${old.replays}::text[],
                ${old.belows}::bigint[], ${known.map(({ from }) => from!.next)}::bigint[],
                ${known.map(({ from }) => from!.epoch)}::bigint[]
              ) as m(topic_id, partition, next, replay, below, old, epoch)
              where p."group" = ${plan.group} and p.topic_id = m.topic_id and p.partition = m.partition
                and p.next = m.old and p.epoch = m.epoch`
          )
          const added = columns(fresh)
          const put = yield* query((sql) =>
            sql`insert into millrace_positions ("group", topic_id, topic, partition, next, epoch, replay, replay_below)
              select ${plan.group}, topic_id, topic, partition, next, 1, replay, below
              from unnest(
                ${added.ids}::text[], ${added.topics}::text[], ${added.partitions}::int[], ${added.nexts}::bigint[],
                ${added.replays}::text[], ${added.belows}::bigint[]
              ) as m(topic_id, topic, partition, next, replay, below)
              on conflict ("group", topic_id, partition) do nothing`
          )
          if (moved.count + put.count !== moves.length) return yield* new Moved()
          return true
        })
      }).pipe(Effect.catchTag("Moved", () => Effect.succeed(false))),
  }
})

/** Rolls the transaction back. */
class Moved extends Data.TaggedError("Moved") {}

export const tables = `
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
do $$ begin
  -- "add column if not exists" would wait for everybody who is at work on the table, also where there is nothing to add.
  if not exists (
    select from pg_attribute where attrelid = 'millrace_positions'::regclass and attname = 'replay_below'
  ) then
    alter table millrace_positions add column replay text, add column replay_below bigint;
  end if;
end $$;`
