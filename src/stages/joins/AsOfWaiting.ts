/** Records that wait for the changes of their time. */
import { Buffer } from "node:buffer"
import { Schema } from "effect"
import type { Batch, Placed } from "../../Batch.ts"
import { Heap } from "../../state/Heap.ts"
import type { LoggedStore, StoreSpec } from "../../Task.ts"
import { type Lookup, unmatched } from "./AsOfLookup.ts"
import { Beside, type Kind } from "./Joined.ts"
import type { Step, Timed } from "../Timed.ts"
import { groupKey, type Keyless, type Late } from "../Window.ts"

/** A record that waits, as it is logged. */
export interface Kept<out A> {
  readonly key: string
  /** Event time. */
  readonly at: number
  readonly value: A
}

export const spec = <A>(name: string, value: Schema.Codec<A, unknown>): StoreSpec<Kept<A>> => ({
  name,
  value: Schema.Struct({ key: Schema.String, at: Schema.Finite, value }) as Schema.Codec<Kept<A>, unknown>,
})

/** A record that waits, and where it comes from: it is kept under that, so that one that is read again waits once. */
class Waits<A> implements Placed {
  readonly topic: string
  readonly partition: number
  /** Of what a tick has caused, half before the one that the next record will have: it is not that record. */
  readonly offset: number
  /** Which of the values of its record. */
  readonly nth: number
  readonly kept: Kept<A>
  /** Its key in the store, once it is there. */
  logged: string | undefined

  constructor(topic: string, partition: number, offset: number, nth: number, kept: Kept<A>, logged?: string) {
    this.topic = topic
    this.partition = partition
    this.offset = offset
    this.nth = nth
    this.kept = kept
    this.logged = logged
  }

  static restored<A>(id: string, kept: Kept<A>): Waits<A> {
    const [topic, partition, offset, nth] = id.split(":") as [string, string, string, string]
    return new Waits(topic, Number(partition), Number(offset), Number(nth), kept, id)
  }

  get id(): string {
    return `${this.topic}:${this.partition}:${this.offset}:${this.nth}`
  }

  get source(): Placed["source"] {
    const { topic, partition, offset } = this
    return { topic: { name: topic }, partition, offsets: [Math.ceil(offset)], next: offset + 1 }
  }

  get rows(): undefined {
    return undefined
  }
}

/** The order in which records leave: by event time, then by topic and offset. */
const leavesFirst = (a: Waits<unknown>, b: Waits<unknown>): boolean => {
  if (a.kept.at !== b.kept.at) return a.kept.at < b.kept.at
  if (a.topic !== b.topic) return a.topic < b.topic
  return a.offset < b.offset || a.offset === b.offset && a.nth < b.nth
}

export class Waiting<A, Row, B, K extends Kind> implements Timed<A | Beside<Row>, B, Keyless | Late> {
  readonly #records: LoggedStore<Kept<A>>
  readonly #grace: number
  readonly #lookup: Lookup<A, Row, B, K>
  readonly #waiting = new Heap<Waits<A>>(leavesFirst)
  /** Those of the batch at hand. */
  #fresh: Array<Waits<A>> = []
  /** What waited already when the stage opened. */
  readonly #restored = new Set<string>()
  /** The last value's record, and which of its values it was. */
  #topic = ""
  #offset = -1
  #nth = 0
  /** What is emitted later is not earlier, unless it has come later than its grace. */
  clock: number

  constructor(streamTime: number, records: LoggedStore<Kept<A>>, grace: number, lookup: Lookup<A, Row, B, K>) {
    this.#records = records
    this.#grace = grace
    this.#lookup = lookup
    this.clock = streamTime - grace
    for (const [id, kept] of records.entries()) {
      this.#restored.add(id)
      this.#waiting.push(Waits.restored(id, kept))
    }
  }

  advance(now: number, step: Step<B, Keyless | Late>): void {
    this.clock = now - this.#grace
    // Before the table goes on: what has waited finds the rows of its time there, however far stream time has jumped.
    let next = this.#waiting.peek()
    while (next !== undefined && next.kept.at < this.clock) {
      this.#waiting.pop()
      this.#leave(next, next.kept.at, step)
      next = this.#waiting.peek()
    }
    this.#lookup.versions.advance(now)
  }

  add(
    value: A | Beside<Row>,
    timestamp: number,
    i: number,
    batch: Batch<unknown, unknown>,
    step: Step<B, Keyless | Late>,
  ): void {
    const { source } = batch
    const { topic: { name: topic }, partition } = source
    const isTick = source.silence !== undefined
    const offset = isTick ? source.next - 0.5 : source.offsets[step.row]!
    this.#nth = offset === this.#offset && topic === this.#topic ? this.#nth + 1 : 0
    this.#offset = offset
    this.#topic = topic
    const key = groupKey(batch, i, this.#lookup.name)
    if (typeof key !== "string") return step.fail(batch, i, key)
    if (value instanceof Beside) {
      if (this.#lookup.versions.put(key, timestamp, value.change.row)) step.folded++
      else step.drop("superseded")
      return
    }
    const late = this.#lookup.late(timestamp)
    if (late !== undefined) return step.isLate(batch, i, late)
    step.folded++
    const kept = { key, at: timestamp, value }
    let waits = new Waits<A>(topic, partition, offset, this.#nth, kept)
    if (timestamp < this.clock) return this.#leave(waits, this.clock, step)
    while (this.#restored.size > 0 && this.#restored.has(waits.id)) {
      // A record that is read again waits already; a tick never comes again.
      if (!isTick) return
      waits = new Waits<A>(topic, partition, offset, ++this.#nth, kept)
    }
    this.#waiting.push(waits)
    this.#fresh.push(waits)
  }

  end(): void {
    for (const waits of this.#fresh) {
      if (waits.kept.at < this.clock) continue
      waits.logged = waits.id
      this.#records.set(waits.logged, waits.kept)
    }
    this.#fresh = []
  }

  #leave(waits: Waits<A>, clock: number, step: Step<B, Keyless | Late>): void {
    const { key, at, value } = waits.kept
    if (waits.logged !== undefined) {
      this.#records.delete(waits.logged)
      if (this.#restored.size > 0) this.#restored.delete(waits.logged)
    }
    const joined = this.#lookup.join(key, at, value, waits, 0)
    if (joined === unmatched) step.drop("unmatched")
    else step.emit(joined, Buffer.from(key), at, clock)
  }
}
