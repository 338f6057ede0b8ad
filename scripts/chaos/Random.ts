/** Chance that is the same for the same seed. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** From 0 to below 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }

  between(least: number, most: number): number {
    return least + this.next() * (most - least)
  }

  below(count: number): number {
    return Math.floor(this.next() * count)
  }

  of<A>(some: ReadonlyArray<A>): A {
    return some[this.below(some.length)]!
  }

  shuffled<A>(some: ReadonlyArray<A>): Array<A> {
    const all = [...some]
    for (let i = all.length - 1; i > 0; i--) {
      const j = this.below(i + 1)
      const kept = all[i]!
      all[i] = all[j]!
      all[j] = kept
    }
    return all
  }
}
