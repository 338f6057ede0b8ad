/**
 * Rows and positions in one transaction: on a real server and on the embedded one, with programs that die at every step,
 * freeze, lose their connection or are refused.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Redacted, Schema, Scope } from "effect"
import type postgres from "postgres"
import {
  Admin,
  DeadLetter,
  Decode,
  EmbeddedPostgres,
  Failures,
  Faults,
  Ingest,
  KafkaMemory,
  Pipeline,
  Postgres,
  Producer,
  Runner,
  Task,
  Topic,
} from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as Database from "../support/Database.ts"

const Reading = Schema.Struct({ id: Schema.Int })
const Readings = Topic.make({ name: "readings", description: "", owner: "", schema: Reading, partitions: 3 })
const Dlt = Topic.bytes({ name: "dlt", description: "", owner: "", partitions: 1 })

/** Nothing in the table keeps repeats out: what is there twice was written twice. */
const storing = (before: (ids: ReadonlyArray<number>) => Effect.Effect<void, Task.PipelineError>) =>
  Pipeline.make(
    "store",
    Ingest.topic(Readings).pipe(Decode.schema, Failures.routeAll(DeadLetter.to(Dlt))),
    Postgres.exactlyOnce({
      write: (rows: ReadonlyArray<typeof Reading.Type>, query) =>
        Effect.andThen(
          before(rows.map(({ id }) => id)),
          Effect.asVoid(query((sql) => sql`insert into readings ${sql(rows, "id")}`)),
        ),
    }),
  )

const pipeline = storing(() => Effect.void)

const options: Partial<Runner.Options> = {
  commitInterval: "20 millis",
  sessionTimeout: "400 millis",
  heartbeatInterval: "50 millis",
  rebalanceTimeout: "2 seconds",
  shutdownTimeout: "300 millis",
}

const kafka = KafkaMemory.layer({ minSessionTimeout: "100 millis" })

/** Values on three partitions in turn; -1 is not a reading. */
const send = (from: number, to: number) =>
  Producer.Producer.use(({ send }) =>
    send(Array.from({ length: to - from }, (_, i) => ({
      topic: "readings",
      partition: (from + i) % 3,
      key: null,
      value: Buffer.from((from + i) % 25 === 7 ? `not ${from + i}` : JSON.stringify({ id: from + i })),
    })))
  ).pipe(Effect.provide(Producer.layer()))

const good = (count: number) => Array.from({ length: count }, (_, i) => i).filter((i) => i % 25 !== 7)

const until = <E, R>(what: string, done: Effect.Effect<boolean, E, R>, seconds = 20) =>
  Effect.gen(function* () {
    for (let left = seconds * 50; left > 0; left--) {
      if (yield* done) return
      yield* Effect.sleep("20 millis")
    }
    return yield* Effect.die(new Error(`not within ${seconds} s: ${what}`))
  })

type Pool = Context.Service.Shape<typeof Postgres.Postgres>

const away = new Task.PipelineError({ reason: "Sink", retriable: true, message: "Postgres cannot be reached" })

/** What one step of a program's work with the database meets. */
type Meet = (step: number, where: "before" | "after") => Effect.Effect<void>

/** The database as one program sees it: every query, and the commit, is a step. */
const stepping = (base: Pool, meet: Meet) => {
  let step = 0
  const around = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      const at = ++step
      return Effect.tap(Effect.andThen(meet(at, "before"), effect), () => meet(at, "after"))
    })
  const service = Postgres.Postgres.of({
    query: (run) => around(base.query(run)),
    transaction: (run) => around(base.transaction((query) => run((one) => around(query(one))))),
  })
  return { service, steps: () => step }
}

interface Program {
  readonly fiber: Fiber.Fiber<void, unknown>
  readonly steps: () => number
  /** Nothing of it reaches Kafka any more. */
  readonly silence: Effect.Effect<void>
  /** As when the process is killed: its connections break, and nothing of it reaches anybody. */
  readonly kill: Effect.Effect<void>
}

