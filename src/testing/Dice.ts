/** Random input that replays: every case is drawn from a number, and a failure names it. */
import { Effect } from "effect"

/** A small generator of pseudo-random numbers (mulberry32), the same on every machine. */
export class Dice {
  #state: number
  constructor(seed: number) {
    this.#state = seed >>> 0
  }
  /** At least 0, below 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  /** A whole number from `least` to `most`, both included. */
  int(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }
  /** One of them; they are not empty. */
  pick<A>(from: ReadonlyArray<A>): A {
    return from[this.int(0, from.length - 1)]!
  }
  /** `least` to `most` things that `make` makes. */
  list<A>(least: number, most: number, make: (i: number) => A): Array<A> {
    return Array.from({ length: this.int(least, most) }, (_, i) => make(i))
  }
}

/**
 * The seeds from 1 to `runs`. Where the environment has `SEED`, that one alone, or those from one to another
 * (`SEED=1000..2000`).
 */
export const seeds = (runs: number): ReadonlyArray<number> => {
  const [first = "1", last = first] = process.env["SEED"]?.split("..") ?? ["1", String(runs)]
  return Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => Number(first) + i)
}

/** Runs a property for each of `seeds(runs)`. A failure prints its seed. */
export const forSeeds = <E, R>(
  runs: number,
  property: (dice: Dice, seed: number) => Effect.Effect<void, E, R>,
): Effect.Effect<void, E, R> =>
  Effect.forEach(seeds(runs), (seed) =>
    Effect.suspend(() => property(new Dice(seed), seed)).pipe(
      Effect.tapCause(() => Effect.sync(() => console.error(`fails with SEED=${seed}`))),
    ), { discard: true })
