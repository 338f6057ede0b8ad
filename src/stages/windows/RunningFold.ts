/** One result per key, of all its values. */
import { Buffer } from "node:buffer"
import type { Batch } from "../../Batch.ts"
import { keyBytes } from "../../Batch.ts"
import type { LoggedStore, Part, Slot } from "../../Task.ts"
import { type Emission, type Keeping, periodAt } from "./Emission.ts"
import type { Fold } from "../Fold.ts"
import type { Step, Timed } from "../Timed.ts"
import { groupKey, type Keyless } from "../Window.ts"

/** The result of one key. */
export interface Running<out V> {
  readonly key: string
  readonly value: V
}

export interface Options<in A, S, out B, K> {
  readonly name: string
  readonly fold: Fold<A, S, B>
  readonly keeping: Keeping<S, K>
  readonly emission: Emission
}

/** A result that is to be emitted with its batch. */
interface Waiting<K> {
  readonly slot: Slot<K>
  readonly bytes: Uint8Array
  readonly row: number
  readonly timestamp: number
  readonly clock: number
}

export class RunningFold<A, S, B, K> implements Timed<A, Running<B>, Keyless> {
  readonly #store: LoggedStore<K>
  readonly #part: Part<K>
  readonly #options: Options<A, S, B, K>
  #period: number
  #waiting: Array<Waiting<K> | undefined> = []
  /** What is to be emitted with the end of the period. */
  #changed: Array<Slot<K>> = []

  constructor(store: LoggedStore<K>, options: Options<A, S, B, K>) {
    this.#store = store
    this.#part = store.part("")
    this.#options = options
    const { keeping, emission: { mode, period } } = options
    this.#period = periodAt(store.streamTime, period)
    if (mode !== "periods") return
    for (const slot of this.#part.slots) {
      if (periodAt(keeping.changedAt(slot.value!), period) === this.#period) this.#change(slot)
    }
  }

  /** Where results are emitted by periods, what is still to be emitted has changed in the one at hand. */
  get clock(): number {
    const { mode, period } = this.#options.emission
    return mode === "periods" ? this.#period * period : this.#store.streamTime
  }

  advance(now: number, step: Step<Running<B>, Keyless>): void {
    const { fold, keeping, emission: { mode, period } } = this.#options
    if (mode !== "periods" || periodAt(now, period) === this.#period) return
    const changed = this.#changed.sort((a, b) => a.key < b.key ? -1 : 1)
    this.#changed = []
    const { clock } = this
    for (const slot of changed) {
      slot.mark = 0
      const value = fold.result(keeping.state(slot.value!))
      // What changed before stream time was known is of the time at which it is.
      const changedAt = keeping.changedAt(slot.value!)
      step.emit({ key: slot.key, value }, Buffer.from(slot.key), changedAt === -Infinity ? now : changedAt, clock)
    }
    this.#period = periodAt(now, period)
  }

  add(value: A, timestamp: number, i: number, batch: Batch<A, unknown>, step: Step<Running<B>, Keyless>): void {
    const { name, fold, keeping, emission: { mode } } = this.#options
    const now = this.#store.streamTime
    const bytes = keyBytes(batch, i)
    let slot = bytes === null ? undefined : this.#part.find(bytes)
    if (slot === undefined) {
      const key = groupKey(batch, i, name)
      if (typeof key !== "string") return step.fail(batch, i, key)
      slot = this.#part.add(key, keeping.keep(fold.add(fold.initial(), value), now))
    } else this.#part.write(slot, keeping.keep(fold.add(keeping.state(slot.value!), value), now))
    step.folded++
    if (mode === "updates") {
      if (slot.mark > 0) this.#waiting[slot.mark - 1] = undefined
      this.#wait(slot, bytes!, step.row, timestamp)
    } else if (slot.mark === 0) this.#change(slot)
  }

  end(step: Step<Running<B>, Keyless>): void {
    const { fold, keeping, emission: { mode } } = this.#options
    if (mode !== "updates") return
    for (const waiting of this.#waiting) {
      if (waiting === undefined) continue
      const { slot, bytes, row, timestamp, clock } = waiting
      slot.mark = 0
      step.row = row
      step.emit({ key: slot.key, value: fold.result(keeping.state(slot.value!)) }, bytes, timestamp, clock)
    }
    this.#waiting = []
  }

  #change(slot: Slot<K>): void {
    slot.mark = this.#changed.push(slot)
  }

  #wait(slot: Slot<K>, bytes: Uint8Array, row: number, timestamp: number): void {
    slot.mark = this.#waiting.push({ slot, bytes, row, timestamp, clock: this.#store.streamTime })
  }
}