/** Starts a program with connections of its own. */
const start = (
  url: string,
  connections: number,
  meet: Meet = () => Effect.void,
  own: {
    readonly pipeline?: typeof pipeline
    readonly options?: Partial<Runner.Options>
    readonly disturbed?: (base: Pool) => Pool
  } = {},
) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const base = yield* Layer.buildWithScope(
      Layer.fresh(Postgres.layer({ url: Redacted.make(url), connections, lockTimeout: "300 millis" })),
      scope,
    )
    const faults = yield* Layer.buildWithScope(Layer.fresh(Faults.layer), scope)
    const { service, steps } = stepping((own.disturbed ?? ((pool) => pool))(Context.get(base, Postgres.Postgres)), meet)
    const fiber = yield* Effect.forkDetach(
      Runner.run(own.pipeline ?? pipeline, { ...options, ...own.options }).pipe(
        Effect.provideService(Postgres.Postgres, service),
        Effect.provideContext(faults),
      ),
    )
    const silence = Context.get(faults, Faults.Faults).use(Faults.every(() => true, Faults.hang))
    let killed = false
    const end = Effect.ignore(Fiber.interrupt(fiber))
    const kill = Effect.suspend(() => {
      killed = true
      return Effect.andThen(silence, Scope.close(scope, Exit.void))
    })
    // A program that reaches nobody takes its time to give up, for which nothing has to wait.
    yield* Effect.addFinalizer(() => killed ? Effect.forkDetach(end) : Effect.andThen(end, kill))
    return { fiber, steps, silence, kill } satisfies Program
  })

interface Setting {
  readonly url: string
  readonly connections: number
  readonly ids: Effect.Effect<ReadonlyArray<number>>
  readonly sql: postgres.Sql
}

const prepare = (url: string, connections: number) =>
  Effect.gen(function* () {
    const sql = yield* Database.connect(url)
    yield* Effect.promise(() => sql`create table readings (id int not null)`)
    yield* Admin.createTopics([Readings, Dlt])
    const ids = Effect.promise(async () =>
      (await sql`select id from readings order by id`).map((row) => row["id"] as number)
    )
    return { url, connections, ids, sql } satisfies Setting
  })

const epochs = ({ sql }: Setting) =>
  Effect.promise(async () =>
    (await sql`select epoch from millrace_positions order by partition`).map((row) => Number(row["epoch"]))
  )

const deadLetters = KafkaMemory.Control.use(({ records }) => records("dlt"))

const refusals = (count: number) => Array.from({ length: count }, (_, i) => i).filter((i) => i % 25 === 7)

const allStored = ({ ids }: Setting, count: number) =>
  until("all stored", Effect.map(ids, ({ length }) => length >= good(count).length))

const check = (setting: Setting, count: number) =>
  Effect.gen(function* () {
    yield* allStored(setting, count)
    assert.deepStrictEqual(yield* setting.ids, good(count))
    yield* until(
      "all dead letters",
      Effect.map(deadLetters, (records) =>
        new Set(records.map(({ value }) => String(Buffer.from(value!)))).size >= refusals(count).length),
    )
  })

