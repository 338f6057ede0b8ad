/** People who have opened auctions in the same ten seconds in which they came (q8). */
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
import { auctions, people, startOf } from "../Batch.ts"
import { closing, common, type Event, Events, grace, refuse } from "../Events.ts"
import type { Query } from "../Query.ts"

/** Somebody has come, with a name, or has opened an auction. */
const Seen = Schema.Struct({ user: Schema.Int, name: Schema.NullOr(Schema.String), dateTime: Schema.Int })
type Seen = typeof Seen.Type

const seen = (event: Event): ReadonlyArray<Seen> => {
  const { dateTime } = event
  switch (event.kind) {
    case "person":
      return [{ user: event.id, name: event.name, dateTime }]
    case "auction":
      return [{ user: event.seller, name: null, dateTime }]
    case "bid":
      return []
  }
}

const ByUser = Topic.make({
  ...common,
  name: "q8-users",
  schema: Seen,
  key: ["user", ({ user }) => String(user)],
  eventTime: ({ dateTime }) => dateTime,
})
const NewUsers = Topic.make({
  ...common,
  name: "q8",
  schema: Schema.Struct({ id: Schema.Int, name: Schema.String, starttime: Schema.Int }),
})

/** Both sides of the join of one user and window. */
const sides = Fold.make({
  state: Schema.Struct({ name: Schema.NullOr(Schema.String), sells: Schema.Boolean }),
  initial: () => ({ name: null as string | null, sells: false }),
  add: (sides, { name }: Seen) => name === null ? sides.sells ? sides : { ...sides, sells: true } : { ...sides, name },
})

const pipeline = Pipeline.make(
  "new-users",
  Ingest.topic(Events).pipe(
    Decode.schema,
    Flow.flatMap(seen),
    Failures.routeAll(refuse),
    repartition(ByUser, { undeliverable: refuse, ...closing }),
    Aggregate.windowed({
      name: "users",
      window: Window.tumbling({ size: "10 seconds", grace }),
      fold: sides,
      emit: "final",
    }),
    Flow.flatMap(({ key, start, value: { name, sells } }) =>
      name !== null && sells ? [{ id: Number(key), name, starttime: start }] : []
    ),
    Deliver.to(NewUsers),
    Failures.routeAll(refuse),
  ),
  Guarantee.exactlyOnce(),
)

export const q8: Query = {
  name: "q8",
  title: "monitor new users",
  pipeline,
  results: NewUsers,
  keep: "all",
  batch: (input) => {
    const sellers = new Set(auctions(input).map(({ seller, dateTime }) => `${seller} ${startOf(dateTime, 10_000)}`))
    return people(input)
      .map(({ id, name, dateTime }) => ({ id, name, starttime: startOf(dateTime, 10_000) }))
      .filter(({ id, starttime }) => sellers.has(`${id} ${starttime}`))
  },
}
