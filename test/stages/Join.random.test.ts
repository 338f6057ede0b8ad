/**
 * Joins with tables over random records, cut into batches anywhere and ended after any of them, against a computation that
 * goes over the merged input once and asks everything that ever came.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Decode, Flow, Ingest, Join, Table, Task, Topic } from "../../src/index.ts"
import { committed, type Rec, run, sources } from "../support/FlowRunner.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"

const Event = Schema.Struct({ at: Schema.Int, v: Schema.Int })
type Event = typeof Event.Type
const topic = (name: string) =>
  Topic.make({ name, description: "", owner: "", schema: Event, eventTime: ({ at }: Event) => at, partitions: 1 })
const Orders = topic("orders")
const Users = topic("users")

/** A record of either side: a value, a tombstone (null), or damaged (undefined). */
interface Came {
  readonly side: "orders" | "users"
  readonly offset: number
  readonly key: string | null
  readonly at: number
  readonly v: number | null | undefined
}

const side = (dice: Dice, name: Came["side"], disorder: number): ReadonlyArray<Came> => {
  let at = 1_000
  const last = 1_600
  return [
    ...dice.list(0, 40, (offset): Came => {
      at = Math.min(last, at + dice.pick([0, 0, 1, 3, 10, 40]))
      return {
        side: name,
        offset,
        key: dice.int(0, 14) === 0 ? null : dice.pick(["ann", "ben", "cho"]),
        at: dice.int(0, 2) === 0 ? Math.max(0, at - dice.int(0, disorder)) : at,
        v: dice.int(0, 14) === 0 ? undefined : name === "users" && dice.int(0, 3) === 0 ? null : dice.int(0, 99),
      }
    }),
  ]
}

const rec = ({ key, at, v }: Came): Rec => ({
  key,
  value: v === undefined ? "{" : v === null ? null : JSON.stringify({ at, v }),
  timestamp: 0,
  ...v === null && { headers: [["millrace-time", Buffer.from(String(at))]] as const },
})

const isGood = ({ side, key, v }: Came) => v !== undefined && (side === "orders" || key !== null)

interface Merged extends Came {
  /** Stream time when it came. */
  readonly now: number
}

/** Both sides in the order of stream time, the users first where it is equal, and stream time: the lower one of both. */
const merged = (orders: ReadonlyArray<Came>, users: ReadonlyArray<Came>): ReadonlyArray<Merged> => {
  const clocked = (side: ReadonlyArray<Came>) => {
    let clock = -Infinity
    return side.map((came) => ({ ...came, clock: clock = isGood(came) ? Math.max(clock, came.at) : clock }))
  }
  const all = [...clocked(users), ...clocked(orders)].sort((a, b) => a.clock - b.clock)
  let now = -Infinity
  return all.map((came, i) => {
    const others = all.filter(({ side }) => side !== came.side)
    const before = all.slice(0, i).filter(({ side }) => side !== came.side)
    const bound = before.length === others.length ? Infinity : before.at(-1)?.clock ?? -Infinity
    now = Math.max(now, Math.min(came.clock, bound))
    return { ...came, now }
  })
}

/** What came of the input: what went on per key, and counts by reason of what did not. */
interface Outcome {
  readonly out: Readonly<Record<string, ReadonlyArray<string>>>
  readonly reasons: Readonly<Record<string, number>>
}

const outcome = (
  out: ReadonlyArray<readonly [key: string, text: string]>,
  reasons: ReadonlyArray<string>,
): Outcome => ({
  out: Object.fromEntries(
    [...Map.groupBy(out, ([key]) => key)].map(([key, texts]) => [key, texts.map(([, text]) => text)]).sort(),
  ),
  reasons: Object.fromEntries(
    [...Map.groupBy(reasons, (reason) => reason)].map(([reason, all]) => [reason, all.length]).sort(),
  ),
})

/** The last change of a key that is not later than a time, by event time and then by order. */
const latest = (changes: ReadonlyArray<Came>, key: string, time = Infinity): Came | undefined =>
  changes.filter((one) => one.key === key && one.at <= time).reduce<Came | undefined>(
    (last, one) => last === undefined || one.at >= last.at ? one : last,
    undefined,
  )

/** Everything of a side that has come before, without what is damaged. */
const before = (all: ReadonlyArray<Merged>, side: Came["side"], i: number) =>
  all.slice(0, i).filter((one) => one.side === side && isGood(one) && one.key !== null)

const failures = (all: ReadonlyArray<Merged>): ReadonlyArray<string> =>
  all.flatMap((came) => !isGood(came) ? ["DecodeError"] : came.key === null ? ["Keyless"] : [])

const good = (came: Came) => isGood(came) && came.key !== null

