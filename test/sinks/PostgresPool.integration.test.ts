/** One transaction, one connection: nothing of an interrupted one is left, and nothing follows it unnoticed. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Redacted } from "effect"
import { Postgres } from "../../src/index.ts"
import * as Database from "../support/Database.ts"
import * as Wire from "../support/Wire.ts"

const poolAt = (url: string) =>
  Effect.map(
    Layer.build(Layer.fresh(Postgres.layer({ url: Redacted.make(url), connections: 1, lockTimeout: "300 millis" }))),
    Context.get(Postgres.Postgres),
  )

/** A pool of one connection, and what others see of its table. */
const prepare = Effect.gen(function* () {
  const url = yield* Database.fresh
  const sql = yield* Database.connect(url)
  yield* Effect.promise(() => sql`create table numbers (n int not null)`)
  const pool = yield* poolAt(url)
  const numbers = Effect.promise(async () => (await sql`select n from numbers order by n`).map(({ n }) => n as number))
  return { pool, sql, numbers }
})

const insert = (n: number) => (sql: Postgres.Sql) => sql`insert into numbers values (${n})`

Database.describeWithDatabase("PostgresPool", () => {
  it.live("has nothing of a transaction that is interrupted, whenever it is, and everything that follows", () =>
    Effect.gen(function* () {
      const { pool, numbers } = yield* prepare
      // At its begin, within it or at its commit, as fast as this machine happens to be.
      for (let tries = 0; tries < 60; tries++) {
        const whole = pool.transaction((query) => Effect.andThen(query(insert(-1)), query(insert(-1))))
        const fiber = yield* Effect.forkDetach(whole)
        for (let turns = tries % 30; turns > 0; turns--) {
          yield* Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))
        }
        yield* Fiber.interrupt(fiber)
        yield* pool.query(insert(tries))
      }
      const found = yield* numbers
      assert.deepStrictEqual(found.filter((n) => n >= 0), Array.from({ length: 60 }, (_, i) => i))
      assert.strictEqual(found.filter((n) => n < 0).length % 2, 0)
    }).pipe(Effect.scoped))

  it.live("gives a connection up that does not roll back in time", () =>
    Effect.gen(function* () {
      const { pool, sql, numbers } = yield* prepare
      const fiber = yield* Effect.forkDetach(
        pool.transaction((query) => Effect.andThen(query(insert(1)), query((sql) => sql`select pg_sleep(2)`))),
      )
      yield* Effect.sleep("200 millis")
      yield* Fiber.interrupt(fiber)
      yield* pool.query(insert(2))
      assert.deepStrictEqual(yield* numbers, [2])
      yield* Effect.promise(() =>
        sql`select pg_terminate_backend(pid) from pg_stat_activity where query like '%sleep(2)'`
      )
      yield* pool.transaction((query) => query(insert(3)))
      assert.deepStrictEqual(yield* numbers, [2, 3])
    }).pipe(Effect.scoped))

  it.live("knows arrays of every kind, also over connections that broke at whatever moment", () =>
    Effect.gen(function* () {
      const url = new URL(yield* Database.fresh)
      const sql = yield* Database.connect(url.href)
      yield* Effect.promise(() => sql`create type mood as enum ('fine', 'low')`)
      const wire = yield* Wire.to(url.hostname, Number(url.port))
      url.host = `127.0.0.1:${wire.port}`
      const { query } = yield* poolAt(url.href)
      const at = new Date(0)
      const echo = query((sql) =>
        sql`select ${[1, null, 3]}::int[] as numbers, ${[[1, 2], [3, 4]]}::int[] as nested, ${[]}::int[] as none,
          ${sql.array([true, false])} as bools, ${sql.array([at])} as times, ${[
          'a "quoted" \\',
          "null",
          "",
          "{x,y}",
        ]}::text[] as texts,
          ${["low"]}::mood[] as moods, array[10, 20]::bigint[] as big`
      )
      const expected = {
        numbers: [1, null, 3],
        bools: [true, false],
        times: [at],
        texts: ['a "quoted" \\', "null", "", "{x,y}"],
        moods: ["low"],
        none: [],
        nested: [[1, 2], [3, 4]],
        big: ["10", "20"],
      }
      // A connection is cut after so many bytes of the server's: while it is opened, while it answers, and after that.
      for (let bytes = 1; bytes < 1500; bytes += 23) {
        yield* wire.cut
        yield* wire.mend
        wire.cutAfter(bytes)
        const answer = yield* Effect.retry(echo, { while: (error) => error.retriable, times: 20 })
        assert.deepStrictEqual<object>({ ...answer[0] }, expected)
      }
    }).pipe(Effect.scoped))

  it.live("does not say that a transaction is committed in which a refusal was ignored", () =>
    Effect.gen(function* () {
      const { pool, numbers } = yield* prepare
      const error = yield* Effect.flip(pool.transaction((query) =>
        Effect.andThen(query(insert(1)), Effect.ignore(query((sql) => sql`insert into numbers values (null)`)))
      ))
      assert.strictEqual(error.retriable, false)
      assert.include(error.message, "ignored")
      yield* pool.transaction((query) =>
        query(insert(2))
      )
      assert.deepStrictEqual(yield* numbers, [2])
    }).pipe(Effect.scoped))

  it.live("has the server end transactions that stand idle, and waits for locks, no longer than told", () =>
    Effect.gen(function* () {
      const { pool, sql } = yield* prepare
      const settings = yield* pool.query((sql) =>
        sql`select current_setting('lock_timeout') as lock,
          current_setting('idle_in_transaction_session_timeout') as idle`
      )
      assert.deepStrictEqual({ ...settings[0] }, { lock: "300ms", idle: "300ms" })
      const idle = yield* Effect.flip(
        pool.transaction((query) =>
          query(insert(1)).pipe(Effect.andThen(Effect.sleep("600 millis")), Effect.andThen(query(insert(2))))
        ),
      )
      assert.isTrue(idle.retriable)
      yield* Effect.promise(() => sql`begin; lock table numbers`.simple())
      const held = yield* Effect.flip(pool.query(insert(3)))
      yield* Effect.promise(() => sql`rollback`)
      assert.isTrue(held.retriable)
      assert.include(held.message, "55P03")
    }).pipe(Effect.scoped))
})
