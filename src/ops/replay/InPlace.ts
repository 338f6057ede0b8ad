/** Processing records again in the pipeline's own group: positions and state go back as one, and come forward again. */
import { Clock, Effect } from "effect"
import * as Identifier from "../../Identifier.ts"
import {
  changelogTopic,
  type Keeper,
  type Kept,
  type Plan as PipelinePlan,
  plan as planOf,
  type Replayed,
} from "../../Pipeline.ts"
import { placeOf } from "../../kafka/Bounded.ts"
import * as Changelog from "../../kafka/Changelog.ts"
import { Cluster, type CommittedOffset } from "../../kafka/Cluster.ts"
import { patiently } from "../../kafka/Retry.ts"
import { ownerOf } from "../../kafka/Positions.ts"
import * as Layout from "../../kafka/Layout.ts"
import * as Reset from "../../kafka/Reset.ts"
import { PipelineError } from "../../Task.ts"
import * as From from "./From.ts"
import { follow, type Running } from "./Following.ts"
import type { Entry, Journal } from "./Journal.ts"
import {
  type Allowed,
  type Any,
  type Asked,
  type Needs,
  partitionsOf,
  plan as planned,
  positionsOf,
  refusals,
} from "./Plan.ts"
import { asFailure, refuse, type ReplayFailure } from "./ReplayError.ts"

export interface Options extends Asked, Allowed, Running {
  readonly journal: Journal
  /** Whether only positions and state are moved, and other programs process what comes then. */
  readonly resetOnly?: boolean | undefined
}

/**
 * Moves positions, and state with `resetState`, back as one unit, and runs the pipeline here until it has come to the end
 * of the replay. Refused where `plan` says so, with nothing changed. What it does is written down before: `resume` goes on
 * after a crash or an interruption at any step, and `undo` puts back what was there.
 */
export const run = <R>(pipeline: Any<R>, options: Options): Effect.Effect<Entry, ReplayFailure, Needs<R>> =>
  Effect.mapError(
    Effect.gen(function* () {
      const plan = yield* planned(pipeline, options)
      const [refused] = refusals(plan, options)
      if (refused !== undefined) return yield* refused
      const id = (yield* Identifier.make).slice(0, 8)
      const positionOf = new Map(plan.partitions.map((one) => [placeOf(one), one.position]))
      const entry: Entry = {
        version: 1,
        id,
        kind: "in-place",
        pipeline: pipeline.name,
        group: plan.group,
        began: new Date(yield* Clock.currentTimeMillis).toISOString(),
        step: "intended",
        before: [],
        moved: plan.partitions.map(({ topic, partition, from, position }) => ({
          topic,
          partition,
          offset: from,
          ...position !== undefined && position > from && { below: position },
        })),
        ends: plan.partitions.filter(({ kind }) => kind === "input").map(({ topic, partition, to }) => (
          { topic, partition, offset: to }
        )),
        isBounded: options.to !== undefined,
        stores: storesOf(planOf(pipeline, { group: plan.group }), options.resetState === true ? id : undefined),
      }
      const applied = yield* reset(pipeline, entry, options.journal, (before) => {
        const changed = before.find((one) => {
          const position = positionOf.get(placeOf(one))
          return position !== undefined && position !== one.offset
        })
        return changed === undefined ? undefined : refuse(
          "Moved",
          `group ${plan.group} has moved on in topic ${changed.topic} partition ${changed.partition} meanwhile: try again`,
        )
      })
      if (options.resetOnly === true) return applied
      return yield* goOn(pipeline, applied, options)
    }),
    asFailure,
  ) as Effect.Effect<Entry, ReplayFailure, Needs<R>>

/** The stores of a pipeline, each with a topic to keep what it holds; none without an id. */
export const storesOf = (plan: PipelinePlan, id: string | undefined): Entry["stores"] =>
  id === undefined
    ? []
    : plan.flows.flatMap(({ stores }, flow) =>
      stores.map(({ name }) => ({ store: name, flow, backup: `${changelogTopic(plan.name, name)}.replay-${id}` }))
    )

/**
 * Goes on with what was written down. Where it is not known whether positions and state were moved, what the group stands
 * at tells; refused with `Moved` where the group was used since, and they were not.
 */
