/** Records that are made together with rows: kept in a table by the same transaction, and published afterwards. */
import { Effect, Latch, type Scope, Semaphore } from "effect"
import type { Headers, Outgoing } from "../Batch.ts"
import { pause } from "../Jitter.ts"
import { Cluster } from "../kafka/Cluster.ts"
import type { ProducerRecord, Undelivered } from "../kafka/Delivery.ts"
import { asPipelineError } from "../kafka/Errors.ts"
import * as Leaders from "../kafka/Leaders.ts"
import { patiently } from "../kafka/Retry.ts"
import * as Writer from "../kafka/Writer.ts"
import type { Plan, Work } from "../Pipeline.ts"
import type { PipelineError } from "../Task.ts"
import type { Pool, Query } from "./PostgresPool.ts"

/** A record on its way through the outbox. */
export interface Parcel {
  readonly id: string
  readonly out: Outgoing
}

/** An id tells what a record is of, and what else the same row caused: it is the same when the row is worked on again. */
export const parcelsOf = ({ batches }: Work): ReadonlyArray<Parcel> =>
  batches.flatMap(({ source, outgoing }) => {
    const ofRow = new Map<number, number>()
    return outgoing.map((out) => {
      const index = ofRow.get(out.row) ?? 0
      ofRow.set(out.row, index + 1)
      return { id: `${source.topic.name}-${source.partition}-${source.offsets[out.row]}-${index}`, out }
    })
  })

/** A record in the outbox, as it is read. */
interface Stored {
  readonly seq: string
  readonly id: string
  readonly topic: string
  readonly partition: number | null
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: ReadonlyArray<readonly [string, string]>
}

export interface Outbox {
  /** Puts records in, in the transaction of the rows that they were made with. */
  add(parcels: ReadonlyArray<Parcel>, query: Query): Effect.Effect<void, PipelineError>
  /** Publishes what is in. Where brokers or database do not answer, that is left to the background. */
  readonly publish: Effect.Effect<void>
  readonly publishLater: Effect.Effect<void>
}

/** What was refused is tried again. */
export const reopen = (plan: Plan, query: Query): Effect.Effect<void, PipelineError> =>
  Effect.asVoid(
    query((sql) =>
      sql`update millrace_outbox set refused = null where "group" = ${plan.group} and refused is not null`
    ),
  )

/** How many records are published at once. */
const page = 500

