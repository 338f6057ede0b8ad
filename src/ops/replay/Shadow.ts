/**
 * A shadow: the same pipeline beside the live one, in a group of its own, with changelogs of its own, writing into topics
 * of its own. It reads what the live group has read, and ends there.
 */
import { Clock, Effect } from "effect"
import * as Identifier from "../../Identifier.ts"
import { changelogTopic, type Pipeline, type Plan as PipelinePlan, plan as planOf } from "../../Pipeline.ts"
import * as Admin from "../../kafka/Admin.ts"
import { placeOf } from "../../kafka/Bounded.ts"
import { Cluster } from "../../kafka/Cluster.ts"
import { inactive } from "../../kafka/Exclusive.ts"
import * as Layout from "../../kafka/Layout.ts"
import { ownerOf } from "../../kafka/Positions.ts"
import { renamed } from "../../kafka/Renamed.ts"
import * as Reset from "../../kafka/Reset.ts"
import { patiently } from "../../kafka/Retry.ts"
import { PipelineError } from "../../Task.ts"
import type { Any as AnyTopic } from "../../Topic.ts"
import { follow, type Running } from "./Following.ts"
import * as From from "./From.ts"
import type { Entry, Journal } from "./Journal.ts"
import { fits, over } from "./InPlace.ts"
import { type Any, type Needs, type PartitionPlan, plan as planned, positionsOf, shadowRefusals } from "./Plan.ts"
import { asFailure, refuse, type ReplayFailure } from "./ReplayError.ts"

export interface ShadowOptions extends Running {
  readonly from: From.From
  readonly group?: string | undefined
  readonly journal: Journal
}

/** The pipeline as its shadow runs it, its plan, and the cluster that it sees. */
export const shadowOf = <R>(pipeline: Any<R>, { group, renamed: names = {} }: Entry, cluster: Cluster["Service"]) => {
  const shadow: Pipeline<unknown, R> = { ...pipeline, name: group }
  return { shadow, plan: planOf(shadow, { group }), cluster: renamed(cluster, new Map(Object.entries(names))) }
}

/**
 * Runs a shadow from the positions given up to where the live group stands, which may be at work meanwhile. Every record is
 * a replayed one to it. Refused for pipelines that write anything but topics.
 */
export const shadow = <R>(pipeline: Any<R>, options: ShadowOptions): Effect.Effect<Entry, ReplayFailure, Needs<R>> =>
  Effect.mapError(
    Effect.gen(function* () {
      const plan = yield* planned(pipeline, options)
      const [refused] = shadowRefusals(plan)
      if (refused !== undefined) return yield* refused
      const id = (yield* Identifier.make).slice(0, 8)
      const inputs = plan.partitions.filter(({ kind }) => kind === "input")
      const live = yield* standing(pipeline, plan.group, inputs)
      const ends = live.positions
      const entry: Entry = {
        version: 1,
        id,
        kind: "shadow",
        pipeline: pipeline.name,
        group: `${plan.group}.shadow-${id}`,
        began: new Date(yield* Clock.currentTimeMillis).toISOString(),
        step: "intended",
        before: [],
        moved: plan.partitions.map(({ topic, partition, kind, from }) => ({
          topic,
          partition,
          // Its own topics begin empty.
          offset: kind === "input" ? from : 0,
          below: everything,
        })),
        ends: inputs.map(({ topic, partition, from }) => (
          { topic, partition, offset: Math.max(from, ends.get(placeOf({ topic, partition })) ?? from) }
        )),
        isBounded: true,
        stores: [],
        renamed: Object.fromEntries(ownTopics(pipeline).map(({ name }) => [name, `${name}.shadow-${id}`])),
        live: { isExact: live.isExact, ends: live.ends, isWhole: plan.isWhole },
      }
      yield* options.journal.save(entry)
      return yield* goOn(pipeline, entry, options)
    }),
    asFailure,
  ) as Effect.Effect<Entry, ReplayFailure, Needs<R>>

/** An offset that no record has: all that a shadow reads is replayed, also where it goes on later. */
const everything = Number.MAX_SAFE_INTEGER

/**
 * Goes on with a shadow that was stopped. One that has come to its end goes on to where the live group stands now: stop the
 * live group before, and the shadow can take its place.
 */
export const resumeShadow = <R>(
  pipeline: Any<R>,
  entry: Entry,
  options: Running & { readonly journal: Journal; readonly liveGroup?: string | undefined },
): Effect.Effect<Entry, ReplayFailure, Needs<R>> =>
  Effect.mapError(
    Effect.gen(function* () {
      yield* fits(pipeline, entry, "shadow")
      if (entry.step === "undone" || entry.step === "forgotten") return yield* over(entry)
      if (entry.step !== "finished") return yield* goOn(pipeline, entry, options)
      const live = yield* standing(pipeline, liveGroupOf(entry), entry.ends)
      const ends = entry.ends.map((end) => ({ ...end, offset: live.positions.get(placeOf(end)) ?? end.offset }))
      const back = ends.find((end, i) => end.offset < entry.ends[i]!.offset)
      if (back !== undefined) {
        return yield* refuse(
          "Moved",
          `the live group went back in topic ${back.topic} partition ${back.partition} since: begin a new shadow`,
        )
      }
      const further: Entry = {
        ...entry,
        step: "applied",
        ends,
        live: { isExact: live.isExact, ends: live.ends, isWhole: entry.live!.isWhole },
      }
      yield* options.journal.save(further)
      return yield* goOn(pipeline, further, options)
    }),
    asFailure,
  ) as Effect.Effect<Entry, ReplayFailure, Needs<R>>

/** The group that a shadow stands beside. */
export const liveGroupOf = ({ group, id }: Entry): string => group.slice(0, -`.shadow-${id}`.length)

