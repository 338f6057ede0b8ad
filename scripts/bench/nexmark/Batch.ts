/** What the batch computations have in common: plain arrays and maps over all events at once. */
import type { Auction, Bid, Event, Person } from "./Events.ts"
import type { Emitted } from "./Generator.ts"

const of = <A extends Event>(kind: A["kind"]) => (input: ReadonlyArray<Emitted>): ReadonlyArray<A> => {
  const found: Array<A> = []
  for (const { event } of input) if (event.kind === kind) found.push(event as A)
  return found
}

export const people = of<Person>("person")
export const auctions = of<Auction>("auction")
export const bids = of<Bid>("bid")

/** Values by key, in their order. */
export const grouped = <A, K>(values: Iterable<A>, key: (value: A) => K): ReadonlyMap<K, ReadonlyArray<A>> => {
  const groups = new Map<K, Array<A>>()
  for (const value of values) {
    const group = groups.get(key(value))
    if (group === undefined) groups.set(key(value), [value])
    else group.push(value)
  }
  return groups
}

/** The start of the span of `size` that a time is in. */
export const startOf = (time: number, size: number): number => time - time % size
