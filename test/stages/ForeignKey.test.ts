/**
 * Foreign-key joins as their three kinds of tasks run them, over partitions of topics that tasks write in any order: what
 * one task has written keeps its order, and nothing else does.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Buffer } from "node:buffer"
import { DeadLetter, Failures, Flow, Join, Table, Task, Topic, Topology } from "../../src/index.ts"
import type { Batch, Outgoing } from "../../src/Batch.ts"
import { forKey } from "../../src/kafka/Partitioner.ts"
import { text } from "../../src/Topic.ts"
import { committed, type Rec, run, sources, type Stores } from "../support/FlowRunner.ts"
import { Dice, forSeeds } from "../support/Seeds.ts"

const partitions = 2
const common = { description: "", owner: "", partitions }
const Order = Schema.Struct({ user: Schema.NullOr(Schema.String), v: Schema.Int, at: Schema.Int })
const User = Schema.Struct({ v: Schema.Int, at: Schema.Int })
const time = ({ at }: { readonly at: number }) => at
const Orders = Topic.make({ ...common, name: "orders", schema: Order, eventTime: time, cleanup: "compact" })
const Users = Topic.make({ ...common, name: "users", schema: User, eventTime: time, cleanup: "compact" })
const Dlt = Topic.bytes({ ...common, name: "dlt" })

const via = Join.foreignKeyTopics({ name: "order-users", left: Orders, right: Users, row: Schema.String })

type Kind = Join.Kind
const joined = (kind: Kind) =>
  Table.topic(Orders).pipe(
    Join.foreignKey(Table.topic(Users), {
      name: "order-users",
      via,
      foreignKey: ({ user }) => user,
      kind,
      join: (order, user) => `${order.v}+${user?.v ?? "none"}`,
      failed: DeadLetter.to(Dlt),
    }),
    Failures.routeAll(DeadLetter.to(Dlt)),
  )

/** A change of either table; a deletion without a value. */
interface Came {
  readonly topic: "orders" | "users"
  readonly key: string
  readonly at: number
  readonly user?: string | null
  readonly v: number | null
}

const toRec = ({ topic, key, at, user, v }: Came): Rec => ({
  key,
  value: v === null ? null : JSON.stringify(topic === "orders" ? { user, v, at } : { v, at }),
  timestamp: 0,
  ...v === null && { headers: [["millrace-time", Buffer.from(String(at))]] as const },
})

/** What stands in each partition of a topic. */
type Log = ReadonlyArray<ReadonlyArray<Rec>>

const logOf = (came: ReadonlyArray<Came>, topic: Came["topic"]): Log =>
  Array.from(
    { length: partitions },
    (_, partition) =>
      came.filter((one) => one.topic === topic && forKey(Buffer.from(one.key), partitions) === partition).map(toRec),
  )

/** What tasks have written to a topic, in any order between them. */
const shuffled = (written: ReadonlyArray<ReadonlyArray<Outgoing>>, topic: string, dice: Dice): Log => {
  const log: Array<Array<Rec>> = Array.from({ length: partitions }, () => [])
  const left = written.map((outgoing) => outgoing.filter((one) => one.topic === topic))
  while (left.some((outgoing) => outgoing.length > 0)) {
    const task = dice.pick(left.filter((outgoing) => outgoing.length > 0))
    // Some tasks are far behind others.
    for (const { key, value, headers = [] } of task.splice(0, dice.pick([1, 1, 3, 20]))) {
      log[forKey(key!, partitions)]!.push({ key: text(key!), value: value && text(value), timestamp: 0, headers })
    }
  }
  return log
}

type AnyFlow = Flow.Flow<Table.Change<string>, never, Task.PipelineError, Task.Task | Task.Logged>

/** What a flow comes to in every task, cut anywhere and ended somewhere. */
const tasks = (flow: AnyFlow, logs: ReadonlyMap<string, Log>, dice: Dice) =>
  Effect.forEach(Array.from({ length: partitions }, (_, i) => i), (partition) =>
    Effect.gen(function* () {
      const { reads, feeds } = Topology.of(flow)
      let batches: ReadonlyArray<Batch<Table.Change<string>>> = []
      let stores: Stores = new Map()
      for (let left = dice.int(0, 1); left >= 0; left--) {
        const start = { ...committed(batches), partition }
        const of = new Map(reads.map((topic) => [
          topic,
          sources(topic, logs.get(topic.name)![partition]!, dice.list(0, 6, () => dice.int(0, 40)), {
            position: start.positions.get(topic) ?? 0,
            upstream: feeds.has(topic.name) ? partitions : undefined,
          }),
        ]))
        const ran = yield* run(flow, of, start)
        stores = ran.stores
        const isLast = (batch: Batch<unknown>) =>
          batch.source.next === logs.get(batch.source.topic.name)![partition]!.length
        const end = reads.length === 1 ? -1 : ran.batches.findIndex(isLast)
        batches = [
          ...batches,
          ...left === 0 ? ran.batches : ran.batches.slice(0, dice.int(0, end === -1 ? ran.batches.length : end)),
        ]
      }
      return { batches, stores }
    }))

