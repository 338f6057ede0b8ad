/** Defects on purpose, put around the ports: what the simulation must find. Nothing of `src` knows of them. */
import { Effect } from "effect"
import type { Pipeline, Postgres } from "../../src/index.ts"
import { Cluster, type ProduceRequest } from "../../src/kafka/Cluster.ts"
import type { Pool } from "./database/MemoryPostgres.ts"

type Brokers = Cluster["Service"]

/** Records of aborted transactions are read as if they counted. */
export const abortedLetThrough = (cluster: Brokers): Brokers => ({
  ...cluster,
  fetch: (request) => Effect.map(cluster.fetch(request), (answers) => answers.map((one) => ({ ...one, aborted: [] }))),
})

/** What goes to some topics is written beside the transaction. */
export const outsideTheTransaction = (isOutside: (topic: string) => boolean) => (cluster: Brokers): Brokers => ({
  ...cluster,
  produce: (request: ProduceRequest) => {
    const outside = request.batches.filter(({ topic }) => isOutside(topic))
    const inside = request.batches.filter(({ topic }) => !isOutside(topic))
    const alone = outside.map(({ topic, partition, records }) => ({ topic, partition, records }))
    return Effect.all([
      outside.length === 0
        ? Effect.succeed([])
        : cluster.produce({ ...request, transactionalId: null, batches: alone }),
      inside.length === 0 ? Effect.succeed([]) : cluster.produce({ ...request, batches: inside }),
    ]).pipe(Effect.map((answers) => answers.flat()))
  },
})

/** Positions are committed without generation and member, which brokers take from anybody. */
export const committedByAnybody = (cluster: Brokers): Brokers => ({
  ...cluster,
  txnOffsetCommit: (txn, { group }, offsets) =>
    cluster.txnOffsetCommit(txn, { group, generation: -1, memberId: "" }, offsets),
})

/** Who takes over neither waits for what a predecessor has undecided nor ends it. */
export const notFenced = (cluster: Brokers): Brokers => ({
  ...cluster,
  offsetFetch: (group, partitions) => cluster.offsetFetch(group, partitions, false),
})

/** The database takes positions from whoever owned them once. */
export const positionsTaken = (pool: Pool): Pool => {
  const without = (text: string) => text.replace(/and p\.next = m\.old and p\.epoch = m\.epoch/, "")
  const asked = (sql: Postgres.Sql) =>
    ((strings: TemplateStringsArray, ...values: ReadonlyArray<never>) =>
      sql(strings.map(without) as never, ...values)) as Postgres.Sql
  const query = (inner: Postgres.Query): Postgres.Query => (run) =>
    inner((sql) => run(Object.assign(asked(sql), { unsafe: sql.unsafe })))
  return { query: query(pool.query), transaction: (run) => pool.transaction((inner) => run(query(inner))) }
}

/** Positions are committed before what they stand for is produced. */
export const commitBeforeProduce = <R>(
  guarantee: Pipeline.Guarantee<unknown, R>,
): Pipeline.Guarantee<unknown, R | Cluster> => ({
  ...guarantee,
  open: Effect.fnUntraced(function* (plan) {
    const cluster = yield* Cluster
    const committer = yield* guarantee.open(plan)
    return {
      claim: committer.claim,
      commit: (work, member) => {
        const offsets = work.flatMap(({ task: { partition }, positions }) =>
          Array.from(positions, ([topic, offset]) => ({ topic, partition, offset, metadata: "" }))
        )
        return Effect.andThen(
          Effect.ignore(cluster.offsetCommit({ group: plan.group, ...member }, offsets)),
          committer.commit(work, member),
        )
      },
    } satisfies Pipeline.Committer<unknown>
  }),
})
