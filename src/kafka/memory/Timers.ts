/**
 * Deadlines in the order they fall due; equal ones in the order they were set. Nothing happens by itself: whoever keeps
 * the time calls `advance`.
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

  /** Calls `run` at the first `advance` to `at` (milliseconds since 1970) or later. */
  schedule(at: number, run: (now: number) => void): Timer {
    const timer: Timer = { at, order: this.#order++, run, cancelled: false }
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

  /** Runs what is due. What falls due meanwhile runs too, except at `now` itself, so that a timer can rearm without end. */
  advance(now: number): void {
    const last = this.#order
    const later: Array<Timer> = []
    for (let timer = this.#heap[0]; timer !== undefined && timer.at <= now; timer = this.#heap[0]) {
      this.#pop()
      if (timer.cancelled) continue
      if (timer.order >= last && timer.at >= now) later.push(timer)
      else timer.run(timer.at < now ? timer.at : now)
    }
    for (const timer of later) {
      this.#heap.push(timer)
      this.#up(this.#heap.length - 1)
    }
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
