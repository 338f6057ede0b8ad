/** Commands and events on Apache Kafka, by programs that are killed: no answer is missing, and nothing happens twice. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Result, Stream } from "effect"
import { Buffer } from "node:buffer"
import { orderTopics } from "../../schemas/orders/index.ts"
import { Admin, Contents, Decider, KafkaClient, Topic } from "../../src/index.ts"
import { order, type OrderEvent } from "../../src/orders/Order.ts"
import { pipelines } from "../../src/orders/Names.ts"
import * as Broker from "../support/Broker.ts"
import { byHand } from "../support/OrdersByHand.ts"
import * as Metrics from "../support/Metrics.ts"
import * as Ports from "../support/Ports.ts"
import * as Program from "../support/Program.ts"

const to = orderTopics()
const commands = 6_000

const values = <A>(topic: Topic.Topic<A>) =>
  Effect.map(
    Stream.runCollect(Contents.read(topic)),
    (contents) => contents.map(({ value }) => value).filter((value) => value !== null),
  )

/** A topic's values as they stand in it. */
const texts = (topic: Topic.Any) =>
  Effect.map(
    values(Topic.bytes({ ...topic, key: [topic.key!, () => null], retention: "1 day" })),
    (all) => all.map((value) => Buffer.from(value).toString("utf8")),
  )

Broker.describeWithOwnBroker("orders on Apache Kafka", () => {
  it.live("are decided once by programs that are killed, and averaged as by hand", () =>
    Effect.gen(function* () {
      const broker = yield* Broker.own("--set", "group.min.session.timeout.ms=1000")
      const env = { KAFKA_BROKERS: broker.brokers.join(","), SESSION_TIMEOUT: "2 seconds", LOG_LEVEL: "Warn" }
      const sender = { args: ["--commands", String(commands), "--seed", "3", "--rate", "600"] }

      const start = Effect.fnUntraced(function* (options: Program.Options) {
        const port = yield* Effect.promise(Ports.free)
        const program = yield* Program.start("orders", { ...options, env: { ...env, METRICS_PORT: String(port) } })
        return { ...program, hasDecided: (count: number) => Metrics.untilRead(port, to.commands.name, count) }
      })

      // One that sends and decides, and one that decides; each is killed, and the commands are sent once more.
      let other = yield* start({})
      const first = yield* start(sender)
      yield* first.hasDecided(500)
      yield* other.hasDecided(500)
      yield* other.signal("SIGKILL")
      other = yield* start({})
      yield* other.hasDecided(800)
      yield* first.signal("SIGKILL")
      assert.strictEqual((yield* first.ended).signal, "SIGKILL")
      const second = yield* start(sender)
      yield* second.hasDecided(1_500)
      yield* other.signal("SIGKILL")
      const { code, output } = yield* second.ended
      assert.strictEqual(code, 0, output)

      yield* Effect.gen(function* () {
        const lags = yield* Admin.lag(Object.values(pipelines({ prefix: "" })))
        assert.deepStrictEqual(lags.filter(({ records }) => records > 0), [])
        const sent = yield* texts(to.commands)
        assert.isAbove(sent.length, commands + 1_000)
        const expected = byHand(sent.map((value) => ({ value })))
        assert.isAbove(expected.repeated, 1_000)

        const averages = yield* Contents.latest(to.averages)
        assert.deepStrictEqual(
          new Map(Array.from(averages, ([user, { averages }]) => [user, averages])),
          new Map(expected.averages),
        )
        const published = [...yield* values(to.created), ...yield* values(to.updated), ...yield* values(to.payments)]
          .map(
            ({ orderId: key, version, commandId, ...event }): Decider.Recorded<OrderEvent> => (
              { key, version, commandId, event }
            ),
          )
        const events = Array.from(expected.events.values()).flat().length
        assert.strictEqual(published.length, events)
        const rebuilt = Result.getOrThrow(Decider.rebuild(order, published))
        assert.strictEqual(rebuilt.size, expected.events.size)
        assert.strictEqual([...rebuilt.values()].reduce((sum, { version }) => sum + version, 0), events)

        const answers = yield* values(to.accepted)
        assert.strictEqual(answers.filter(({ repeated }) => repeated).length, expected.repeated)
        assert.strictEqual(answers.filter(({ repeated }) => !repeated).length, expected.accepted)
        const reasons = Map.groupBy(yield* values(to.rejected), ({ reason }) => reason)
        assert.deepStrictEqual(
          Object.fromEntries(Array.from(reasons, ([reason, { length }]) => [reason, length])),
          expected.rejected as Record<string, number>,
        )
        assert.strictEqual((yield* texts(to.dlt)).length, expected.damaged)

        // The program prints what stands in the topic.
        for (const [user, ofUser] of expected.averages) {
          for (const { currency, payments } of ofUser) {
            assert.match(output, new RegExp(`^${user} +${currency} +${payments} `, "m"))
          }
        }
      }).pipe(Effect.provide(Layer.fresh(KafkaClient.layer({ brokers: broker.brokers }))))
    }), 300_000)
})