export const resume = <R>(
  pipeline: Any<R>,
  entry: Entry,
  options: Running & { readonly journal: Journal },
): Effect.Effect<Entry, ReplayFailure, Needs<R>> =>
  Effect.mapError(
    Effect.gen(function* () {
      yield* fits(pipeline, entry, "in-place")
      if (entry.step === "finished") return entry
      if (entry.step !== "intended" && entry.step !== "applied") return yield* over(entry)
      const applied = entry.step === "applied" ? entry : yield* reset(pipeline, entry, options.journal, () => undefined)
      return yield* goOn(pipeline, applied, options)
    }),
    asFailure,
  ) as Effect.Effect<Entry, ReplayFailure, Needs<R>>

/** Whether a file is of this kind, and of this pipeline with the inputs and stores that it has now. */
export const fits = (pipeline: Any<never> | Any<unknown>, entry: Entry, kind: Entry["kind"]) => {
  if (entry.pipeline !== pipeline.name || entry.kind !== kind) {
    return Effect.fail(refuse(
      "Positions",
      `the file belongs to a replay (${entry.kind}) of pipeline ${entry.pipeline}, not to one (${kind}) of ${pipeline.name}`,
    ))
  }
  const { flows } = planOf(pipeline)
  const reads = new Set(flows.flatMap(({ reads }) => reads.map(({ name }) => name)))
  const has = new Set(flows.flatMap(({ stores }, flow) => stores.map(({ name }) => `${flow}/${name}`)))
  const named = new Set(entry.moved.map(({ topic }) => topic))
  const had = new Set(entry.stores.map(({ store, flow }) => `${flow}/${store}`))
  if (named.size > 0 && !isSameSet(named, reads) || had.size > 0 && !isSameSet(had, has)) {
    return Effect.fail(refuse(
      "Positions",
      `pipeline ${pipeline.name} reads or keeps something else than when the file of replay ${entry.id} was written: use ` +
        "the version of the program that wrote it",
    ))
  }
  return Effect.void
}

const isSameSet = (one: ReadonlySet<string>, other: ReadonlySet<string>): boolean =>
  one.size === other.size && Array.from(one).every((member) => other.has(member))

export const over = (entry: Entry) =>
  Effect.fail(
    refuse(
      "Moved",
      entry.step === "intended" || entry.step === "applied"
        ? `replay ${entry.id} of pipeline ${entry.pipeline} has not come to its end: resume it first`
        : `replay ${entry.id} of pipeline ${entry.pipeline} is ${entry.step}: there is nothing to do`,
    ),
  )

const goOn = Effect.fnUntraced(function* <R>(
  pipeline: Any<R>,
  entry: Entry,
  options: Running & { readonly journal: Journal },
) {
  const plan = planOf(pipeline, { group: entry.group })
  yield* follow(pipeline, plan, { starts: entry.moved, ends: entry.ends, isBounded: entry.isBounded }, options)
  const endOf = new Map(entry.ends.map((end) => [placeOf(end), end.offset]))
  const now = yield* positionsOf(pipeline, plan, entry.before)
  // Where it went back before the journal said so, programs may have gone on from there.
  const ahead = entry.before.filter((one) =>
    (endOf.get(placeOf(one)) ?? Infinity) < one.offset && (now.get(placeOf(one)) ?? -1) < one.offset
  )
  if (ahead.length > 0) yield* putBack(pipeline, entry, "back", false)
  const finished: Entry = { ...entry, step: "finished" }
  yield* options.journal.save(finished)
  return finished
})

/** Puts back what was there before: positions, and with `undo` the stores that were reset. */
const putBack = Effect.fnUntraced(function* <R>(
  pipeline: Any<R>,
  entry: Entry,
  name: string,
  withState: boolean,
) {
  const id = `replay:${entry.id}:${name}`
  yield* Effect.scoped(Effect.gen(function* () {
    const found = yield* holding(pipeline, entry)
    const { held, keeper, kept } = found
    const cluster = yield* Cluster
    const plan = planOf(pipeline, { group: entry.group })
    const writes = new Set(plan.flows.flatMap(({ writes }) => writes.map(({ name }) => name)))
    // Nothing waited there: what stands in them since comes again from the inputs, which go back.
    const own = yield* From.listed(cluster, entry.before.filter(({ topic }) => writes.has(topic)), "latest")
    const starts = yield* From.listed(cluster, entry.before, "earliest")
    const lost = entry.before.filter((one) => !own.has(placeOf(one)) && starts.get(placeOf(one))! > one.offset)
    for (const { topic, partition, offset } of lost) {
      yield* Effect.logWarning(
        `topic ${topic} partition ${partition} begins at ${
          starts.get(placeOf({ topic, partition }))
        } by now: records from ` +
          `${offset} on, where the group is put back to, are gone`,
      )
    }
    const stands = new Map(standing(found).map((one) => [placeOf(one), one.offset]))
    const replays = replaysOf(found)
    const positions = entry.before.map((one): Reset.PositionReset => {
      const { clock, replay } = ownerOf({ ...one, error: null }) ?? {}
      const offset = own.get(placeOf(one)) ?? one.offset
      // What was processed since is processed again, and stages must see that it is.
      const below = Math.max(
        stands.get(placeOf(one)) ?? 0,
        replays.get(placeOf(one))?.below ?? 0,
        replay?.below ?? 0,
      )
      return { ...one, offset, clock, replay: below > offset ? { id, below } : replay }
    })
    if (keeper === undefined) {
      const stores = withState ? entry.stores.map(({ store, flow, backup }) => ({ store, flow, from: backup })) : []
      return yield* held.apply({ id, positions, stores })
    }
    yield* moveKept(keeper, kept, positions, id)
    yield* held.show(positions)
  }))
})

