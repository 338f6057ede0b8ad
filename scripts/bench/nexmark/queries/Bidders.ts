/** How many bids a bidder makes: in each of its sessions (q11), and in every ten seconds of the clock (q12). */
import { Schema } from "effect"
import {
  Aggregate,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  repartition,
  Topic,
  Window,
} from "../../../../src/index.ts"
import { bids, grouped, startOf } from "../Batch.ts"
import { Bid, closing, common, Events, grace, isBid, refuse } from "../Events.ts"
import type { Query, Row } from "../Query.ts"

const { bidder, dateTime } = Bid.fields

const Bidding = Schema.Struct({ bidder: Schema.Int, bid_count: Schema.Int, starttime: Schema.Int, endtime: Schema.Int })

const ByBidder = Topic.make({
  ...common,
  name: "q11-bids",
  schema: Schema.Struct({ bidder, dateTime }),
  key: ["bidder", ({ bidder }) => String(bidder)],
  eventTime: ({ dateTime }) => dateTime,
})
const Sessions = Topic.make({ ...common, name: "q11", schema: Bidding })

const gap = 10_000

const sessions = Pipeline.make(
  "sessions",
  Ingest.topic(Events).pipe(
    Decode.schema,
    Flow.filter(isBid),
    Flow.map(({ bidder, dateTime }) => ({ bidder, dateTime })),
    Failures.routeAll(refuse),
    repartition(ByBidder, { undeliverable: refuse, ...closing }),
    Aggregate.count({ name: "sessions", window: Window.session({ gap, grace }), emit: "final" }),
    Flow.map(({ key, start, end, value }) => ({
      bidder: Number(key),
      bid_count: value,
      starttime: start,
      endtime: end + gap,
    })),
    Deliver.to(Sessions),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

/** The same topic, whose records happen when they arrive: at their Kafka timestamps. */
const Arrivals = Topic.make({ ...common, name: Events.name, schema: Events.schema })

const ByArrival = Topic.make({
  ...common,
  name: "q12-bids",
  schema: Schema.Struct({ bidder, arrival: Schema.Int }),
  key: ["bidder", ({ bidder }) => String(bidder)],
  eventTime: ({ arrival }) => arrival,
})
const PerTenSeconds = Topic.make({ ...common, name: "q12", schema: Bidding })

const byTheClock = Pipeline.make(
  "by-the-clock",
  Ingest.topic(Arrivals).pipe(
    Decode.schema,
    Flow.filter(isBid),
    Flow.map(({ bidder }, { arrival }) => ({ bidder, arrival })),
    Failures.routeAll(refuse),
    repartition(ByArrival, { undeliverable: refuse, ...closing }),
    Aggregate.count({ name: "windows", window: Window.tumbling({ size: "10 seconds" }), emit: "final" }),
    Flow.map(({ key, start, end, value }) => ({
      bidder: Number(key),
      bid_count: value,
      starttime: start,
      endtime: end,
    })),
    Deliver.to(PerTenSeconds),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

export const q11: Query = {
  name: "q11",
  title: "user sessions",
  pipeline: sessions,
  results: Sessions,
  keep: "all",
  batch: (input) =>
    Array.from(grouped(bids(input), ({ bidder }) => bidder)).flatMap(([bidder, own]) => {
      const times = own.map(({ dateTime }) => dateTime).sort((a, b) => a - b)
      const first = times.flatMap((time, i) => i === 0 || time - times[i - 1]! > gap ? [i] : [])
      return first.map((from, nth): Row => {
        const session = times.slice(from, first[nth + 1])
        return { bidder, bid_count: session.length, starttime: session[0], endtime: session.at(-1)! + gap }
      })
    }),
}

export const q12: Query = {
  name: "q12",
  title: "processing time windows",
  pipeline: byTheClock,
  results: PerTenSeconds,
  keep: "all",
  batch: (input) => {
    const rows = new Map<string, { bidder: number; bid_count: number; starttime: number; endtime: number }>()
    for (const { event, arrival } of input) {
      if (event.kind !== "bid") continue
      const { bidder } = event
      const starttime = startOf(arrival, 10_000)
      const row = rows.get(`${bidder} ${starttime}`)
      if (row !== undefined) row.bid_count++
      else rows.set(`${bidder} ${starttime}`, { bidder, bid_count: 1, starttime, endtime: starttime + 10_000 })
    }
    return [...rows.values()]
  },
}