Database.describeWithDatabase("Postgres.exactlyOnce on a server", () => {
  const withServer = <E, R>(body: (setting: Setting) => Effect.Effect<void, E, R>) =>
    Effect.flatMap(Effect.flatMap(Database.fresh, (url) => prepare(url, 3)), body).pipe(
      Effect.scoped,
      Effect.provide(Layer.fresh(kafka)),
    )

  it.live("writes every row once, and publishes what was refused, in order, with its origin", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        yield* send(0, 100)
        yield* start(setting.url, setting.connections)
        yield* send(100, 200)
        yield* check(setting, 200)
        const letters = yield* deadLetters
        assert.deepStrictEqual(
          letters.map(({ value }) => String(Buffer.from(value!))).toSorted(),
          refusals(200).map((i) => `not ${i}`).toSorted(),
        )
        for (const { headers } of letters) {
          const named = new Map(headers.map(([name, value]) => [name, String(Buffer.from(value))]))
          assert.match(named.get("millrace-outbox-id")!, /^readings-[012]-\d+-0$/)
        }
      })
    ))

  it.live("keeps what the brokers never take, and neither stops nor holds up the others for it", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        const cluster = yield* Cluster
        yield* cluster.deleteTopics(["dlt"])
        yield* Admin.createTopics([{ ...Dlt, maxMessageBytes: 2_000 }])
        const large = { topic: "readings", partition: 0, key: null, value: Buffer.alloc(5_000, "x") }
        yield* Effect.provide(Producer.Producer.use(({ send }) => send([large])), Producer.layer())
        yield* send(0, 60)
        const first = yield* start(setting.url, setting.connections)
        yield* check(setting, 60)
        const kept = () => setting.sql`select topic, refused from millrace_outbox`
        yield* until("a refusal", Effect.map(Effect.promise(kept), ({ length }) => length === 1))
        const [row] = yield* Effect.promise(kept)
        assert.match(row!["refused"] as string, /topic dlt partition 0.*MESSAGE_TOO_LARGE/)
        yield* first.kill
        yield* start(setting.url, setting.connections)
        yield* send(60, 100)
        yield* check(setting, 100)
        yield* until("the others published", Effect.map(Effect.promise(kept), ({ length }) => length === 1))
        assert.isNotNull((yield* Effect.promise(kept))[0]!["refused"])
      })
    ))

  it.live("has the same rows when a program dies at any step of its work", () =>
    Effect.gen(function* () {
      const steps = yield* Effect.gen(function* () {
        let found = 0
        yield* withServer((setting) =>
          Effect.gen(function* () {
            yield* send(0, 60)
            const { steps } = yield* start(setting.url, setting.connections)
            yield* check(setting, 60)
            found = steps()
          })
        )
        return found
      })
      assert.isAtLeast(steps, 10)
      const cases = Array.from({ length: steps }, (_, i) =>
        (["before", "after"] as const).map((when) => [i + 1, when] as const)).flat()
      yield* Effect.forEach(cases, ([step, when]) =>
        withServer((setting) =>
          Effect.gen(function* () {
            yield* send(0, 60)
            const reached = yield* Deferred.make<void>()
            const first = yield* start(setting.url, setting.connections, (at, where) =>
              at === step && where === when
                ? Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
                : Effect.void)
            yield* Effect.raceFirst(Deferred.await(reached), allStored(setting, 60))
            yield* first.kill
            yield* start(setting.url, setting.connections)
            yield* check(setting, 60)
          })
        ).pipe(Effect.mapError((error) =>
          new Error(`${when} step ${step}`, { cause: error })
        )), { concurrency: 6 })
    }), 120_000)

  it.live("is not held up for long by a writer that freezes in a transaction, and undoes what it wrote", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        yield* send(0, 60)
        const frozen = yield* Deferred.make<void>()
        const thaw = yield* Deferred.make<void>()
        let inTransaction = 0
        const first = yield* start(setting.url, setting.connections, (_, where) =>
          where === "after" && ++inTransaction === 12
            ? Effect.andThen(Deferred.succeed(frozen, undefined), Deferred.await(thaw))
            : Effect.void)
        yield* Effect.raceFirst(Deferred.await(frozen), allStored(setting, 60))
        yield* first.silence
        yield* start(setting.url, setting.connections)
        yield* check(setting, 60)
        yield* Deferred.succeed(thaw, undefined)
        yield* send(60, 120)
        yield* check(setting, 120)
      })
    ))

  it.live("shuts out a program that has lost its partitions without knowing, until it has joined the group again", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        yield* send(0, 30)
        yield* start(setting.url, setting.connections)
        yield* check(setting, 30)
        const before = yield* epochs(setting)
        // As if another process had claimed everything.
        yield* Effect.promise(() => setting.sql`update millrace_positions set epoch = epoch + 1`)
        yield* send(30, 60)
        yield* check(setting, 60)
        assert.isTrue((yield* epochs(setting)).every((epoch, i) => epoch >= before[i]! + 2))
      })
    ))

  it.live("raises the epoch of everything with every assignment", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        yield* start(setting.url, setting.connections)
        yield* send(0, 30)
        yield* check(setting, 30)
        const alone = yield* epochs(setting)
        const second = yield* start(setting.url, setting.connections)
        const raised = (than: ReadonlyArray<number>) =>
          Effect.map(epochs(setting), (now) => now.every((epoch, i) => epoch > than[i]!))
        yield* until("raised for both", raised(alone))
        yield* send(30, 60)
        yield* check(setting, 60)
        const together = yield* epochs(setting)
        yield* second.kill
        yield* until("raised for the one that is left", raised(together))
        yield* send(60, 90)
        yield* check(setting, 90)
      })
    ))

  it.live("finds out what was committed when the answer is lost and the database then away", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        let losing = false
        let absent = false
        let lost = 0
        const disturbed = ({ query, transaction }: Pool): Pool => ({
          query: (run) => Effect.suspend(() => absent ? Effect.fail(away) : query(run)),
          transaction: (run) =>
            Effect.suspend(() => {
              if (absent) return Effect.fail(away)
              return Effect.flatMap(transaction(run), (done) => {
                if (!losing) return Effect.succeed(done)
                losing = false
                absent = true
                lost++
                return Effect.fail(away)
              })
            }),
        })
        yield* start(setting.url, setting.connections, undefined, { disturbed })
        yield* send(0, 30)
        yield* check(setting, 30)
        const before = yield* epochs(setting)
        for (let from = 30; from < 90; from += 30) {
          losing = true
          yield* send(from, from + 10)
          yield* until("an answer is lost", Effect.sync(() => absent))
          // What comes meanwhile is tried together with what was committed.
          yield* send(from + 10, from + 20)
          yield* Effect.sleep("200 millis")
          losing = from === 60
          absent = false
          yield* send(from + 20, from + 30)
          if (from === 60) {
            yield* until("another answer is lost", Effect.sync(() => lost === 3))
            absent = false
          }
          yield* check(setting, from + 30)
        }
        assert.deepStrictEqual(yield* epochs(setting), before)
      })
    ))

  it.live("goes on when locks on its positions are held for longer than it waits", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        yield* start(setting.url, setting.connections)
        yield* send(0, 30)
        yield* check(setting, 30)
        yield* Effect.promise(() => setting.sql`begin; lock table millrace_positions`.simple())
        yield* send(30, 60)
        yield* Effect.sleep("700 millis")
        yield* Effect.promise(() => setting.sql`rollback`)
        yield* check(setting, 60)
      })
    ))

  it.live("stops nobody for what passes while tasks are tried alone", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        const bad = new Task.PipelineError({ reason: "Sink", retriable: false, message: "no such reading" })
        const tried: Array<ReadonlyArray<number>> = []
        const own = storing((ids) =>
          Effect.suspend(() => {
            // The first that shares its fate with the bad one; then, once, alone.
            tried.push(ids)
            if (ids.includes(666)) return Effect.fail(bad)
            return ids.includes(2) && tried.filter((ids) => ids.includes(2) && !ids.includes(666)).length === 1
              ? Effect.fail(away)
              : Effect.void
          })
        )
        yield* Producer.Producer.use(({ send }) =>
          send([[0, 666], [1, 1], [2, 2]].map(([partition, id]) => ({
            topic: "readings",
            partition: partition!,
            key: null,
            value: Buffer.from(JSON.stringify({ id })),
          })))
        ).pipe(Effect.provide(Producer.layer()))
        yield* start(setting.url, setting.connections, undefined, { pipeline: own })
        yield* until("the good ones", Effect.map(setting.ids, ({ length }) => length >= 2))
        yield* send(4, 6)
        yield* until("the ones behind them", Effect.map(setting.ids, ({ length }) => length >= 4))
        assert.deepStrictEqual(yield* setting.ids, [1, 2, 4, 5])
      })
    ))

  it.live("believes the database, not the group, about positions", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        yield* send(0, 60)
        const first = yield* start(setting.url, setting.connections)
        yield* check(setting, 60)
        yield* Fiber.interrupt(first.fiber)
        const cluster = yield* Cluster
        const back = [0, 1, 2].map((partition) => ({ topic: "readings", partition, offset: 0, metadata: "" }))
        yield* cluster.offsetCommit({ group: "store", generation: -1, memberId: "" }, back)
        yield* start(setting.url, setting.connections)
        yield* send(60, 90)
        yield* check(setting, 90)
      })
    ))

  it.live("goes on where the database stands that was restored from a backup, whatever the group says", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        const { sql } = setting
        yield* send(0, 30)
        const first = yield* start(setting.url, setting.connections)
        yield* check(setting, 30)
        yield* Effect.promise(() => sql`create table backup as select * from millrace_positions`)
        yield* send(30, 60)
        yield* check(setting, 60)
        yield* Fiber.interrupt(first.fiber)
        yield* Effect.promise(() => sql`delete from readings where id >= 30`)
        yield* Effect.promise(() => sql`delete from millrace_positions`)
        yield* Effect.promise(() => sql`insert into millrace_positions select * from backup`)
        yield* start(setting.url, setting.connections)
        yield* check(setting, 60)
      })
    ))

  it.live("stops a task whose position in the database is above the end of the log, and no other", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        yield* send(0, 30)
        const first = yield* start(setting.url, setting.connections)
        yield* check(setting, 30)
        yield* Fiber.interrupt(first.fiber)
        yield* Effect.promise(() => setting.sql`update millrace_positions set next = 5000 where partition = 0`)
        const second = yield* start(setting.url, setting.connections)
        yield* send(31, 33)
        yield* until("the other partitions", Effect.map(setting.ids, (ids) => ids.includes(31) && !ids.includes(33)))
        const stopped = yield* Effect.andThen(Effect.exit(Fiber.interrupt(second.fiber)), Fiber.await(second.fiber))
        const message = Exit.isFailure(stopped) ? Cause.pretty(stopped.cause) : ""
        assert.include(message, "topic readings partition 0: position 5000 is above the end of the log, 10")
        assert.deepStrictEqual(yield* setting.ids, [...good(30), 31])
      })
    ))

  it.live("stops where its topic is deleted and created again, and reads the new one when it is started again", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        yield* send(0, 30)
        const first = yield* start(setting.url, setting.connections)
        yield* check(setting, 30)
        const cluster = yield* Cluster
        const { topics: [was] } = yield* cluster.metadata(["readings"])
        yield* until(
          "the group is told of which topic its positions are",
          Effect.map(
            cluster.offsetFetch("store", [{ topic: "readings", partition: 0 }], true),
            ([shown]) => shown!.metadata.includes(was!.id),
          ),
        )
        yield* cluster.deleteTopics(["readings"])
        yield* Effect.sleep("100 millis")
        yield* Admin.createTopics([Readings])
        yield* send(1_000, 1_030)
        const exit = yield* Fiber.await(first.fiber)
        const message = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""
        assert.include(message, "topic readings was deleted and created again")
        yield* start(setting.url, setting.connections)
        const added = Array.from({ length: 30 }, (_, i) => 1_000 + i).filter((i) => i % 25 !== 7)
        yield* until("the new ones", Effect.map(setting.ids, ({ length }) => length >= good(30).length + added.length))
        assert.deepStrictEqual(yield* setting.ids, [...good(30), ...added])
      })
    ))

  it.live("needs no positions of the group's once the database has its own", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        const strict = { options: { reset: "fail" as const, group: "other" } }
        yield* send(0, 30)
        const refused = yield* start(setting.url, setting.connections, undefined, strict)
        const exit = yield* Fiber.await(refused.fiber)
        assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "has no position")
        const first = yield* start(setting.url, setting.connections)
        yield* check(setting, 30)
        yield* Fiber.interrupt(first.fiber)
        // The other group has positions in the database and none in Kafka, as after a long rest.
        yield* Effect.promise(() => setting.sql`update millrace_positions set "group" = 'other'`)
        yield* start(setting.url, setting.connections, undefined, strict)
        yield* send(30, 60)
        yield* check(setting, 60)
      })
    ))

  it.live("goes on by itself when all its connections break", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        yield* start(setting.url, setting.connections)
        for (let from = 0; from < 200; from += 20) {
          yield* send(from, from + 20)
          yield* Effect.promise(() =>
            setting.sql`select pg_terminate_backend(pid) from pg_stat_activity
              where application_name = 'millrace' and datname = current_database()`
          )
        }
        yield* check(setting, 200)
      })
    ))

  it.live("stops only the task whose row the database refuses, and says why without the row", () =>
    withServer((setting) =>
      Effect.gen(function* () {
        yield* Effect.promise(() => setting.sql`alter table readings add constraint small check (id < 1000)`)
        yield* send(0, 60)
        const { fiber } = yield* start(setting.url, setting.connections)
        yield* check(setting, 60)
        yield* Producer.Producer.use(({ send }) =>
          send([{ topic: "readings", partition: 0, key: null, value: Buffer.from('{"id":123456789}') }])
        ).pipe(Effect.provide(Producer.layer()))
        yield* Effect.sleep("300 millis")
        yield* send(61, 63)
        yield* until("the other partitions", Effect.map(setting.ids, (ids) => ids.includes(61) && ids.includes(62)))
        const stopped = yield* Effect.exit(Fiber.interrupt(fiber)).pipe(Effect.andThen(Fiber.await(fiber)))
        const message = Exit.isFailure(stopped) ? Cause.pretty(stopped.cause) : ""
        assert.include(message, "constraint small")
        assert.include(message, "23514")
        assert.notInclude(message, "123456789")
      })
    ))

  it.live("says what is wrong with an address", () =>
    Effect.gen(function* () {
      const good = yield* Database.fresh
      const refused = (url: string) =>
        Effect.scoped(Layer.build(Postgres.layer({ url: Redacted.make(url), connections: 1, lockTimeout: "1 second" })))
          .pipe(
            Effect.flip,
          )
      const unknown = yield* refused(good.replace(/\/[^/]+$/, "/nowhere"))
      assert.instanceOf(unknown, Task.PipelineError)
      assert.include(unknown.message, "nowhere")
      assert.include(unknown.message, "3D000")
      const nobody = yield* refused(good.replace("millrace@", "nobody:secret@"))
      assert.include(nobody.message, "nobody")
      assert.notInclude(nobody.message, "secret")
    }).pipe(Effect.scoped))
})

describe("Postgres.exactlyOnce on the embedded database", () => {
  it.live("writes every row once, also after a restart", () =>
    Effect.gen(function* () {
      const url = Redacted.value(yield* EmbeddedPostgres.make)
      // It takes one connection at a time: the program's.
      yield* Admin.createTopics([Readings, Dlt])
      const database = Postgres.layer({ url: Redacted.make(url), connections: 1, lockTimeout: "1 second" })
      yield* Effect.gen(function* () {
        const { query } = yield* Postgres.Postgres
        yield* query((sql) => sql`create table readings (id int not null)`)
        const ids = Effect.map(query((sql) => sql`select id from readings order by id`), (rows) =>
          rows.map((row) => row["id"] as number))
        for (const count of [60, 120]) {
          yield* send(count - 60, count)
          const running = yield* Effect.forkChild(Runner.run(pipeline, options))
          yield* until(
            "all stored",
            Effect.map(ids, ({ length }) =>
              length >= good(count).length),
          )
          yield* Fiber.interrupt(running)
          assert.deepStrictEqual(yield* ids, good(count))
        }
      }).pipe(Effect.provide(database))
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(kafka))), 60_000)
})