const text = (order: Came, user: Came | undefined) => `${order.v}+${user?.v ?? "none"}@${order.at}`

type AnyFlow = Flow.Flow<unknown, { readonly _tag: string }, Task.PipelineError, Task.Task | Task.Logged>

/** Runs with cuts anywhere, and ends after any batch as often as drawn, as long as no input has ended. */
const runs = (flow: AnyFlow, orders: ReadonlyArray<Came>, users: ReadonlyArray<Came>, dice: Dice) =>
  Effect.gen(function* () {
    let batches: ReadonlyArray<
      Awaited<Effect.Success<ReturnType<typeof run<unknown, { readonly _tag: string }, unknown>>>>["batches"][number]
    > = []
    for (let left = dice.int(0, 2); left >= 0; left--) {
      const start = committed(batches)
      const of = (topic: Topic.Any, records: ReadonlyArray<Came>) =>
        [
          topic,
          sources(topic, records.map(rec), dice.list(0, 6, () => dice.int(0, 40)), {
            position: start.positions.get(topic) ?? 0,
          }),
        ] as const
      const ran = yield* run(flow, new Map([of(Orders, orders), of(Users, users)]), start)
      const end = ran.batches.findIndex(({ source }) =>
        source.next === (source.topic.name === "orders" ? orders : users).length
      )
      batches = [
        ...batches,
        ...left === 0 ? ran.batches : ran.batches.slice(0, dice.int(0, end === -1 ? ran.batches.length : end)),
      ]
    }
    return batches
  })

const observed = (batches: Effect.Success<ReturnType<typeof runs>>): Outcome =>
  outcome(
    batches.flatMap(({ values }) => values as ReadonlyArray<readonly [string, string]>),
    batches.flatMap(({ failed, dropped }) => [
      ...failed.map(({ reason }) => reason._tag),
      ...dropped.map(({ reason }) => reason),
    ]),
  )

const orders = Ingest.topic(Orders).pipe(Decode.schema, Flow.map((value, { key }) => ({ ...value, key })))
const users = Table.topic(Users)
const Order = Schema.Struct({ ...Event.fields, key: Schema.NullOr(Schema.String) })
const pair = (order: typeof Order.Type, user: Event | undefined) =>
  [String(order.key), `${order.v}+${user?.v ?? "none"}@${order.at}`] as const

const check = (
  runsPerTest: number,
  disorder: number,
  flow: (dice: Dice) => readonly [AnyFlow, (all: ReadonlyArray<Merged>) => Outcome],
) =>
  forSeeds(runsPerTest, (dice, seed) =>
    Effect.gen(function* () {
      const [a, b] = [side(dice, "orders", disorder), side(dice, "users", disorder)]
      const [of, reference] = flow(dice)
      const batches = yield* runs(of, a, b, dice)
      assert.deepStrictEqual(observed(batches), reference(merged(a, b)), `SEED=${seed}`)
    }))

/** No changes of a table that are older than a deletion that is forgotten. */
const forEver = "1 day" as const

