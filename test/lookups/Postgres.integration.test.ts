/** Lookups in a real Postgres: what is read, and what is answered while it is away. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger, Redacted, Schema } from "effect"
import { Lookup, Postgres, PostgresLookup } from "../../src/index.ts"
import * as Database from "../support/Database.ts"
import * as Wire from "../support/Wire.ts"

const Device = Schema.Struct({ id: Schema.String, name: Schema.String, floor: Schema.NullOr(Schema.Int) })

const described = (answer: Lookup.Answer<unknown>) =>
  answer._tag === "Found" ? answer.value : answer._tag === "Missing" ? "missing" : answer.reason

const connected = (url: string) =>
  Layer.build(
    Layer.fresh(Postgres.layer({ url: Redacted.make(url), connections: 2, lockTimeout: "5 seconds" })),
  )

const tables = Effect.gen(function* () {
  const url = yield* Database.fresh
  const sql = yield* Database.connect(url)
  yield* Effect.promise(async () => {
    await sql`create table devices (id text primary key, name text, floor int)`
    await sql`insert into devices values ('a', 'pump', 1), ('b', null, 2), ('c', 'fan', null), ('d''; --', 'odd', 4)`
    await sql`create table numbers (id bigint, name text)`
    await sql`insert into numbers values (1, 'one'), (9007199254740993, 'many'), (null, 'nobody')`
  })
  return { url, sql }
})

const byId = PostgresLookup.rows({
  query: (sql, keys) => sql`select id, name, floor from devices where id = any(${keys})`,
  key: "id",
  row: Device,
})

Database.describeWithDatabase("PostgresLookup", () => {
  it.live("selects many keys by one query, of any type, and decodes each row by itself", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* tables
      const context = yield* connected(url)
      let queries = 0
      const devices = yield* Effect.provideContext(
        Lookup.make({
          name: "devices",
          getAll: (keys) => {
            queries++
            return byId(keys)
          },
        }),
        context,
      )
      const answers = yield* devices.getAll(["a", "b", "c", "d'; --", "none", "a"])
      assert.deepStrictEqual(answers.map(described), [
        { id: "a", name: "pump", floor: 1 },
        "undecodable",
        { id: "c", name: "fan", floor: null },
        { id: "d'; --", name: "odd", floor: 4 },
        "missing",
        { id: "a", name: "pump", floor: 1 },
      ])
      assert.include((answers[1] as Lookup.Unavailable).message, "name: Expected string")
      assert.strictEqual(queries, 1)

      const numbers = yield* Effect.provideContext(
        Lookup.make({
          name: "numbers",
          getAll: PostgresLookup.rows({
            query: (sql, keys) => sql`select id, name from numbers where id = any(${keys}::bigint[])`,
            key: "id",
            row: Schema.Struct({ name: Schema.String }),
          }),
        }),
        context,
      )
      assert.deepStrictEqual(
        (yield* numbers.getAll(["1", "9007199254740993", "2"])).map(described),
        [{ name: "one" }, { name: "many" }, "missing"],
      )
      // A key that the database refuses is nobody's fault but its own.
      const [refused, ...others] = yield* numbers.getAll(["what a key", "3", "4", "nobody", "5"])
      assert.deepStrictEqual(refused, {
        _tag: "Unavailable",
        reason: "undecodable",
        message:
          "lookup numbers: a value is not what its schema says: key: Postgres refused a statement (SQLSTATE 22P02)",
      })
      assert.deepStrictEqual(others.map(described), ["missing", "missing", "undecodable", "missing"])
      assert.deepStrictEqual(
        (yield* Effect.provideContext(
          PostgresLookup.all({
            query: (sql) => sql`select id, name from numbers`,
            key: "id",
            row: Schema.Struct({ name: Schema.String }),
          }),
          context,
        )).size,
        2,
        "a row without a key is nobody's",
      )

      const all = yield* Effect.provideContext(
        Lookup.reference({
          name: "all",
          load: PostgresLookup.all({ query: (sql) => sql`select * from devices`, key: "id", row: Device }),
          every: "1 hour",
        }),
        context,
      )
      yield* Effect.promise(() => sql`update devices set name = 'valve' where id = 'b'`)
      assert.deepStrictEqual((yield* all.getAll(["b", "e"])).map(described), ["undecodable", "missing"])
      assert.isTrue(yield* all.refresh)
      assert.deepStrictEqual((yield* all.getAll(["b"])).map(described), [{ id: "b", name: "valve", floor: 2 }])
    }))

  it.live("names the column that a query lacks", () =>
    Effect.gen(function* () {
      const { url } = yield* tables
      const context = yield* connected(url)
      const load = PostgresLookup.all({ query: (sql) => sql`select name from devices`, key: "id", row: Schema.Unknown })
      const defect = yield* Effect.flip(Effect.sandbox(Effect.provideContext(load, context)))
      assert.include(String(defect), "the query of a lookup answers no column id")
    }))

  it.live("answers in time while the database hangs or is gone, and what is true when it is back", () =>
    Effect.gen(function* () {
      const { url, sql } = yield* tables
      const there = new URL(url)
      const wire = yield* Wire.to(there.hostname, Number(there.port))
      there.port = String(wire.port)
      const context = yield* connected(there.href)
      const devices = yield* Effect.provideContext(
        Lookup.make({
          name: "devices",
          getAll: byId,
          timeout: "300 millis",
          cache: { ttl: 1, missingTtl: 0, failureTtl: 0, staleFor: "1 second" },
          fallback: (id) => id === "x" ? { id, name: "unknown", floor: null } : undefined,
        }),
        context,
      )
      const ask = Effect.map(devices.getAll(["a", "x"]), ([a, x]) => [a!, x!] as const)
      const until = (is: (a: Lookup.Answer<typeof Device.Type>) => boolean) =>
        Effect.gen(function* () {
          for (let left = 200; left > 0; left--) {
            const [a] = yield* ask
            if (is(a)) return
            yield* Effect.sleep("20 millis")
          }
          assert.fail("not within 4 seconds")
        })
      assert.strictEqual((yield* ask)[0]._tag, "Found")

      yield* wire.block
      yield* Effect.sleep("10 millis")
      const [elapsed, [stale, fallback]] = yield* Effect.timed(ask)
      assert.isBelow(Duration.toMillis(elapsed), 1_500)
      assert.deepInclude(stale, { origin: "stale" })
      assert.deepInclude(fallback, { origin: "fallback" })
      yield* until((a) => a._tag === "Unavailable" && a.reason === "timeout")
      yield* wire.mend
      yield* until((a) => a._tag === "Found" && a.origin === "source")

      yield* wire.cut
      // A refused connection is tried again up to a second later, which is more than the time-out.
      yield* until((a) => a._tag === "Unavailable")
      yield* Effect.promise(() => sql`update devices set name = 'new pump' where id = 'a'`)
      yield* wire.mend
      yield* until((a) => a._tag === "Found" && a.value.name === "new pump")
    }).pipe(Effect.provide(Logger.layer([]))))
})
