/** The dashboard's figures: right, read once for all viewers, and back by themselves after trouble. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Redacted, Stream } from "effect"
import type postgres from "postgres"
import * as LiveFigures from "../../../src/clickstream/dashboard/LiveFigures.ts"
import * as Tables from "../../../src/clickstream/Tables.ts"
import { KafkaMemory, Postgres, Task } from "../../../src/index.ts"
import * as Database from "../../support/Database.ts"

const minute = 60_000

/** Clicks of the last hour and of yesterday, and what must be shown of them. */
const fill = (sql: postgres.Sql) =>
  Effect.promise(async () => {
    const now = Date.now()
    const iso = (ago: number) => new Date(now - ago).toISOString()
    const clicks = Array.from({ length: 300 }, (_, i) => ({
      event_id: `e${i}`,
      kind: "page",
      user: `u${i % 7}`,
      event_time: iso(i * 20_000),
      time_rule: "given",
      received_at: iso(i * 20_000),
      path: `/p${i % 5}`,
      bot: false,
      source: "test",
      session_id: `s${i % 7}`,
      session_number: 1,
    }))
    await sql`insert into clicks ${sql(clicks)}`
    const counts = new Map<string, { user: string; minute: string; clicks: number; final: boolean }>()
    for (const { user, event_time } of clicks) {
      const at = new Date(Math.floor(Date.parse(event_time) / minute) * minute).toISOString()
      const one = counts.get(`${user}@${at}`) ?? { user, minute: at, clicks: 0, final: false }
      one.clicks++
      counts.set(`${user}@${at}`, one)
    }
    await sql`insert into clicks_per_minute ${sql([...counts.values()])}`
    await sql`insert into sessions (session_id, "user", started_at, last_at, clicks) values
      ('s0', 'u0', ${iso(40 * minute)}, ${iso(minute)}, 3), ('s1', 'u1', ${iso(90 * minute)}, ${iso(80 * minute)}, 3)`
    const letter = (offset: number, reason: string, ago: number) => ({
      ...{
        topic: "dlt",
        partition: 0,
        offset,
        reason,
        field: "",
        message: "",
        program: "test",
        original_topic: null,
        at: iso(ago),
      },
    })
    await sql`insert into dead_letters ${
      sql([
        letter(0, "DecodeError", 0),
        letter(1, "DecodeError", minute),
        letter(2, "Late", 0),
        letter(3, "Old", 25 * 60 * minute),
      ])
    }`
    return { clicks, now }
  })

const count = (names: ReadonlyArray<string>) => {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
}

const figures = (url: string, options?: LiveFigures.Options) =>
  LiveFigures.layer("", options).pipe(
    Layer.provideMerge(
      Layer.merge(
        KafkaMemory.layer(),
        Postgres.layer({ url: Redacted.make(url), connections: 2, lockTimeout: "1 second" }),
      ),
    ),
  )

