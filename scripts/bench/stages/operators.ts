/** What is measured: each operator as a flow, and the same work by hand over the same batches. */
import { Effect, Result, Schema } from "effect"
import { Buffer } from "node:buffer"
import {
  Aggregate,
  Branch,
  Check,
  Decode,
  Deduplicate,
  Deliver,
  Flow,
  type Flow as Flows,
  Fold,
  Join,
  merge,
  Sample,
  Table,
  Throttle,
  Topic,
  Window,
} from "../../../src/index.ts"
import type { Logged, PipelineError, Raw, Task } from "../../../src/Task.ts"
import * as Hand from "./hand.ts"
import { Reading, type Shape } from "./input.ts"

type Readings = Flows.Flow<Reading>

export interface Operator {
  readonly name: string
  /** Whether it keeps something of each key: its cost is measured as keys grow. */
  readonly isKeyed?: true
  /** For two sides: of how many records one is of the right one. */
  readonly rightOneIn?: number
  /** Values come as they stand in their topic, and not decoded. */
  readonly isRaw?: true
  flow(left: Readings, right: Readings, shape: Shape): Flows.Flow<unknown, unknown, PipelineError, Task | Logged>
  loop(shape: Shape): Hand.Loop
}

const common = { description: "Benchmark", owner: "bench", partitions: 1 }
const Out = Topic.make({ ...common, name: "out", schema: Reading, key: ["id", ({ id }) => id] })
class Nine extends Schema.TaggedError<Nine>()("Nine", { message: Schema.String }) {}

const minute = 60_000
const changed = (reading: Reading) => ({ ...reading, twice: reading.n * 2 })
const isNoNine = ({ n }: Reading) => n !== 9
const isOdd = ({ n }: Reading) => n % 2 === 1
const Pair = Schema.Struct({ id: Schema.String, n: Schema.Int })
const pair = (left: Reading, right: Reading) => ({ id: left.id, n: right.n })

/** So far apart that a record has one partner on average. */
const within = ({ keys, records, span, rightOneIn = 2 }: Shape): number =>
  Math.max(1, Math.round(keys / 2 / (records / rightOneIn / span)))

const decode = Schema.decodeUnknownResult(Reading)

