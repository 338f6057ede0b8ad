import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option } from "effect"
import { TestClock } from "effect/testing"
import { KafkaError } from "../../../src/kafka/Cluster.ts"
import * as Brokers from "../../../src/kafka/internal/Brokers.ts"
import type { Connections } from "../../../src/kafka/internal/Connections.ts"

const addresses = [1, 2, 3].map((node) => ({ host: "127.0.0.1", port: 9000 + node }))

/** Three brokers, of which some fail; what they are asked is noted. */
const cluster = (failing: ReadonlyMap<number, Pick<KafkaError, "code" | "operation">>) => {
  const asked: Array<string> = []
  const connections = {
    send: (_lane: string, { port }: { port: number }, { operation }: { operation: string }, timeout: number) =>
      Effect.suspend(() => {
        asked.push(`${operation} of ${port - 9000} within ${timeout}`)
        const failure = failing.get(port - 9000)
        return failure === undefined
          ? Effect.succeed({
            brokers: addresses.map(({ host, port }) => ({ nodeId: port - 9000, host, port })),
            topics: [],
            responses: [],
            coordinators: [{ errorCode: 0, ...addresses[2] }],
          })
          : Effect.fail(new KafkaError({ ...failure, message: "" }))
      }),
  } as unknown as Connections
  return { asked, brokers: Brokers.make(connections, addresses, 30_000) }
}

describe("Brokers", () => {
  for (const code of ["TIMEOUT", "NETWORK"]) {
    it.effect(`asks the next broker when one takes the request and says nothing (${code}), and that one first from then on`, () =>
      Effect.gen(function* () {
        const { asked, brokers } = cluster(new Map([[1, { code, operation: "Metadata" }]]))
        yield* brokers.metadata([])
        yield* brokers.metadata([])
        assert.deepStrictEqual(asked, [
          "Metadata of 1 within 3000",
          "Metadata of 2 within 3000",
          "Metadata of 2 within 3000",
        ])
      }))
  }

  it.effect("asks another broker only where the request may be carried out twice, or was not sent", () =>
    Effect.gen(function* () {
      const failing = new Map([[1, { code: "NETWORK", operation: "Connect" }], [2, {
        code: "TIMEOUT",
        operation: "CreateTopics",
      }]])
      const { asked, brokers } = cluster(failing)
      const request = { operation: "CreateTopics" } as Parameters<typeof brokers.any>[0]
      const error = yield* Effect.flip(brokers.any(request))
      assert.strictEqual(error.code, "TIMEOUT")
      assert.deepStrictEqual(asked, ["CreateTopics of 1 within 30000", "CreateTopics of 2 within 30000"])
    }))

  it.effect("waits for the last one that there is to ask for as long as a request may take", () =>
    Effect.gen(function* () {
      const silent = (node: number) => [node, { code: "TIMEOUT", operation: "Metadata" }] as const
      const { asked, brokers } = cluster(new Map([silent(1), silent(2)]))
      yield* brokers.metadata([])
      assert.deepStrictEqual(asked, [
        "Metadata of 1 within 3000",
        "Metadata of 2 within 3000",
        "Metadata of 3 within 30000",
      ])
    }))

  it.effect("asks anew who the coordinator is after a request to it that was given up", () =>
    Effect.gen(function* () {
      let coordinator = addresses[0]!
      const connections = {
        send: (_lane: string, { port }: { port: number }, { operation }: { operation: string }) =>
          operation === "Heartbeat"
            ? port === 9001 ? Effect.never : Effect.succeed({ errorCode: 0 })
            : Effect.sync(() => ({ coordinators: [{ errorCode: 0, ...coordinator }] })),
      } as unknown as Connections
      const brokers = Brokers.make(connections, addresses, 30_000)
      const request = { operation: "Heartbeat" } as Parameters<typeof brokers.any>[0]
      const heartbeat = brokers.coordinated({ kind: "group", key: "a" }, (send) => send("heartbeat", request))
      const first = yield* Effect.forkChild(Effect.timeoutOption(heartbeat, "2 seconds"))
      yield* TestClock.adjust("1 second")
      coordinator = addresses[1]!
      yield* TestClock.adjust("1 second")
      assert.isTrue(Option.isNone(yield* Fiber.join(first)))
      assert.deepStrictEqual(yield* heartbeat, { errorCode: 0 })
    }))

  it.effect("says of brokers that cannot be reached what the one said that refused the credentials", () =>
    Effect.gen(function* () {
      const away = { code: "NETWORK", operation: "Connect" }
      const { brokers } = cluster(
        new Map([[1, away], [2, { code: "AUTHENTICATION", operation: "Connect" }], [3, away]]),
      )
      assert.strictEqual((yield* Effect.flip(brokers.metadata([]))).code, "AUTHENTICATION")
    }))

  it.effect("does not wait for a coordinator that hangs once another has taken over from it", () =>
    Effect.gen(function* () {
      let coordinator = addresses[0]!
      const connections = {
        send: (_lane: string, { port }: { port: number }, { operation }: { operation: string }) =>
          operation === "EndTxn"
            ? port === 9001 ? Effect.never : Effect.succeed({ errorCode: 0 })
            : Effect.sync(() => ({ coordinators: [{ errorCode: 0, ...coordinator }] })),
      } as unknown as Connections
      const brokers = Brokers.make(connections, addresses, 30_000)
      const of = { kind: "transactional id", key: "a" } as const
      const request = { operation: "EndTxn" } as Parameters<typeof brokers.any>[0]
      const asked = yield* Effect.forkChild(Effect.flip(brokers.coordinated(of, (send) => send("control", request))))
      yield* TestClock.adjust("10 seconds")
      assert.isUndefined(asked.pollUnsafe())
      coordinator = addresses[1]!
      yield* TestClock.adjust("3 seconds")
      assert.isDefined(asked.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(asked)).code, "TIMEOUT")
      assert.deepStrictEqual(yield* brokers.coordinated(of, (send) => send("control", request)), { errorCode: 0 })
    }))
})
