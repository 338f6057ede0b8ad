/** Lookups in a real Redis: what is read, and what is answered while it is away. */
import { assert, it } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer, Logger, Redacted, Schedule, Schema } from "effect"
import { spawnSync } from "node:child_process"
import { inspect } from "node:util"
import { createClient } from "@redis/client"
import { Lookup, RedisLookup } from "../../src/index.ts"
import * as Redis from "../support/Redis.ts"

const Device = Schema.Struct({ name: Schema.String, floor: Schema.Int })

const connected = (port: number, password = "") =>
  Layer.build(RedisLookup.layer({ url: Redacted.make(`redis://${password}127.0.0.1:${port}`) }))

/** Another client, to write with. */
const writer = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(() => createClient({ socket: { host: "127.0.0.1", port } }).connect()),
    (client) => Effect.sync(() => client.destroy()),
  )

const described = (answer: Lookup.Answer<unknown>) =>
  answer._tag === "Found" ? answer.value : answer._tag === "Missing" ? "missing" : answer.reason

Redis.describeWithRedis("RedisLookup", () => {
  it.live("reads values, fields of a hash, and hashes, many at a time, by their schema", () =>
    Effect.gen(function* () {
      const server = yield* Redis.server()
      const client = yield* writer(server.port)
      yield* Effect.promise(async () => {
        await client.mSet({
          "device:a": JSON.stringify({ name: "pump", floor: 1 }),
          "device:b": JSON.stringify({ name: "fan", floor: "ground" }),
          "device:c": "{",
          "name:a": "ann",
        })
        await client.lPush("device:list", "x")
        await client.hSet("floors", { a: "1", b: "upstairs" })
        await client.hSet("user:a", { name: "ann", floor: "3" })
        await client.hSet("user:b", { name: "ben" })
      })
      const context = yield* connected(server.port)
      const lookup = <V>(
        getAll: Parameters<typeof Lookup.make<V, RedisLookup.RedisError, RedisLookup.Redis>>[0]["getAll"],
      ) =>
        Effect.provideContext(
          Lookup.make<V, RedisLookup.RedisError, RedisLookup.Redis>({ name: "test", getAll: getAll! }),
          context,
        )
      const answers = <V>(lookup: Lookup.Lookup<V>, ...keys: Array<string>) =>
        Effect.map(lookup.getAll(keys), (answers) => answers.map(described))

      const devices = yield* lookup(RedisLookup.values({ prefix: "device:", value: Device }))
      assert.deepStrictEqual(
        yield* answers(devices, "a", "b", "c", "list", "none"),
        [{ name: "pump", floor: 1 }, "undecodable", "undecodable", "missing", "missing"],
      )
      const [, wrong, damaged] = yield* devices.getAll(["a", "b", "c"])
      assert.include((wrong as Lookup.Unavailable).message, "floor: Expected")
      assert.include((damaged as Lookup.Unavailable).message, "the value is not JSON")

      const names = yield* lookup(RedisLookup.values({ prefix: "name:", value: Schema.String, format: "text" }))
      assert.deepStrictEqual(yield* answers(names, "a", "b"), ["ann", "missing"])

      const floors = yield* lookup(RedisLookup.fields({ hash: "floors", value: Schema.Int }))
      assert.deepStrictEqual(yield* answers(floors, "a", "b", "c"), [1, "undecodable", "missing"])

      const users = yield* lookup(RedisLookup.hashes({
        prefix: "user:",
        value: Schema.Struct({ name: Schema.String, floor: Schema.FiniteFromString }),
      }))
      assert.deepStrictEqual(yield* answers(users, "a", "b", "c"), [
        { name: "ann", floor: 3 },
        "undecodable",
        "missing",
      ])

      const set = yield* Effect.provideContext(
        Lookup.reference({
          name: "set",
          load: RedisLookup.hash({ hash: "floors", value: Schema.Int }),
          every: "1 hour",
        }),
        context,
      )
      assert.deepStrictEqual(yield* answers(set, "a", "b", "c"), [1, "undecodable", "missing"])

      const wrongType = yield* lookup(RedisLookup.fields({ hash: "name:a", value: Schema.String }))
      const [refused] = yield* wrongType.getAll(["a"])
      assert.deepStrictEqual(refused, {
        _tag: "Unavailable",
        reason: "failed",
        message: `lookup test: Redis at 127.0.0.1:${server.port} refused a command (WRONGTYPE)`,
      })
    }))

  it.live("answers in time while the server hangs or is gone, and what is true when it is back", () =>
    Effect.gen(function* () {
      const server = yield* Redis.server()
      const set = (value: string) =>
        Effect.scoped(Effect.flatMap(writer(server.port), (client) => Effect.promise(() => client.set("a", value))))
      yield* set("1")
      const context = yield* connected(server.port)
      const lookup = yield* Effect.provideContext(
        Lookup.make({
          name: "test",
          getAll: RedisLookup.values({ value: Schema.Int }),
          timeout: "300 millis",
          cache: { ttl: 1, missingTtl: 0, failureTtl: 0, staleFor: "1 second" },
          fallback: (key) => key === "b" ? -1 : undefined,
        }),
        context,
      )
      const ask = Effect.map(lookup.getAll(["a", "b"]), ([a, b]) => [a!, b!] as const)
      const until = (is: (a: Lookup.Answer<number>) => boolean) =>
        Effect.gen(function* () {
          for (let left = 200; left > 0; left--) {
            const [a] = yield* ask
            if (is(a)) return
            yield* Effect.sleep("20 millis")
          }
          assert.fail("not within 4 seconds")
        })
      assert.deepStrictEqual((yield* ask).map(described), [1, "missing"])

      yield* server.freeze
      yield* Effect.sleep("20 millis")
      const [elapsed, [stale, fallback]] = yield* Effect.timed(ask)
      assert.deepInclude(stale, { value: 1, origin: "stale" })
      assert.deepInclude(fallback, { value: -1, origin: "fallback" })
      assert.isBelow(Duration.toMillis(elapsed), 1_500)
      yield* until((a) => a._tag === "Unavailable" && a.reason === "timeout")
      yield* server.thaw
      yield* until((a) => a._tag === "Found" && a.origin === "source")

      yield* server.stop
      yield* until((a) => a._tag === "Unavailable" && a.reason === "failed")
      const [gone] = yield* ask
      assert.include((gone as Lookup.Unavailable).message, "cannot be reached or closed the connection")
      yield* server.start
      yield* set("2")
      yield* until((a) => a._tag === "Found" && a.value === 2)
    }).pipe(Effect.provide(Logger.layer([]))))

  it.live("connects anew where a server takes everything and answers nothing", () =>
    Effect.gen(function* () {
      const server = yield* Redis.server()
      const url = Redacted.make(`redis://127.0.0.1:${server.port}`)
      const { use } = Context.get(
        yield* Layer.build(RedisLookup.layer({ url, patience: "300 millis" })),
        RedisLookup.Redis,
      )
      const id = use((client) => client.clientId())
      const first = yield* id
      yield* server.freeze
      const lost = yield* Effect.forkChild(Effect.flip(id))
      yield* Effect.sleep("400 millis")
      yield* Effect.flip(id)
      assert.include((yield* Fiber.join(lost)).message, "cannot be reached or closed the connection")
      yield* server.thaw
      const second = yield* Effect.retry(id, Schedule.spaced("20 millis"))
      assert.isAbove(second, first)
    }))

  it.live("waits for a server that is still starting, and says at once that a password is wrong", () =>
    Effect.gen(function* () {
      const server = yield* Redis.server("secret word")
      yield* Effect.scoped(connected(server.port, ":secret%20word@"))
      const refused = yield* Effect.flip(Effect.scoped(connected(server.port, ":wrong@")))
      assert.strictEqual(refused.message, `Redis at 127.0.0.1:${server.port} refused a command (WRONGPASS)`)
      yield* server.stop
      yield* Effect.forkChild(Effect.andThen(Effect.sleep("1500 millis"), server.start))
      const context = yield* connected(server.port, ":secret%20word@")
      assert.strictEqual(
        yield* Context.get(context, RedisLookup.Redis).use((client) => client.ping()),
        "PONG",
      )
    }).pipe(Effect.provide(Logger.layer([]))))
})

it.effect("refuses at once an address that is none, and does not repeat its password", () =>
  Effect.gen(function* () {
    const no = [
      "",
      "geheim",
      "http://u:geheim@h",
      "redis://u:geheim@h:99999",
      "redis://u:geheim@h/db",
      "redis://u:geheim%zz@h",
    ]
    for (const url of no) {
      const failure = yield* Effect.flip(Effect.scoped(Layer.build(RedisLookup.layer({ url: Redacted.make(url) }))))
      assert.isFalse(failure.retriable)
      assert.include(failure.message, "the address of Redis is none")
      assert.notInclude(inspect(failure, { depth: 9 }), "geheim")
    }
  }))

it("loads the client only where somebody connects", () => {
  const program = `
    const { createRequire } = await import("node:module")
    const loaded = () => Object.keys(createRequire("${import.meta.url}").cache).some((file) => file.includes("@redis"))
    await import("./src/index.ts")
    const before = loaded()
    await import("@redis/client")
    console.log(before, loaded())
  `
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
    cwd: new URL("../..", import.meta.url),
    encoding: "utf8",
  })
  assert.strictEqual(stdout, "false true\n", stderr)
})
