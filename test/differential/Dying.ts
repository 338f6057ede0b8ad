/** Programs on the in-memory cluster that die at any request and are taken over, or never hear what became of it. */
import { Effect } from "effect"
import { DeadLetter, Deliver, Failures, Guarantee, Pipeline, type Topic } from "../../src/index.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import type { Dice } from "../support/Seeds.ts"
import * as Simulation from "../support/Simulation.ts"
import { type AnyFlow, Dlt, Events, Finals, Kept, Output } from "./draw/Steps.ts"
import { Latest } from "./draw/Tables.ts"
import type { Came } from "./reference/Stream.ts"

const operations: ReadonlyArray<Faults.Operation> = [
  "OffsetFetch",
  "OffsetCommit",
  "InitProducerId",
  "AddPartitionsToTxn",
  "Produce",
  "AddOffsetsToTxn",
  "TxnOffsetCommit",
  "EndTxn",
  "Fetch",
]

const faults = (dice: Dice) =>
  dice.list(
    1,
    3,
    () => (kill: Effect.Effect<void>) =>
      Faults.at(
        dice.pick(operations),
        dice.int(1, 6),
        dice.pick([Faults.crash(kill), Faults.crashAfter(kill), Faults.loseAnswer]),
      ),
  )

/** What a pipeline can write. */
export const results: ReadonlyArray<Topic.Any> = [Output, Events, Kept, Latest, Finals, Dlt]

/** As foreign producers write them: a tombstone says nothing of its time, and everything arrives at once. */
export const arriving = (came: ReadonlyArray<Came>): ReadonlyArray<Came> =>
  came.map(({ key, value }) => ({ key, value, timestamp: 0 }))

/** What stands in the topics when a flow has read all of its input, ten records at a time, exactly once. */
export const through = (
  flow: AnyFlow,
  inputs: ReadonlyArray<readonly [topic: Topic.Any, came: ReadonlyArray<Came>]>,
  between: ReadonlyArray<Topic.Any>,
  dice: Dice,
) => {
  const pipeline = Pipeline.make(
    "random",
    flow.pipe(Deliver.to(Finals), Failures.routeAll(DeadLetter.to(Dlt))),
    Guarantee.exactlyOnce(),
  ) as Pipeline.Pipeline<unknown, never>
  const steps = Array.from(
    { length: Math.ceil(Math.max(...inputs.map(([, came]) => came.length)) / 10) },
    (_, i) =>
      inputs.flatMap(([{ name: topic }, came]) =>
        came.slice(i * 10, i * 10 + 10).map(({ key, value }) => ({ topic, partition: 0, key, value }))
      ),
  )
  const topics = [...inputs.map(([topic]) => topic), ...between, ...results]
  return Effect.map(Simulation.throughSteps(pipeline, topics, steps, faults(dice)), ({ read }) => read)
}
