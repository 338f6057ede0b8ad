/** Records that wait for the changes of their time. */
import { Buffer } from "node:buffer"
import { Schema } from "effect"
import type { Batch, Placed } from "../../Batch.ts"
import { Heap } from "../../state/Heap.ts"
import type { LoggedStore, StoreSpec } from "../../Task.ts"
import { type Lookup, unmatched } from "./AsOfLookup.ts"
import { Beside, type Kind } from "./Joined.ts"
import { comesFirst, idOf, type Origin, Origins, parseId, sourceOf } from "./Origins.ts"
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
  readonly origin: Origin
  readonly kept: Kept<A>
  /** Its key in the store, once it is there. */
  logged: string | undefined

  constructor(origin: Origin, kept: Kept<A>, logged?: string) {
    this.origin = origin
    this.kept = kept
    this.logged = logged
  }

  get source(): Placed["source"] {
    return sourceOf(this.origin)
  }

  get rows(): undefined {
    return undefined
  }
}

/** The order in which records leave: by event time, then by topic and offset. */
const leavesFirst = (a: Waits<unknown>, b: Waits<unknown>): boolean =>
  a.kept.at === b.kept.at ? comesFirst(a.origin, b.origin) : a.kept.at < b.kept.at

export class Waiting<A, Row, B, K extends Kind> implements Timed<A | Beside<Row>, B, Keyless | Late> {
  readonly #records: LoggedStore<Kept<A>>
  readonly #grace: number
  readonly #lookup: Lookup<A, Row, B, K>
  readonly #waiting = new Heap<Waits<A>>(leavesFirst)
  /** Those of the batch at hand. */
  #fresh: Array<Waits<A>> = []
  /** What waited already when the stage opened. */
  readonly #restored = new Set<string>()
  readonly #origins = new Origins()
  /** What is emitted later is not earlier, unless it has come later than its grace. */
  clock: number

  constructor(streamTime: number, records: LoggedStore<Kept<A>>, grace: number, lookup: Lookup<A, Row, B, K>) {
    this.#records = records
    this.#grace = grace
    this.#lookup = lookup
    this.clock = streamTime - grace
    for (const [id, kept] of records.entries()) {
      const origin = parseId(id)
      this.#restored.add(id)
      this.#origins.known(origin)
      this.#waiting.push(new Waits(origin, kept, id))
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
    const origin = this.#origins.of(batch, step.row)
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
    const waits = new Waits<A>(origin, { key, at: timestamp, value })
    if (timestamp < this.clock) return this.#leave(waits, this.clock, step)
    // A record that is read again waits already.
    if (this.#restored.size > 0 && this.#restored.has(idOf(origin))) return
    this.#waiting.push(waits)
    this.#fresh.push(waits)
  }

  end(): void {
    for (const waits of this.#fresh) {
      if (waits.kept.at < this.clock) continue
      waits.logged = idOf(waits.origin)
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
