/** A stage with a table of policies at work in one task. */
import { type Clock, Clock as Clocks, Effect, Metric } from "effect"
import type { Batch, Dropped, Failed, Failure, Outgoing } from "../Batch.ts"
import { failing, row, units, withoutRows } from "../Batch.ts"
import { Program, type Rejected, send } from "../Failures.ts"
import type { AnyFlow } from "../Flow.ts"
import { Logged, type PipelineError, type StoreSpec, Task } from "../Task.ts"
import * as Topology from "../Topology.ts"
import * as InPlace from "./InPlace.ts"
import { type Entry, Parking } from "./Parking.ts"
import { laterOf, type Policy, routeOf } from "./Policies.ts"
import { type Order, type RetryTopics, Unretriable } from "./Retry.ts"
import * as RetryRecord from "./RetryRecord.ts"
import type { RetryTopic } from "./RetryTopic.ts"
import { comeBack, type Group, groupsOf, type Level, levelsOf, wavesOf } from "./Returned.ts"

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
  const trying = yield* InPlace.make(name, open, policies)
  const parking = sets[0]?.order === "kept" ? new Parking(yield* (yield* Logged).store(store)) : undefined
  const context: Context<A> = {
    name,
    policies,
    set: sets[0],
    partition: task.partition,
    parking,
    program: yield* Program,
    clock: yield* Clocks.clockWith(Effect.succeed),
  }
  const levels = levelsOf(sets, policies)
  const told = yield* telling(name, parking)
  if (parking !== undefined) full.isFull = () => parking.bytes >= sets[0]!.parkedBytes
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
    const groups = groupsOf(batch, parking !== undefined, back?.returned)
    const passes: Array<Batch<B, G>> = []
    for (const wave of parking === undefined ? [groups] : wavesOf(groups)) {
      const now = new Map<number, Group>()
      for (const group of wave) if (settling.isInTurn(group)) now.set(group.unit, group)
      if (passes.length > 0 && now.size === 0) continue
      const part = InPlace.partOf(batch, now.size === groups.length ? undefined : placesOf(now.values()))
      const attempted = yield* trying.attempt(part, tried)
      passes.push(...attempted.passes)
      for (const failed of attempted.failed) {
        const unit = failed.unit ?? failed.row
        const group = now.get(unit)
        if (group === undefined) return yield* Effect.die(unknownRow(name))
        now.delete(unit)
        yield* settling.fail(group, failed, tried.get(unit)!)
      }
      for (const group of now.values()) settling.pass(group)
    }
    yield* told
    return settling.done(given, InPlace.woven(batch, passes))
  })
})

/** The values of groups, in order. */
const placesOf = (groups: Iterable<Group>): Uint32Array => {
  const places: Array<number> = []
  for (const { from, to } of groups) for (let i = from; i < to; i++) places.push(i)
  return Uint32Array.from(places)
}

interface Context<A> {
  readonly name: string
  readonly policies: ReadonlyMap<string, Policy<never, never>>
  readonly set: RetryTopics<A, Order> | undefined
  readonly partition: number
  readonly parking: Parking | undefined
  readonly program: Rejected<unknown>["program"]
  readonly clock: Clock.Clock
}

/** What becomes of the records of one batch that do not go on. */
class Settling<A, G> {
  readonly #context: Context<A>
  readonly #batch: Batch<A, unknown>
  readonly #level: Level<A> | undefined
  readonly failed: Array<Failed<G | Unretriable>> = []
  readonly #dropped: Array<Dropped> = []
  readonly #outgoing: Array<Outgoing> = []
  /** What was given up: all else that it has caused is taken back. */
  readonly #gone: Array<Failed<unknown>> = []
  readonly #parked = new Set<number>()
  #folded = 0

  constructor(context: Context<A>, batch: Batch<A, unknown>, level: Level<A> | undefined) {
    this.#context = context
    this.#batch = batch
    this.#level = level
  }

