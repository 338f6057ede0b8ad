/** The auctions with the most bids in the last ten seconds, every two seconds (q5). */
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
import { Bid, closing, closingLater, common, Events, grace, isBid, refuse } from "../Events.ts"
import type { Query, Row } from "../Query.ts"

const { auction, dateTime } = Bid.fields

const ByAuction = Topic.make({
  ...common,
  name: "q5-bids",
  schema: Schema.Struct({ auction, dateTime }),
  key: ["auction", ({ auction }) => String(auction)],
  eventTime: ({ dateTime }) => dateTime,
})
const Counts = Topic.make({
  ...common,
  name: "q5-counts",
  schema: Schema.Struct({ auction, num: Schema.Int, start: Schema.Int }),
  key: ["start of the window", ({ start }) => String(start)],
  eventTime: ({ start }) => start,
})
const Hottest = Topic.make({ ...common, name: "q5", schema: Schema.Struct({ auction, num: Schema.Int }) })

interface Most {
  readonly num: number
  readonly auctions: ReadonlyArray<number>
}

/** The auctions of the highest count, all of them where several have it. */
const most = Fold.make({
  state: Schema.Struct({ num: Schema.Int, auctions: Schema.Array(Schema.Int) }),
  initial: (): Most => ({ num: 0, auctions: [] }),
  add: (known: Most, { auction, num }: { readonly auction: number; readonly num: number }) => {
    if (num < known.num) return known
    return { num, auctions: num > known.num ? [auction] : [...known.auctions, auction] }
  },
})

const pipeline = Pipeline.make(
  "hot-items",
  Ingest.topic(Events).pipe(
    Decode.schema,
    Flow.filter(isBid),
    Flow.map(({ auction, dateTime }) => ({ auction, dateTime })),
    Failures.routeAll(refuse),
    repartition(ByAuction, { undeliverable: refuse, ...closing }),
    Aggregate.count({
      name: "auctions",
      window: Window.hopping({ size: "10 seconds", every: "2 seconds", grace }),
      emit: "final",
    }),
    Flow.map(({ key, start, value }) => ({ auction: Number(key), num: value, start })),
    Failures.routeAll(refuse),
    // A window's counts come one after the other when it closes, and all before those of the next one.
    repartition(Counts, { undeliverable: refuse, ...closingLater }),
    Aggregate.windowed({ name: "windows", window: Window.tumbling({ size: "2 seconds" }), fold: most, emit: "final" }),
    Flow.flatMap(({ value: { num, auctions } }) => auctions.map((auction) => ({ auction, num }))),
    Deliver.to(Hottest),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

const size = 10_000
const every = 2_000

export const q5: Query = {
  name: "q5",
  title: "hot items",
  pipeline,
  results: Hottest,
  keep: "all",
  batch: (input) => {
    const windows = new Map<number, Map<number, number>>()
    for (const { auction, dateTime } of bids(input)) {
      for (let start = startOf(dateTime, every); start > dateTime - size; start -= every) {
        const counts = windows.get(start) ?? new Map<number, number>()
        windows.set(start, counts.set(auction, (counts.get(auction) ?? 0) + 1))
      }
    }
    return Array.from(windows.values()).flatMap((counts): ReadonlyArray<Row> => {
      const [num, auctions] = Array.from(grouped(counts, ([, num]) => num)).reduce((a, b) => a[0] > b[0] ? a : b)
      return auctions.map(([auction]) => ({ auction, num }))
    })
  },
}
