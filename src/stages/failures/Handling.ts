/** A stage with a table of policies at work in one task. */
import { Clock, Effect, Metric } from "effect"
import type { Batch, Failed } from "../../Batch.ts"
import { Program } from "../../Failures.ts"
import type { AnyFlow } from "../../Flow.ts"
import { Logged, type StoreSpec, Task } from "../../Task.ts"
import * as Topology from "../../Topology.ts"
import * as InPlace from "./InPlace.ts"
import { type Entry, Parking } from "./Parking.ts"
import { Missing } from "./Missing.ts"
import { partOf, woven } from "./Passes.ts"
import type { Policy } from "./Policies.ts"
import type { Order, RetryTopics } from "../Retry.ts"
import { comeBack, type Group, groupsOf, levelsOf, wavesOf } from "./Returned.ts"
import { type Context, Settling } from "./Settling.ts"

/** Records that wait to be tried again, or behind others of their key, by stage: where order is kept. */
export const parkedRecords = Metric.gauge("millrace_parked_records", {
  description: "Records of this process's tasks that wait for another attempt or behind others of their key, by stage",
})

/** Whether so much waits that the flow's input must. */
export interface Full {
  isFull: () => boolean
}

export interface Options<A> {
  readonly name: string
  readonly policies: ReadonlyMap<string, Policy<never, never>>
  /** The retry topics of its table. */
  readonly sets: ReadonlyArray<RetryTopics<A, Order>>
  /** What stands before it. */
  readonly flow: AnyFlow
  readonly store: StoreSpec<Entry>
  readonly full: Full
}

/** Opens the stage for one task; `open` opens the stages inside it. */
export const make = Effect.fnUntraced(function* <A, B, G, E, R>(
  { name, policies, sets, flow, store, full }: Options<A>,
  open: Effect.Effect<InPlace.Through<A, B, G, E>, never, R>,
) {
  const task = yield* Task
  const attempt = yield* InPlace.make(name, open, policies)
  const parking = sets[0]?.order === "kept"
    ? new Parking(yield* (yield* Logged).store(store), sets[0].turn!.name)
    : undefined
  const context: Context<A> = {
    name,
    policies,
    set: sets[0],
    partition: task.partition,
    parking,
    program: yield* Program,
    clock: yield* Clock.clockWith(Effect.succeed),
  }
  const levels = levelsOf(sets, policies)
  const told = yield* telling(name, parking)
  const missing = parking && (yield* Missing.make(name, parking, sets))
  if (parking !== undefined) {
    full.isFull = () => parking.bytes >= sets[0]!.parkedBytes && missing?.topics.length === 0
  }
  let streamTime = sets.length === 0 ? -Infinity : startOf(flow, task)

  return Effect.fnUntraced(function* <F>(given: Batch<A, F>) {
    const level = levels.get(given.source.topic.name)
    const tried = new Map<number, InPlace.Attempts>()
    const back = level && comeBack(given as Batch<unknown>, name, level, streamTime)
    if (back === undefined) streamTime = Math.max(streamTime, given.time?.now ?? -Infinity)
    else {
      yield* InPlace.countRetries(name, back.returned.flatMap((record) => record?.reason ?? []))
      for (const [row, record] of back.returned.entries()) {
        if (record?.firstFailedAt === undefined) continue
        tried.set(row, { attempts: record.attempts, firstFailedAt: record.firstFailedAt })
      }
    }
    const batch = back?.batch ?? given
    const settling = new Settling<A, G>(context, batch, level)
    settling.failed.push(...back?.failed ?? [])
    if (missing !== undefined) settling.release(yield* missing.released)
    const passes: Array<Batch<B, G>> = []
    if (parking === undefined) {
      const { passes: through, failed } = yield* attempt(partOf(batch), tried)
      passes.push(...through)
      if (failed.length > 0) {
        yield* settled(name, settling, failed, tried, byUnit(groupsOf(batch, false, back?.returned)))
      }
    } else {
      const groups = groupsOf(batch, true, back?.returned)
      for (const wave of wavesOf(groups)) {
        const now = byUnit(wave.filter((group) => settling.isInTurn(group)))
        if (passes.length > 0 && now.size === 0) continue
        const places = now.size === groups.length ? undefined : placesOf(now.values())
        const { passes: through, failed } = yield* attempt(partOf(batch, places), tried)
        passes.push(...through)
        yield* settled(name, settling, failed, tried, now)
        for (const group of now.values()) settling.pass(group)
      }
      yield* told
    }
    return settling.done(given, woven(batch, passes))
  })
})

/** Settles failures, and takes what has failed out of `groups`. */
const settled = Effect.fnUntraced(function* <A, G>(
  name: string,
  settling: Settling<A, G>,
  failures: ReadonlyArray<Failed<G>>,
  tried: ReadonlyMap<number, InPlace.Attempts>,
  groups: Map<number, Group>,
) {
  for (const failed of failures) {
    const unit = failed.unit ?? failed.row
    const group = groups.get(unit)
    if (group === undefined) {
      return yield* Effect.die(new Error(`a stage inside ${name} failed a row that it was not given`))
    }
    groups.delete(unit)
    yield* settling.fail(group, failed, tried.get(unit)!)
  }
})

const byUnit = (groups: ReadonlyArray<Group>): Map<number, Group> => new Map(groups.map((group) => [group.unit, group]))

/** The values of groups, in order. */
const placesOf = (groups: Iterable<Group>): Uint32Array => {
  const places: Array<number> = []
  for (const { from, to } of groups) for (let i = from; i < to; i++) places.push(i)
  return Uint32Array.from(places)
}

/** Keeps the gauge of records that wait, until the task is closed. */
const telling = Effect.fnUntraced(function* (name: string, parking: Parking | undefined) {
  if (parking === undefined) return Effect.void
  const gauge = Metric.withAttributes(parkedRecords, { stage: name })
  let told = 0
  const tell = Effect.suspend(() => {
    const change = parking.records - told
    told += change
    return change === 0 ? Effect.void : Metric.modify(gauge, change)
  })
  yield* tell
  yield* Effect.addFinalizer(() => Effect.suspend(() => Metric.modify(gauge, -told)))
  return tell
})

/**
 * The stream time at which the flow's topics were left; that of folds before the stage is not known yet, nor what goes
 * through a stage that this one is inside of.
 */
const startOf = (flow: AnyFlow, task: Task["Service"]): number => {
  const { reads, retries, stores } = Topology.of(flow)
  const topics = reads.filter((topic) => !retries.includes(topic))
  return stores.length > 0 || topics.length === 0
    ? -Infinity
    : Math.min(...topics.map((topic) => task.clock(topic).now))
}
