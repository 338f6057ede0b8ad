/** Bids with what a bounded set beside the stream has for their auction (q13). */
import { Effect, Schema } from "effect"
import { Decode, Deliver, Failures, Flow, Guarantee, Ingest, Lookup, Pipeline, Topic } from "../../../../src/index.ts"
import { bids } from "../Batch.ts"
import { Bid, common, Events, isBid, refuse } from "../Events.ts"
import type { Query } from "../Query.ts"

const keys = 10_000

/** As Nexmark's file of it: every key with itself as text. */
const file = Array.from({ length: keys }, (_, key) => [String(key), String(key)] as const)

/** Loaded when a task starts, and again every hour, as a file that changes would be. */
const sideInput = Lookup.reference({ name: "side-input", load: Effect.sync(() => new Map(file)), every: "1 hour" })

const { auction, bidder, price, dateTime } = Bid.fields
const Enriched = Topic.make({
  ...common,
  name: "q13",
  schema: Schema.Struct({ auction, bidder, price, dateTime, value: Schema.String }),
})

const pipeline = Pipeline.make(
  "side-input",
  Ingest.topic(Events).pipe(
    Decode.schema,
    Flow.filter(isBid),
    Lookup.by(sideInput, {
      key: ({ auction }) => String(auction % keys),
      join: (bid, found) => ({ bid, found }),
      onUnavailable: "hold",
    }),
    Flow.flatMap(({ bid: { auction, bidder, price, dateTime }, found }) =>
      found._tag === "Found" ? [{ auction, bidder, price, dateTime, value: found.value }] : []
    ),
    Deliver.to(Enriched),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

export const q13: Query = {
  name: "q13",
  title: "bounded side input join",
  pipeline,
  results: Enriched,
  keep: "all",
  batch: (input) =>
    bids(input).map(({ auction, bidder, price, dateTime }) => {
      return { auction, bidder, price, dateTime, value: String(auction % keys) }
    }),
}
