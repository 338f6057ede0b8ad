/** What a pipeline into Postgres sends to topics: once it is in the table it reaches them, or it is said why not. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, Redacted, Schema } from "effect"
import type postgres from "postgres"
import {
  Admin,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Faults,
  Ingest,
  KafkaMemory,
  Pipeline,
  Postgres,
  Runner,
  Topic,
} from "../../src/index.ts"
import type { Cluster } from "../../src/kafka/Cluster.ts"
import * as Database from "../support/Database.ts"

const common = { description: "", owner: "" }
const Reading = Schema.Struct({ id: Schema.Int })
const Readings = Topic.make({ ...common, name: "readings", schema: Reading, partitions: 1 })
const Copies = Topic.make({ ...common, name: "copies", schema: Reading, partitions: 1 })
const Gone = Topic.bytes({ ...common, name: "gone", partitions: 1 })
const Dlt = Topic.bytes({ ...common, name: "dlt", partitions: 1 })

/** Every row is copied twice. */
const pipeline = Pipeline.make(
  "store",
  Ingest.topic(Readings).pipe(
    Decode.schema,
    Deliver.to(Copies),
    Deliver.derived(Copies, ({ id }: typeof Reading.Type) => ({ id: -id })),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Postgres.exactlyOnce({
    write: (rows: ReadonlyArray<typeof Reading.Type>, query) =>
      Effect.asVoid(query((sql) => sql`insert into readings ${sql(rows, "id")}`)),
  }),
)

const options: Partial<Runner.Options> = {
  commitInterval: "20 millis",
  sessionTimeout: "400 millis",
  heartbeatInterval: "50 millis",
  shutdownTimeout: "2 seconds",
}

const until = <E, R>(what: string, done: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function* () {
    for (let left = 500; left > 0; left--) {
      if (yield* done) return
      yield* Effect.sleep("20 millis")
    }
    return yield* Effect.die(new Error(`not within 10 s: ${what}`))
  })

const send = (ids: ReadonlyArray<number>) =>
  KafkaMemory.Control.use(({ append }) =>
    append({ topic: "readings", partition: 0 }, {
      keys: ids.map(() => null),
      values: ids.map((id) => Buffer.from(JSON.stringify({ id }))),
      headers: ids.map(() => []),
      timestamps: ids.map(() => 0),
    })
  )

const read = (topic: string) =>
  Effect.map(
    KafkaMemory.Control.use(({ records }) => records(topic)),
    (records) =>
      records.map(({ value, headers }) => {
        const id = headers.find(([name]) => name === "millrace-outbox-id")
        return [String(Buffer.from(id![1])), String(Buffer.from(value!))] as const
      }),
  )

interface Setting {
  readonly sql: postgres.Sql
  /** The messages of errors that were logged. */
  readonly errors: ReadonlyArray<string>
  /** Runs the pipeline until the scope is closed or the fiber interrupted. */
  readonly start: Effect.Effect<Fiber.Fiber<void, unknown>>
}

const withSetting = <E, R>(body: (setting: Setting) => Effect.Effect<void, E, R>) =>
  Effect.gen(function* () {
    const url = yield* Database.fresh
    const sql = yield* Database.connect(url)
    yield* Effect.promise(() => sql`create table readings (id int not null)`)
    yield* Admin.createTopics([Readings, Copies, Dlt])
    const errors: Array<string> = []
    const listening = Logger.layer([
      Logger.make(({ logLevel, message }) => {
        if (logLevel === "Error") errors.push(String(message))
      }),
    ])
    const pool = Layer.fresh(Postgres.layer({ url: Redacted.make(url), connections: 2, lockTimeout: "300 millis" }))
    const scope = yield* Effect.scope
    const cluster = yield* Effect.context<Cluster>()
    const start = Effect.forkIn(
      Runner.run(pipeline, options).pipe(Effect.provide([pool, listening]), Effect.provideContext(cluster)),
      scope,
    )
    yield* body({ sql, errors, start })
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Layer.fresh(Faults.layer.pipe(Layer.provideMerge(KafkaMemory.layer({ minSessionTimeout: "100 millis" })))),
    ),
  )

const waiting = (sql: postgres.Sql) =>
  Effect.promise(async () =>
    (await sql`select id, refused from millrace_outbox order by seq`).map(({ id, refused }) => [id, refused])
  )

/** The table as it was when ids ended with the offset. */
const older = (sql: postgres.Sql) =>
  Effect.promise(() =>
    sql`create table millrace_outbox (
      seq bigserial primary key, "group" text not null, id text not null, topic text not null, partition int,
      key bytea, value bytea, headers text not null)`
  )

const put = (sql: postgres.Sql, id: string, topic: string, value: string, partition: number | null = null) =>
  Effect.promise(() =>
    sql`insert into millrace_outbox ("group", id, topic, partition, key, value, headers)
      values ('store', ${id}, ${topic}, ${partition}, null, ${Buffer.from(value)}, '[]')`
  )

Database.describeWithDatabase("PostgresOutbox", () => {
  it.live("tells records apart that one row caused, and keeps their order", () =>
    withSetting(({ sql, start }) =>
      Effect.gen(function* () {
        yield* start
        yield* send([1, 2, 3])
        yield* until("copies", Effect.map(read("copies"), ({ length }) => length >= 6))
        const copies = yield* read("copies")
        for (const [index, sign] of [[0, 1], [1, -1]] as const) {
          assert.deepStrictEqual(
            copies.filter(([id]) => id.endsWith(`-${index}`)),
            [1, 2, 3].map((id, offset) => [`readings-0-${offset}-${index}`, `{"id":${sign * id}}`] as const),
          )
        }
        yield* until("nothing left", Effect.map(waiting(sql), ({ length }) => length === 0))
        const twice = yield* Effect.promise(() =>
          sql`insert into millrace_outbox ("group", id, topic, headers) values ('a', 'b', 'c', '[]'), ('a', 'b', 'd', '[]')`
            .then(() => "taken", ({ code }) => code)
        )
        assert.strictEqual(twice, "23505")
      })
    ))

  it.live("takes over what an older version has left in the table", () =>
    withSetting(({ sql, start }) =>
      Effect.gen(function* () {
        yield* older(sql)
        yield* put(sql, "readings-0-7", "copies", "a")
        yield* put(sql, "readings-0-7", "copies", "b")
        yield* put(sql, "readings-0-8", "copies", "c")
        yield* Fiber.interrupt(
          yield* Effect.tap(start, () => until("copies", Effect.map(read("copies"), ({ length }) => length >= 3))),
        )
        assert.deepStrictEqual(yield* read("copies"), [
          ["readings-0-7-0", "a"],
          ["readings-0-7-1", "b"],
          ["readings-0-8-0", "c"],
        ])
        yield* put(sql, "readings-0-9-0", "copies", "d")
        yield* start
        yield* until("another", Effect.map(read("copies"), (records) => records.at(-1)![0] === "readings-0-9-0"))
      })
    ))

  it.live("keeps what the brokers refuse for good, says so, and goes on with the others", () =>
    withSetting(({ sql, errors, start }) =>
      Effect.gen(function* () {
        yield* older(sql)
        yield* put(sql, "readings-0-1", "copies", "first")
        yield* put(sql, "readings-0-2", "gone", "homeless")
        yield* put(sql, "readings-0-3", "copies", "x".repeat(2_000_000))
        yield* put(sql, "readings-0-4", "copies", "nowhere", 9)
        yield* put(sql, "readings-0-5", "copies", "last")
        yield* send([1])
        const first = yield* start
        yield* until("copies", Effect.map(read("copies"), ({ length }) => length >= 4))
        yield* until("the refused", Effect.map(waiting(sql), ({ length }) => length === 3))
        const ids = (yield* read("copies")).map(([id]) => id)
        assert.deepStrictEqual([...new Set(ids)], [
          "readings-0-1-0",
          "readings-0-5-0",
          "readings-0-0-0",
          "readings-0-0-1",
        ])
        assert.deepStrictEqual((yield* waiting(sql)).map(([id, refused]) => [id, refused !== null]), [
          ["readings-0-2-0", true],
          ["readings-0-3-0", true],
          ["readings-0-4-0", true],
        ])
        for (const id of ["readings-0-2-0 for topic gone", "readings-0-3-0 for topic copies", "readings-0-4-0"]) {
          assert.lengthOf(errors.filter((message) => message.includes(id)), 1, errors.join("\n"))
        }
        yield* Fiber.interrupt(first)
        yield* Admin.createTopics([Gone])
        yield* start
        yield* until("homeless no more", Effect.map(read("gone"), ({ length }) => length === 1))
        yield* until("the others said again", Effect.sync(() => errors.length === 5))
      })
    ))

  it.live("publishes later, without new input, what it could not publish while the brokers were away", () =>
    withSetting(({ sql, start }) =>
      Effect.gen(function* () {
        yield* start
        yield* send([1])
        yield* until("copies", Effect.map(read("copies"), ({ length }) => length === 2))
        // Refused at once, but not for what the records are.
        const refusing = Faults.every(({ operation }) => operation === "Produce", Faults.refuse("AUTHENTICATION"))
        yield* Faults.Faults.use(({ use }) => use(refusing))
        yield* send([2])
        yield* until("both wait", Effect.map(waiting(sql), ({ length }) => length === 2))
        yield* send([3])
        yield* until("commits go on", Effect.map(waiting(sql), ({ length }) => length === 4))
        assert.deepStrictEqual((yield* waiting(sql)).map(([, refused]) => refused), [null, null, null, null])
        yield* Faults.Faults.use(({ use }) => use(Faults.none))
        yield* until("nothing left", Effect.map(waiting(sql), ({ length }) => length === 0))
        assert.deepStrictEqual((yield* read("copies")).map(([id]) => id).slice(-4).toSorted(), [
          "readings-0-1-0",
          "readings-0-1-1",
          "readings-0-2-0",
          "readings-0-2-1",
        ])
      })
    ))
})