describe("joins against a naive computation", () => {
  it.effect("with the latest row", () =>
    check(400, 60, (dice) => {
      const kind = dice.pick(["inner", "left"] as const)
      return [
        orders.pipe(Join.table(users, { name: "users", kind, join: pair })),
        (all) => {
          const out: Array<readonly [string, string]> = []
          const reasons = [...failures(all)]
          for (const [i, came] of all.entries()) {
            if (!good(came)) continue
            const row = latest(before(all, "users", i), came.key!)
            if (came.side === "users") {
              if (row !== undefined && row.at > came.at) reasons.push("superseded")
            } else if (kind === "inner" && (row?.v ?? null) === null) reasons.push("unmatched")
            else out.push([came.key!, text(came, row)])
          }
          return outcome(out, reasons)
        },
      ]
    }))

  it.effect("as of a record's time", () =>
    check(400, 120, (dice) => {
      const kind = dice.pick(["inner", "left"] as const)
      const history = dice.pick([0, 20, 100])
      return [
        orders.pipe(Join.asOf(users, { name: "users", kind, history, join: pair })),
        (all) => {
          const out: Array<readonly [string, string]> = []
          const reasons = [...failures(all)]
          for (const [i, came] of all.entries()) {
            if (!good(came)) continue
            const known = before(all, "users", i)
            if (came.side === "users") {
              // Nobody can ask any more for what is not the answer at any time of the history.
              const answer = latest([...known, came], came.key!, Math.max(came.at, came.now - history))
              if (answer !== came) reasons.push("superseded")
              continue
            }
            const row = latest(known, came.key!, came.at)
            if (came.at < came.now - history) reasons.push("Late")
            else if (kind === "inner" && (row?.v ?? null) === null) reasons.push("unmatched")
            else out.push([came.key!, text(came, row)])
          }
          return outcome(out, reasons)
        },
      ]
    }))

  it.effect("as of a record's time, with grace", () =>
    check(600, 120, (dice) => {
      const kind = dice.pick(["inner", "left"] as const)
      const grace = dice.pick([0, 5, 20, 100])
      const history = grace + dice.pick([0, 50])
      return [
        orders.pipe(Join.asOf(users, { name: "users", kind, history, grace, value: Order, join: pair })),
        (all) => {
          const out: Array<readonly [order: Came, leaves: number, key: string, text: string]> = []
          const reasons = [...failures(all)]
          for (const [i, came] of all.entries()) {
            if (!good(came)) continue
            if (came.side === "users") {
              const known = before(all, "users", i)
              const answer = latest([...known, came], came.key!, Math.max(came.at, came.now - history))
              if (answer !== came) reasons.push("superseded")
              continue
            }
            if (came.at < came.now - history) {
              reasons.push("Late")
              continue
            }
            const wait = all.slice(i).findIndex(({ now }) => now - grace > came.at)
            if (wait === -1) continue
            const row = latest(before(all, "users", i + wait), came.key!, came.at)
            if (kind === "inner" && (row?.v ?? null) === null) reasons.push("unmatched")
            else out.push([came, i + wait, came.key!, text(came, row)])
          }
          const order = out.toSorted(([a, i], [b, j]) => i - j || a.at - b.at || a.offset - b.offset)
          return outcome(order.map(([, , key, text]) => [key, text]), reasons)
        },
      ]
    }))

  it.effect("as of a record's time, with grace for all disorder: given by the records and changes alone", () =>
    forSeeds(400, (dice, seed) =>
      Effect.gen(function* () {
        const disorder = dice.int(0, 60)
        const end = (side: Came["side"], offset: number): Came => ({ side, offset, key: "end", at: 9_000, v: 0 })
        const [a, b] = [side(dice, "orders", disorder), side(dice, "users", disorder)]
        const flow = orders.pipe(
          Join.asOf(users, {
            name: "users",
            kind: "left",
            history: disorder,
            grace: disorder,
            value: Order,
            join: pair,
          }),
        )
        const batches = yield* runs(flow, [...a, end("orders", a.length)], [...b, end("users", b.length)], dice)
        const all = a.filter(good).map((order) =>
          [order.key!, text(order, latest(b.filter(good), order.key!, order.at))] as const
        )
        const sorted = ({ out }: Outcome) => Object.entries(out).map(([key, texts]) => [key, texts.toSorted()])
        assert.deepStrictEqual(sorted(observed(batches)), sorted(outcome(all, [])), `SEED=${seed}`)
      })))

  it.effect("of two tables: given by both logs alone", () =>
    forSeeds(400, (dice, seed) =>
      Effect.gen(function* () {
        const kind = dice.pick(["inner", "left", "outer"] as const)
        const [a, b] = [side(dice, "orders", 80), side(dice, "users", 80)]
        // As a table the orders have tombstones too.
        const lefts = a.map((came): Came => came.v !== undefined && came.v! % 4 === 0 ? { ...came, v: null } : came)
        const flow = Table.topic(Orders).pipe(
          Join.tables(users, {
            name: "both",
            kind,
            deletions: forEver,
            row: Schema.String,
            join: (left: Event | undefined, right) => `${left?.v ?? "none"}+${right?.v ?? "none"}`,
          }),
          Flow.map(({ row }, { key, timestamp }) => ({ key: String(key), row, timestamp })),
        )
        const batches = yield* runs(flow, lefts, b, dice)
        const table = new Map<string, string>()
        const times = new Map<string, number>()
        for (
          const { key, row, timestamp } of batches.flatMap(({ values }) =>
            values as ReadonlyArray<
              { readonly key: string; readonly row: string | undefined; readonly timestamp: number }
            >
          )
        ) {
          if (row === undefined) assert.isTrue(table.delete(key), `SEED=${seed}: only what is there is deleted`)
          else table.set(key, row)
          assert.isAtLeast(timestamp, times.get(key) ?? 0, `SEED=${seed}`)
          times.set(key, timestamp)
        }
        const expected = ["ann", "ben", "cho"].flatMap((key) => {
          const left = latest(lefts.filter(good), key)?.v ?? undefined
          const right = latest(b.filter(good), key)?.v ?? undefined
          const isThere = kind === "left"
            ? left !== undefined
            : kind === "inner"
            ? left !== undefined && right !== undefined
            : left !== undefined || right !== undefined
          return isThere ? [[key, `${left ?? "none"}+${right ?? "none"}`] as const] : []
        })
        assert.deepStrictEqual([...table].sort(), expected as unknown, `SEED=${seed}`)
      })))
})
