/** The last bid of every bidder for every auction (q18). */
import {
  Aggregate,
  Decode,
  Deliver,
  Failures,
  Flow,
  Fold,
  Guarantee,
  Ingest,
  Pipeline,
  repartition,
  Topic,
} from "../../../../src/index.ts"
import { bids, grouped } from "../Batch.ts"
import { Bid, common, Events, isBid, refuse } from "../Events.ts"
import type { Query } from "../Query.ts"

const pair = ["bidder and auction", ({ bidder, auction }: Bid) => `${bidder}:${auction}`] as const

const ByPair = Topic.make({
  ...common,
  name: "q18-bids",
  schema: Bid,
  key: pair,
  eventTime: ({ dateTime }) => dateTime,
})
const Last = Topic.make({ ...common, name: "q18", schema: Bid, key: pair, cleanup: "compact" })

/** Of two bids of one time the higher one is the later: bidding goes up. */
const order = (a: Bid, b: Bid): number => a.dateTime - b.dateTime || a.price - b.price

const pipeline = Pipeline.make(
  "last-bid",
  Ingest.topic(Events).pipe(
    Decode.schema,
    Flow.filter(isBid),
    Failures.routeAll(refuse),
    repartition(ByPair, { undeliverable: refuse }),
    Aggregate.running({ name: "last", fold: Fold.maxBy(Bid, order) }),
    Deliver.latest(Last, ({ value }) => value),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

export const q18: Query = {
  name: "q18",
  title: "find last bid",
  pipeline,
  results: Last,
  keep: "latest",
  batch: (input) =>
    Array.from(
      grouped(bids(input), ({ bidder, auction }) => `${bidder} ${auction}`).values(),
      (own) => own.toSorted((a, b) => b.dateTime - a.dateTime || b.price - a.price)[0]!,
    ),
}
