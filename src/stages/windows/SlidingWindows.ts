/** Windows that are made by the records of a key, as KIP-450 has them: both ends are included. */
import { Buffer } from "node:buffer"
import { Schema } from "effect"
import type { Batch } from "../../Batch.ts"
import { keyBytes } from "../../Batch.ts"
import { hashOfBytes } from "../../state/KeyHash.ts"
import { KeyTable, Slot as Entry } from "../../state/KeyTable.ts"
import type { LoggedStore, Part, Slot } from "../../Task.ts"
import { Deadlines } from "./Deadlines.ts"
import { type Emission, periodAt, StreamTime } from "./Emission.ts"
import type { MergingFold } from "../Fold.ts"
import type { Step, Timed } from "../Timed.ts"
import { groupKey, type Keyless, type Late, late, type Sliding, type Windowed } from "../Window.ts"

export interface Options<in A, S, out B> {
  readonly name: string
  readonly window: Sliding
  readonly fold: MergingFold<A, S, B>
  readonly emission: Emission
}

/** What came at one millisecond; where results are emitted by periods with when it changed last, and since when it is there. */
type Stamped<S> = readonly [state: S, changedAt: number, addedAt: number]
type At<S> = S | Stamped<S>

export const codec = <S>(state: Schema.Codec<S, unknown>, { mode }: Emission): Schema.Codec<At<S>, unknown> =>
  mode === "periods" ? Schema.Tuple([state, StreamTime, StreamTime]) : state

/** The record that has changed something. */
interface Touch {
  readonly bytes: Uint8Array
  readonly row: number
  readonly clock: number
}

/** What has become of one time since results were emitted last: who changed it last, and who has added it. */
interface Changed {
  last: Touch
  readonly added: Touch | undefined
}

/** All that is kept of a key, by time. */
interface Timeline<S> {
  readonly key: string
  readonly times: Array<number>
  readonly slots: Array<Slot<At<S>>>
  changed: Map<number, Changed> | undefined
}

/**
 * Kept is one state for each key and millisecond, from which the windows' results are merged when they are emitted: a
 * record changes one entry, however many windows it is in.
 */
export class SlidingWindows<A, S, B> implements Timed<A, Windowed<B>, Late | Keyless> {
  readonly #store: LoggedStore<At<S>>
  readonly #part: Part<At<S>>
  readonly #options: Options<A, S, B>
  readonly #timelines = new KeyTable<Timeline<S>>()
  /** Ends of windows: of that before a time while it is open, and of that after it, with which the time is forgotten. */
  readonly #deadlines = new Deadlines<Timeline<S>>()
  #period: number
  #changed = new Set<Timeline<S>>()

