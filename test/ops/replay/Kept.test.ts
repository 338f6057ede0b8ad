/** Replays of pipelines that keep their positions outside of Kafka: those are moved, and the group's follow. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { DeadLetter, Decode, Failures, Guarantee, Ingest, type Kafka, Pipeline, Replay } from "../../../src/index.ts"
import { Cluster } from "../../../src/kafka/Cluster.ts"
import * as Simulation from "../../support/Simulation.ts"
import { Payments, payments, Refused, topics } from "./Totals.ts"
import * as World from "./World.ts"

/** A database's positions. */
const database = () => {
  const rows = new Map<string, Pipeline.Kept>()
  const place = ({ topic, partition }: { readonly topic: string; readonly partition: number }) =>
    `${topic}/${partition}`
  const keeper: Pipeline.Keeper = {
    read: Effect.sync(() => [...rows.values()]),
    move: (moves) =>
      Effect.sync(() => {
        const isAs = moves.every((move) => {
          const row = rows.get(place(move))
          return row?.next === move.from?.next && row?.epoch === move.from?.epoch
        })
        if (!isAs) return false
        for (const { topic, partition, from, next, replay } of moves) {
          rows.set(place({ topic, partition }), { topic, partition, next, epoch: (from?.epoch ?? 0) + 1, replay })
        }
        return true
      }),
  }
  const pipeline = Pipeline.make(
    "kept",
    Ingest.topic(Payments).pipe(Decode.schema, Failures.routeAll(DeadLetter.to(Refused))),
    {
      ...Guarantee.exactlyOnce(),
      keeper: () => Effect.succeed(keeper),
      sink: { name: "Rows", idempotentBy: "table rows by id" },
    } as Pipeline.Guarantee<unknown, Kafka.Cluster>,
  )
  const put = (next: number) => {
    for (const partition of [0, 1]) {
      const row = { topic: Payments.name, partition, next, epoch: 7, replay: undefined }
      rows.set(place(row), row)
    }
  }
  return { pipeline, put, next: () => Array.from(rows.values(), ({ next }) => next), rows }
}

const shown = Effect.gen(function* () {
  const cluster = yield* Cluster
  const where = [0, 1].map((partition) => ({ topic: Payments.name, partition }))
  return (yield* cluster.offsetFetch("kept", where, true)).map(({ offset }) => offset)
})

describe("a replay of what keeps its positions elsewhere", () => {
  it.effect("moves them and their epochs, and undo moves them back", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      const { pipeline, put, next, rows } = database()
      put(10)
      const journal = World.journal()
      const options = { from: Replay.earliest, journal, resetOnly: true }
      const entry = yield* World.passing(Replay.run(pipeline, options))
      assert.deepStrictEqual([next(), yield* shown], [[0, 0], [0, 0]])
      assert.deepStrictEqual(Array.from(rows.values(), ({ epoch, replay }) => [epoch, replay?.below]), [[8, 10], [
        8,
        10,
      ]])
      yield* World.passing(Replay.undo(pipeline, entry, { journal }))
      assert.deepStrictEqual([next(), yield* shown], [[10, 10], [10, 10]])
    })))

  it.effect("that died when they were moved and nobody knew does not move them twice", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      const { pipeline, put, next, rows } = database()
      put(10)
      const journal = World.journal()
      yield* World.passing(Replay.run(pipeline, { from: Replay.earliest, journal, resetOnly: true }))
      const intended = journal.saved[0]!
      assert.strictEqual(intended.step, "intended")
      // Programs have gone on since.
      for (const [place, row] of rows) rows.set(place, { ...row, next: 6 })
      const again = World.journal()
      const resumed = Replay.resume(pipeline, intended, { journal: again, run: Simulation.options })
      yield* World.through(Effect.timeoutOption(resumed, "3 seconds"), () => ({ start: () => () => undefined }))
      assert.strictEqual(again.saved[0]?.step, "applied")
      assert.deepStrictEqual(next(), [6, 6])
    })))

  it.effect("that was not carried out is refused once they were used", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      const { pipeline, put } = database()
      put(10)
      const journal = World.journal()
      yield* World.passing(Replay.run(pipeline, { from: Replay.earliest, journal, resetOnly: true }))
      put(8)
      const exit = yield* Effect.exit(World.passing(Replay.resume(pipeline, journal.saved[0]!, { journal })))
      assert.strictEqual(World.reasonOf(exit), "Moved")
    })))
})
