/** Static members: a rolling restart in which nothing moves, and what becomes of two processes of one name. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import {
  Admin,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Guarantee,
  Ingest,
  Pipeline,
  repartition,
  Topic,
} from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { append, copied, Copies, copies, copying, Dlt, Reading, readings } from "../support/Readings.ts"
import { ended, pass, start, stop, until } from "../support/Simulation.ts"

const partitions = 6
const In = readings("in", partitions)
const group = "copying"

const test = <E>(name: string, body: Effect.Effect<void, E, Cluster | ClusterMemory.Control | Scope.Scope>) =>
  it.effect(
    name,
    () =>
      Effect.andThen(Admin.createTopics([In, Copies, Dlt]), body).pipe(
        Effect.scoped,
        Effect.provide(ClusterMemory.layer()),
      ),
  )

/** Programs by name, with a record of which of them has started how many tasks. */
const crew = () => {
  const started = new Map<string, number>()
  const opened = (name: string) => Effect.sync(() => void started.set(name, (started.get(name) ?? 0) + 1))
  const run = (name: string, plan = Faults.none) =>
    start(copying(In, undefined, { opened: opened(name) }), plan, { instanceId: name })
  return { run, started }
}

const members = Effect.map(
  Cluster.use((cluster) => cluster.describeGroups([group])),
  ([description]) => description!.state === "Stable" ? description!.members.length : 0,
)

let next = 0
/** A record into every partition; answers their ids. */
const feed = Effect.gen(function* () {
  const ids = Array.from({ length: partitions }, () => next++)
  for (const [partition, id] of ids.entries()) yield* append("in", partition, [{ id, at: 1 }])
  return ids
})

const once = Effect.gen(function* () {
  const seen = yield* copies
  assert.deepStrictEqual(seen.toSorted((a, b) => a - b), [...new Set(seen)].toSorted((a, b) => a - b))
  return new Set(seen)
})

