/**
 * Orders that a service charges, which fails in every way and lives outside of all that is committed, on a cluster; and
 * what must hold of what stands in the topics in the end, whatever has happened meanwhile.
 */
import { assert } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { DeadLetter, Decode, Deliver, Failures, Flow, Ingest, Pipeline, Retry, Topic } from "../../src/index.ts"
import type { TopicRecord } from "../../src/kafka/ClusterMemory.ts"
import { forKey } from "../../src/kafka/Partitioner.ts"
import { Malformed, Order, Throttled, TimedOut, Unavailable } from "./RetryCases.ts"
import { Dice } from "./Seeds.ts"

export const partitions = 2
const common = { description: "Test", owner: "tests", partitions }

const Orders = Topic.make({ ...common, name: "orders", schema: Order, eventTime: (order: Order) => order.at })
const Attempted = Topic.make({ ...common, name: "attempted", schema: Order })
const Charged = Topic.make({ ...common, name: "charged", schema: Order })
const Dlt = Topic.bytes({ ...common, name: "dlt" })

const retries = <const O extends Retry.Order>(order: O, parkedBytes: number) =>
  Retry.topics({ name: "charge", of: Orders, value: Order, delays: ["300 millis", "1 second"], order, parkedBytes })

export const topics = [Orders, Attempted, Charged, Dlt, ...retries("kept", 1).topics]

/** A service that fails at random, and counts what it has charged. */
export const service = (dice: Dice) => {
  const charged = new Map<string, number>()
  const charge = (order: Order) =>
    Effect.gen(function* () {
      const draw = dice.int(0, 29)
      if (draw === 0) yield* Effect.sleep(dice.int(1, 400))
      const message = `order ${order.n}`
      if (draw < 6) return yield* new TimedOut({ message })
      if (draw < 9) return yield* new Throttled({ message })
      if (draw < 10) return yield* new Unavailable({ message })
      if (draw < 11) return yield* new Malformed({ message })
      charged.set(order.id, (charged.get(order.id) ?? 0) + 1)
      return order
    })
  return { charge, charged }
}

export const pipeline = <R>(
  guarantee: Pipeline.Guarantee<unknown, R>,
  order: Retry.Order,
  { charge }: ReturnType<typeof service>,
  parkedBytes = 1_000_000,
) => {
  const topics = retries(order, parkedBytes)
  return Pipeline.make(
    "charging",
    Ingest.topic(Orders).pipe(
      Decode.schema,
      Failures.handle(
        { name: "charge" },
        (flow) => flow.pipe(Deliver.to(Attempted), Flow.effect(charge, { concurrency: 4 })),
        {
          TimedOut: Failures.later(topics, DeadLetter.to(Dlt)),
          Throttled: Failures.retry(
            Schedule.addDelay(Schedule.recurs(1), () => Effect.succeed("50 millis")),
            Failures.later(topics, DeadLetter.to(Dlt)),
          ),
          Unavailable: Failures.hold(Schedule.spaced("200 millis")),
          Malformed: DeadLetter.to(Dlt),
          Undeliverable: Failures.stop,
        },
      ),
      Deliver.to(Charged),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    guarantee,
  )
}

export const input = (dice: Dice, length: number) =>
  Array.from({ length }, (_, n) => {
    const key = dice.pick(["ann", "ben", "cho", "dee", "eva"])
    const value = JSON.stringify({ id: `${key}-${n}`, n, at: 1_000 * n } satisfies Order)
    return { topic: Orders.name, partition: forKey(Buffer.from(key), partitions), key, value }
  })

type Records = (topic: string) => ReadonlyArray<TopicRecord>

const ids = (records: ReadonlyArray<Pick<TopicRecord, "value">>): Array<string> =>
  records.map(({ value }) => (JSON.parse(String(value)) as Order).id)

const keysOf = (ids: ReadonlyArray<string>): Partial<Record<string, ReadonlyArray<string>>> =>
  Object.groupBy(ids, (id) => id.split("-")[0]!)

/** Every order was charged or is dead, once; what was sent before it failed is not there; the order of keys is kept. */
export const exactlyOnce = (
  given: ReadonlyArray<{ readonly value: string }>,
  read: Records,
  order: Retry.Order,
  at: string,
): void => {
  const all = given.map(({ value }) => (JSON.parse(value) as Order).id)
  const charged = ids(read(Charged.name))
  const dead = ids(read(Dlt.name))
  assert.deepStrictEqual([...charged, ...dead].sort(), all.toSorted(), at)
  assert.deepStrictEqual(keysOf(ids(read(Attempted.name))), keysOf(charged), at)
  if (order === "kept") assert.deepStrictEqual(keysOf(charged), keysOf(all.filter((id) => !dead.includes(id))), at)
}

/** Nothing is missing. */
export const atLeastOnce = (
  given: ReadonlyArray<{ readonly value: string }>,
  read: Records,
  at: string,
): void => {
  const all = given.map(({ value }) => (JSON.parse(value) as Order).id)
  assert.includeMembers([...ids(read(Charged.name)), ...ids(read(Dlt.name))], all, at)
}
