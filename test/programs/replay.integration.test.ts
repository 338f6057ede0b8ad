/** Replays of the clickstream on Apache Kafka and Postgres, by the program. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { topics } from "../../schemas/index.ts"
import { count } from "../../src/clickstream/Count.ts"
import { enrich } from "../../src/clickstream/Enrich.ts"
import * as Import from "../../src/clickstream/Import.ts"
import * as Names from "../../src/clickstream/Names.ts"
import { store } from "../../src/clickstream/Store.ts"
import * as Tables from "../../src/clickstream/Tables.ts"
import { Admin, KafkaClient, Postgres, Producer, Replay, Runner } from "../../src/index.ts"
import { caughtUp } from "../../src/programs/caughtUp.ts"
import * as Broker from "../support/Broker.ts"
import * as Database from "../support/Database.ts"
import * as Program from "../support/Program.ts"

/** The first thousand lines of the sample log. */
const log = Effect.acquireRelease(
  Effect.sync(() => {
    const dir = mkdtempSync(join(tmpdir(), "replay-"))
    const lines = readFileSync(join(import.meta.dirname, "../../data/apache_access_combined_10k.log"), "utf8").split(
      "\n",
    )
    writeFileSync(join(dir, "log"), lines.slice(0, 1_000).join("\n"))
    return dir
  }),
  (dir) => Effect.sync(() => rmSync(dir, { recursive: true, force: true })),
)

Broker.describeWithBroker("replay on Apache Kafka and Postgres", () => {
  it.live(
    "fills tables again in place, runs a shadow that is the same, and shows a mistake",
    () =>
      Effect.gen(function* () {
        const url = yield* Database.fresh
        const sql = yield* Database.connect(url)
        const brokers = yield* Broker.shared
        const dir = yield* log
        const naming = { prefix: `replay-${randomUUID().slice(0, 8)}`, keyBy: "user" } as const
        const table = `${Names.tablePrefix(naming)}clicks`
        const env = {
          KAFKA_BROKERS: brokers.join(","),
          DATABASE_URL: url,
          PREFIX: naming.prefix,
          LOG_LEVEL: "Warn",
        }
        const replay = (...args: ReadonlyArray<string>) =>
          Effect.flatMap(Program.start("replay", { args, env }), ({ ended }) => ended)
        const answers = Effect.fnUntraced(function* (code: number, ...args: ReadonlyArray<string>) {
          const end = yield* replay(...args)
          assert.strictEqual(end.code, code, end.output)
          return end.output
        })
        const tables = Effect.promise(async () =>
          JSON.stringify(
            await Promise.all(
              ["clicks", "clicks_per_minute", "sessions"].map((name) =>
                sql.unsafe(`select * from ${Names.tablePrefix(naming)}${name} t order by t::text`)
              ),
            ),
          )
        )
        const enriching = enrich(naming, { repeats: {}, sessions: {} })
        const storing = store(naming)

        yield* Effect.gen(function* () {
          yield* Admin.createTopics(Object.values(topics(naming)))
          yield* Tables.migrate(Names.tablePrefix(naming))
          yield* Import.run({
            file: join(dir, "log"),
            naming,
            rate: undefined,
            hashKey: Redacted.make("only for tests"),
            program: { name: "test", version: "0" },
            progress: () => {},
            // Leaders of topics that were just made may not know of it yet.
          }).pipe(Effect.retry({ schedule: Schedule.spaced("1 second"), times: 10 }))
          const process = Effect.gen(function* () {
            const pipelines = [enriching, count(naming, { grace: "10 minutes" }), ...storing]
            const running = yield* Effect.forkChild(
              Effect.forEach(pipelines, (pipeline) => Runner.run(pipeline as typeof storing[0]), {
                concurrency: "unbounded",
              }),
            )
            yield* caughtUp(pipelines)
            const active = yield* answers(3, "plan", "store-clicks", "--from", "earliest")
            yield* Fiber.interrupt(running)
            return active
          })
          assert.match(yield* process, /refused \(Active\): group \S+ has 1 member at work/)
          const before = yield* tables
          assert.isAbove(before.length, 100_000)

          // In place: what is missing in a table comes back, and nothing is there twice.
          const plan = yield* Replay.plan(storing[0], { from: Replay.earliest })
          assert.match(plan.sink!.idempotentBy!, /clicks by event_id/)
          yield* Effect.promise(() => sql.unsafe(`delete from ${table} where event_id < '8'`))
          assert.notStrictEqual(yield* tables, before)
          const file = join(dir, "clicks.json")
          yield* answers(0, "run", "store-clicks", "--from", "earliest", "--file", file)
          assert.strictEqual(yield* tables, before)
          yield* Effect.forEach(storing.slice(1, 3), (pipeline) => {
            const journal = Replay.file(join(dir, `${pipeline.name}.json`))
            return Replay.run(pipeline, { from: Replay.earliest, journal })
          }, { concurrency: "unbounded" })
          assert.strictEqual(yield* tables, before)
          assert.include(yield* answers(0, "undo", file), "is undone")

          // With state: not in place without a word about it, but beside.
          const shadow = join(dir, "shadow.json")
          yield* answers(0, "shadow", "enrich", "--from", "earliest", "--file", shadow)
          const same = yield* Replay.diff(enriching, yield* Replay.load(shadow))
          assert.strictEqual(same.differences, 0)
          const { records, keys } = same.topics.find(({ topic }) => topic === topics(naming).enriched.name)!
          assert.isAbove(keys, 100)
          assert.deepStrictEqual(records, { live: 1_000, shadow: 1_000 })

          const mistaken = enrich(naming, { repeats: {}, sessions: { gap: "1 second" } })
          const mistake = join(dir, "mistake.json")
          yield* Replay.shadow(mistaken, { from: Replay.earliest, journal: Replay.file(mistake) })
          assert.match(yield* answers(4, "diff", mistake, "--first", "2"), /sha256:[0-9a-f]{12}: differs/)
          const journal = Replay.file(join(dir, "cut.json"))
          const cut = yield* Replay.cutOver(enriching, yield* Replay.load(shadow), { journal })
          yield* Replay.undo(enriching, cut, { journal })
          for (const path of [shadow, mistake]) {
            yield* Replay.forget(enriching, yield* Replay.load(path), { journal: Replay.file(path) })
          }
        }).pipe(Effect.provide(
          Layer.mergeAll(
            Producer.layer(),
            Postgres.layer({ url: Redacted.make(url), connections: 6, lockTimeout: "5 seconds" }),
          ).pipe(Layer.provideMerge(KafkaClient.layer({ brokers }))),
        ))
      }),
    600_000,
  )
})