/** Everything that the join emits, per task in order. */
const results = (kind: Kind, came: ReadonlyArray<Came>, dice: Dice) =>
  Effect.gen(function* () {
    const logs = new Map([["orders", logOf(came, "orders")], ["users", logOf(came, "users")]])
    const [first, second, last] = Topology.subflows(joined(kind)) as unknown as readonly [AnyFlow, AnyFlow, AnyFlow]
    const written = (ran: Effect.Success<ReturnType<typeof tasks>>) =>
      ran.map(({ batches }) => batches.flatMap(({ outgoing }) => outgoing))
    const subscriptions = written(yield* tasks(first, logs, dice))
    logs.set(via.subscriptions.name, shuffled(subscriptions, via.subscriptions.name, dice))
    const answering = yield* tasks(second, logs, dice)
    const responses = written(answering)
    logs.set(via.responses.name, shuffled(responses, via.responses.name, dice))
    const out = (yield* tasks(last, logs, dice)).map(({ batches }) => batches)
    return {
      dead: [...subscriptions, ...responses].flat().filter(({ topic }) => topic === "dlt"),
      changes: out.flatMap((task) =>
        task.flatMap(({ values, rows, source, time }) =>
          values.map(({ row }, i) => ({ key: text(source.keys[rows?.[i] ?? i]!), row, at: time!.timestamps[i]! }))
        )
      ),
      subscribed: answering.flatMap(({ stores }) => [...stores.get("order-users-subscriptions")!.keys()]),
      superseded: out.flat().flatMap(({ dropped }) => dropped).length,
    }
  })

const tableOf = (changes: ReadonlyArray<{ readonly key: string; readonly row: string | undefined }>) => {
  const table: Record<string, string> = {}
  for (const { key, row } of changes) {
    if (row === undefined) delete table[key]
    else table[key] = row
  }
  return table
}

/** The last change of a key by event time, then by order. */
const latest = (came: ReadonlyArray<Came>, topic: Came["topic"], key: string) =>
  came.filter((one) => one.topic === topic && one.key === key).reduce<Came | undefined>(
    (last, one) => last === undefined || one.at >= last.at ? one : last,
    undefined,
  )

const orderKeys = ["o1", "o2", "o3", "o4"]
const userKeys = ["ann", "ben", "cho"]

const expected = (kind: Kind, came: ReadonlyArray<Came>) =>
  Object.fromEntries(orderKeys.flatMap((key) => {
    const order = latest(came, "orders", key)
    if (order === undefined || order.v === null) return []
    const user = order.user === null ? undefined : latest(came, "users", order.user!)?.v ?? undefined
    return kind === "inner" && user === undefined ? [] : [[key, `${order.v}+${user ?? "none"}`]]
  }))

/** Whatever order tasks take: the one that reads its topics one after the other. */
const inOrder = new Dice(1)

const order = (key: string, at: number, user: string | null, v: number): Came => ({ topic: "orders", key, at, user, v })
const user = (key: string, at: number, v: number): Came => ({ topic: "users", key, at, v })
const gone = (topic: Came["topic"], key: string, at: number): Came => ({ topic, key, at, v: null })

const table = (kind: Kind, came: ReadonlyArray<Came>) =>
  Effect.map(results(kind, came, inOrder), ({ changes }) => tableOf(changes))

