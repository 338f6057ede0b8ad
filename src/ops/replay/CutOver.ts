/** Putting a shadow in the place of the live pipeline: its state becomes the live group's, where both stand at the same positions. */
import { Clock, Effect } from "effect"
import * as Identifier from "../../Identifier.ts"
import { changelogTopic, plan as planOf } from "../../Pipeline.ts"
import { placeOf } from "../../kafka/Bounded.ts"
import { Cluster } from "../../kafka/Cluster.ts"
import { inactive } from "../../kafka/Exclusive.ts"
import * as Layout from "../../kafka/Layout.ts"
import { ownerOf } from "../../kafka/Positions.ts"
import type * as Reset from "../../kafka/Reset.ts"
import * as From from "./From.ts"
import { createBackups, fits, holding, over, storesOf } from "./InPlace.ts"
import type { Entry, Journal } from "./Journal.ts"
import { type Any, type Needs, partitionsOf } from "./Plan.ts"
import { countRecords } from "./Records.ts"
import { asFailure, refuse, type ReplayFailure } from "./ReplayError.ts"
import { liveGroupOf, shadowOf } from "./Shadow.ts"

export interface CutOverOptions {
  /** Where the cut-over is written down, for `undo`: not where the shadow is. */
  readonly journal: Journal
  /** Whether it is only found out whether the cut-over would be refused. */
  readonly dryRun?: boolean | undefined
  /** Whether the state may be one of records from the middle of the input on. */
  readonly partialState?: boolean | undefined
}

/**
 * Gives the live group the state and the clocks that the shadow has come to, in one transaction; what the live stores held
 * is kept for `undo`. The positions stay as they are: refused with `Behind` unless the shadow stands exactly where the live
 * group stands, with `Active` while either of them is at work, and with `Pending` while records wait between the parts of
 * the live pipeline. Outputs are not touched: what the live topics hold was written by the old version.
 */
export const cutOver = <R>(
  pipeline: Any<R>,
  shadow: Entry,
  { journal, dryRun, partialState }: CutOverOptions,
): Effect.Effect<Entry, ReplayFailure, Needs<R>> =>
  Effect.mapError(
    Effect.gen(function* () {
      yield* fits(pipeline, shadow, "shadow")
      if (shadow.step !== "finished") return yield* over(shadow)
      const group = liveGroupOf(shadow)
      const plan = planOf(pipeline, { group })
      if (!shadow.live!.isWhole && partialState !== true && plan.flows.some(({ stores }) => stores.length > 0)) {
        return yield* refuse(
          "PartialState",
          `the shadow began in the middle of the input, and records before it are not in its state: begin a shadow at the ` +
            "beginning of a log that has kept everything, or, where the state needs nothing older, say --partial-state",
        )
      }
      const cluster = yield* Cluster
      yield* inactive(shadow.group)
      yield* Layout.partitionsOfFlows(cluster, plan)
      const id = (yield* Identifier.make).slice(0, 8)
      const intended: Entry = {
        version: 1,
        id,
        kind: "cut-over",
        pipeline: pipeline.name,
        group,
        began: new Date(yield* Clock.currentTimeMillis).toISOString(),
        step: "intended",
        before: [],
        moved: [],
        ends: [],
        isBounded: false,
        stores: storesOf(plan, id),
      }
      return yield* Effect.scoped(Effect.gen(function* () {
        const { held } = yield* holding(pipeline, intended)
        const before = held.before.map(({ topic, partition, offset, metadata }) => ({
          topic,
          partition,
          offset,
          metadata,
        }))
        const stands = yield* standingOf(pipeline, shadow)
        const internal = new Set(plan.flows.flatMap(({ writes }) => writes.map(({ name }) => name)))
        for (const { topic, partition, offset } of before) {
          const theirs = stands.get(placeOf({ topic, partition }))
          if (internal.has(topic)) {
            yield* drained({ topic, partition }, offset, "the live pipeline")
            yield* drained(
              { topic: shadow.renamed![topic]!, partition },
              theirs?.offset ?? 0,
              "the shadow",
            )
          } else if (theirs?.offset !== offset) {
            return yield* refuse(
              "Behind",
              `the shadow stands at ${
                theirs?.offset ?? "no position"
              } in topic ${topic} partition ${partition}, and the ` +
                `live group at ${offset}: with the live programs stopped, resume the shadow, and it comes to the same place`,
            )
          }
        }
        const entry: Entry = { ...intended, before, moved: before.map(({ metadata: _, ...where }) => where) }
        if (dryRun === true) return entry
        const replays = new Map(held.before.map((one) => [placeOf(one), ownerOf(one)?.replay]))
        yield* journal.save(entry)
        yield* createBackups(plan, entry)
        yield* held.apply({
          id: `replay:${id}`,
          positions: entry.moved.map((where): Reset.PositionReset => ({
            ...where,
            clock: stands.get(placeOf(where))?.clock,
            replay: replays.get(placeOf(where)),
          })),
          stores: entry.stores.map((store) => ({ ...store, from: changelogTopic(shadow.group, store.store) })),
        })
        const finished: Entry = { ...entry, step: "finished" }
        yield* journal.save(finished)
        return finished
      }))
      function drained(where: { readonly topic: string; readonly partition: number }, position: number, whose: string) {
        return Effect.gen(function* () {
          const ends = yield* From.listed(cluster, [where], "latest")
          const records = yield* countRecords(where, position, ends.get(placeOf(where))!)
          if (records === 0) return
          return yield* refuse(
            "Pending",
            `${records} records wait in topic ${where.topic} partition ${where.partition}, between parts of ${whose}: let ` +
              "it run until they are processed",
          )
        })
      }
    }),
    asFailure,
  ) as Effect.Effect<Entry, ReplayFailure, Needs<R>>

/** Where the shadow stands, and its clocks there. */
const standingOf = Effect.fnUntraced(function* <R>(pipeline: Any<R>, entry: Entry) {
  const real = yield* Cluster
  const { plan, cluster } = shadowOf(pipeline, entry, real)
  const counts = yield* partitionsOf(cluster, plan)
  const reads = plan.flows.flatMap(({ reads }, flow) =>
    reads.flatMap(({ name }) => Array.from({ length: counts[flow]! }, (_, partition) => ({ topic: name, partition })))
  )
  const committed = yield* cluster.offsetFetch(plan.group, reads, true)
  return new Map(
    committed.flatMap((one) =>
      one.error !== null || one.offset < 0
        ? []
        : [[placeOf(one), { offset: one.offset, clock: ownerOf(one)?.clock }] as const]
    ),
  )
})
