/**
 * Programs as processes of their own that are stopped with SIGTERM and started again at random moments, while messages
 * come over HTTP: each ends with 0 and in time, a request that is being answered gets its answer, and every message that
 * was answered with 200 is in the topics exactly once, every other at most once.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { randomUUID } from "node:crypto"
import { connect } from "node:net"
import { topics } from "../../schemas/index.ts"
import { Contents, KafkaClient } from "../../src/index.ts"
import * as Broker from "../support/Broker.ts"
import * as Program from "../support/Program.ts"
import { Dice } from "../support/Seeds.ts"

const host = "127.0.0.1"

const continues = "HTTP/1.1 100 Continue\r\n\r\n"

const message = (messageId: string) =>
  JSON.stringify({ messageId, anonymousId: messageId.slice(0, 1), event: "Seen", writeKey: "demo" })

/** Sends a whole request; answers whether it was answered with 200. */
const post = (port: number, messageId: string) =>
  Effect.promise(() =>
    fetch(`http://${host}:${port}/v1/track`, {
      method: "POST",
      headers: { "content-type": "application/json", connection: "close" },
      body: message(messageId),
    }).then((answer) => answer.arrayBuffer().then(() => answer.status === 200), () => false)
  )

/**
 * Sends the head of a request and, once the program has said that it reads the body, the half of that; the rest is sent by
 * `finish`, which answers what is said.
 */
const begin = (port: number, messageId: string) =>
  Effect.promise(() =>
    new Promise<{ readonly finish: Effect.Effect<string> }>((resolve, reject) => {
      const body = message(messageId)
      const socket = connect(port, host, () => {
        socket.write(
          `POST /v1/track HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n` +
            `Expect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n`,
        )
        let said = ""
        socket.on("data", (chunk) => {
          said += String(chunk)
          if (said !== continues) return
          said = ""
          socket.write(body.slice(0, 20))
          resolve({ finish: Effect.promise(() => (socket.write(body.slice(20)), closed)) })
        })
        const closed = new Promise<string>((resolve) => socket.on("close", () => resolve(said)))
      })
      socket.on("error", reject)
    })
  )

/** A program that listens, and its port. */
const listening = Effect.fnUntraced(function* (env: Readonly<Record<string, string>>) {
  const program = yield* Program.start("collect", {
    env: { ...env, HOST: host, PORT: "0", MAX_ANSWER_TIME: "18 seconds" },
  })
  const where = /http:\/\/(?:127\.0\.0\.1|0\.0\.0\.0):(\d+)/
  yield* Program.says(program, where, 120)
  return { program, port: Number(where.exec(program.output())![1]) }
})

/** Stops a program; it must end with 0, within its shutdown's time-out. */
const stopped = Effect.fnUntraced(function* (program: Program.Program) {
  yield* program.signal("SIGTERM")
  const end = yield* Effect.timeout(program.ended, "25 seconds")
  assert.deepStrictEqual([end.code, end.signal], [0, null], end.output)
})

Broker.describeWithBroker("programs that are told to stop", () => {
  it.live("lose nothing and repeat nothing, and answer what they are being asked", () =>
    Effect.gen(function* () {
      const brokers = yield* Broker.shared
      const prefix = `stop-${randomUUID().slice(0, 8)}`
      const env = { KAFKA_BROKERS: brokers.join(","), PREFIX: prefix, HASH_KEY: "test" }
      const dice = new Dice(1)
      const answered = new Set<string>()
      const sent = new Set<string>()
      let port: number | undefined

      const sending = yield* Effect.forkChild(Effect.forever(Effect.gen(function* () {
        if (port !== undefined) {
          const id = randomUUID()
          sent.add(id)
          if (yield* post(port, id)) answered.add(id)
        }
        yield* Effect.sleep("5 millis")
      })))

      const processing = yield* Effect.forkChild(Effect.forEach(["enrich", "aggregate"] as const, (name) =>
        Effect.gen(function* () {
          for (let stops = 0; stops < 2; stops++) {
            const program = yield* Program.start(name, { env })
            yield* Program.says(program, /Kafka: /, 120)
            yield* Effect.sleep(dice.int(0, 2_000))
            yield* stopped(program)
          }
          yield* Program.start(name, { env })
        }), { concurrency: "unbounded" }))

      for (let stops = 0; stops < 2; stops++) {
        const collector = yield* listening(env)
        port = collector.port
        yield* Effect.sleep(dice.int(500, 3_000))
        const ids = Array.from({ length: 5 }, () =>
          randomUUID())
        const asked = yield* Effect.forEach(ids, (id) => begin(collector.port, id))
        const stopping = yield* Effect.forkChild(stopped(collector.program))
        yield* Effect.sleep("300 millis")
        const answers = yield* Effect.forEach(asked, ({ finish }) => finish, { concurrency: "unbounded" })
        for (const answer of answers) {
          assert.match(answer, /^HTTP\/1\.1 200 /)
        }
        for (const id of ids) answered.add(id)
        yield* Fiber.join(stopping)
        port = undefined
      }
      yield* Fiber.interrupt(sending)
      yield* Fiber.join(processing)

      const to = topics({ prefix })
      const read = <A>(topic: Parameters<typeof Contents.read<A>>[0]) =>
        Stream.runCollect(Contents.read(topic)).pipe(Effect.map((all) => all.flatMap(({ value }) => value ?? [])))
      const settled = Effect.gen(function* () {
        for (let left = 240; left > 0; left--) {
          const clicks = yield* read(to.enriched)
          const ids = clicks.map(({ eventId }) => eventId)
          const counts = yield* Contents.latest(to.counts)
          const counted = [...counts.values()].reduce((sum, { clicks }) => sum + clicks, 0)
          if ([...answered].every((id) => ids.includes(id)) && counted >= ids.length) return { ids, counted }
          yield* Effect.sleep("250 millis")
        }
        return yield* Effect.die(new Error("not everything that was answered is counted"))
      })
      const { ids, counted } = yield* Effect.provide(settled, KafkaClient.layer({ brokers }))
      assert.isAtLeast(answered.size, 10)
      assert.strictEqual(new Set(ids).size, ids.length)
      assert.strictEqual(counted, ids.length)
    }).pipe(Effect.scoped), 300_000)
})
