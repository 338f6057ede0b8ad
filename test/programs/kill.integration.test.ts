/**
 * Each program as a process of its own, on Apache Kafka and Postgres: the log is imported while enrich, aggregate and
 * store are killed again and again. Nothing may be lost and nothing may count twice.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { readFileSync } from "node:fs"
import type postgres from "postgres"
import { topics } from "../../schemas/index.ts"
import { count } from "../../scripts/count-log.ts"
import { pipelines } from "../../src/clickstream/Names.ts"
import { Admin, KafkaClient, type Topic } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import { readable } from "../../src/kafka/ReadCommitted.ts"
import * as Broker from "../support/Broker.ts"
import * as Database from "../support/Database.ts"
import * as Program from "../support/Program.ts"

const log = "data/apache_access_combined_10k.log"
const hashKey = "test"
const expected = count(readFileSync(new URL(`../../${log}`, import.meta.url), "utf8"), hashKey)

const rows = (sql: postgres.Sql, statement: string) =>
  Effect.promise(() => sql.unsafe(statement) as Promise<ReadonlyArray<Record<string, unknown>>>)

const number = (sql: postgres.Sql, statement: string) =>
  Effect.map(
    Effect.catchCause(rows(sql, statement), () => Effect.succeed([{ n: 0 }])),
    ([row]) => Number(row!["n"] ?? 0),
  )

const until = (what: string, done: Effect.Effect<boolean>, seconds: number) =>
  Effect.gen(function* () {
    for (let left = seconds * 4; left > 0; left--) {
      if (yield* done) return
      yield* Effect.sleep("250 millis")
    }
    return yield* Effect.die(new Error(`not within ${seconds} s: ${what}`))
  })

/** Reads the committed records of a topic, with no part of the library above the port. */
const committed = Effect.fnUntraced(function* (topic: Topic.Any) {
  const cluster = yield* Cluster
  const { topics: [metadata] } = yield* cluster.metadata([topic.name])
  const values: Array<string> = []
  for (const { partition, leader } of metadata!.partitions) {
    const where = { topic: topic.name, partition }
    const [end] = yield* cluster.listOffsets([where], "latest", "read_committed")
    for (let offset = 0; offset < end!.offset;) {
      const [fetched] = yield* cluster.fetch({
        node: leader,
        maxWait: 500,
        maxBytes: 4_000_000,
        partitions: [{ ...where, offset, maxBytes: 4_000_000 }],
      })
      const { bytes, next } = readable(fetched!, offset)
      for (const value of bytes) values.push(value === null ? "" : String(Buffer.from(value)))
      offset = next
    }
  }
  return values
})

const processors = ["enrich", "aggregate", "store"] as const

Broker.describeWithOwnBroker("programs on Apache Kafka and Postgres", () => {
  for (const keyBy of ["user", "visitor"] as const) {
    it.live(`lose nothing and repeat nothing when they are killed, keyed by ${keyBy}`, () =>
      Effect.gen(function* () {
        const broker = yield* Broker.own(
          ...["--set", "group.min.session.timeout.ms=1000"],
          ...["--set", "log.retention.check.interval.ms=1000"],
        )
        const url = yield* Database.fresh
        const sql = yield* Database.connect(url)
        const env = {
          KAFKA_BROKERS: broker.brokers.join(","),
          DATABASE_URL: url,
          DATABASE_LOCK_TIMEOUT: "1 second",
          SESSION_TIMEOUT: "2 seconds",
          HASH_KEY: hashKey,
          KEY_BY: keyBy,
        }
        const kills = { enrich: 0, aggregate: 0, store: 0 }
        const importing = yield* Program.start("import-log", { args: [log, "--rate", "800"], env })
        yield* Effect.forEach(processors, (name, i) =>
          Effect.gen(function* () {
            let running = yield* Program.start(name, { env })
            yield* Effect.sleep(2_000 + i * 700)
            while (kills[name] < 3) {
              yield* running.signal("SIGKILL")
              kills[name]++
              const end = yield* running.ended
              assert.strictEqual(end.signal, "SIGKILL", end.output)
              running = yield* Program.start(name, { env })
              yield* Effect.sleep(3_000 + i * 500)
            }
          }), { concurrency: "unbounded" })
        const imported = yield* importing.ended
        assert.strictEqual(imported.code, 0, imported.output)
        assert.match(imported.output, / \d+ % \| \d+ lines \| \d+ lines\/s \| \d+s left/)

        const stored = Effect.all([
          number(sql, "select count(*) as n from clicks"),
          number(sql, "select sum(clicks) as n from clicks_per_minute"),
        ])
        yield* until(
          "every click stored",
          Effect.map(stored, ([clicks, counted]) => clicks >= 9_999 && counted >= 9_999),
          60,
        )
        const check = Effect.gen(function* () {
          assert.deepStrictEqual(
            Object.fromEntries(
              (yield* rows(sql, `select "user", count(*)::int as n from clicks group by 1`)).map((
                row,
              ) => [row["user"], row["n"]]),
            ),
            expected.visitors,
          )
          assert.deepStrictEqual(
            Object.fromEntries(
              (yield* rows(sql, `select "user", minute, clicks from clicks_per_minute`)).map((row) => [
                `${row["user"]}@${(row["minute"] as Date).toISOString()}`,
                row["clicks"],
              ]),
            ),
            expected.minutes,
          )
          assert.strictEqual(yield* number(sql, "select sum(clicks) as n from sessions"), 9_999)
        })
        yield* check

        const to = topics({ keyBy })
        const cluster = KafkaClient.layer({ brokers: broker.brokers })
        const contents = Effect.all([committed(to.enriched), committed(to.late), committed(to.counts)]).pipe(
          Effect.provide(Layer.fresh(cluster)),
        )
        const before = yield* contents
        const ids = before[0].map((value) => (JSON.parse(value) as { eventId: string }).eventId)
        assert.strictEqual(ids.length, 9_999)
        assert.strictEqual(new Set(ids).size, 9_999)
        assert.strictEqual(before[1].length, 0)

        const again = yield* Effect.flatMap(Program.start("import-log", { args: [log], env }), ({ ended }) => ended)
        assert.strictEqual(again.code, 0, again.output)
        yield* until(
          "the second import's dead letter",
          Effect.map(number(sql, "select count(*) as n from dead_letters"), (letters) => letters === 2),
          30,
        )
        yield* until("the second import read", caughtUp(broker.brokers), 30)
        assert.deepStrictEqual(yield* contents, before)
        yield* check
      }), 180_000)
  }
})

/** Whether every group has read all there is. */
const caughtUp = (brokers: ReadonlyArray<string>): Effect.Effect<boolean> =>
  Effect.orDie(
    Effect.map(
      Admin.lag(Object.values(pipelines({ prefix: "" }))),
      (lags) => lags.every(({ records }) => records === 0),
    ).pipe(Effect.provide(Layer.fresh(KafkaClient.layer({ brokers })))),
  )
