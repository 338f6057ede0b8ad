/** Pipelines of random stages: each drawn from a seed, as stages of the library and as their reference. */
import { Result, Schema } from "effect"
import {
  Aggregate,
  Branch,
  Check,
  Decode,
  Deduplicate,
  Deliver,
  Flow,
  Fold,
  Ingest,
  merge,
  Topic,
  Window,
} from "../../src/index.ts"
import type { Logged, PipelineError, Task } from "../../src/Task.ts"
import type { Dice } from "../support/Seeds.ts"
import * as Reference from "./Reference.ts"

const common = { description: "Test", owner: "tests", partitions: 1 }

/** The one type of value that all stages take and give, so that any can follow any. */
const Reading = Schema.Struct({ id: Schema.String, n: Schema.Int, at: Schema.Int })
export type Reading = typeof Reading.Type

const reading = (name: string) => Topic.make({ ...common, name, schema: Reading, eventTime: ({ at }: Reading) => at })
export const Input = reading("input")
export const Output = reading("output")
export const Finals = reading("finals")

type AnyFlow = Flow.Flow<Reading, { readonly _tag: string; readonly message: string }, PipelineError, Task | Logged>

export interface Step {
  readonly name: string
  readonly stage: (flow: AnyFlow) => AnyFlow
  readonly reference: Reference.Reference
  /** Only the last value of a key counts from here on. */
  readonly table?: true
}

class Refused extends Schema.TaggedError<Refused>()("Refused", { message: Schema.String }) {}

/** Draws a step; `time` where it may have a time of its own. */
type Draw = (dice: Dice, name: string) => Step

const seconds = 1_000

const map: Draw = (dice) => {
  const by = dice.int(1, 5)
  return {
    name: `map +${by}`,
    stage: Flow.map((value) => ({ ...value, n: value.n + by })),
    reference: Reference.map(({ n }) => ({ n: n + by })),
  }
}

const remainder = (dice: Dice): readonly [name: string, is: (value: { readonly n: number }) => boolean] => {
  const by = dice.int(2, 4)
  const rest = dice.int(0, by - 1)
  return [`n % ${by} = ${rest}`, ({ n }) => n % by === rest]
}

const filter: Draw = (dice) => {
  const [name, is] = remainder(dice)
  return {
    name: `filter not ${name}`,
    stage: Flow.filter((value) => !is(value)),
    reference: Reference.filter((value) => !is(value)),
  }
}

const flatMap: Draw = (dice) => {
  const most = dice.int(2, 3)
  const copies = <A extends { readonly n: number }>(value: A) =>
    Array.from({ length: value.n % (most + 1) }, (_, i) => ({ ...value, n: value.n + i }))
  return { name: `flatMap up to ${most}`, stage: Flow.flatMap(copies), reference: Reference.flatMap(copies) }
}

const check: Draw = (dice) => {
  const [name, is] = remainder(dice)
  return {
    name: `refuse ${name}`,
    stage: Check.with((value: Reading) =>
      is(value) ? Result.fail(new Refused({ message: "refused" })) : Result.succeed(value)
    ),
    reference: Reference.refuse("Refused", is),
  }
}

const deduplicate: Draw = (_, name) => ({
  name: "deduplicate",
  stage: Deduplicate.by({ name, id: ({ id }) => id }),
  reference: Reference.deduplicate,
})

const deliver: Draw = () => ({
  name: "deliver",
  stage: Deliver.to(Output),
  reference: Reference.send(Output.name, ({ id, n, at }) => JSON.stringify({ id, n, at })),
})

const sum = Fold.make({ state: Schema.Int, initial: () => 0, add: (sum: number, { n }: Reading) => sum + n })

const windowed: Draw = (dice, name) => {
  const every = dice.int(1, 6) * 10 * seconds
  const size = every * dice.int(1, 3) + dice.pick([0, 0, 5 * seconds])
  const grace = dice.pick([0, 10, 60]) * seconds
  return {
    name: `windows of ${size} every ${every}, grace ${grace}`,
    stage: (flow) =>
      flow.pipe(
        Aggregate.windowed({ name, window: Window.hopping({ size, every, grace }), fold: sum, emit: "final" }),
        Flow.map(({ key, start, value }) => ({ id: key, n: value, at: start })),
      ),
    reference: Reference.windows({ size, every, grace }),
  }
}

const totals: Draw = (_, name) => ({
  name: "totals",
  stage: (flow) =>
    flow.pipe(
      Aggregate.running({ name, fold: sum }),
      Flow.map(({ key, value }, { timestamp }) => ({ id: key, n: value, at: timestamp })),
    ),
  reference: Reference.totals,
  table: true,
})

const stateless = [map, filter, flatMap, check, deliver]

const some = (dice: Dice, name: string, draws: ReadonlyArray<Draw>): ReadonlyArray<Step> =>
  dice.list(1, 3, (i) => dice.pick(draws)(dice, `${name}-${i}`))

const branch = (body: ReadonlyArray<Draw>): Draw => (dice, name) => {
  const [which, is] = remainder(dice)
  const steps = some(dice, name, body)
  return {
    name: `branch ${which} (${steps.map(({ name }) => name).join(", ")})`,
    stage: Branch.when(is, (flow) => through(flow as unknown as AnyFlow, steps)) as Step["stage"],
    reference: Reference.branch(is, all(steps)),
  }
}

/** The flow twice, each time filtered, and merged again. */
const split: Draw = (dice) => {
  const [name, is] = remainder(dice)
  return {
    name: `split by ${name}`,
    stage: (flow) =>
      flow.pipe(
        Flow.filter(is),
        Flow.map((value) => ({ ...value, n: -value.n })),
        merge(flow.pipe(Flow.filter((value) => !is(value)))),
      ) as AnyFlow,
    reference: (stream) => {
      const negative = Reference.map(({ n }) => ({ n: -n }))(Reference.filter(is)(stream))
      const rest = Reference.filter((value) => !is(value))(stream)
      return {
        ...stream,
        values: [...negative.values, ...rest.values].sort((a, b) => a.row - b.row || a.clock - b.clock),
        dropped: [...negative.dropped, ...rest.dropped.slice(stream.dropped.length)],
      }
    },
  }
}

const through = (flow: AnyFlow, steps: ReadonlyArray<Step>): AnyFlow =>
  steps.reduce((flow, { stage }) => stage(flow), flow)

const all = (steps: ReadonlyArray<Step>): Reference.Reference => (stream) =>
  steps.reduce((stream, { reference }) => reference(stream), stream)

export interface Topology {
  readonly name: string
  readonly flow: AnyFlow
  readonly reference: Reference.Reference
  readonly table: boolean
}

export const draw = (dice: Dice): Topology => {
  const kept = [...stateless, deduplicate, branch([...stateless, deduplicate]), split]
  const steps = dice.list(1, 5, (i) => dice.pick([...kept, windowed])(dice, `stage-${i}`))
  const last = dice.int(0, 3)
  if (last === 0) steps.push(totals(dice, "totals"))
  if (last === 1) steps.push(branch([windowed, ...stateless])(dice, "branch"))
  return {
    name: steps.map(({ name }) => name).join(" | "),
    flow: through(Ingest.topic(Input).pipe(Decode.schema), steps),
    reference: all(steps),
    table: steps.at(-1)!.table === true,
  }
}