describe("static members", () => {
  test(
    "are restarted one after the other, and nobody else joins again, nothing moves, nothing is lost or repeated",
    Effect.gen(function* () {
      const { run, started } = crew()
      const names = ["a", "b", "c"]
      const running = new Map<string, Effect.Success<ReturnType<typeof run>>>()
      for (const name of names) running.set(name, yield* run(name))
      yield* until("three members", Effect.map(members, (count) => count === 3))
      const all = [...yield* feed]
      yield* copied(...all)
      for (const { use } of running.values()) yield* use(Faults.none)
      started.clear()
      for (const name of names) {
        all.push(...yield* feed)
        yield* stop(running.get(name)!.fiber)
        all.push(...yield* feed)
        yield* pass(1_000)
        running.set(name, yield* run(name))
        yield* copied(...all)
        for (const [other, { calls }] of running) {
          const joins = (yield* calls).filter(({ operation }) => operation === "JoinGroup")
          // It joins under its name, with no id to ask for before; those that were restarted earlier have joined that once.
          assert.isAtMost(joins.length, names.indexOf(other) <= names.indexOf(name) ? 1 : 0, `${other} after ${name}`)
        }
      }
      assert.deepStrictEqual([...started], names.map((name) => [name, partitions / names.length]))
      assert.deepStrictEqual(yield* once, new Set(all))
    }),
  )

  test(
    "that do not come back lose their work when their session ends",
    Effect.gen(function* () {
      const { run } = crew()
      yield* run("a")
      const b = yield* run("b")
      yield* until("two members", Effect.map(members, (count) => count === 2))
      const ids = [...yield* feed]
      yield* copied(...ids)
      yield* stop(b.fiber)
      ids.push(...yield* feed)
      yield* pass(3_000)
      assert.isBelow((yield* once).size, ids.length)
      yield* until("the end of its session", Effect.map(copies, (seen) => seen.length === ids.length), 6_000)
      assert.deepStrictEqual(yield* once, new Set(ids))
    }),
  )

  test(
    "that die in a commit and are back within their session end what they have left open, and go on",
    Effect.gen(function* () {
      const { run } = crew()
      let dead = false
      yield* run("a")
      const dying = Faults.at("EndTxn", 2, Faults.crash(Effect.sync(() => dead = true)))
      yield* run("b", dying)
      yield* until("two members", Effect.map(members, (count) => count === 2))
      const ids = [...yield* feed]
      yield* copied(...ids)
      ids.push(...yield* feed)
      yield* until("its death", Effect.sync(() => dead))
      yield* run("b")
      // Without its transaction's time-out, a minute, and without the end of its session.
      yield* until("the rest", Effect.map(copies, (seen) => seen.length === ids.length), 5_000)
      assert.deepStrictEqual(yield* once, new Set(ids))
    }),
  )

  test(
    "whose name another process takes end, and say so; the other goes on",
    Effect.gen(function* () {
      const { run } = crew()
      const first = yield* run("a")
      const ids = [...yield* feed]
      yield* copied(...ids)
      const second = yield* run("a")
      ids.push(...yield* feed)
      yield* copied(...ids)
      yield* until("the end of the first", Effect.sync(() => ended(first) !== undefined), 10_000)
      assert.match(ended(first)!, /group copying: another process has joined as instance "a", and this one ends/)
      ids.push(...yield* feed)
      yield* copied(...ids)
      yield* pass(10_000)
      assert.isUndefined(ended(second))
      assert.deepStrictEqual(yield* once, new Set(ids))
    }),
  )

  test(
    "whose coordinator goes back to the id before join again, and go on",
    Effect.gen(function* () {
      const { run } = crew()
      const back = Faults.at("Heartbeat", 2, Faults.refuse("FENCED_INSTANCE_ID"))
      const program = yield* run("a", back)
      const ids = [...yield* feed]
      yield* copied(...ids)
      yield* until(
        "its second join",
        Effect.map(program.calls, (all) => all.filter(({ operation }) => operation === "JoinGroup").length >= 2),
      )
      ids.push(...yield* feed)
      yield* copied(...ids)
      yield* pass(10_000)
      assert.isUndefined(ended(program))
      assert.deepStrictEqual(yield* once, new Set(ids))
    }),
  )

  test(
    "that come back with a flow more have it worked on, though what they were assigned does not have it",
    Effect.gen(function* () {
      const { run } = crew()
      const Between = Topic.make({
        name: "between",
        description: "",
        owner: "",
        schema: Reading,
        key: ["id", ({ id }) => String(id)],
        partitions: 2,
      })
      yield* Admin.createTopics([Between])
      const changed = Pipeline.make(
        group,
        Ingest.topic(In).pipe(
          Decode.schema,
          Failures.routeAll(DeadLetter.to(Dlt)),
          repartition(Between, { undeliverable: DeadLetter.to(Dlt) }),
          Deliver.to(Copies),
          Failures.routeAll(DeadLetter.to(Dlt)),
        ),
        Guarantee.exactlyOnce(),
      )
      const names = ["a", "b"]
      const old = new Map<string, Effect.Success<ReturnType<typeof run>>>()
      for (const name of names) old.set(name, yield* run(name))
      yield* until("two members", Effect.map(members, (count) => count === 2))
      const ids = [...yield* feed]
      yield* copied(...ids)
      for (const name of names) {
        yield* stop(old.get(name)!.fiber)
        yield* start(changed, Faults.none, { instanceId: name })
        yield* pass(2_000)
      }
      ids.push(...yield* feed)
      yield* until("copies", Effect.map(copies, (seen) => ids.every((id) => seen.includes(id))), 20_000)
      assert.deepStrictEqual(yield* once, new Set(ids))
    }),
  )

  test(
    "that come back to a topic with more partitions work on them, and join no more than they must",
    Effect.gen(function* () {
      const control = yield* ClusterMemory.Control
      const { run } = crew()
      const before = yield* run("a")
      const ids = [...yield* feed]
      yield* copied(...ids)
      yield* stop(before.fiber)
      yield* control.grow("in", partitions + 1)
      const after = yield* run("a")
      yield* append("in", partitions, [{ id: next, at: 1 }])
      ids.push(next++, ...yield* feed)
      yield* until("copies", Effect.map(copies, (seen) => ids.every((id) => seen.includes(id))), 20_000)
      yield* pass(10_000)
      const joins = (yield* after.calls).filter(({ operation }) => operation === "JoinGroup")
      assert.strictEqual(joins.length, 2)
      assert.deepStrictEqual(yield* once, new Set(ids))
    }),
  )
})
