/** Windows that begin at multiples of their step, the same for every key: tumbling and hopping ones. */
import { Buffer } from "node:buffer"
import type { Batch } from "../../Batch.ts"
import { keyBytes } from "../../Batch.ts"
import { Heap } from "../../state/Heap.ts"
import { hashOfBytes } from "../../state/KeyHash.ts"
import type { LoggedStore, Part, Slot } from "../../Task.ts"
import { type Emission, type Keeping, periodAt } from "./Emission.ts"
import type { Fold } from "../Fold.ts"
import type { Step, Timed } from "../Timed.ts"
import { type Aligned, groupKey, type Keyless, type Late, late, type Windowed } from "../Window.ts"

export interface Options<in A, S, out B, K> {
  readonly name: string
  readonly window: Aligned
  readonly fold: Fold<A, S, B>
  readonly keeping: Keeping<S, K>
  readonly emission: Emission
}

/** A result that is to be emitted with its batch. */
interface Waiting<K> {
  readonly slot: Slot<K>
  readonly start: number
  readonly bytes: Uint8Array
  readonly row: number
  readonly clock: number
}

/** The entries of one window are a part of the store that is named after its start. */
export class AlignedWindows<A, S, B, K> implements Timed<A, Windowed<B>, Late | Keyless> {
  readonly #store: LoggedStore<K>
  readonly #options: Options<A, S, B, K>
  readonly #open = new Map<number, Part<K>>()
  readonly #starts = new Heap<number>((a, b) => a < b)
  /** The window that was asked for last. */
  #start = NaN
  #part: Part<K> | undefined
  #period: number
  #waiting: Array<Waiting<K> | undefined> = []
  /** What is to be emitted with the end of the period, by the start of its window. */
  #changed = new Map<number, Array<Slot<K>>>()

  constructor(store: LoggedStore<K>, options: Options<A, S, B, K>) {
    this.#store = store
    this.#options = options
    const { keeping, emission: { mode, period } } = options
    this.#period = periodAt(store.streamTime, period)
    for (const part of store.parts()) {
      const start = Number(part.name)
      this.#opened(start, part)
      if (mode !== "periods") continue
      for (const slot of part.slots) {
        if (periodAt(keeping.changedAt(slot.value!), period) === this.#period) this.#change(slot, start)
      }
    }
  }

  /** The start of the latest window that has closed: no window that starts earlier is emitted any more. */
  get clock(): number {
    const { size, every, grace } = this.#options.window
    return Math.floor((this.#store.streamTime - grace - size) / every) * every
  }

  /** Closes the windows that stream time has passed by their grace, oldest first. */
  advance(now: number, step: Step<Windowed<B>, Late | Keyless>): void {
    const { window: { size, grace }, emission: { mode, period } } = this.#options
    let oldest = this.#starts.peek()
    while (oldest !== undefined && oldest + size <= now - grace) {
      this.#starts.pop()
      this.#close(oldest, step)
      oldest = this.#starts.peek()
    }
    if (mode !== "periods" || periodAt(now, period) === this.#period) return
    this.#period = periodAt(now, period)
    this.#emitPeriod(step)
  }

  add(
    value: A,
    timestamp: number,
    i: number,
    batch: Batch<A, unknown>,
    step: Step<Windowed<B>, Late | Keyless>,
  ): void {
    const { window: { size, every, grace }, name, fold, keeping, emission: { mode } } = this.#options
    const newest = Math.floor(timestamp / every) * every
    const now = this.#store.streamTime
    const closed = now - grace
    if (newest + size <= closed) return step.isLate(batch, i, late(newest + size, timestamp))
    const bytes = keyBytes(batch, i)
    const hash = bytes === null ? 0 : hashOfBytes(bytes)
    let start = newest
    for (; start > timestamp - size && start + size > closed; start -= every) {
      const part = this.#window(start)
      let slot = bytes === null ? undefined : part?.find(bytes, hash)
      if (slot === undefined) {
        const key = groupKey(batch, i, name)
        if (typeof key !== "string") return step.fail(batch, i, key)
        slot = (part ?? this.#begin(start)).add(key, keeping.keep(fold.add(fold.initial(), value), now))
      } else part!.write(slot, keeping.keep(fold.add(keeping.state(slot.value!), value), now))
      if (mode === "updates") {
        if (slot.mark > 0) this.#waiting[slot.mark - 1] = undefined
        this.#wait(slot, start, bytes!, step.row)
      } else if (mode === "periods" && slot.mark === 0) this.#change(slot, start)
    }
    if (start > timestamp - size) step.isLate(batch, i, late(start + size, timestamp, true))
    step.folded++
  }

  end(step: Step<Windowed<B>, Late | Keyless>): void {
    if (this.#options.emission.mode !== "updates") return
    for (const waiting of this.#waiting) {
      if (waiting === undefined) continue
      const { slot, start, bytes, row, clock } = waiting
      slot.mark = 0
      step.row = row
      if (slot.value !== undefined) step.emit(this.#windowed(slot, start, false), bytes, start, clock, row)
    }
    this.#waiting = []
  }

  #close(start: number, step: Step<Windowed<B>, Late | Keyless>): void {
    const part = this.#open.get(start)!
    for (const slot of part.slots) {
      step.emit(this.#windowed(slot, start, true), Buffer.from(slot.key), start, start)
    }
    part.clear()
    this.#open.delete(start)
    this.#changed.delete(start)
    if (start === this.#start) this.#start = NaN
  }

  /** Emits what has changed in a period that is over, by start and then by key. */
  #emitPeriod(step: Step<Windowed<B>, Late | Keyless>): void {
    const { clock } = this
    for (const [start, slots] of Array.from(this.#changed).sort(([a], [b]) => a - b)) {
      for (const slot of slots.sort((a, b) => a.key < b.key ? -1 : 1)) {
        slot.mark = 0
        step.emit(this.#windowed(slot, start, false), Buffer.from(slot.key), start, clock)
      }
    }
    this.#changed.clear()
  }

  #change(slot: Slot<K>, start: number): void {
    const slots = this.#changed.get(start)
    if (slots === undefined) this.#changed.set(start, [slot])
    else slots.push(slot)
    slot.mark = 1
  }

  #wait(slot: Slot<K>, start: number, bytes: Uint8Array, row: number): void {
    slot.mark = this.#waiting.push({ slot, start, bytes, row, clock: this.clock })
  }

  #windowed({ key, value }: Slot<K>, start: number, final: boolean): Windowed<B> {
    const { window: { size }, fold, keeping } = this.#options
    return { key, start, end: start + size, value: fold.result(keeping.state(value!)), final }
  }

  /** The entries of a window; `undefined` where it has none. */
  #window(start: number): Part<K> | undefined {
    if (start === this.#start) return this.#part
    this.#start = start
    return this.#part = this.#open.get(start)
  }

  #begin(start: number): Part<K> {
    const part = this.#store.part(String(start))
    this.#opened(start, part)
    if (start === this.#start) this.#part = part
    return part
  }

  #opened(start: number, part: Part<K>): void {
    this.#open.set(start, part)
    this.#starts.push(start)
  }
}
