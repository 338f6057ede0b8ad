import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer } from "effect"
import { Cluster, KafkaError } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Membership from "../../src/kafka/Membership.ts"
import { pass, until } from "../support/Simulation.ts"

const options = {
  group: "g",
  topics: ["t"],
  instanceId: undefined,
  sessionTimeout: "6 seconds",
  heartbeatInterval: "500 millis",
  rebalanceTimeout: "60 seconds",
} as const

const away = Effect.fail(new KafkaError({ code: "NOT_COORDINATOR", operation: "Heartbeat", message: "" }))

/** A member, whose coordinator can be away; what it goes through is noted. */
const member = Effect.fnUntraced(function* () {
  const cluster = yield* Cluster
  const seen = { assigned: 0, lost: 0, joinedAs: [] as Array<string> }
  let isAway = false
  const seenFrom = Cluster.of({
    ...cluster,
    heartbeat: (identity) =>
      // A coordinator that takes over gives everybody a new session, which is as good as a heartbeat.
      isAway ? Effect.andThen(Effect.ignore(cluster.heartbeat(identity)), away) : cluster.heartbeat(identity),
    joinGroup: (request) =>
      Effect.suspend(() => {
        if (isAway) return away
        seen.joinedAs.push(request.memberId)
        return cluster.joinGroup(request)
      }),
  })
  const stop = yield* Deferred.make<void>()
  yield* Effect.forkScoped(
    Membership.run(options, {
      userData: Effect.sync(() => new Uint8Array([seen.assigned])),
      assign: (members) =>
        Effect.succeed(
          new Map(members.map(({ memberId }) => [memberId, { partitions: [], userData: new Uint8Array() }])),
        ),
      assigned: () => Effect.sync(() => void seen.assigned++),
      revoke: Effect.void,
      lost: Effect.sync(() => void seen.lost++),
      rejoin: Effect.never,
      stop: Deferred.await(stop),
    }).pipe(Effect.provideService(Cluster, seenFrom)),
  )
  yield* until("its work", Effect.sync(() => seen.assigned > 0))
  return {
    seen,
    away: (is: boolean) => {
      isAway = is
    },
  }
})

describe("Membership", () => {
  it.effect("goes on as the same member after its coordinator was away for longer than a session: nobody waits for its ghost", () =>
    Effect.gen(function* () {
      const { seen, away } = yield* member()
      away(true)
      yield* until("that it lets go", Effect.sync(() => seen.lost > 0), 10_000)
      yield* pass(3_000)
      const { assigned } = seen
      seen.joinedAs.length = 0
      away(false)
      yield* until("its work again", Effect.sync(() => seen.assigned > assigned), 1_500)
      assert.strictEqual(seen.joinedAs.length, 1)
      assert.notStrictEqual(seen.joinedAs[0], "")
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(ClusterMemory.layer()))))

  it.effect("asks for another id when the group does not know it any more", () =>
    Effect.gen(function* () {
      const { seen } = yield* member()
      const { kick } = yield* ClusterMemory.Control
      const [id] = seen.joinedAs.filter((one) => one !== "")
      seen.joinedAs.length = 0
      yield* kick("g", id!)
      yield* until("its work again", Effect.sync(() => seen.assigned > 1), 3_000)
      assert.deepStrictEqual([seen.lost, seen.joinedAs[0]], [1, ""])
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(ClusterMemory.layer()))))
})
