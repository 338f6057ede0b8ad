/** Joins of two streams in flows that a single task runs. */
import { Aggregate, Deliver, Flow, Join, merge, Window } from "../../src/index.ts"
import {
  type Case,
  Counted,
  decoded,
  moved,
  Others,
  read,
  Reading,
  refuseOdd,
  routed,
  Thirds,
  twice,
} from "./StageCases.ts"

const described = (one: Reading | undefined) => one && `${one.id} ${one.n} ${one.at}`

const pairs = <K extends Join.StreamKind>(kind: K, bound: Join.StreamBound, grace: number) => ({
  name: "pairs",
  kind,
  ...bound,
  grace,
  left: Reading,
  right: Reading,
  join: (left: Join.FromLeft<Reading, K>, right: Join.FromRight<Reading, K>) => ({
    left: described(left as Reading | undefined),
    right: described(right as Reading | undefined),
  }),
})

const minute = { within: "1 minute" } as const
const later = { before: "-10 seconds", after: "2 minutes" } as const
const finals = Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }), emit: "final" })

export const streamJoins: ReadonlyArray<Case> = [
  {
    name: "join of two streams, inner",
    flow: decoded.pipe(Join.stream(read(Others), pairs("inner", minute, 30_000))),
  },
  {
    name: "join of two streams, left",
    flow: decoded.pipe(Join.stream(read(Others), pairs("left", minute, 90_000))),
  },
  {
    name: "join of two streams, outer, without grace",
    flow: decoded.pipe(Join.stream(read(Others), pairs("outer", minute, 0))),
  },
  {
    name: "join of two streams, the partner later",
    flow: decoded.pipe(Join.stream(read(Others), pairs("outer", later, 60_000))),
  },
  {
    name: "join of two streams at equal times",
    flow: decoded.pipe(Join.stream(read(Others), pairs("left", { within: 0 }, 120_000))),
  },
  {
    name: "join of two streams that fail and fan out",
    flow: decoded.pipe(
      refuseOdd,
      Join.stream(read(Others).pipe(twice, Flow.filter((r) => r.n !== 4)), pairs("outer", minute, 60_000)),
    ),
    fansOut: true,
  },
  {
    name: "join of a merge, then windows",
    flow: decoded.pipe(
      merge(read(Thirds)),
      Join.stream(read(Others), pairs("outer", minute, 60_000)),
      finals,
      Deliver.to(Counted),
    ),
    fansOut: true,
  },
  {
    name: "join of a stream with itself",
    flow: decoded.pipe(
      Flow.filter((r) => r.n > 4),
      Join.stream(decoded.pipe(Flow.filter((r) => r.n < 7)), pairs("outer", minute, 60_000)),
    ),
    fansOut: true,
  },
  {
    name: "join of a repartition with another stream",
    flow: moved(routed).pipe(Join.stream(read(Others), pairs("left", minute, 60_000))),
    upstream: 3,
  },
]
