/** Windows of so many records of a key, in the order they come. */
import { Buffer } from "node:buffer"
import { Schema } from "effect"
import type { Batch } from "../../Batch.ts"
import { keyBytes } from "../../Batch.ts"
import type { LoggedStore, Part, Slot } from "../../Task.ts"
import { Deadlines } from "./Deadlines.ts"
import { type Emission, periodAt, StreamTime } from "./Emission.ts"
import type { Fold } from "../Fold.ts"
import * as OneOrMany from "./OneOrMany.ts"
import type { Step, Timed } from "../Timed.ts"
import { type Count, type Counted, groupKey, type Keyless } from "../Window.ts"

export interface Options<in A, S, out B> {
  readonly name: string
  readonly window: Count
  readonly fold: Fold<A, S, B>
  readonly emission: Emission
}

type Open<S> = readonly [start: number, end: number, state: S]

/** How many records the key has had, its windows that are not full, oldest first, and where it matters when the last came. */
type Counting<S> = readonly [records: number, open: OneOrMany.OneOrMany<Open<S>>, changedAt?: number]

const isTimed = ({ timeout }: Count, { mode }: Emission): boolean => timeout !== undefined || mode === "periods"

export const codec = <S>(
  state: Schema.Codec<S, unknown>,
  window: Count,
  emission: Emission,
): Schema.Codec<Counting<S>, unknown> => {
  const tuple: Schema.Codec<Open<S>, unknown> = Schema.Tuple([Schema.Finite, Schema.Finite, state])
  const open = OneOrMany.codec(tuple)
  return (isTimed(window, emission)
    ? Schema.Tuple([Schema.Int, open, StreamTime])
    : Schema.Tuple([Schema.Int, open])) as Schema.Codec<Counting<S>, unknown>
}

/** A key whose windows are to be emitted with their batch. */
interface Waiting<S> {
  readonly slot: Slot<Counting<S>>
  readonly bytes: Uint8Array
  readonly row: number
  readonly clock: number
}

/** The windows of a key are one entry: there are at most `size / every`, rounded up. */
export class CountWindows<A, S, B> implements Timed<A, Counted<B>, Keyless> {
  readonly #store: LoggedStore<Counting<S>>
  readonly #part: Part<Counting<S>>
  readonly #options: Options<A, S, B>
  /** Of each key that times out one, never too late: when it comes, a key with newer records gets another. */
  readonly #deadlines = new Deadlines<Slot<Counting<S>>>()
  readonly #isTimed: boolean
  #period: number
  #waiting: Array<Waiting<S> | undefined> = []
  /** Keys whose windows are to be emitted with the end of the period. */
  #changed: Array<Slot<Counting<S>>> = []

