/** The database of the simulation answers the Postgres guarantee as a real server does: one suite for both. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Fiber, Layer, Redacted } from "effect"
import { topics } from "../../schemas/index.ts"
import { store, tables } from "../../src/clickstream/Store.ts"
import * as Tables from "../../src/clickstream/Tables.ts"
import { Admin, KafkaMemory, Pipeline, Postgres } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as Database from "../support/Database.ts"
import { poolOf } from "./database/MemoryPostgres.ts"
import { Storage } from "./database/Storage.ts"

const naming = { prefix: "", keyBy: "user" } as const
const { counts } = topics(naming)
const pipeline = store(naming)[1] as Pipeline.Pipeline<unknown, unknown>
const member = { generation: 1, memberId: "member" }
const task = { flow: 0, partition: 0 }

const row = (user: string, clicks: number) => ({ user, minute: 0, clicks, final: false })

const work = (from: number, to: number, values: ReadonlyArray<unknown>, refused: string | null = null) =>
  ({
    task,
    batches: [{
      source: { topic: { name: counts.name }, partition: 0, offsets: [from] },
      values,
      outgoing: refused === null ? [] : [{ topic: "user.clicks.dlt", row: 0, key: null, value: Buffer.from(refused) }],
    }],
    changes: [],
    from: new Map([[counts.name, from]]),
    positions: new Map([[counts.name, to]]),
    clocks: new Map(),
  }) as unknown as Pipeline.Work

const open = Effect.suspend(() =>
  pipeline.guarantee.open(Pipeline.plan(pipeline)) as Effect.Effect<Pipeline.Committer<unknown>, never, Cluster>
)

type Pool = Context.Service.Shape<typeof Postgres.Postgres>

/** The rows of the table; a pool in memory shows its storage instead. */
type Rows = Effect.Effect<ReadonlyArray<{ readonly user: unknown; readonly clicks: unknown }>, unknown>

const suite = (name: string, database: Layer.Layer<Postgres.Postgres, unknown>, rowsOf: (pool: Pool) => Rows) => {
  const within = <A, E>(test: Effect.Effect<A, E, Postgres.Postgres | Cluster>) =>
    Effect.scoped(Effect.andThen(Admin.createTopics(Object.values(topics(naming))), test)).pipe(
      Effect.provide([database, KafkaMemory.layer()]),
    )
  const stored = Effect.gen(function* () {
    const rows = yield* rowsOf(yield* Postgres.Postgres)
    return rows.map(({ user, clicks }) => `${user} ${clicks}`).sort()
  })

  describe(name, () => {
    it.live("refuses what a former owner writes, and takes the rest once", () =>
      within(Effect.gen(function* () {
        const [first, second] = [yield* open, yield* open]
        const claim = (of: typeof first) =>
          Effect.map(of.claim([task], member), ([claim]) => claim!.positions.get(counts.name))
        assert.strictEqual(yield* claim(first), 0)
        yield* first.commit([work(0, 3, [row("ann", 1), row("ben", 1)])], member)
        assert.strictEqual(yield* claim(second), 3)
        const late = yield* Effect.flip(first.commit([work(3, 5, [row("ann", 9)])], member))
        assert.strictEqual(late.reason, "Fenced")
        yield* second.commit([work(3, 6, [row("ann", 2), row("ann", 3)], "damaged")], member)
        const again = yield* Effect.flip(second.commit([work(3, 6, [row("ann", 8)])], member))
        assert.strictEqual(again.reason, "Fenced")
        assert.deepStrictEqual(yield* stored, ["ann 3", "ben 1"])
        assert.strictEqual(yield* claim(first), 6)
        const control = yield* KafkaMemory.Control
        const letters = Effect.map(control.records("user.clicks.dlt"), (all) => all.map(({ value }) => String(value)))
        // Published behind the commit, where the outbox is being emptied already.
        for (let left = 100; left > 0 && (yield* letters).length === 0; left--) yield* Effect.sleep("50 millis")
        assert.deepStrictEqual(yield* letters, ["damaged"])
      }) as Effect.Effect<void, unknown, Postgres.Postgres | Cluster>), 30_000)

    it.live(
      "makes a writer wait for another's rows, and ends a transaction that stands idle",
      () =>
        within(Effect.gen(function* () {
          const pool = yield* Postgres.Postgres
          const write = tables("").counts.write
          const slow = yield* Effect.forkChild(
            pool.transaction((query) => Effect.andThen(write([row("ann", 1)], query), Effect.sleep("300 millis"))),
          )
          yield* Effect.sleep("100 millis")
          yield* pool.transaction((query) => write([row("ann", 2)], query))
          yield* Fiber.join(slow)
          assert.deepStrictEqual(yield* stored, ["ann 2"])
          const idle = pool.transaction((query) =>
            Effect.andThen(write([row("ann", 3)], query), Effect.sleep("1600 millis"))
          )
          assert.strictEqual((yield* Effect.flip(idle)).retriable, true)
          assert.deepStrictEqual(yield* stored, ["ann 2"])
        }) as Effect.Effect<void, unknown, Postgres.Postgres | Cluster>),
      30_000,
    )
  })
}

const storages = new WeakMap<Pool, Storage>()
const memory = Layer.effect(
  Postgres.Postgres,
  Effect.map(Clock.clockWith(Effect.succeed), (clock) => {
    const storage = new Storage(clock, 1_000)
    const pool = poolOf(storage)
    storages.set(pool, storage)
    return pool
  }),
)

suite(
  "the database of the simulation",
  memory,
  (pool) => Effect.sync(() => [...storages.get(pool)!.rows("clicks_per_minute").values()] as never),
)

Database.describeWithDatabase("a real Postgres", () =>
  suite(
    "the same",
    Layer.unwrap(Effect.map(Database.fresh, (url) => {
      const layer = Postgres.layer({ url: Redacted.make(url), connections: 4, lockTimeout: "1 second" })
      return Layer.effectDiscard(Tables.migrate()).pipe(Layer.provideMerge(layer))
    })),
    (pool) =>
      Effect.map(pool.query((sql) => sql`select "user", clicks from clicks_per_minute`), (rows) => [...rows] as never),
  ))
