/** Queries that take bids one by one: pass them on (q0), convert their prices (q1), choose some (q2). */
import { Schema } from "effect"
import { Decode, Deliver, Failures, Flow, Guarantee, Ingest, Pipeline, Topic } from "../../../../src/index.ts"
import { bids } from "../Batch.ts"
import { Bid, common, Events, isBid, refuse } from "../Events.ts"
import type { Query } from "../Query.ts"

const { auction, bidder, price, dateTime, extra } = Bid.fields

const PassedOn = Topic.make({
  ...common,
  name: "q0",
  schema: Schema.Struct({ auction, bidder, price, dateTime, extra }),
})
const Converted = Topic.make({
  ...common,
  name: "q1",
  schema: Schema.Struct({ auction, bidder, price: Schema.Finite, dateTime, extra }),
})
const Chosen = Topic.make({ ...common, name: "q2", schema: Schema.Struct({ auction, price }) })

/** Dollars to euros at 0.908, exact to a thousandth of a cent. */
const inEuros = (price: number): number => Math.round(price * 908) / 1_000

const passOn = Pipeline.make(
  "pass-on",
  Ingest.topic(Events).pipe(
    Decode.schema,
    Flow.filter(isBid),
    Flow.map(({ auction, bidder, price, dateTime, extra }) => ({ auction, bidder, price, dateTime, extra })),
    Deliver.to(PassedOn),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

const convert = Pipeline.make(
  "convert",
  Ingest.topic(Events).pipe(
    Decode.schema,
    Flow.filter(isBid),
    Flow.map(({ auction, bidder, price, dateTime, extra }) => {
      return { auction, bidder, price: inEuros(price), dateTime, extra }
    }),
    Deliver.to(Converted),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

const choose = Pipeline.make(
  "choose",
  Ingest.topic(Events).pipe(
    Decode.schema,
    Flow.filter(isBid),
    Flow.filter(({ auction }) => auction % 123 === 0),
    Flow.map(({ auction, price }) => ({ auction, price })),
    Deliver.to(Chosen),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

export const q0: Query = {
  name: "q0",
  title: "pass through",
  pipeline: passOn,
  results: PassedOn,
  keep: "all",
  batch: (input) =>
    bids(input).map(({ auction, bidder, price, dateTime, extra }) => ({ auction, bidder, price, dateTime, extra })),
}

export const q1: Query = {
  name: "q1",
  title: "currency conversion",
  pipeline: convert,
  results: Converted,
  keep: "all",
  batch: (input) =>
    bids(input).map(({ auction, bidder, price, dateTime, extra }) => {
      // In whole thousandths, which numbers hold exactly.
      const thousandths = BigInt(price) * 908n
      return { auction, bidder, price: Number(thousandths) / 1_000, dateTime, extra }
    }),
}

export const q2: Query = {
  name: "q2",
  title: "selection",
  pipeline: choose,
  results: Chosen,
  keep: "all",
  batch: (input) => {
    const chosen = []
    for (const { auction, price } of bids(input)) if (auction % 123 === 0) chosen.push({ auction, price })
    return chosen
  },
}
