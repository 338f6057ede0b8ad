/**
 * 64 partitions over 1 to 8 members that join, leave and die in any order: after each of these every partition has one
 * owner, evenly, nothing has moved that did not have to, only what has moved was started anew, and every record is counted
 * once, in order, with the state that its partition had where it was before.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Buffer } from "node:buffer"
import {
  Admin,
  Aggregate,
  Decode,
  Deliver,
  Failures,
  Flow,
  Fold,
  Guarantee,
  Ingest,
  Pipeline,
  Topic,
} from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { decodeAssignment } from "../../src/kafka/ConsumerProtocol.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { forSeeds } from "../support/Seeds.ts"
import { type Process, start, stop, until } from "../support/Simulation.ts"

const partitions = 64
const most = 8
const common = { description: "", owner: "", partitions }
const In = Topic.make({ ...common, name: "in", schema: Schema.Int })
const Out = Topic.make({
  ...common,
  name: "out",
  schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
  partitions: 1,
})
const group = "counting"

/** Counts by key; `opened` runs whenever a task is started. */
const counting = (opened: Effect.Effect<void>) =>
  Pipeline.make(
    group,
    Ingest.topic(In).pipe(
      Decode.schema,
      Flow.perTask<number, number, never, never, never, never, never>(
        Effect.as(opened, (batch) => Effect.succeed(batch)),
        { stage: "opened" },
      ),
      Aggregate.running({ name: "counts", fold: Fold.count }),
      Flow.map(({ key, value }) => ({ key, value })),
      Deliver.to(Out),
      Failures.routeAll(Failures.stop),
    ),
    Guarantee.exactlyOnce(),
  )

/** Who owns which partition, once the group is stable with so many members. */
const owners = (members: number) =>
  Effect.map(Cluster.use((cluster) => cluster.describeGroups([group])), ([description]) => {
    if (description!.state !== "Stable" || description!.members.length !== members) return undefined
    return description!.members.map(({ memberId, assignment }) => ({
      memberId,
      partitions: decodeAssignment(assignment).partitions.map(({ partition }) => partition),
    }))
  })
type Owners = NonNullable<Effect.Success<ReturnType<typeof owners>>>

/** The most partitions that can stay where they are in an even assignment: whoever has most keeps one more. */
const mayStay = (before: Owners, after: Owners): number => {
  const had = (id: string) => before.find(({ memberId }) => memberId === id)?.partitions.length ?? 0
  const least = Math.floor(partitions / after.length)
  const more = partitions % after.length
  return after.map(({ memberId }) => had(memberId)).sort((a, b) => b - a)
    .reduce((sum, n, i) => sum + Math.min(n, least + (i < more ? 1 : 0)), 0)
}

const stayed = (before: Owners, after: Owners): number =>
  after.reduce((sum, { memberId, partitions }) => {
    const had = new Set(before.find((one) => one.memberId === memberId)?.partitions)
    return sum + partitions.filter((partition) => had.has(partition)).length
  }, 0)

describe("64 partitions over 1 to 8 members", () => {
  it.effect(
    "have one owner each, evenly, move no more than they must, and lose and repeat nothing",
    () =>
      forSeeds(4, (dice, seed) =>
        Effect.gen(function* () {
          const control = yield* ClusterMemory.Control
          yield* Admin.createTopics([In, Out])
          let opened = 0
          const pipeline = counting(Effect.sync(() => void opened++))
          let running: Array<Process> = []
          let before: Owners = []
          let fed = 0
          const feed = Effect.gen(function* () {
            fed++
            for (let partition = 0; partition < partitions; partition++) {
              const records = { values: [Buffer.from("1")], headers: [[]], timestamps: [0] }
              yield* control.append({ topic: "in", partition }, { keys: [Buffer.from(`key-${partition}`)], ...records })
            }
          })
          /** The counts by key, in order: those of records that came in one batch are one. */
          const counts = Effect.map(control.records("out"), (records) => {
            const byKey = new Map<string, Array<number>>()
            for (const { value } of records) {
              const { key, value: count } = JSON.parse(String(value)) as typeof Out.schema.Type
              const found = byKey.get(key)
              if (found === undefined) byKey.set(key, [count])
              else found.push(count)
            }
            return byKey
          })
          const counted = Effect.map(
            counts,
            (counts) => counts.size === partitions && [...counts.values()].every((found) => found.at(-1)! >= fed),
          )
          for (let step = 0; step < 6; step++) {
            const at = `SEED=${seed} step ${step}`
            const grows = running.length < 2 || running.length < most && dice.int(0, 9) < 5
            opened = 0
            yield* feed
            if (grows) running.push(yield* start(pipeline, Faults.none))
            else {
              const one = dice.pick(running)
              running = running.filter((other) => other !== one)
              if (dice.int(0, 1) === 0) yield* stop(one.fiber)
              else yield* one.use(Faults.every(() => true, Faults.hang))
            }
            yield* feed
            let after: Owners | undefined
            yield* until(
              `${at}: ${running.length} members`,
              Effect.map(owners(running.length), (now) => (after = now) !== undefined),
            )
            yield* feed
            yield* until(`${at}: everything counted`, counted)
            const all = after!.flatMap(({ partitions }) => partitions)
            assert.deepStrictEqual(all.toSorted((a, b) => a - b), Array.from({ length: partitions }, (_, i) => i), at)
            const loads = after!.map(({ partitions }) => partitions.length)
            assert.isAtMost(Math.max(...loads) - Math.min(...loads), 1, at)
            if (grows || running.length > 1) {
              assert.strictEqual(stayed(before, after!), mayStay(before, after!), at)
              assert.strictEqual(opened, partitions - stayed(before, after!), `${at}: tasks started`)
            }
            before = after!
          }
          for (const [key, found] of yield* counts) {
            assert.strictEqual(found.at(-1), fed, `SEED=${seed} ${key}`)
            assert.deepStrictEqual(found, [...new Set(found)].sort((a, b) => a - b), `SEED=${seed} ${key}`)
          }
        }).pipe(Effect.scoped, Effect.provide(ClusterMemory.layer({ markerDelay: dice.pick([0, 20, 150]) })))),
    120_000,
  )
})
