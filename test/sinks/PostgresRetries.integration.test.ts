/** Records that wait in retry topics on their way into Postgres: each becomes a row once it has succeeded. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Schema } from "effect"
import {
  Admin,
  DeadLetter,
  Decode,
  Failures,
  Flow,
  Ingest,
  KafkaMemory,
  Pipeline,
  Postgres,
  Retry,
  Runner,
  Topic,
} from "../../src/index.ts"
import * as Database from "../support/Database.ts"
import { TimedOut } from "../support/RetryCases.ts"

const common = { description: "", owner: "", partitions: 2 }
const Reading = Schema.Struct({ id: Schema.Int })
const Readings = Topic.make({ ...common, name: "readings", schema: Reading })
const Dlt = Topic.bytes({ ...common, name: "dlt" })

const retries = Retry.topics({
  name: "visit",
  of: Readings,
  value: Reading,
  delays: ["100 millis", "200 millis"],
  order: "free",
})

/** Fails a record so often as the last digit of its id says. */
const pipeline = () => {
  const visits = new Map<number, number>()
  const visit = (reading: typeof Reading.Type) =>
    Effect.suspend(() => {
      const before = visits.get(reading.id) ?? 0
      visits.set(reading.id, before + 1)
      return before < reading.id % 10 ? Effect.fail(new TimedOut({ message: "slow" })) : Effect.succeed(reading)
    })
  return Pipeline.make(
    "store",
    Ingest.topic(Readings).pipe(
      Decode.schema,
      Failures.handle({ name: "visit" }, Flow.effect(visit), { TimedOut: Failures.later(retries, DeadLetter.to(Dlt)) }),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    Postgres.exactlyOnce({
      write: (rows: ReadonlyArray<typeof Reading.Type>, query) =>
        rows.length === 0 ? Effect.void : Effect.asVoid(query((sql) => sql`insert into readings ${sql(rows, "id")}`)),
    }),
  )
}

Database.describeWithDatabase("Retry topics before Postgres", () => {
  it.live("bring every record into the table once, or to the dead letters", () =>
    Effect.gen(function* () {
      const url = yield* Database.fresh
      const sql = yield* Database.connect(url)
      yield* Effect.promise(() => sql`create table readings (id int not null)`)
      yield* Admin.createTopics([Readings, Dlt, ...retries.topics])
      const control = yield* KafkaMemory.Control
      const ids = [10, 11, 12, 13, 20, 21, 22, 23]
      for (const [i, id] of ids.entries()) {
        yield* control.append({ topic: "readings", partition: i % 2 }, {
          keys: [Buffer.from("key")],
          values: [Buffer.from(JSON.stringify({ id }))],
          headers: [[]],
          timestamps: [0],
        })
      }
      const pool = Postgres.layer({ url: Redacted.make(url), connections: 2, lockTimeout: "300 millis" })
      yield* Effect.forkScoped(
        Runner.run(pipeline(), { commitInterval: "20 millis", shutdownTimeout: "2 seconds" }).pipe(
          Effect.provide(pool),
        ),
      )
      const rows = Effect.promise(() => sql<Array<{ readonly id: number }>>`select id from readings order by id`)
      const dead = Effect.map(control.records("dlt"), (letters) => letters.map(({ value }) => String(value)).sort())
      const done = Effect.map(Effect.all([rows, dead]), ([rows, dead]) => rows.length >= 6 && dead.length >= 2)
      for (let left = 500; left > 0 && !(yield* done); left--) yield* Effect.sleep("20 millis")
      yield* Effect.sleep("500 millis")
      assert.deepStrictEqual((yield* rows).map(({ id }) => id), [10, 11, 12, 20, 21, 22])
      assert.deepStrictEqual(yield* dead, [`{"id":13}`, `{"id":23}`])
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(KafkaMemory.layer()))), 30_000)
})