describe("Join.foreignKey", () => {
  it.effect("joins many left rows with one right row, and changes them all with it", () =>
    Effect.gen(function* () {
      const orders = [order("o1", 1, "ann", 1), order("o2", 2, "ann", 2), order("o3", 3, "ben", 3)]
      assert.deepStrictEqual(yield* table("inner", [...orders, user("ann", 4, 7)]), { o1: "1+7", o2: "2+7" })
      assert.deepStrictEqual(yield* table("left", [...orders, user("ann", 4, 7), user("ann", 5, 8)]), {
        o1: "1+8",
        o2: "2+8",
        o3: "3+none",
      })
      assert.deepStrictEqual(yield* table("inner", [...orders, user("ann", 4, 7), gone("users", "ann", 5)]), {})
      assert.deepStrictEqual(yield* table("left", [...orders, user("ann", 4, 7), gone("users", "ann", 5)]), {
        o1: "1+none",
        o2: "2+none",
        o3: "3+none",
      })
    }))

  it.effect("follows a left row that comes to refer to another, to none, and again to the first", () =>
    Effect.gen(function* () {
      const came = [user("ann", 1, 7), user("ben", 1, 8), order("o1", 2, "ann", 1)]
      assert.deepStrictEqual(yield* table("inner", [...came, order("o1", 3, "ben", 2)]), { o1: "2+8" })
      assert.deepStrictEqual(yield* table("inner", [...came, order("o1", 3, "cho", 2)]), {})
      assert.deepStrictEqual(yield* table("inner", [...came, order("o1", 3, null, 2)]), {})
      assert.deepStrictEqual(yield* table("left", [...came, order("o1", 3, null, 2)]), { o1: "2+none" })
      const away = [...came, order("o1", 3, "ben", 2), user("ann", 4, 9)]
      assert.deepStrictEqual(yield* table("inner", away), { o1: "2+8" })
      assert.deepStrictEqual(yield* table("inner", [...away, order("o1", 5, "ann", 3)]), { o1: "3+9" })
      assert.deepStrictEqual(yield* table("left", [...away, gone("orders", "o1", 5), user("ann", 6, 9)]), {})
    }))

  it.effect("goes by event time on both sides, and by order within one time", () =>
    Effect.gen(function* () {
      const came = [user("ann", 1, 7), user("ben", 1, 8), order("o1", 10, "ann", 1)]
      assert.deepStrictEqual(yield* table("inner", [...came, order("o1", 9, "ben", 2)]), { o1: "1+7" })
      assert.deepStrictEqual(yield* table("inner", [...came, order("o1", 10, "ben", 2)]), { o1: "2+8" })
      assert.deepStrictEqual(yield* table("inner", [...came, gone("orders", "o1", 9)]), { o1: "1+7" })
      assert.deepStrictEqual(yield* table("inner", [...came, gone("orders", "o1", 10)]), {})
      assert.deepStrictEqual(yield* table("inner", [user("ann", 5, 6), ...came]), { o1: "1+6" })
    }))

  it.effect("sends on the way what fails on the way", () =>
    Effect.gen(function* () {
      const { dead } = yield* results("inner", [{ ...order("o1", 1, "ann", 1), v: 0.5 }, user("ann", 1, 0.5)], inOrder)
      assert.deepStrictEqual(
        dead.map(({ key, headers }) => `${key} ${new Map(headers).get("millrace-reason")}`),
        ["o1 DecodeError", "ann DecodeError"],
      )
    }))

  it.effect("comes to the join of the latest rows, whatever the order in which tasks work", () =>
    Effect.gen(function* () {
      let superseded = 0
      yield* forSeeds(400, (dice, seed) =>
        Effect.gen(function* () {
          const kind = dice.pick(["inner", "left"] as const)
          let at = 1_000
          const came = dice.list(0, 50, (i): Came => {
            at += dice.pick([0, 0, 1, 10])
            const when = dice.int(0, 3) === 0 ? at - dice.int(0, 40) : at
            const isOrder = dice.int(0, 2) > 0
            const key = dice.pick(isOrder ? orderKeys : userKeys)
            if (dice.int(0, 4) === 0) return gone(isOrder ? "orders" : "users", key, when)
            return isOrder ? order(key, when, dice.pick([...userKeys, null]), i) : user(key, when, i)
          })
          const { changes, subscribed, superseded: dropped } = yield* results(kind, came, dice)
          superseded += dropped
          assert.deepStrictEqual(tableOf(changes), expected(kind, came), `SEED=${seed}`)
          const referring = orderKeys.flatMap((key) => {
            const last = latest(came, "orders", key)
            return last === undefined || last.v === null || last.user === null ? [] : [`3:${last.user}${key}`]
          })
          assert.deepStrictEqual(subscribed.sort(), referring.sort(), `SEED=${seed}: no row waits where it was once`)
          const times = new Map<string, number>()
          for (const [i, { key, row, at }] of changes.entries()) {
            if (row === undefined) assert.property(tableOf(changes.slice(0, i)), key, `SEED=${seed}`)
            assert.isAtLeast(at, times.get(key) ?? 0, `SEED=${seed}`)
            times.set(key, at)
          }
        }))
      if (process.env["SEED"] === undefined) assert.isAbove(superseded, 100, "stale answers came")
    }))
})
