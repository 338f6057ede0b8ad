/**
 * The broker's time and its deadlines, in the order they fall due and, where equal, in the order they were set. Nothing
 * happens by itself: whoever has a clock calls `advance`.
 */

export interface Timer {
  readonly at: number
  readonly order: number
  readonly run: (now: number) => void
  cancelled: boolean
}

export class Timers {
  readonly #heap: Array<Timer> = []
  #order = 0
  #now = -Infinity

  /** Calls `run` when time reaches `at` (milliseconds since 1970), at the earliest at the next `advance`. */
  schedule(at: number, run: (now: number) => void): Timer {
    const timer: Timer = { at: Math.max(at, this.#now), order: this.#order++, run, cancelled: false }
    this.#heap.push(timer)
    this.#up(this.#heap.length - 1)
    return timer
  }

  cancel(timer: Timer | undefined): void {
    if (timer !== undefined) timer.cancelled = true
  }

  /** The next deadline; infinity when there is none. */
  get next(): number {
    while (this.#heap[0]?.cancelled === true) this.#pop()
    return this.#heap[0]?.at ?? Infinity
  }

  /**
   * Runs what is due up to `clock`, each at its own time, and answers the time it is then: the clock's, unless that went
   * backwards.
   */
  advance(clock: number): number {
    for (let due = this.next; due <= clock; due = this.next) {
      const timer = this.#heap[0]!
      this.#pop()
      this.#now = due
      timer.run(due)
    }
    this.#now = Math.max(this.#now, clock)
    return this.#now
  }

  #pop(): void {
    const last = this.#heap.pop()!
    if (this.#heap.length === 0) return
    this.#heap[0] = last
    this.#down(0)
  }

  #up(from: number): void {
    const heap = this.#heap
    for (let i = from; i > 0;) {
      const parent = (i - 1) >>> 1
      if (!before(heap[i]!, heap[parent]!)) return
      swap(heap, i, parent)
      i = parent
    }
  }

  #down(from: number): void {
    const heap = this.#heap
    for (let i = from;;) {
      const left = 2 * i + 1
      if (left >= heap.length) return
      const child = left + 1 < heap.length && before(heap[left + 1]!, heap[left]!) ? left + 1 : left
      if (!before(heap[child]!, heap[i]!)) return
      swap(heap, i, child)
      i = child
    }
  }
}

const before = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

const swap = (heap: Array<Timer>, i: number, j: number): void => {
  const one = heap[i]!
  heap[i] = heap[j]!
  heap[j] = one
}