/**
 * Puts positions and state back to where they stood before a replay in place or a cut-over, as one unit. What was written
 * since stays: outputs in topics and rows in tables. Records behind the positions are processed again by the programs that
 * start next. Refused while the group is active.
 */
export const undo = <R>(
  pipeline: Any<R>,
  entry: Entry,
  { journal }: { readonly journal: Journal },
): Effect.Effect<Entry, ReplayFailure, Needs<R>> =>
  Effect.mapError(
    Effect.gen(function* () {
      yield* fits(pipeline, entry, entry.kind === "cut-over" ? "cut-over" : "in-place")
      if (entry.step === "undone" || entry.step === "forgotten") return yield* over(entry)
      const isApplied = entry.step !== "intended" ||
        (entry.before.length > 0 && (yield* Effect.scoped(
          Effect.flatMap(holding(pipeline, entry), (found) => isDone(found, entry)),
        )))
      if (isApplied) yield* putBack(pipeline, entry, "undo", true)
      const undone: Entry = { ...entry, step: "undone" }
      yield* journal.save(undone)
      return undone
    }),
    asFailure,
  ) as Effect.Effect<Entry, ReplayFailure, Needs<R>>

export interface Holding {
  readonly held: Reset.Held
  readonly keeper: Keeper | undefined
  readonly kept: ReadonlyArray<Kept>
}

/** Holds the pipeline's group, and reads the positions that are kept elsewhere. */
export const holding = Effect.fnUntraced(function* <R>(pipeline: Any<R>, { id, group }: Pick<Entry, "id" | "group">) {
  const cluster = yield* Cluster
  const plan = planOf(pipeline, { group })
  const held = yield* Reset.hold(plan, {
    transactionalId: `replay-${id}`,
    partitions: yield* partitionsOf(cluster, plan),
    isStamped: pipeline.guarantee.state === "ahead",
  })
  const keeper = pipeline.guarantee.keeper === undefined ? undefined : yield* pipeline.guarantee.keeper(plan)
  return { held, keeper, kept: keeper === undefined ? [] : yield* keeper.read } satisfies Holding
})

/** Where the group stands, by the positions that count. */
const standing = ({ held, keeper, kept }: Holding): ReadonlyArray<CommittedOffset> => {
  if (keeper === undefined) return held.before
  const next = new Map(kept.map((one) => [placeOf(one), one.next]))
  return held.before.map((one) => ({ ...one, offset: next.get(placeOf(one)) ?? one.offset }))
}

/** The replays that the group is in. */
const replaysOf = ({ held, keeper, kept }: Holding): ReadonlyMap<string, Replayed | undefined> =>
  keeper === undefined
    ? new Map(held.before.map((one) => [placeOf(one), ownerOf(one)?.replay]))
    : new Map(kept.map((one) => [placeOf(one), one.replay]))

const moveId = ({ id }: Pick<Entry, "id">): string => `replay:${id}`

/** Whether a reset that was written down was carried out; refused where it was not, and the group has been used since. */
const isDone = Effect.fnUntraced(function* (found: Holding, entry: Entry) {
  const id = moveId(entry)
  const { keeper, kept, held } = found
  const done = keeper === undefined
    ? held.before.some((one) => ownerOf(one)?.commit === id || ownerOf(one)?.replay?.id === id)
    : kept.some(({ replay }) => replay?.id === id)
  if (done) return true
  const before = new Map(entry.before.map((one) => [placeOf(one), one]))
  const moved = standing(found).find((one) => {
    const was = before.get(placeOf(one))
    return was === undefined || was.offset !== one.offset ||
      keeper === undefined && ownerOf({ ...was, error: null })?.commit !== ownerOf(one)?.commit
  })
  if (moved === undefined) return false
  return yield* refuse(
    "Moved",
    `group ${entry.group} was used since replay ${entry.id} was written down, and it was not carried out then (topic ` +
      `${moved.topic} partition ${moved.partition} stands at ${moved.offset}): begin a new one`,
  )
})

