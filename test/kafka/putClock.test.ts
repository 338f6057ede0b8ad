/** Waits and deadlines go by a clock that is never put: one whose time of day goes back or forward makes none longer or shorter. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Fiber, Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Lookup, Producer } from "../../src/index.ts"
import { Cluster, KafkaError } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Membership from "../../src/kafka/Membership.ts"
import { type Predecessor, stablePositions } from "../../src/kafka/Positions.ts"
import { patiently } from "../../src/kafka/Retry.ts"
import { adjustable } from "../support/AdjustableClock.ts"

const hour = 3_600_000

/** Runs what waits under a clock that is put at once after it has begun; `jump` is 0 where it is not. */
const eachWay = <E>(
  name: string,
  body: (put: () => void) => Effect.Effect<void, E, Scope.Scope>,
) => {
  for (const [way, jump] of [["is not put", 0], ["is put back", -hour], ["is put forward", hour]] as const) {
    it.effect(`${name}, where the clock ${way}`, () =>
      Effect.scoped(Effect.gen(function* () {
        yield* TestClock.setTime(Date.parse("2026-01-01T00:00:00Z"))
        const clock = yield* adjustable
        yield* Effect.provideService(body(() => clock.offset += jump), Clock.Clock, clock)
      })))
  }
}

/** How long an effect takes by the clock of the test, which goes on in steps of 50 ms. */
const taken = <A, E, R>(effect: Effect.Effect<A, E, R>, put: () => void) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect)
    for (let passed = 0; passed < 20_000; passed += 50) {
      yield* TestClock.adjust(50)
      if (passed === 500) put()
      if (fiber.pollUnsafe() !== undefined) return passed + 50
    }
    yield* Fiber.interrupt(fiber)
    return Infinity
  })

const within = (millis: number, least: number, most: number) => {
  assert.isAtLeast(millis, least)
  assert.isAtMost(millis, most)
}

describe("a wait that has begun", () => {
  eachWay("asking again ends when its time is up", (put) =>
    Effect.gen(function* () {
      const request = Effect.fail(new KafkaError({ code: "NOT_COORDINATOR", operation: "OffsetFetch", message: "no" }))
      within(yield* taken(Effect.exit(patiently(request, 5_000)), put), 5_000, 5_600)
    }))

  eachWay("a batch that nobody acknowledges is given up when its time is up", (put) =>
    Effect.gen(function* () {
      const context = yield* Layer.build(
        Producer.layer({ deliveryTimeout: "5 seconds" }).pipe(
          Layer.provideMerge(Faults.layer),
          Layer.provideMerge(ClusterMemory.layer()),
        ),
      )
      yield* Context.get(context, Cluster).createTopics([{
        topic: "t",
        partitions: 1,
        replicationFactor: 1,
        config: {},
      }])
      yield* Context.get(context, Faults.Faults).use(
        Faults.every(({ operation }) => operation === "Produce", Faults.unreachable),
      )
      const sent = Context.get(context, Producer.Producer).send([{
        topic: "t",
        partition: 0,
        key: null,
        value: Buffer.from("x"),
      }])
      within(yield* taken(Effect.exit(sent), put), 5_000, 6_500)
    }))

  eachWay(
    "who takes a partition over waits a second for an undecided position, and then ends its owner",
    (put) =>
      Effect.gen(function* () {
        const fenced: Array<Predecessor> = []
        const metadata = JSON.stringify({ txn: "left", member: "gone" })
        const where = { topic: "t", partition: 0 }
        const cluster = {
          offsetFetch: (_group: string, _partitions: unknown, requireStable: boolean) =>
            Effect.sync(() => [{
              ...where,
              offset: 3,
              metadata,
              error: requireStable && fenced.length === 0 ? "UNSTABLE_OFFSET_COMMIT" : null,
            }]),
        } as unknown as Cluster["Service"]
        const fence = (owners: ReadonlyArray<Predecessor>) => Effect.sync(() => void fenced.push(...owners))
        within(yield* taken(stablePositions(cluster, "g", [where], fence), put), 1_000, 1_150)
      }),
  )

  eachWay(
    "a member that brokers do not hear gives its work up when its session is over",
    (put) =>
      Effect.gen(function* () {
        const context = yield* Layer.build(Layer.provideMerge(Faults.layer, ClusterMemory.layer()))
        let isLost = false
        let isAssigned = false
        yield* Effect.forkScoped(
          Membership.run({
            group: "g",
            topics: ["t"],
            sessionTimeout: "6 seconds",
            heartbeatInterval: "500 millis",
            rebalanceTimeout: "10 seconds",
          }, {
            userData: Effect.succeed(new Uint8Array()),
            assign: (members) =>
              Effect.succeed(
                new Map(members.map(({ memberId }) => [memberId, { partitions: [], userData: new Uint8Array() }])),
              ),
            assigned: () => Effect.sync(() => void (isAssigned = true)),
            revoke: Effect.void,
            lost: Effect.sync(() => void (isLost = true)),
            rejoin: Effect.never,
            stop: Effect.never,
          }).pipe(Effect.provideContext(context)),
        )
        const becomes = (done: () => boolean): Effect.Effect<void> =>
          Effect.suspend(() => done() ? Effect.void : Effect.andThen(Effect.sleep("50 millis"), becomes(done)))
        yield* taken(becomes(() => isAssigned), () => {})
        yield* Context.get(context, Faults.Faults).use(
          Faults.every(({ operation }) => operation === "Heartbeat", Faults.unreachable),
        )
        within(yield* taken(becomes(() => isLost), put), 5_900, 6_700)
      }),
  )

  eachWay("what a lookup knows is asked again when its time is up", (put) =>
    Effect.gen(function* () {
      let asked = 0
      const names = yield* Lookup.make({
        name: "names",
        get: (key: string) => Effect.sync(() => `${key} ${++asked}`),
        cache: { ttl: "5 seconds" },
      })
      const isAsked: Effect.Effect<void> = Effect.flatMap(
        names.getAll(["a"]),
        () => asked > 1 ? Effect.void : Effect.andThen(Effect.sleep("50 millis"), isAsked),
      )
      within(yield* taken(isAsked, put), 5_000, 5_150)
    }))
})
