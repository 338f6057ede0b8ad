/** Bids with the auctions that they are for, of one category (q20). */
import { Schema } from "effect"
import {
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Join,
  Pipeline,
  repartition,
  Topic,
} from "../../../../src/index.ts"
import { auctions, bids } from "../Batch.ts"
import { Auction, Bid, common, type Event, Events, grace, refuse } from "../Events.ts"
import type { Query } from "../Query.ts"

const category = 10

const Side = Schema.Union([Auction, Bid])
type Side = typeof Side.Type

const matters = (event: Event): event is Side =>
  event.kind === "bid" || event.kind === "auction" && event.category === category

const ByAuction = Topic.make({
  ...common,
  name: "q20-sides",
  schema: Side,
  key: ["auction", (side) => String(side.kind === "bid" ? side.auction : side.id)],
  eventTime: ({ dateTime }) => dateTime,
})

const Expanded = Schema.Struct({
  auction: Bid.fields.auction,
  bidder: Bid.fields.bidder,
  price: Bid.fields.price,
  channel: Bid.fields.channel,
  url: Bid.fields.url,
  bid_dateTime: Schema.Int,
  bid_extra: Schema.String,
  itemName: Auction.fields.itemName,
  description: Auction.fields.description,
  initialBid: Auction.fields.initialBid,
  reserve: Auction.fields.reserve,
  auction_dateTime: Schema.Int,
  expires: Auction.fields.expires,
  seller: Auction.fields.seller,
  category: Auction.fields.category,
  auction_extra: Schema.String,
})
const Result = Topic.make({ ...common, name: "q20", schema: Expanded })

const expand = (bid: Bid, auction: Auction): typeof Expanded.Type => ({
  auction: bid.auction,
  bidder: bid.bidder,
  price: bid.price,
  channel: bid.channel,
  url: bid.url,
  bid_dateTime: bid.dateTime,
  bid_extra: bid.extra,
  itemName: auction.itemName,
  description: auction.description,
  initialBid: auction.initialBid,
  reserve: auction.reserve,
  auction_dateTime: auction.dateTime,
  expires: auction.expires,
  seller: auction.seller,
  category: auction.category,
  auction_extra: auction.extra,
})

const sides = Ingest.topic(Events).pipe(
  Decode.schema,
  Flow.filter(matters),
  Failures.routeAll(refuse),
  repartition(ByAuction, { undeliverable: refuse }),
)

const pipeline = Pipeline.make(
  "expand-bids",
  sides.pipe(
    Flow.filter((side): side is Bid => side.kind === "bid", "other side"),
    Join.stream(sides.pipe(Flow.filter((side): side is Auction => side.kind === "auction", "other side")), {
      name: "auctions",
      // Bids come for auctions that are about to open, and for those of the last while.
      before: "1 minute",
      after: "4 seconds",
      grace,
      left: Bid,
      right: Auction,
      join: expand,
    }),
    Deliver.to(Result),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

export const q20: Query = {
  name: "q20",
  title: "expand bid with auction",
  pipeline,
  results: Result,
  keep: "all",
  batch: (input) => {
    const known = new Map(auctions(input).map((auction) => [auction.id, auction]))
    return bids(input).flatMap((bid) => {
      const auction = known.get(bid.auction)
      if (auction?.category !== category) return []
      const { dateTime, extra, kind: _, ...ofBid } = bid
      const { id: _id, kind: _kind, dateTime: opened, extra: more, ...ofAuction } = auction
      return [{
        ...ofBid,
        ...ofAuction,
        bid_dateTime: dateTime,
        bid_extra: extra,
        auction_dateTime: opened,
        auction_extra: more,
      }]
    })
  },
}