/** Moves positions and state, unless that was done before; written down before and after. */
const reset = Effect.fnUntraced(function* <R>(
  pipeline: Any<R>,
  wanted: Entry,
  journal: Journal,
  check: (before: ReadonlyArray<CommittedOffset>) => ReplayFailure | undefined,
) {
  const applied = yield* Effect.scoped(Effect.gen(function* () {
    const found = yield* holding(pipeline, wanted)
    const before = standing(found)
    let entry = wanted
    if (wanted.before.length === 0) {
      const problem = check(before)
      if (problem !== undefined) return yield* Effect.fail(problem)
      entry = {
        ...wanted,
        before: before.map(({ topic, partition, offset, metadata }) => ({ topic, partition, offset, metadata })),
      }
      yield* journal.save(entry)
    } else if (yield* isDone(found, wanted)) return entry
    const replays = replaysOf(found)
    const positions = entry.moved.map(({ topic, partition, offset, below = 0 }): Reset.PositionReset => {
      // An earlier replay may not have come to its end: what it was to process again is still processed again.
      const last = Math.max(below, replays.get(placeOf({ topic, partition }))?.below ?? 0)
      return { topic, partition, offset, replay: last > offset ? { id: moveId(entry), below: last } : undefined }
    })
    if (found.keeper === undefined) {
      if (entry.stores.length > 0) yield* createBackups(planOf(pipeline, { group: entry.group }), entry)
      yield* found.held.apply({ id: moveId(entry), positions: keepClocks(entry, positions), stores: entry.stores })
    } else {
      yield* moveKept(found.keeper, found.kept, positions, moveId(entry))
      yield* found.held.show(positions)
    }
    return entry
  }))
  const entry: Entry = { ...applied, step: "applied" }
  yield* journal.save(entry)
  return entry
})

/** Partitions that stay where they stand keep their clocks, unless the state begins anew. */
const keepClocks = (entry: Entry, positions: ReadonlyArray<Reset.PositionReset>) => {
  if (entry.stores.length > 0) return positions
  const before = new Map(entry.before.map((one) => [placeOf(one), one]))
  return positions.map((one) => {
    const was = before.get(placeOf(one))
    if (was === undefined || was.offset !== one.offset) return one
    return { ...one, clock: ownerOf({ ...was, error: null })?.clock }
  })
}

const moveKept = Effect.fnUntraced(function* (
  keeper: Keeper,
  kept: ReadonlyArray<Kept>,
  positions: ReadonlyArray<Reset.PositionReset>,
  id: string,
) {
  const byPlace = new Map(kept.map((one) => [placeOf(one), one]))
  const isMoved = yield* keeper.move(positions.map(({ topic, partition, offset, replay }) => ({
    topic,
    partition,
    from: byPlace.get(placeOf({ topic, partition })),
    next: offset,
    replay: replay ?? { id, below: 0 },
  })))
  if (!isMoved) {
    return yield* refuse("Moved", "positions in the database were moved by another process meanwhile: try again")
  }
})

/** Creates the topics that keep what stores hold. */
export const createBackups = Effect.fnUntraced(function* (plan: PipelinePlan, { stores }: Pick<Entry, "stores">) {
  const cluster = yield* Cluster
  // Of a pipeline that has never run, the changelogs are made here.
  const counts = yield* Layout.partitionsOfFlows(cluster, plan)
  const wanted = stores.flatMap(({ backup, flow }) => backup === undefined ? [] : [{ topic: backup, flow }])
  if (wanted.length === 0) return
  const created = yield* patiently(
    cluster.createTopics(wanted.map(({ topic, flow }) => (
      { topic, partitions: counts[flow]!, replicationFactor: -1, config: Changelog.config }
    ))),
    30_000,
  )
  const failed = created.find(({ error }) => error !== null && error !== "TOPIC_ALREADY_EXISTS")
  if (failed === undefined) return
  return yield* new PipelineError({
    reason: "Definition",
    retriable: false,
    message: `topic ${failed.topic}, which is to keep a store's content, cannot be created: ${failed.error}`,
  })
})
