/** What random pipelines are made of: steps, each as a stage of the library and as its reference. */
import { Schema } from "effect"
import { type Flow, Topic } from "../../../src/index.ts"
import type { Logged, PipelineError, Task } from "../../../src/Task.ts"
import type { Dice } from "../../support/Seeds.ts"
import type { Reference } from "../reference/Stream.ts"

export const common = { description: "Test", owner: "tests", partitions: 1 }

/** The one type of value that all steps take and give, so that any can follow any. Its field `at` is its event time. */
export const Reading = Schema.Struct({ id: Schema.String, n: Schema.Int, at: Schema.Int })
export type Reading = typeof Reading.Type

export const reading = (name: string) =>
  Topic.make({ ...common, name, schema: Reading, eventTime: ({ at }: Reading) => at })
export const Output = reading("output")
export const Finals = reading("finals")
export const Events = reading("events")
export const Kept = Topic.make({ ...common, name: "kept", schema: Reading, cleanup: "compact" })
export const Dlt = Topic.bytes({ ...common, name: "dlt" })

export type AnyFlow = Flow.Flow<
  Reading,
  { readonly _tag: string; readonly message: string },
  PipelineError,
  Task | Logged
>

export interface Step {
  readonly name: string
  /** The operators in it, for counting. */
  readonly uses: ReadonlyArray<string>
  readonly stage: (flow: AnyFlow) => AnyFlow
  readonly reference: Reference
  /** Only the last value of a name counts from here on: the part of its id before the first space. */
  readonly isTable?: true
  /** Forgets what its effects have done: a program has started. */
  readonly begin?: () => void
}

/** What a draw may not do. */
export interface Limits {
  /** What the wall clock causes has no offset and no arrival, and other arrivals may be anywhere. */
  readonly isUneven: boolean
}

/** Draws a step; `name` is that of its store, if it has any. */
export type Draw = (dice: Dice, name: string, limits: Limits) => Step

export const seconds = 1_000

/** Stages of every kind as what any step is. */
export const loose = (stage: unknown): Step["stage"] => stage as Step["stage"]

export const through = (flow: AnyFlow, steps: ReadonlyArray<Step>): AnyFlow =>
  steps.reduce((flow, { stage }) => stage(flow), flow)

/** Whose record an id is of. */
export const ownerOf = (id: string): string => /^\D+?(?=-|@|\.|$)/.exec(id)?.[0] ?? ""

export const remainder = (dice: Dice): readonly [name: string, is: (value: { readonly n: number }) => boolean] => {
  const by = dice.int(2, 4)
  const rest = dice.int(0, by - 1)
  return [`n % ${by} = ${rest}`, ({ n }) => Math.abs(n) % by === rest]
}
