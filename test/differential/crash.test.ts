/**
 * Random pipelines as programs on the in-memory cluster, which die at any request and are taken over: what is committed in
 * the end is what a naive computation over the whole input says.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { DeadLetter, Deliver, Failures, Guarantee, Pipeline, type Topic } from "../../src/index.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"
import * as Simulation from "../support/Simulation.ts"
import { Dlt, Events, Finals, Kept, Output } from "./draw/Steps.ts"
import { Latest } from "./draw/Tables.ts"
import { program } from "./draw/OneTopic.ts"
import * as Input from "./Input.ts"
import { ofRecords, ofReference } from "./Observed.ts"
import { send } from "./reference/Plain.ts"
import { decode } from "./reference/Decoding.ts"
import { route } from "./reference/Handling.ts"

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
      Faults.at(dice.pick(operations), dice.int(1, 6), dice.pick([Faults.crash, Faults.crashAfter])(kill)),
  )

it.effect(
  "random pipelines that die at any request come to what a naive computation says",
  () =>
    forSeeds(1_000, (dice) =>
      Effect.gen(function* () {
        const { name, flow, sources, reference, isTable } = program(dice)
        const input = Input.draw(dice, { isTable: false, byKafka: false, ticks: false, isWild: false })
        const pipeline = Pipeline.make(
          "random",
          flow.pipe(Deliver.to(Finals), Failures.routeAll(DeadLetter.to(Dlt))),
          Guarantee.exactlyOnce(),
        )
        const records = input.map(({ key, value }) => ({ topic: "input", partition: 0, key, value }))
        const steps = Array.from(
          { length: Math.ceil(records.length / 10) },
          (_, i) => records.slice(i * 10, i * 10 + 10),
        )
        const topics: ReadonlyArray<Topic.Any> = [sources[0]!.of, Output, Events, Kept, Latest, Finals, Dlt]
        const { read } = yield* Simulation.throughSteps(pipeline, topics, steps, faults(dice))
        const arrivedAtOnce = input.map((came) => ({ ...came, timestamp: 0 }))
        const stream = send(Finals.name, ({ id, n }) => `${id} ${n}`)(
          reference.of([decode(sources[0]!)(arrivedAtOnce)]),
        )
        const dead = Object.fromEntries(stream.failed.map(({ reason }) => [reason, "dead letter"] as const))
        const { sent } = ofReference(route(dead, Dlt.name)(stream), isTable)
        assert.deepStrictEqual(ofRecords(topics.slice(1), read, isTable), sent, name)
      })),
  120_000,
)
