import { assert, describe, it } from "@effect/vitest"
import { Reader, Writer } from "@platformatic/kafka"
import { Buffer } from "node:buffer"
import { Effect } from "effect"
import type { Brokers } from "../../../src/kafka/internal/Brokers.ts"
import * as Logs from "../../../src/kafka/internal/Logs.ts"
import type { Topics } from "../../../src/kafka/internal/Topics.ts"

/** The bytes that a produce request puts on the wire, after the protocol's own header. */
const written = (transactionalId: string | null) =>
  Effect.gen(function* () {
    let bytes: Buffer = Buffer.alloc(0)
    const brokers = {
      timeout: 1_000,
      node: (_lane: string, _node: number, { write }: { write: () => Writer | Promise<Writer> }) =>
        Effect.map(Effect.promise(() => Promise.resolve(write())), (request) => {
          bytes = request.buffer
          return { responses: [] }
        }),
    } as unknown as Brokers
    const records = { keys: [null], values: [Buffer.from("a")], headers: [[]], timestamps: [0] }
    yield* Logs.make(brokers, {} as Topics).produce({
      node: 1,
      transactionalId,
      timeout: 30_000,
      compression: "none",
      batches: [{ topic: "clicks", partition: 3, records }],
    })
    return Reader.from(bytes)
  })

describe("Logs", () => {
  it.effect("takes an answer about no partition for what brokers say to readers above their quota", () =>
    Effect.gen(function* () {
      const brokers = {
        timeout: 1_000,
        node: () => Effect.succeed({ errorCode: 0, partitions: [] }),
      } as unknown as Brokers
      const topics = { ids: () => Effect.succeed(new Map([["clicks", "an id"]])) } as unknown as Topics
      const { fetch } = Logs.make(brokers, topics)
      const partitions = [{ topic: "clicks", partition: 0, offset: 0, maxBytes: 1_000 }]
      const [answer] = yield* fetch({ node: 1, maxWait: 0, maxBytes: 1_000, partitions })
      assert.strictEqual(answer!.error, "THROTTLING_QUOTA_EXCEEDED")
    }))

  for (const transactionalId of [null, "enrich-1"]) {
    it.effect(`asks for acknowledgement by all in-sync replicas, with the transactional id ${transactionalId}`, () =>
      Effect.gen(function* () {
        const request = yield* written(transactionalId)
        assert.strictEqual(request.readNullableString(), transactionalId)
        assert.strictEqual(request.readInt16(), -1)
        assert.strictEqual(request.readInt32(), 30_000)
      }))
  }
})
