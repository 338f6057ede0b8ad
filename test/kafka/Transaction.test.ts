/** Transactions above the port: what is refused before a broker would accept it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Leaders from "../../src/kafka/Leaders.ts"
import * as Transaction from "../../src/kafka/Transaction.ts"
import * as Writer from "../../src/kafka/Writer.ts"

describe("Transaction", () => {
  for (const member of [{ generation: -1, memberId: "member" }, { generation: 3, memberId: "" }]) {
    it.effect(`sends no positions of generation ${member.generation} and member "${member.memberId}"`, () =>
      Effect.gen(function* () {
        const cluster = yield* Cluster
        yield* cluster.createTopics([{ topic: "t", partitions: 1, replicationFactor: 1, config: {} }])
        const writer = yield* Writer.make(cluster, yield* Leaders.make, {
          transactionalId: "id",
          transactionTimeout: 60_000,
          deliveryTimeout: 30_000,
          requestTimeout: 30_000,
          compression: "none",
          maxBatchBytes: 1_000_000,
        })
        const contents: Transaction.Contents = {
          records: [],
          member: { group: "g", ...member },
          offsets: [{ topic: "t", partition: 0, offset: 7, metadata: "" }],
        }
        const refused = yield* Effect.flip(Transaction.run(cluster, "id", writer, contents, 30_000))
        assert.strictEqual(refused.code, "CLIENT")
        assert.include(refused.message, "group g")
        const [committed] = yield* cluster.offsetFetch("g", [{ topic: "t", partition: 0 }], false)
        assert.strictEqual(committed!.offset, -1)
      }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer())))
  }
})