export const operators: ReadonlyArray<Operator> = [
  {
    name: "Decode.schema",
    isRaw: true,
    flow: (left) => (left as unknown as Flows.Flow<Raw<Reading>>).pipe(Decode.schema),
    loop: () =>
      Hand.each((_, out, __, ___, bytes) => {
        const decoded = decode(JSON.parse(bytes!.toString()))
        if (Result.isSuccess(decoded)) out.push(decoded.success)
      }),
  },
  {
    name: "Flow.map",
    flow: (left) => left.pipe(Flow.map(changed)),
    loop: () => Hand.each((value, out) => out.push(changed(value))),
  },
  {
    name: "Flow.filter",
    flow: (left) => left.pipe(Flow.filter(isNoNine)),
    loop: () => Hand.each((value, out) => isNoNine(value) && out.push(value)),
  },
  {
    name: "Flow.flatMap, two of one",
    flow: (left) => left.pipe(Flow.flatMap((value) => [value, changed(value)])),
    loop: () => Hand.each((value, out) => out.push(value, changed(value))),
  },
  {
    name: "Check.with, one in ten refused",
    flow: (left) =>
      left.pipe(
        Check.with((value) => isNoNine(value) ? Result.succeed(value) : Result.fail(new Nine({ message: "a nine" }))),
      ),
    loop: () => {
      const refused: Array<Nine> = []
      return Hand.each((value, out) =>
        isNoNine(value) ? out.push(value) : refused.push(new Nine({ message: "a nine" }))
      )
    },
  },
  {
    name: "Flow.effect, an Effect per value",
    flow: (left) => left.pipe(Flow.effect((value) => Effect.succeed(changed(value)))),
    loop: () => Hand.each((value, out) => out.push(changed(value))),
  },
  {
    name: "Branch.when, half of all",
    flow: (left) => left.pipe(Branch.when(isOdd, (flow) => flow.pipe(Flow.map(changed)))),
    loop: () => Hand.each((value, out) => out.push(isOdd(value) ? changed(value) : value)),
  },
  {
    name: "merge of two branches",
    flow: (left) => left.pipe(Flow.filter(isOdd), merge(left.pipe(Flow.filter((value) => !isOdd(value))))),
    loop: () => Hand.each((value, out) => out.push(value)),
  },
  {
    name: "merge of two topics",
    rightOneIn: 2,
    flow: (left, right) => left.pipe(merge(right)),
    loop: () => Hand.byTime((out) => ({ left: (value) => out.push(value), right: (value) => out.push(value) })),
  },
  {
    name: "Sample.by, one in ten",
    flow: (left) => left.pipe(Sample.by({ rate: 0.1, key: ({ id }) => id })),
    loop: () => Hand.each((value, out) => Hand.fnv(value.id) < 0.1 * 2 ** 32 && out.push(value)),
  },
  {
    name: "Throttle.by key, none beyond its rate",
    isKeyed: true,
    flow: (left, _, { keys }) =>
      left.pipe(Throttle.by({ perSecond: 1e6, key: (_, record) => record.key!, excess: "drop", atMostKeys: keys })),
    loop: () => {
      const pace = Hand.tokens(1e6)
      return Hand.each((value, out, key) => pace(Hand.textOf(key)) && out.push(value))
    },
  },
  {
    name: "Deliver.to",
    flow: (left) => left.pipe(Deliver.to(Out)),
    loop: () =>
      Hand.each((value, out) => {
        const bytes = Out.encode(value)
        if (Result.isSuccess(bytes)) out.push({ topic: "out", key: Buffer.from(value.id), value: bytes.success })
      }),
  },
  {
    name: "Deduplicate.by, as many ids as keys",
    isKeyed: true,
    flow: (left, _, { keys }) => left.pipe(Deduplicate.by({ name: "seen", id: ({ id }) => id, atMost: keys })),
    loop: ({ keys }) => {
      const seen = new Set<string>()
      return Hand.each((value, out) => {
        if (seen.has(value.id)) return
        seen.add(value.id)
        if (seen.size > keys) { for (const oldest of seen) return seen.delete(oldest) && out.push(value) }
        out.push(value)
      })
    },
  },
  {
    name: "Aggregate.count, tumbling, final",
    isKeyed: true,
    flow: (left) =>
      left.pipe(Aggregate.count({ name: "counts", window: Window.tumbling({ size: minute }), emit: "final" })),
    loop: () => Hand.windows({ size: minute, every: minute, updates: false }),
  },
  {
    name: "Aggregate.count, tumbling, updates",
    isKeyed: true,
    flow: (left) => left.pipe(Aggregate.count({ name: "counts", window: Window.tumbling({ size: minute }) })),
    loop: () => Hand.windows({ size: minute, every: minute, updates: true }),
  },
  {
    name: "Aggregate.count, five hopping windows, final",
    isKeyed: true,
    flow: (left) =>
      left.pipe(
        Aggregate.count({
          name: "counts",
          window: Window.hopping({ size: minute, every: "12 seconds" }),
          emit: "final",
        }),
      ),
    loop: () => Hand.windows({ size: minute, every: 12_000, updates: false }),
  },
  {
    name: "Aggregate.running, count",
    isKeyed: true,
    flow: (left) => left.pipe(Aggregate.running({ name: "counts", fold: Fold.count })),
    loop: () => {
      const counts = new Map<string, number>()
      let touched = new Set<string>()
      return Hand.batches(
        (_, __, key) => {
          const text = Hand.textOf(key)
          counts.set(text, (counts.get(text) ?? 0) + 1)
          touched.add(text)
        },
        () => {
          const out = Array.from(touched, (key) => ({ key, value: counts.get(key)! }))
          touched = new Set()
          return out
        },
      )
    },
  },
  {
    name: "Join.table, one change in ten records",
    isKeyed: true,
    rightOneIn: 10,
    flow: (left, right) =>
      left.pipe(
        Join.table(right.pipe(Table.of(Reading)), {
          name: "rows",
          kind: "left",
          join: (value, row) => ({ ...value, row }),
        }),
      ),
    loop: () =>
      Hand.byTime((out) => {
        const rows = new Map<string, { readonly at: number; readonly row: Reading }>()
        return {
          left: (value, key) => out.push({ ...value, row: rows.get(Hand.textOf(key))?.row }),
          right: (row, key, at) => {
            const text = Hand.textOf(key)
            const known = rows.get(text)
            if (known === undefined || known.at <= at) rows.set(text, { at, row })
          },
        }
      }),
  },
  {
    name: "Join.asOf, one change in ten records",
    isKeyed: true,
    rightOneIn: 10,
    flow: (left, right) =>
      left.pipe(
        Join.asOf(right.pipe(Table.of(Reading)), {
          name: "versions",
          kind: "left",
          history: "1 minute",
          join: (value, row) => ({ ...value, row }),
        }),
      ),
    loop: () => Hand.byTime((out) => Hand.asOf(minute, out)),
  },
  {
    name: "Join.tables",
    isKeyed: true,
    rightOneIn: 2,
    flow: (left, right) =>
      left.pipe(Table.of(Reading), Join.tables(right.pipe(Table.of(Reading)), { name: "both", row: Pair, join: pair })),
    loop: () =>
      Hand.byTime((out) => {
        const [lefts, rights] = [new Map<string, Reading>(), new Map<string, Reading>()]
        const join = (key: string) => {
          const [left, right] = [lefts.get(key), rights.get(key)]
          if (left !== undefined && right !== undefined) out.push(pair(left, right))
        }
        const side = (rows: Map<string, Reading>) => (value: Reading, key: Uint8Array | null) => {
          const text = Hand.textOf(key)
          rows.set(text, value)
          join(text)
        }
        return { left: side(lefts), right: side(rights) }
      }),
  },
  {
    name: "Join.stream, inner, one partner",
    isKeyed: true,
    rightOneIn: 2,
    flow: (left, right, shape) =>
      left.pipe(
        Join.stream(right, {
          name: "pairs",
          within: within(shape),
          grace: 0,
          left: Reading,
          right: Reading,
          join: pair,
        }),
      ),
    loop: (shape) => Hand.byTime((out) => Hand.join(within(shape), out, pair)),
  },
]