/** Opened with the pipeline; its producer only when there is something to publish. */
export const open = Effect.fnUntraced(function* (
  plan: Plan,
  { transaction }: Pool,
): Effect.fn.Return<Outbox, PipelineError, Cluster | Scope.Scope> {
  const cluster = yield* Cluster
  const writes = plan.flows.some((flow) => flow.writes.length > 0)
  if (!writes) return { add: () => Effect.void, publish: Effect.void, publishLater: Effect.void }
  const leaders = yield* Leaders.make
  const arrived = new Set<Headers>()
  const writer = yield* Writer.make(cluster, leaders, {
    transactionalId: null,
    transactionTimeout: 60_000,
    deliveryTimeout: 10_000,
    requestTimeout: 10_000,
    compression: "none",
    maxBatchBytes: 1_000_000,
    limits: Writer.limitsOf(plan),
    delivered: (batch) => batch.headers.forEach((headers) => arrived.add(headers)),
  }).pipe(Effect.mapError(asPipelineError))

  const refuse = Effect.fnUntraced(function* ({ seq, id, topic }: Stored, reason: string, query: Query) {
    yield* query((sql) => sql`update millrace_outbox set refused = ${reason} where seq = ${seq}`)
    yield* Effect.logError(
      `group ${plan.group}: the brokers refuse the record ${id} for topic ${topic}; it stays in millrace_outbox and is ` +
        `tried again at the next start, or when its column "refused" is set to null: ${reason}`,
    )
  })

  /** Why a record cannot be written wherever its topic's leaders are. */
  const homeless = ({ topic, partition }: Stored): string | undefined => {
    const partitions = leaders.partitions(topic)
    return partitions === undefined
      ? "the topic does not exist"
      : partition !== null && partition >= partitions
      ? `the topic has no partition ${partition}`
      : undefined
  }

  /** Publishes up to so many records and answers how many to take next: one by one where one of several was refused. */
  const publishSome = Effect.fnUntraced(function* (
    count: number,
    query: Query,
  ): Effect.fn.Return<number | PipelineError, PipelineError> {
    const stored = yield* query((sql) =>
      sql<Array<Stored>>`select seq, id, topic, partition, key, value, headers::jsonb as headers from millrace_outbox
        where "group" = ${plan.group} and refused is null order by seq limit ${count} for update`
    )
    if (stored.length === 0) return 0
    yield* Effect.mapError(patiently(leaders.ensure(stored.map(({ topic }) => topic)), 10_000), asPipelineError)
    const records = new Map<Stored, ProducerRecord & { readonly headers: Headers }>()
    for (const one of stored) {
      const reason = homeless(one)
      if (reason === undefined) records.set(one, recordOf(one))
      else yield* refuse(one, reason, query)
    }
    arrived.clear()
    const failed = yield* Effect.mapError(writer.write([...records.values()], () => Effect.void), asPipelineError)
    const done = stored.filter((one) => records.has(one) && arrived.has(records.get(one)!.headers))
    yield* query((sql) => sql`delete from millrace_outbox where seq = any(${done.map(({ seq }) => seq)}::bigint[])`)
    if (failed.length === 0) return page
    yield* Effect.mapError(writer.renew, asPipelineError)
    const passing = failed.find((one) => !isForGood(one))
    if (passing !== undefined) return asPipelineError(passing.error)
    if (stored.length > 1) return 1
    yield* refuse(stored[0]!, failed[0]!.error.message, query)
    return page
  })

  /** What was published is forgotten also where something fails behind it. */
  const publishAll = transaction(Effect.fnUntraced(function* (query) {
    // It holds nothing that a task waits for, and brokers may take longer than a writer may.
    yield* query((sql) => sql`set local idle_in_transaction_session_timeout = '60s'`)
    let next: number | PipelineError = page
    while (typeof next === "number" && next > 0) {
      next = yield* Effect.catchIf(publishSome(next, query), ({ reason }) => reason !== "Sink", Effect.succeed)
    }
    return next
  })).pipe(Effect.flatMap((end) => typeof end === "number" ? Effect.void : Effect.fail(end)))

  const publishing = yield* Semaphore.make(1)
  const due = yield* Latch.make(false)
  /** Whether something is left to be published in the background: then nobody waits for it. */
  let behind = false

  const publishLater = Effect.sync(() => {
    behind = true
    Latch.openUnsafe(due)
  })

  const publish: Effect.Effect<boolean> = Semaphore.withPermits(publishing, 1)(publishAll).pipe(
    Effect.as(true),
    Effect.catch((error) =>
      Effect.logWarning(`group ${plan.group}: records stay in the outbox and are published later`, error).pipe(
        Effect.andThen(publishLater),
        Effect.as(false),
      )
    ),
  )

  yield* Effect.forkScoped(Effect.forever(Effect.gen(function* () {
    yield* due.await
    Latch.closeUnsafe(due)
    behind = true
    if (yield* publish) behind = false
    else yield* pause(1_000)
  })))

  return {
    add: (parcels: ReadonlyArray<Parcel>, query: Query): Effect.Effect<void, PipelineError> =>
      Effect.forEach(
        parcels,
        ({ id, out }) =>
          // There already only where positions were set back by hand: the record is then as it is made now.
          query((sql) =>
            sql`insert into millrace_outbox ("group", id, topic, partition, key, value, headers) values (
            ${plan.group}, ${id}, ${out.topic}, ${out.partition ?? null}, ${out.key as Buffer | null},
            ${out.value as Buffer | null}, ${headersText(out)})
            on conflict ("group", id) do update set topic = excluded.topic, partition = excluded.partition,
              key = excluded.key, value = excluded.value, headers = excluded.headers, refused = null`
          ),
        { discard: true },
      ),
    publish: Effect.suspend(() => behind ? publishLater : Effect.asVoid(publish)),
    publishLater,
  }
})

const recordOf = ({ id, topic, partition, key, value, headers }: Stored) => ({
  topic,
  ...(partition === null ? {} : { partition }),
  key,
  value,
  headers: [
    ...headers.map(([name, value]) => [name, Buffer.from(value, "base64")] as const),
    ["millrace-outbox-id", Buffer.from(id)] as const,
  ],
})

/** The records themselves are refused, wherever and by whomever they are sent. */
const isForGood = ({ error, unknown }: Undelivered): boolean =>
  !unknown && !asPipelineError(error).retriable && !/PRODUCER|SEQUENCE|AUTHENTICATION/.test(error.code)

const headersText = ({ headers }: Outgoing): string =>
  JSON.stringify((headers ?? []).map(([name, value]) => [name, Buffer.from(value).toString("base64")]))

export const tables = `
create table if not exists millrace_outbox (
  seq bigserial primary key,
  "group" text not null,
  id text not null,
  topic text not null,
  partition int,
  key bytea,
  value bytea,
  headers text not null
);
alter table millrace_outbox add column if not exists refused text;
do $$ begin
  if to_regclass('millrace_outbox_once') is null then
    -- Ids once ended with the offset.
    update millrace_outbox o set id = o.id || '-' || numbered.index
      from (select seq, row_number() over (partition by "group", id order by seq) - 1 as index from millrace_outbox) numbered
      where o.seq = numbered.seq;
    create unique index millrace_outbox_once on millrace_outbox ("group", id);
  end if;
end $$;`
