/** Records that wait in retry topics, and what is promised of their order. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule, Schema } from "effect"
import { Buffer } from "node:buffer"
import {
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  Retry,
  Topic,
} from "../../src/index.ts"
import { Driver } from "../../src/testing/index.ts"
import type { Rec } from "../support/FlowRunner.ts"
import {
  Attempted,
  Charged,
  decoded,
  Dlt,
  Malformed,
  type Order,
  Orders,
  type Reason,
  retryTopics,
  Throttled,
  TimedOut,
  Unavailable,
} from "../support/RetryCases.ts"
import { drain } from "../support/RetryRunner.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"

const failing = (dice: Dice, tried: (order: Order, ok: boolean) => void) => (order: Order) =>
  Effect.gen(function* () {
    yield* Effect.sleep(dice.int(0, 2))
    const message = `order ${order.n}`
    const draw = dice.int(0, 19)
    tried(order, draw > 7)
    if (draw < 4) return yield* new TimedOut({ message })
    if (draw < 6) return yield* new Throttled({ message })
    if (draw < 7) return yield* new Unavailable({ message })
    if (draw < 8) return yield* new Malformed({ message })
    return order
  })

const charging = <const O extends Retry.Order>(
  order: O,
  charge: (order: Order) => Effect.Effect<Order, Reason>,
  options?: { readonly parkedBytes?: number },
) => {
  const topics = retryTopics(order, options)
  return decoded.pipe(
    Failures.handle(
      { name: "charge" },
      (flow) => flow.pipe(Deliver.to(Attempted), Flow.effect(charge, { concurrency: 8 })),
      {
        TimedOut: Failures.later(topics, DeadLetter.to(Dlt)),
        Throttled: Failures.retry(Schedule.recurs(1), Failures.later(topics, DeadLetter.to(Dlt))),
        Unavailable: Failures.hold(Schedule.spaced("5 seconds")),
        Malformed: DeadLetter.to(Dlt),
        Undeliverable: Failures.stop,
      },
    ),
    Deliver.to(Charged),
    Failures.route({
      DecodeError: DeadLetter.to(Dlt),
      Undeliverable: Failures.stop,
    }),
    Failures.routeAll(Failures.stop),
  )
}

const orders = (dice: Dice, keys: ReadonlyArray<string | null>): ReadonlyArray<Rec> =>
  dice.list(1, 40, (n) => {
    const key = dice.pick(keys)
    return { key, value: JSON.stringify({ id: `${key}-${n}`, n, at: 1_000 * n }), timestamp: 0 }
  })

const ids = (log: ReadonlyArray<Rec>): Array<string> => log.map(({ value }) => (JSON.parse(value!) as Order).id)

describe.each(["kept", "free"] as const)("order %s", (order) => {
  it.effect(
    "loses nothing, repeats nothing, and keeps what it says, over failures, cuts and crashes anywhere",
    () =>
      forSeeds(100, (dice) =>
        Effect.gen(function* () {
          const records = orders(dice, ["ann", "ben", "cho", null])
          const options = { parkedBytes: dice.pick([1, 2_000, 1_000_000]) }
          const flow = charging(order, failing(dice, () => {}), options)
          const { log, stores } = yield* drain(flow, new Map([[Orders, records]]), dice)
          const all = ids(records)
          const charged = ids(log("charged"))
          const dead = ids(log("dlt"))
          assert.deepStrictEqual([...charged, ...dead].sort(), all.toSorted())
          assert.deepStrictEqual(ids(log("attempted")), charged)
          for (const store of stores.values()) assert.strictEqual(store.size, 0)
          if (order === "free") return
          for (const key of ["ann", "ben", "cho"]) {
            const of = (ids: ReadonlyArray<string>) => ids.filter((id) => id.startsWith(key))
            assert.deepStrictEqual(of(charged), of(all).filter((id) => !dead.includes(id)))
          }
        })),
    120_000,
  )

  it.effect(
    "tries records of a key in the order they came, where it is kept",
    () =>
      forSeeds(100, (dice) =>
        Effect.gen(function* () {
          const tried: Array<readonly [key: string, n: number, ok: boolean]> = []
          const charge = failing(dice, ({ id, n }, ok) => tried.push([id.split("-")[0]!, n, ok]))
          const records = orders(dice, ["ann", "ben", "cho"])
          const { log } = yield* drain(charging(order, charge), new Map([[Orders, records]]), dice, false)
          assert.deepStrictEqual([...ids(log("charged")), ...ids(log("dlt"))].sort(), ids(records).sort())
          if (order === "free") return
          for (const key of ["ann", "ben", "cho"]) {
            const of = tried.filter(([other]) => other === key).map(([, n]) => n)
            assert.deepStrictEqual(of, of.toSorted((a, b) => a - b))
          }
          const succeeded = tried.filter(([, , ok]) => ok).map(([, n]) => n)
          assert.strictEqual(new Set(succeeded).size, succeeded.length, "what has succeeded is not tried again")
        })),
    60_000,
  )
})

describe("records that are large", () => {
  const about = { owner: "tests", partitions: 1, description: "Test" }
  const Padded = Schema.Struct({ n: Schema.Int, pad: Schema.String })
  const In = Topic.make({ ...about, name: "in", schema: Padded })
  const Out = Topic.make({ ...about, name: "out", schema: Padded })
  const topics = Retry.topics({ name: "large", of: In, value: Padded, delays: ["5 seconds"], order: "kept" })

  /** The first one fails once. */
  const pipeline = () => {
    let isFirst = true
    const visit = (padded: typeof Padded.Type) =>
      Effect.suspend(() => {
        const fails = isFirst
        isFirst = false
        return fails ? Effect.fail(new TimedOut({ message: "slow" })) : Effect.succeed(padded)
      })
    return Pipeline.make(
      "large",
      Ingest.topic(In).pipe(
        Decode.schema,
        Failures.handle({ name: "visit" }, Flow.effect(visit), {
          TimedOut: Failures.later(topics, DeadLetter.to(Dlt)),
        }),
        Deliver.to(Out),
        Failures.routeAll(DeadLetter.to(Dlt)),
      ),
      Guarantee.exactlyOnce(),
    )
  }
  const padded = (n: number, size: number) => JSON.stringify({ n, pad: "x".repeat(size) })

  it.effect("wait behind others of their key as far as the log of what waits holds them, and else fail alone", () =>
    Driver.run({ pipelines: pipeline() }, (driver) =>
      Effect.gen(function* () {
        const sizes = [0, 450_000, 1_000, 950_000, 0]
        yield* driver.feedBytes(In, sizes.map((size, n) => ({ key: "key", value: padded(n, size) })))
        yield* driver.settle
        assert.deepStrictEqual((yield* driver.values(Out)).map((value) => value!.n), [0, 1, 2, 4])
        const letters = yield* driver.letters(Dlt)
        assert.deepStrictEqual(letters.map(({ reason, value }) => [reason, value]), [[
          "Unretriable",
          padded(3, 950_000),
        ]])
      })))

  it.effect("do not wait where their key is too large for that log", () =>
    Driver.run({ pipelines: pipeline() }, (driver) =>
      Effect.gen(function* () {
        // Every byte of it is two in the log.
        const key = Buffer.alloc(600_000, 0xfe)
        yield* driver.feedBytes(In, [0, 1].map((n) => ({ key, value: padded(n, 0) })))
        yield* driver.settle
        assert.deepStrictEqual((yield* driver.values(Out)).map((value) => value!.n), [1])
        assert.deepStrictEqual((yield* driver.letters(Dlt)).map(({ reason }) => reason), ["TimedOut"])
      })))
})
