/** Sliding windows by hand: counts only, as differences of places. */
import type { Out } from "./loop.ts"
import type { Mode, Windows } from "./windows.ts"

interface Timeline {
  readonly key: string
  /** The times of its records, in order; those before `first` are forgotten. */
  times: Array<number>
  first: number
  changed: Set<number> | undefined
}

interface Due {
  readonly end: number
  readonly timeline: Timeline
}

/** A queue of things that are due in the order in which they come. */
class Queue {
  #items: Array<Due> = []
  #first = 0

  push(end: number, timeline: Timeline): void {
    this.#items.push({ end, timeline })
  }

  get next(): number {
    return this.#items[this.#first]?.end ?? Infinity
  }

  take(): Due {
    const due = this.#items[this.#first++]!
    if (this.#first > 1_000 && this.#first * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#first)
      this.#first = 0
    }
    return due
  }
}

export class SlidingWindows implements Windows {
  readonly #difference: number
  readonly #mode: Mode
  readonly #timelines = new Map<string, Timeline>()
  /** Windows that end with a record, and those that begin after one. */
  readonly #ending = new Queue()
  readonly #beginning = new Queue()
  #now = -Infinity
  readonly #changed = new Set<Timeline>()

  constructor(difference: number, mode: Mode) {
    this.#difference = difference
    this.#mode = mode
  }

  advance(now: number, out: Out): void {
    this.#now = now
    while (Math.min(this.#ending.next, this.#beginning.next) < now) {
      const isEnding = this.#ending.next <= this.#beginning.next
      const { end, timeline } = isEnding ? this.#ending.take() : this.#beginning.take()
      // Where a window that begins after a record ends with another one, it is that one's, and has left.
      const { times } = timeline
      const isTaken = !isEnding && times[lowerBound(timeline, end)] === end
      const value = isTaken ? 0 : this.#count(timeline, end)
      if (value > 0) out.push(this.#result(timeline, end, value, true))
      if (!isEnding) this.#forget(timeline, end - 1 - this.#difference)
    }
  }

  add(key: string, at: number): void {
    let timeline = this.#timelines.get(key)
    if (timeline === undefined) {
      this.#timelines.set(key, timeline = { key, times: [], first: 0, changed: undefined })
    }
    if (timeline.times.at(-1) !== at) {
      this.#ending.push(at, timeline)
      this.#beginning.push(at + 1 + this.#difference, timeline)
    }
    timeline.times.push(at)
    if (this.#mode === "final") return
    ;(timeline.changed ??= new Set()).add(at)
    this.#changed.add(timeline)
  }

  changed(out: Out): void {
    for (const timeline of this.#changed) {
      const ends = new Set<number>()
      for (const at of timeline.changed!) {
        ends.add(at)
        for (let i = lowerBound(timeline, at - 1 - this.#difference); timeline.times[i]! < at; i++) {
          ends.add(timeline.times[i]! + 1 + this.#difference)
        }
        for (let i = lowerBound(timeline, at); i < timeline.times.length; i++) ends.add(timeline.times[i]!)
      }
      for (const end of ends) {
        const value = end < this.#now ? 0 : this.#count(timeline, end)
        if (value > 0) out.push(this.#result(timeline, end, value, false))
      }
      timeline.changed = undefined
    }
    this.#changed.clear()
  }

  #count(timeline: Timeline, end: number): number {
    return lowerBound(timeline, end + 1) - lowerBound(timeline, end - this.#difference)
  }

  #forget(timeline: Timeline, time: number): void {
    while (timeline.times[timeline.first]! <= time) timeline.first++
    if (timeline.first === timeline.times.length) this.#timelines.delete(timeline.key)
    else if (timeline.first > 16 && timeline.first * 2 > timeline.times.length) {
      timeline.times = timeline.times.slice(timeline.first)
      timeline.first = 0
    }
  }

  #result({ key }: Timeline, end: number, value: number, final: boolean) {
    return { key, start: end - this.#difference, end, value, final }
  }
}

/** Where the first time is that is not before `time`. */
const lowerBound = ({ times, first }: Timeline, time: number): number => {
  let low = first
  let high = times.length
  while (low < high) {
    const middle = low + high >> 1
    if (times[middle]! < time) low = middle + 1
    else high = middle
  }
  return low
}