  constructor(store: LoggedStore<Counting<S>>, options: Options<A, S, B>) {
    this.#store = store
    this.#part = store.part("")
    this.#options = options
    const { window, emission: { mode, period } } = options
    this.#isTimed = isTimed(window, options.emission)
    this.#period = periodAt(store.streamTime, period)
    for (const slot of this.#part.slots) {
      const [, , changedAt] = slot.value!
      if (window.timeout !== undefined) this.#deadlines.push(lastOf(slot) + window.timeout, slot)
      if (mode === "periods" && periodAt(changedAt!, period) === this.#period) this.#change(slot)
    }
  }

  /** Results are of the time at which they come about. */
  get clock(): number {
    return this.#store.streamTime
  }

  /** Closes the windows of keys that have timed out, in that order. */
  advance(now: number, step: Step<Counted<B>, Keyless>): void {
    const { window: { timeout }, emission: { mode, period } } = this.#options
    while (this.#deadlines.next <= now) {
      const due = this.#deadlines.next
      const slot = this.#deadlines.pop()!
      if (slot.value === undefined) continue
      const last = lastOf(slot)
      if (last + timeout! > due) {
        this.#deadlines.push(last + timeout!, slot)
        continue
      }
      this.#emitOpen(slot, true, Buffer.from(slot.key), due, step)
      this.#part.remove(slot)
    }
    if (mode !== "periods" || periodAt(now, period) === this.#period) return
    this.#period = periodAt(now, period)
    const changed = this.#changed.sort((a, b) => a.key < b.key ? -1 : 1)
    this.#changed = []
    for (const slot of changed) this.#emitOpen(slot, false, Buffer.from(slot.key), now, step)
  }

  add(value: A, timestamp: number, i: number, batch: Batch<A, unknown>, step: Step<Counted<B>, Keyless>): void {
    const { window: { size, every, timeout }, name, fold, emission: { mode } } = this.#options
    const now = this.#store.streamTime
    const bytes = keyBytes(batch, i)
    let slot = bytes === null ? undefined : this.#part.find(bytes)
    const key = slot?.key ?? groupKey(batch, i, name)
    if (typeof key !== "string") return step.fail(batch, i, key)
    const records = (slot?.value?.[0] ?? 0) + 1
    let open = openOf(slot).map(([start, end, state]): Open<S> => [
      Math.min(start, timestamp),
      Math.max(end, timestamp),
      fold.add(state, value),
    ])
    if ((records - 1) % every === 0) open.push([timestamp, timestamp, fold.add(fold.initial(), value)])
    if (records >= size && (records - size) % every === 0) {
      const full = this.#result(key, records, open, 0, true)
      step.emit(full, bytes, timeOf(full, now), now)
      open = open.slice(1)
    }
    const kept = OneOrMany.compact(open)
    const counting: Counting<S> = this.#isTimed ? [records, kept, now] : [records, kept]
    if (slot === undefined) {
      slot = this.#part.add(key, counting)
      if (timeout !== undefined) this.#deadlines.push(lastOf(slot) + timeout, slot)
    } else {
      // A deadline by records' own times may be too late by stream time.
      const wasUnknown = slot.value![2] === -Infinity
      this.#part.write(slot, counting)
      if (timeout !== undefined && wasUnknown) this.#deadlines.push(lastOf(slot) + timeout, slot)
    }
    step.folded++
    if (mode === "updates") {
      if (slot.mark > 0) this.#waiting[slot.mark - 1] = undefined
      this.#wait(slot, bytes!, step.row)
    } else if (mode === "periods" && slot.mark === 0) this.#change(slot)
  }

  end(step: Step<Counted<B>, Keyless>): void {
    if (this.#options.emission.mode !== "updates") return
    for (const waiting of this.#waiting) {
      if (waiting === undefined) continue
      step.row = waiting.row
      this.#emitOpen(waiting.slot, false, waiting.bytes, waiting.clock, step)
    }
    this.#waiting = []
  }

  #emitOpen(slot: Slot<Counting<S>>, final: boolean, bytes: Uint8Array, time: number, step: Step<Counted<B>, Keyless>) {
    slot.mark = 0
    if (slot.value === undefined) return
    const open = openOf(slot)
    for (let n = 0; n < open.length; n++) {
      const result = this.#result(slot.key, slot.value[0], open, n, final)
      step.emit(result, bytes, timeOf(result, time), time)
    }
  }

  #change(slot: Slot<Counting<S>>): void {
    slot.mark = this.#changed.push(slot)
  }

  #wait(slot: Slot<Counting<S>>, bytes: Uint8Array, row: number): void {
    slot.mark = this.#waiting.push({ slot, bytes, row, clock: this.#store.streamTime })
  }

  /** Of window `n` among those that were open when the key had so many records. */
  #result(key: string, records: number, open: ReadonlyArray<Open<S>>, n: number, final: boolean): Counted<B> {
    const { window: { every }, fold } = this.#options
    const [start, end, state] = open[n]!
    const number = Math.floor((records - 1) / every) - (open.length - 1 - n)
    return { key, start, end, value: fold.result(state), final, number, count: records - number * every }
  }
}

const openOf = <S>(slot: Slot<Counting<S>> | undefined): ReadonlyArray<Open<S>> =>
  slot?.value === undefined ? none : OneOrMany.listed(slot.value[1])

/** When a result came about; by its records' own times where stream time was not known yet. */
const timeOf = ({ end }: Counted<unknown>, now: number): number => now === -Infinity ? end : now

/** When the last record came; by the records' own times where stream time was not known yet. */
const lastOf = <S>(slot: Slot<Counting<S>>): number => {
  const changedAt = slot.value![2]!
  return changedAt === -Infinity ? Math.max(-Infinity, ...openOf(slot).map(([, end]) => end)) : changedAt
}

const none: ReadonlyArray<never> = []