Database.describeWithDatabase("LiveFigures", () => {
  it.live("are what an independent computation finds", () =>
    Effect.gen(function* () {
      const url = yield* Database.fresh
      const context = yield* Layer.build(figures(url))
      yield* Effect.provideContext(Tables.migrate(), context)
      const { clicks, now } = yield* fill(yield* Database.connect(url))
      const { events } = Context.get(context, LiveFigures.LiveFigures)
      const [current, slow] = yield* Stream.runCollect(Stream.take(events, 2))
      assert.strictEqual(current!.name, "current")
      assert.strictEqual(slow!.name, "slow")
      if (current!.name !== "current" || slow!.name !== "slow") return
      const within = (ago: number) => clicks.filter(({ event_time }) => Date.parse(event_time) > now - ago)
      const byMinute = count(
        within(60 * minute).map(({ event_time }) => String(Math.floor(Date.parse(event_time) / minute) * minute)),
      )
      const shown = new Map(current!.data.minutes)
      // Of the minute an hour ago only a part is within the hour: it is not compared.
      for (const [at, clicks] of byMinute) {
        if (Number(at) > now - 59 * minute) assert.strictEqual(shown.get(Number(at)), clicks, at)
      }
      assert.strictEqual(current!.data.activeSessions, 1)
      assert.strictEqual(current!.data.newest, Math.floor(now / minute) * minute)
      assert.strictEqual(current!.data.first, Math.floor((now - 299 * 20_000) / minute) * minute)
      assert.isNull(current!.data.before, "there is no whole hour before the last one")
      assert.deepStrictEqual(slow!.data.pages, count(within(15 * minute).map(({ path }) => path)))
      assert.deepStrictEqual(slow!.data.deadLetters, [["DecodeError", 2]])
      assert.strictEqual(slow!.data.late, 1)
    }).pipe(Effect.scoped))

  it.live(
    "follow the session gap that is set, compare with the hour before, and tell how fast clicks are stored",
    () =>
      Effect.gen(function* () {
        const url = yield* Database.fresh
        const context = yield* Layer.build(figures(url, { sessionGap: "90 minutes" }))
        yield* Effect.provideContext(Tables.migrate(), context)
        const sql = yield* Database.connect(url)
        yield* fill(sql)
        const old = new Date(Math.floor(Date.now() / minute - 150) * minute).toISOString()
        yield* Effect.promise(() => sql`insert into clicks_per_minute values ('u0', ${old}, 7, true)`)
        // A backlog: what is stored now came long ago.
        yield* Effect.forkScoped(Effect.forever(Effect.andThen(
          Effect.promise(() =>
            sql`insert into clicks (event_id, kind, "user", event_time, time_rule, received_at, bot, source, session_id,
            session_number) select gen_random_uuid(), 'page', 'u', ${old}, 'given', ${old}, false, 'test', 's', 1
            from generate_series(1, 100)`
          ),
          Effect.sleep("100 millis"),
        )))
        const { events } = Context.get(context, LiveFigures.LiveFigures)
        const seen = yield* Stream.runCollect(Stream.takeUntil(
          Stream.filter(events, (event) => event.name === "current"),
          (event) => event.name === "current" && event.data.rate !== null && event.data.rate > 0,
        ))
        const [first, last] = [seen[0]!, seen.at(-1)!]
        if (first.name !== "current" || last.name !== "current") return
        assert.isNull(first.data.rate)
        assert.isAbove(last.data.rate!, 100)
        assert.strictEqual(first.data.activeSessions, 2)
        assert.strictEqual(first.data.sessionGap, 90 * minute)
        // Three clicks a minute, from an hour to 100 minutes ago.
        assert.approximately(first.data.before!, 120, 6)
      }).pipe(Effect.scoped),
    40_000,
  )

  it.live("are read once for all who watch, and not while nobody does", () =>
    Effect.gen(function* () {
      const url = yield* Database.fresh
      const base = yield* Layer.build(
        Postgres.layer({ url: Redacted.make(url), connections: 2, lockTimeout: "1 second" }),
      )
      yield* Effect.provideContext(Tables.migrate(), base)
      const real = Context.get(base, Postgres.Postgres)
      let readings = 0
      let away = false
      const postgres = Postgres.Postgres.of({
        ...real,
        query: (run) =>
          Effect.suspend(() => {
            readings++
            return away
              ? Effect.fail(new Task.PipelineError({ reason: "Sink", retriable: true, message: "away" }))
              : real.query(run)
          }),
      })
      const context = yield* Layer.build(
        LiveFigures.layer("").pipe(
          Layer.provide(Layer.merge(KafkaMemory.layer(), Layer.succeed(Postgres.Postgres, postgres))),
        ),
      )
      const { events, viewers } = Context.get(context, LiveFigures.LiveFigures)
      yield* Effect.sleep("200 millis")
      assert.strictEqual(readings, 0)

      const seen: Array<ReadonlyArray<LiveFigures.Event>> = []
      const watch = () => {
        const events_: Array<LiveFigures.Event> = []
        seen.push(events_)
        return Effect.forkChild(Stream.runForEach(events, (event) => Effect.sync(() => events_.push(event))))
      }
      const fibers = yield* Effect.forEach(Array.from({ length: 20 }), watch)
      const until = (what: string, done: () => boolean) =>
        Effect.gen(function* () {
          for (let left = 200; left > 0 && !done(); left--) yield* Effect.sleep("50 millis")
          assert.isTrue(done(), what)
        })
      const has = (name: LiveFigures.Event["name"]) =>
        seen.every((events) => events.some((event) => event.name === name))
      yield* until("everybody sees figures", () => has("current") && has("slow"))
      assert.strictEqual(yield* viewers, 20)
      assert.isBelow(readings, 20)

      away = true
      yield* until("everybody hears of trouble", () => has("trouble"))
      away = false
      const recovered = (event: LiveFigures.Event) => event.name === "trouble" && event.data.since === null
      yield* until("and of its end", () => seen.every((events) => events.some(recovered)))

      for (const fiber of fibers) yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* viewers, 0)
      yield* Effect.sleep("1100 millis")
      const then = readings
      yield* Effect.sleep("1500 millis")
      assert.strictEqual(readings, then)
    }).pipe(Effect.scoped), 40_000)
})