  /** Whether a record is to be tried now. Where it is not, it is put where it waits. */
  isInTurn(group: Group): boolean {
    const { name, parking } = this.#context
    const { key, sequence, unit } = group
    if (parking === undefined || key === undefined) return true
    if (this.#level === undefined) {
      if (!parking.isParked(key)) return true
      this.#follow(group)
      return false
    }
    // Records that were sent while order was not kept have no place in it.
    if (sequence === undefined) return true
    const { topic, level } = this.#level
    const arrived = level > 0
      ? parking.isFirst(key, sequence, topic) ? "next" : "unknown"
      : parking.arrive(key, sequence, this.#written(unit))
    if (arrived === "early") this.#folded++
    else if (arrived === "unknown") {
      const message = `stage ${name} knows of no such record: it has come before, or the stage's state was reset`
      this.failed.push({ row: unit, reason: new Unretriable({ field: "", message }) })
    }
    return arrived === "next"
  }

  /** The record is through, or given up: those behind it are next. */
  pass({ key, sequence, from }: Group): void {
    const { parking, set } = this.#context
    if (parking === undefined || key === undefined || sequence === undefined) return
    for (const record of parking.pass(key)) this.#send(set!.turn!, record, from)
  }

  /** The record has failed, and is not tried again in place. */
  fail(group: Group, failed: Failed<G>, tried: InPlace.Attempts): Effect.Effect<void, PipelineError> {
    const { name, policies, set, program, clock } = this.#context
    const { _tag } = failed.reason as Failure
    const policy = policies.get(_tag)
    if (this.#goesOn(group, laterOf(policy)?.topics as RetryTopics<A, Order> | undefined, _tag, tried)) {
      return Effect.void
    }
    if (!failed.kept) this.#gone.push(failed)
    const route = routeOf(policy)
    if (route === undefined) this.failed.push(failed)
    else {
      const input = set && RetryRecord.inputOf(set.input, this.#batch, group)
      const stage = { name, ...tried, input }
      const at = clock.currentTimeMillisUnsafe()
      const sent = send(route, { failed, source: this.#batch.source, program, at, stage })
      if (sent._tag === "Stop") return Effect.fail(sent.error)
      if (sent._tag === "Dropped") this.#dropped.push(sent.dropped)
      else this.#outgoing.push(sent.outgoing)
    }
    this.pass(group)
    return Effect.void
  }

  /** The batch as it leaves the stage: what has gone on of it, and all else that it has come to. */
  done<B, F>(given: Batch<A, F>, out: Batch<B, G>): Batch<B, F | G | Unretriable> {
    const stray = given.outgoing.some((sent) => sent.failure === undefined && this.#parked.has(sent.unit ?? sent.row))
    if (stray) throw sentBefore(this.#context.name)
    const folded = this.#folded === 0 ? [] : [{ stage: this.#context.name, count: this.#folded }]
    return {
      ...out,
      clockAfter: given.clockAfter,
      failed: [...given.failed, ...this.failed],
      dropped: [...given.dropped, ...out.dropped, ...this.#dropped],
      folded: [...given.folded, ...out.folded, ...folded],
      outgoing: [...withoutRows(given.outgoing, this.#gone), ...out.outgoing, ...this.#outgoing],
      changes: [...given.changes, ...out.changes],
    }
  }

  /** Sends a record to its next retry topic, if there is one that can take it. */
  #goesOn(
    group: Group,
    set: RetryTopics<A, Order> | undefined,
    reason: string,
    tried: InPlace.Attempts,
  ): boolean {
    const topic = set?.levels[this.#level?.level ?? 0]
    if (set === undefined || topic === undefined) return false
    const sequence = group.sequence ?? (group.key === undefined || this.#level !== undefined ? undefined : 0)
    const record = this.#waiting(group, set, topic, { ...tried, reason }, sequence)
    if (record === undefined) return false
    this.#parked.add(group.unit)
    this.#send(topic, record, group.from, reason)
    if (group.key !== undefined && sequence !== undefined) {
      this.#context.parking!.wait(group.key, sequence, topic.name)
    }
    return true
  }

  /** The record waits behind others of its key. */
  #follow(group: Group): void {
    const { name, parking, set } = this.#context
    const untried = { attempts: 0, reason: undefined, firstFailedAt: undefined }
    const record = this.#waiting(group, set!, set!.turn!, untried, parking!.next(group.key!))
    if (record === undefined) {
      const message =
        `stage ${name} cannot let the record wait behind others of its key: it is too large, or its schema ` +
        "refuses it"
      const failed = failing(this.#batch, group.from, new Unretriable({ field: "", message }))
      this.failed.push(failed)
      this.#gone.push(failed)
      return
    }
    this.#parked.add(group.unit)
    if (parking!.follow(group.key!, record)) this.#folded++
    else this.#send(set!.turn!, record, group.from)
  }

  /** A record as it waits in `topic`; `undefined` where it cannot. */
  #waiting(
    group: Group,
    set: RetryTopics<A, Order>,
    topic: RetryTopic,
    tried: RetryRecord.Tried,
    sequence: number | undefined,
  ): RetryRecord.Written | undefined {
    const { name, clock } = this.#context
    const at = clock.currentTimeMillisUnsafe()
    const input = RetryRecord.inputOf(set.input, this.#batch, group)
    const waiting = { ...tried, topic, stage: name, due: at + topic.delay, sequence }
    return input && RetryRecord.write(this.#batch, group, input, waiting, at)
  }

  /** Sends a record to one of the stage's own topics; nothing that fails takes it back. */
  #send(topic: RetryTopic, record: RetryRecord.Written, from: number, failure?: string): void {
    this.#outgoing.push({
      ...record,
      topic: topic.name,
      partition: this.#context.partition,
      row: row(this.#batch, from),
      unit: units(1)[0]!,
      ...failure === undefined ? {} : { failure },
    })
  }

  /** A row of a retry topic as it was written. */
  #written(row: number): RetryRecord.Written {
    const { keys, bytes, headers } = this.#batch.source
    return { key: keys[row]!, value: bytes[row]!, headers: headers[row]! }
  }
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

/** The stream time at which the flow's topics were left; that of folds before the stage is not known yet. */
const startOf = (flow: AnyFlow, task: Task["Service"]): number =>
  Topology.of(flow).stores.length > 0
    ? -Infinity
    : Math.min(...Array.from(Topology.roots(flow), ({ node }) => task.clock(node.reads[0]!).now))

const unknownRow = (name: string): Error => new Error(`a stage inside ${name} failed a row that it was not given`)

const sentBefore = (name: string): Error =>
  new Error(
    `a record that leaves stage ${name} for a retry topic had sent results before it: a stage before ${name} sends without ` +
      "saying so in its topology",
  )
