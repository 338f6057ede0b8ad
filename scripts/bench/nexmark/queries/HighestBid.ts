/** The highest bids of every ten seconds (q7). */
import { Schema } from "effect"
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
  Window,
} from "../../../../src/index.ts"
import { bids, grouped, startOf } from "../Batch.ts"
import { Bid, closing, common, Events, grace, isBid, refuse } from "../Events.ts"
import type { Query } from "../Query.ts"

const size = 10_000

const { auction, bidder, price, dateTime, extra } = Bid.fields
const Offer = Schema.Struct({ auction, price, bidder, dateTime, extra })
type Offer = typeof Offer.Type

const ByWindow = Topic.make({
  ...common,
  name: "q7-bids",
  schema: Offer,
  key: ["start of the window", ({ dateTime }) => String(dateTime - dateTime % size)],
  eventTime: ({ dateTime }) => dateTime,
})
const Highest = Topic.make({ ...common, name: "q7", schema: Offer })

/** The bids of the highest price, all of them where several have it. */
const highest = Fold.make({
  state: Schema.Array(Offer),
  initial: (): ReadonlyArray<Offer> => [],
  add: (known: ReadonlyArray<Offer>, offer: Offer) => {
    const best = known[0]
    if (best === undefined || offer.price > best.price) return [offer]
    return offer.price === best.price ? [...known, offer] : known
  },
})

const pipeline = Pipeline.make(
  "highest-bid",
  Ingest.topic(Events).pipe(
    Decode.schema,
    Flow.filter(isBid),
    Flow.map(({ auction, price, bidder, dateTime, extra }): Offer => ({ auction, price, bidder, dateTime, extra })),
    Failures.routeAll(refuse),
    repartition(ByWindow, { undeliverable: refuse, ...closing }),
    Aggregate.windowed({ name: "windows", window: Window.tumbling({ size, grace }), fold: highest, emit: "final" }),
    Flow.flatMap(({ value }) => value),
    Deliver.to(Highest),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

export const q7: Query = {
  name: "q7",
  title: "highest bid",
  pipeline,
  results: Highest,
  keep: "all",
  batch: (input) =>
    Array.from(grouped(bids(input), ({ dateTime }) => startOf(dateTime, size)).values()).flatMap((ofWindow) => {
      const best = ofWindow.reduce((best, { price }) => Math.max(best, price), 0)
      return ofWindow.filter(({ price }) => price === best)
        .map(({ auction, price, bidder, dateTime, extra }) => ({ auction, price, bidder, dateTime, extra }))
    }),
}