/** The topics that a pipeline writes: outputs, and those between its parts. */
const ownTopics = (pipeline: Any<never> | Any<unknown>): ReadonlyArray<AnyTopic> => [
  ...new Map(planOf(pipeline).flows.flatMap(({ writes }) => writes).map((topic) => [topic.name, topic])).values(),
]

const goOn = Effect.fnUntraced(function* <R>(
  pipeline: Any<R>,
  entry: Entry,
  options: Running & { readonly journal: Journal },
) {
  const real = yield* Cluster
  const { shadow, plan, cluster } = shadowOf(pipeline, entry, real)
  const beside = Effect.gen(function* () {
    let applied = entry
    if (entry.step === "intended") {
      yield* Admin.createTopics(ownTopics(pipeline).map((topic): AnyTopic => topic))
      const partitions = yield* Layout.partitionsOfFlows(cluster, plan)
      yield* Effect.scoped(Effect.gen(function* () {
        const held = yield* Reset.hold(plan, {
          transactionalId: `replay-${entry.id}`,
          partitions,
          isStamped: pipeline.guarantee.state === "ahead",
        })
        const id = `replay:${entry.id}`
        if (held.before.some((one) => ownerOf(one)?.replay?.id === id)) return
        const positions = entry.moved.map(({ below, ...where }) => ({ ...where, replay: { id, below: below! } }))
        const stores = plan.flows.flatMap(({ stores }, flow) => stores.map(({ name }) => ({ store: name, flow })))
        yield* held.apply({ id, positions, stores })
      }))
      applied = { ...entry, step: "applied" }
      yield* options.journal.save(applied)
    }
    yield* follow(shadow, plan, { starts: applied.moved, ends: applied.ends, isBounded: true }, options)
    const finished: Entry = { ...applied, step: "finished" }
    yield* options.journal.save(finished)
    return finished
  })
  return yield* Effect.provideService(beside, Cluster, cluster)
})

/**
 * Where the live group stands, and where its outputs end: at one moment, where it stands still for one; else the outputs may
 * hold more than belongs to the positions.
 */
const standing = Effect.fnUntraced(function* <R>(
  pipeline: Any<R>,
  group: string,
  inputs: ReadonlyArray<Pick<PartitionPlan, "topic" | "partition">>,
) {
  const cluster = yield* Cluster
  const plan = planOf(pipeline, { group })
  const outputs = yield* outputsOf(plan)
  const look = positionsOf(pipeline, plan, inputs)
  const lookStable = positionsOf(pipeline, plan, inputs, true)
  for (let tries = 1;; tries++) {
    const positions = yield* look
    const ends = yield* From.listed(cluster, outputs, "latest")
    const all = yield* From.listed(cluster, outputs, "latest", "read_uncommitted")
    const after = yield* lookStable
    const isExact = Array.from(positions).every(([place, at]) => after.get(place) === at) &&
      Array.from(ends).every(([place, end]) => all.get(place) === end)
    if (isExact || tries === stillnessTries) {
      return {
        positions,
        isExact,
        ends: outputs.map((output) => ({ ...output, offset: ends.get(placeOf(output))! })),
      }
    }
    yield* Effect.sleep("20 millis")
  }
})

const stillnessTries = 50

/** The partitions of all topics that a pipeline writes for others. */
export const outputsOf = Effect.fnUntraced(function* (plan: PipelinePlan) {
  const cluster = yield* Cluster
  const reads = new Set(plan.flows.flatMap(({ reads }) => reads.map(({ name }) => name)))
  const names = new Set(plan.flows.flatMap(({ writes }) => writes.map(({ name }) => name)))
  const { topics } = yield* cluster.metadata([...names].filter((name) => !reads.has(name)))
  return topics.flatMap(({ topic, partitions }) => partitions.map(({ partition }) => ({ topic, partition })))
})

/** Everything that a replay has made besides its outputs in live topics: what it writes down names it. */
export const forget = <R>(
  pipeline: Any<R>,
  entry: Entry,
  { journal }: { readonly journal: Journal },
): Effect.Effect<Entry, ReplayFailure, Needs<R>> =>
  Effect.mapError(
    Effect.gen(function* () {
      const cluster = yield* Cluster
      yield* fits(pipeline, entry, entry.kind)
      if (entry.kind !== "shadow" && entry.step !== "finished" && entry.step !== "undone") {
        return yield* refuse(
          "Moved",
          `replay ${entry.id} is not finished: resume it, or undo it, before it is forgotten`,
        )
      }
      const topics = [
        ...Object.values(entry.renamed ?? {}),
        ...entry.stores.flatMap(({ backup }) => backup === undefined ? [] : [backup]),
        ...entry.kind === "shadow"
          ? planOf(pipeline).flows.flatMap(({ stores }) => stores.map(({ name }) => changelogTopic(entry.group, name)))
          : [],
      ]
      if (entry.kind === "shadow") yield* inactive(entry.group)
      const deleted = topics.length === 0 ? [] : yield* patiently(cluster.deleteTopics(topics), 30_000)
      const kept = deleted.filter(({ error }) => error !== null && error !== "UNKNOWN_TOPIC_OR_PARTITION")
      if (kept.length > 0) {
        const [{ topic, error }] = kept as [typeof kept[number]]
        return yield* new PipelineError({
          reason: "Kafka",
          retriable: false,
          message: `${kept.length} of ${topics.length} topics of replay ${entry.id} are still there: topic ${topic} ` +
            `cannot be deleted (${error})`,
        })
      }
      const forgotten: Entry = { ...entry, step: "forgotten" }
      yield* journal.save(forgotten)
      return forgotten
    }),
    asFailure,
  ) as Effect.Effect<Entry, ReplayFailure, Needs<R>>
