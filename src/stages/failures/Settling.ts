/** What becomes of the records of one batch that do not go on from a stage with a table of policies. */
import { type Clock, Effect } from "effect"
import type { Batch, Dropped, Failed, Failure, Outgoing } from "../../Batch.ts"
import { failing, row, units, withoutRows } from "../../Batch.ts"
import { type Rejected, send } from "../../Failures.ts"
import type { PipelineError } from "../../Task.ts"
import type { Attempts } from "./InPlace.ts"
import type { Parking } from "./Parking.ts"
import { laterOf, type Policy, routeOf } from "./Policies.ts"
import { type Order, type RetryTopics, Unretriable } from "../Retry.ts"
import * as RetryRecord from "./RetryRecord.ts"
import type { RetryTopic } from "./RetryTopic.ts"
import type { Group, Level } from "./Returned.ts"

/** What the stage is in one task. */
export interface Context<A> {
  readonly name: string
  readonly policies: ReadonlyMap<string, Policy<never, never>>
  readonly set: RetryTopics<A, Order> | undefined
  readonly partition: number
  readonly parking: Parking | undefined
  readonly program: Rejected<unknown>["program"]
  readonly clock: Clock.Clock
}

/** Asked for the records of the batch in the order they are tried. */
export class Settling<A, G> {
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

  /** Records that wait behind others which are gone: it is their turn. */
  release(records: ReadonlyArray<RetryRecord.Written>): void {
    for (const record of records) this.#send(this.#context.set!.turn!, record, undefined)
  }

  /** The record has failed, and is not tried again in place. */
  fail(group: Group, failed: Failed<G>, tried: Attempts): Effect.Effect<void, PipelineError> {
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
      const at = clock.currentTimeMillisUnsafe()
      const back = input && RetryRecord.wayBack(this.#batch, group, set!.levels[0]!, at)
      const stage = { name, ...tried, input, back }
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
    tried: Attempts,
  ): boolean {
    const topic = set?.levels[this.#level?.level ?? 0]
    if (set === undefined || topic === undefined) return false
    if (group.key !== undefined && !this.#context.parking!.fits(group.key)) return false
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
    const waiting = (longest?: number) =>
      this.#waiting(group, set!, set!.turn!, untried, parking!.next(group.key!), longest)
    const fitting = (record: RetryRecord.Written | undefined) =>
      record !== undefined && parking!.fits(group.key!, record) ? record : undefined
    const record = fitting(waiting()) ?? fitting(waiting(0))
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
    longest?: number,
  ): RetryRecord.Written | undefined {
    const { name, clock } = this.#context
    const at = clock.currentTimeMillisUnsafe()
    const input = RetryRecord.inputOf(set.input, this.#batch, group)
    const waiting = { ...tried, topic, stage: name, due: at + topic.delay, sequence }
    return input && RetryRecord.write(this.#batch, group, input, waiting, at, longest)
  }

  /** Sends a record to one of the stage's own topics; nothing that fails takes it back. */
  #send(topic: RetryTopic, record: RetryRecord.Written, from: number | undefined, failure?: string): void {
    this.#outgoing.push({
      ...record,
      topic: topic.name,
      partition: this.#context.partition,
      row: from === undefined ? 0 : row(this.#batch, from),
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

const sentBefore = (name: string): Error =>
  new Error(
    `a record that leaves stage ${name} for a retry topic had sent results before it: a stage before ${name} sends without ` +
      "saying so in its topology",
  )