  constructor(store: LoggedStore<At<S>>, options: Options<A, S, B>) {
    this.#store = store
    this.#part = store.part("")
    this.#options = options
    const { window: { difference }, emission: { mode, period } } = options
    this.#period = periodAt(store.streamTime, period)
    for (const slot of this.#part.slots) {
      const separator = slot.key.indexOf(":")
      const time = Number(slot.key.slice(0, separator))
      const timeline = this.#timelineOf(slot.key.slice(separator + 1))
      insert(timeline, time, slot)
      if (time >= this.clock) this.#deadlines.push(time, timeline)
      this.#deadlines.push(time + 1 + difference, timeline)
      if (mode !== "periods") continue
      const [, changedAt, addedAt] = slot.value as Stamped<S>
      if (periodAt(changedAt, period) !== this.#period) continue
      this.#change(timeline, time, periodAt(addedAt, period) === this.#period, nobody)
    }
  }

  /** Windows that end before this have closed. */
  get clock(): number {
    return Math.floor(this.#store.streamTime) - this.#options.window.grace
  }

  /** Closes the windows that stream time has passed by their grace, in the order of their ends. */
  advance(now: number, step: Step<Windowed<B>, Late | Keyless>): void {
    const { window: { difference }, emission: { mode, period } } = this.#options
    while (this.#deadlines.next < this.clock) {
      const end = this.#deadlines.next
      const timeline = this.#deadlines.pop()!
      const value = this.#resultAt(timeline, end)
      if (value !== undefined) {
        step.emit(this.#windowed(timeline, end, value, true), Buffer.from(timeline.key), end, end)
      }
      if (timeline.times[0] === end - 1 - difference) this.#forget(timeline)
    }
    if (mode !== "periods" || periodAt(now, period) === this.#period) return
    this.#period = periodAt(now, period)
    const { clock } = this
    const results = [...this.#changed].flatMap((timeline) =>
      this.#ends(timeline).map(({ end }) => ({ timeline, end, key: timeline.key }))
    )
    results.sort((a, b) => a.end - b.end || (a.key < b.key ? -1 : 1))
    for (const { timeline, end, key } of results) {
      step.emit(this.#windowed(timeline, end, this.#resultAt(timeline, end)!, false), Buffer.from(key), end, clock)
    }
    this.#settle()
  }

  add(
    value: A,
    timestamp: number,
    i: number,
    batch: Batch<A, unknown>,
    step: Step<Windowed<B>, Late | Keyless>,
  ): void {
    const { window: { difference }, name, fold, emission: { mode } } = this.#options
    const time = Math.floor(timestamp)
    const { clock } = this
    if (time + difference < clock) return step.isLate(batch, i, late(time + difference, timestamp))
    const bytes = keyBytes(batch, i)
    const known = bytes === null ? undefined : this.#timelines.find(bytes, hashOfBytes(bytes))?.value
    const key = known?.key ?? groupKey(batch, i, name)
    if (typeof key !== "string") return step.fail(batch, i, key)
    const timeline = known ?? this.#timelineOf(key)

    const now = this.#store.streamTime
    const at = lowerBound(timeline.times, time)
    const isNew = timeline.times[at] !== time
    if (isNew) {
      const state = fold.add(fold.initial(), value)
      insert(timeline, time, this.#part.add(`${time}:${key}`, mode === "periods" ? [state, now, now] : state), at)
      if (time >= clock) this.#deadlines.push(time, timeline)
      this.#deadlines.push(time + 1 + difference, timeline)
    } else {
      const slot = timeline.slots[at]!
      const state = fold.add(this.#stateOf(slot), value)
      this.#part.write(slot, mode === "periods" ? [state, now, (slot.value as Stamped<S>)[2]] : state)
    }
    if (time < clock) step.isLate(batch, i, late(time, timestamp, true))
    step.folded++

    if (mode === "updates") this.#change(timeline, time, isNew, { bytes: bytes!, row: step.row, clock })
    if (mode === "periods") this.#change(timeline, time, isNew, nobody)
  }

  end(step: Step<Windowed<B>, Late | Keyless>): void {
    if (this.#options.emission.mode !== "updates") return
    for (const timeline of this.#changed) {
      for (const { end, touch: { bytes, row, clock } } of this.#ends(timeline)) {
        step.row = row
        step.emit(this.#windowed(timeline, end, this.#resultAt(timeline, end)!, false), bytes, end, clock)
      }
    }
    this.#settle()
  }

  /** The ends of the windows that are open and have changed, and who did that last. */
  #ends({ times, changed = new Map() }: Timeline<S>): ReadonlyArray<{ readonly end: number; readonly touch: Touch }> {
    const { difference } = this.#options.window
    const ends = new Map<number, Touch>()
    const note = (end: number, touch: Touch) => {
      const known = ends.get(end)
      if (known === undefined || known.row <= touch.row) ends.set(end, touch)
    }
    for (const [time, { last, added }] of changed) {
      // Windows that hold the time end with a time up to `difference` later, or began after a time up to so much earlier.
      for (let i = lowerBound(times, time - 1 - difference); i < times.length && times[i]! <= time + difference; i++) {
        if (times[i]! >= time) note(times[i]!, last)
        else note(times[i]! + 1 + difference, last)
      }
      // Where that ends with a time it is that one's window too, and was there before.
      const after = time + 1 + difference
      if (added !== undefined && times[lowerBound(times, after)] !== after) note(after, added)
    }
    return Array.from(ends, ([end, touch]) => ({ end, touch }))
      .filter(({ end }) => end >= this.clock && this.#holds(times, end))
      .sort((a, b) => a.touch.row - b.touch.row || a.end - b.end)
  }

  /** Whether the window with this end holds anything. */
  #holds(times: ReadonlyArray<number>, end: number): boolean {
    const first = times[lowerBound(times, end - this.#options.window.difference)]
    return first !== undefined && first <= end
  }

  /** What the window with this end holds, merged; `undefined` where that is nothing. */
  #resultAt({ times, slots }: Timeline<S>, end: number): { readonly of: B } | undefined {
    const { window: { difference }, fold } = this.#options
    const from = lowerBound(times, end - difference)
    const to = lowerBound(times, end + 1)
    if (from === to) return undefined
    // By halves: lists are then not copied over and over.
    const merged = (from: number, to: number): S => {
      if (to - from === 1) return this.#stateOf(slots[from]!)
      const middle = from + to >> 1
      return fold.merge(merged(from, middle), merged(middle, to))
    }
    return { of: fold.result(merged(from, to)) }
  }

  #stateOf({ value }: Slot<At<S>>): S {
    return this.#options.emission.mode === "periods" ? (value as Stamped<S>)[0] : value as S
  }

  #windowed({ key }: Timeline<S>, end: number, value: { readonly of: B }, final: boolean): Windowed<B> {
    return { key, start: end - this.#options.window.difference, end, value: value.of, final }
  }

  /** Forgets the earliest time of a key: no window that is open holds it. */
  #forget(timeline: Timeline<S>): void {
    const time = timeline.times.shift()!
    this.#part.remove(timeline.slots.shift()!)
    timeline.changed?.delete(time)
    if (timeline.times.length === 0) this.#timelines.delete(timeline.key)
  }

  #change(timeline: Timeline<S>, time: number, isNew: boolean, touch: Touch): void {
    const changed = timeline.changed ??= new Map()
    const known = changed.get(time)
    if (known !== undefined) known.last = touch
    else changed.set(time, { last: touch, added: isNew ? touch : undefined })
    this.#changed.add(timeline)
  }

  #settle(): void {
    for (const timeline of this.#changed) timeline.changed = undefined
    this.#changed = new Set()
  }

  #timelineOf(key: string): Timeline<S> {
    const known = this.#timelines.get(key)?.value
    if (known !== undefined) return known
    const timeline = { key, times: [], slots: [], changed: undefined }
    this.#timelines.add(new Entry<Timeline<S>>(key, timeline, 0))
    return timeline
  }
}

/** Where it does not matter who it was. */
const nobody: Touch = { bytes: new Uint8Array(0), row: 0, clock: 0 }

const insert = <S>(
  { times, slots }: Timeline<S>,
  time: number,
  slot: Slot<At<S>>,
  at = lowerBound(times, time),
): void => {
  if (at === times.length) {
    times.push(time)
    slots.push(slot)
  } else {
    times.splice(at, 0, time)
    slots.splice(at, 0, slot)
  }
}

/** Where the first time is that is not before `time`. */
const lowerBound = (times: ReadonlyArray<number>, time: number): number => {
  let low = 0
  let high = times.length
  if (high > 0 && times[high - 1]! < time) return high
  while (low < high) {
    const middle = low + high >> 1
    if (times[middle]! < time) low = middle + 1
    else high = middle
  }
  return low
}
