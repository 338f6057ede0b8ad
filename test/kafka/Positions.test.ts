import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { fencing, metadataOf } from "../../src/kafka/Positions.ts"

const group = "g"
const txn = "left-open"

describe("fencing", () => {
  it.effect("leaves the transaction of an owner alone that is in the group, and ends it when it has left", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      yield* cluster.createTopics([{ topic: "t", partitions: 1, replicationFactor: 1, config: {} }])
      const join = (memberId: string) =>
        cluster.joinGroup({
          group,
          memberId,
          sessionTimeout: 10_000,
          rebalanceTimeout: 10_000,
          protocol: "millrace",
          metadata: new Uint8Array(),
        })
      const { memberId } = yield* join("")
      const { generation } = yield* join(memberId)
      yield* cluster.syncGroup({ group, generation, memberId }, "millrace", [])
      const producer = yield* cluster.initProducerId(txn, 60_000)
      const write = Effect.result(
        cluster.addPartitionsToTxn({ transactionalId: txn, ...producer }, [{ topic: "t", partition: 0 }]),
      )
      const fence = fencing(cluster, group, 60_000)([{ txn, member: memberId }])
      yield* fence
      assert.strictEqual((yield* write)._tag, "Success")
      yield* cluster.leaveGroup(group, memberId)
      // The broker that ends it says so only to who asks again.
      yield* Effect.ignore(fence)
      const refused = yield* write
      assert.strictEqual(refused._tag === "Failure" ? refused.failure.code : "none", "PRODUCER_FENCED")
    }).pipe(Effect.provide(ClusterMemory.layer())))
})

describe("the metadata of a position that is taken over", () => {
  const predecessors = Array.from({ length: 6 }, (_, i) => ({ txn: `${i}-`.padEnd(200, "t"), member: "m".repeat(200) }))
  const named = (clock: string) => {
    const metadata = metadataOf({ txn: "own", member: "us", epoch: 1, clock }, predecessors)
    assert.isAtMost(metadata.length, 4_096)
    const owner = JSON.parse(metadata)
    assert.strictEqual(owner.clock, clock)
    return ((owner.before ?? []) as typeof predecessors).map(({ txn }) => txn.slice(0, 1)).join("")
  }

  it("names the last of those before, as many as fit beside the clock", () => {
    assert.strictEqual(named("short"), "0123")
    assert.strictEqual(named("c".repeat(3_000)), "01")
  })
})
