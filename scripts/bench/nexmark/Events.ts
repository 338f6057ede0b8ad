/**
 * The events of an auction site, as Nexmark has them: people register, open auctions, and bid. One topic holds all three
 * kinds, without keys, so that every query brings what it groups by to the partition of its own key.
 */
import { Schema } from "effect"
import { DeadLetter, type Failures, Topic } from "../../../src/index.ts"

/** What all topics of the benchmark have in common. */
export const common = { description: "Nexmark", owner: "bench", partitions: 2 }

export const Person = Schema.Struct({
  kind: Schema.Literal("person"),
  id: Schema.Int,
  name: Schema.String,
  emailAddress: Schema.String,
  creditCard: Schema.String,
  city: Schema.String,
  state: Schema.String,
  dateTime: Schema.Int,
  extra: Schema.String,
})
export type Person = typeof Person.Type

export const Auction = Schema.Struct({
  kind: Schema.Literal("auction"),
  id: Schema.Int,
  itemName: Schema.String,
  description: Schema.String,
  initialBid: Schema.Int,
  reserve: Schema.Int,
  dateTime: Schema.Int,
  expires: Schema.Int,
  seller: Schema.Int,
  category: Schema.Int,
  extra: Schema.String,
})
export type Auction = typeof Auction.Type

export const Bid = Schema.Struct({
  kind: Schema.Literal("bid"),
  auction: Schema.Int,
  bidder: Schema.Int,
  price: Schema.Int,
  channel: Schema.String,
  url: Schema.String,
  dateTime: Schema.Int,
  extra: Schema.String,
})
export type Bid = typeof Bid.Type

const Event = Schema.Union([Person, Auction, Bid])
export type Event = typeof Event.Type

export const Events = Topic.make({ ...common, name: "events", schema: Event, eventTime: ({ dateTime }) => dateTime })

export const isBid = (event: Event): event is Bid => event.kind === "bid"

/** Where records go that no query can take: none, in this benchmark. */
export const Refused = Topic.bytes({ ...common, name: "refused" })
export const refuse: Failures.Route = DeadLetter.to(Refused)

/** How many milliseconds events may be out of order, as in Nexmark's own definition of the source. */
export const grace = 4_000

/**
 * When input stops, windows close by the clock: after a silence that is longer than a window and its grace, and longer than
 * an outage. A topic that such windows write waits until all of them have closed.
 */
export const closing = { wallClockAfter: "2 minutes" } as const
export const closingLater = { wallClockAfter: "5 minutes" } as const
