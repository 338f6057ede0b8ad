/** Dead letters of clicks and of orders on Apache Kafka: a lookup that failed is repaired, and all come through, once each. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema, Stream } from "effect"
import { randomUUID } from "node:crypto"
import { topics } from "../../schemas/index.ts"
import { orderTopics } from "../../schemas/orders/index.ts"
import {
  Admin,
  Contents,
  DeadLetter,
  Decode,
  Deduplicate,
  Deliver,
  Failures,
  Guarantee,
  Ingest,
  KafkaClient,
  Lookup,
  Pipeline,
  Producer,
  Retry,
  Runner,
  Topic,
} from "../../src/index.ts"
import * as Redrive from "../../src/ops/Redrive.ts"
import * as Broker from "../support/Broker.ts"
import * as Program from "../support/Program.ts"

class Down extends Schema.TaggedError<Down>()("Down", { message: Schema.String }) {}

Broker.describeWithBroker("redrive on Apache Kafka", () => {
  it.live("brings clicks and orders through that a lookup had failed, each once", () =>
    Effect.gen(function* () {
      const brokers = yield* Broker.shared
      const prefix = `redrive-${randomUUID().slice(0, 8)}`
      const env = { KAFKA_BROKERS: brokers.join(",") }
      const clicks = topics({ prefix })
      const shop = orderTopics({ prefix })
      const seen = (name: string, partitions: number) =>
        Topic.make({
          ...{ name: `${prefix}.${name}`, description: "Test", owner: "tests", partitions },
          schema: Schema.Struct({ id: Schema.String, country: Schema.String }),
        })
      const [Visits, Shipped] = [seen("visits", 12), seen("shipped", 6)]
      const state = { isDown: true, asked: 0 }
      const countries = Lookup.make({
        name: "countries",
        cache: { size: 0 },
        get: (key: string) =>
          Effect.suspend(() => {
            state.asked++
            return state.isDown ? Effect.fail(new Down({ message: "away" })) : Effect.succeed(`of ${key}`)
          }),
      })

      // Clicks go back to their topic, and past the ids that were seen: with no retry topics there is no other way.
      const visits = Pipeline.make(
        `${prefix}-visits`,
        Ingest.topic(clicks.raw).pipe(
          Decode.schema,
          Deduplicate.by({ name: "seen", id: ({ messageId }) => messageId }),
          Lookup.by(countries, {
            key: ({ anonymousId }) => anonymousId ?? undefined,
            join: ({ messageId: id }, found) => ({ id, country: found._tag === "Found" ? found.value : "none" }),
            onUnavailable: "fail",
          }),
          Deliver.to(Visits),
          Failures.routeAll(DeadLetter.to(clicks.dlt)),
        ),
        Guarantee.exactlyOnce(),
      )
      // Orders come back to the stage that gave them up.
      const retries = Retry.topics({
        ...{ name: `${prefix}.ship`, of: shop.commands, delays: ["100 millis"], order: "kept" },
        value: shop.commands.schema as Schema.Codec<{ readonly commandId: string; readonly orderId: string }>,
      })
      const shipping = Pipeline.make(
        `${prefix}-shipping`,
        Ingest.topic(shop.commands).pipe(
          Decode.schema,
          Failures.handle(
            { name: "ship" },
            Lookup.by(countries, {
              key: ({ orderId }) => orderId,
              join: ({ commandId: id }, found) => ({ id, country: found._tag === "Found" ? found.value : "none" }),
              onUnavailable: "fail",
            }),
            { LookupFailed: Failures.later(retries as never, DeadLetter.to(shop.dlt)) },
          ),
          Deliver.to(Shipped),
          Failures.routeAll(DeadLetter.to(shop.dlt)),
        ),
        Guarantee.exactlyOnce(),
      )

      const contents = <A>(topic: Topic.Topic<A>) =>
        Effect.map(Stream.runCollect(Contents.read(topic)), (all) => all.map(({ value }) => value!))
      const until = (what: string, is: Effect.Effect<boolean, unknown, never>) =>
        Effect.gen(function* () {
          for (let left = 100; left > 0; left--) {
            if (yield* is) return
            yield* Effect.sleep("500 millis")
          }
          return yield* Effect.die(new Error(`not in time: ${what}`))
        })
      const program = (...args: ReadonlyArray<string>) =>
        Effect.flatMap(Program.start("redrive", { args, env }), ({ ended }) => ended)

      yield* Effect.gen(function* () {
        const context = yield* Effect.context<never>()
        const here = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideContext(effect, context as never)
        yield* Admin.createTopics([clicks.raw, clicks.dlt, shop.commands, shop.dlt, Visits, Shipped, ...retries.topics])
        const running = yield* Effect.forEach([visits, shipping], (pipeline) =>
          Effect.forkChild(Runner.run(pipeline, { commitInterval: "50 millis" })))
        const n = 300
        const at = "2026-01-01T00:00:00.000Z"
        yield* Producer.publish(
          clicks.raw,
          Array.from({ length: n }, (_, i) => ({
            ...{ type: "track", messageId: `m${i}`, anonymousId: `a${i % 40}`, source: "test", event: "Seen" } as const,
            ...{ userId: null, timestamp: null, sentAt: null, context: null, properties: null },
            receivedAt: at,
          })) as never,
        )
        yield* Producer.publish(
          shop.commands,
          Array.from({ length: n }, (_, i) => ({
            ...{ type: "CancelOrder", commandId: `c${i}`, orderId: `o${i % 40}`, at: Date.parse(at) } as const,
          })) as never,
        )
        const letters = (topic: Topic.Topic<Uint8Array | null>) =>
          Effect.map(contents(topic), ({ length }) => length)
        yield* until(
          "dead letters",
          here(Effect.map(
            Effect.all([letters(clicks.dlt), letters(shop.dlt)]),
            ([a, b]) => a === n && b === n,
          )),
        )
        state.isDown = false

        const listed = yield* program("list", "--json", clicks.dlt.name)
        assert.strictEqual(listed.code, 0, listed.output)
        const [{ groups: [group] }] = JSON.parse(listed.output) as [{ groups: [Record<string, unknown>] }]
        assert.deepInclude(group, { letters: n, redriven: 0, reason: "LookupFailed", origin: clicks.raw.name })
        const shown = yield* program("show", clicks.dlt.name, "0", "0")
        assert.strictEqual(shown.code, 0, shown.output)
        assert.include(shown.output, '"messageId": "*** (')
        assert.notMatch(shown.output, /a\d+"/)

        // A program and others of this process at the same time, and again: who began last goes on, and fences the others.
        for (const topic of [clicks.dlt.name, shop.dlt.name]) {
          const send = Effect.result(Redrive.send(topic, {}, { rate: 500 }))
          const others = topic === shop.dlt.name
            ? []
            : [Effect.map(program("send", topic, "--all"), ({ code }) => code)]
          const [, , code = 0] = yield* Effect.all([send, Effect.delay(send, "200 millis"), ...others], {
            concurrency: 3,
          })
          assert.include([0, 1], code)
          assert.strictEqual((yield* Redrive.send(topic, {})).selected, n)
        }
        yield* until(
          "all of them",
          here(Effect.map(
            Effect.all([contents(Visits), contents(Shipped)]),
            ([a, b]) => a.length >= n && b.length >= n,
          )),
        )
        yield* Effect.sleep("1 second")
        const ids = (values: ReadonlyArray<{ readonly id: string }>) => values.map(({ id }) => id).toSorted()
        const expected = (name: string) => Array.from({ length: n }, (_, i) => `${name}${i}`).toSorted()
        assert.deepStrictEqual(ids(yield* contents(Visits)), expected("m"))
        assert.deepStrictEqual(ids(yield* contents(Shipped)), expected("c"))
        assert.strictEqual(yield* letters(clicks.dlt), n)
        assert.strictEqual(yield* letters(shop.dlt), n)
        for (const fiber of running) yield* Fiber.interrupt(fiber)
      }).pipe(
        Effect.provide(Producer.layer().pipe(Layer.provideMerge(Layer.fresh(KafkaClient.layer({ brokers }))))),
      )
    }), 240_000)
})
