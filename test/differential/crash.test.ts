/**
 * Random pipelines as programs on the in-memory cluster, which die at any request and are taken over: what is committed in
 * the end is what a naive computation over the whole input says.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { DeadLetter, Deliver, Failures, Guarantee, Pipeline, Topic } from "../../src/index.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import type { TopicRecord } from "../../src/kafka/ClusterMemory.ts"
import { text } from "../../src/Topic.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"
import * as Simulation from "../support/Simulation.ts"
import { decoded, input, ofReference, results } from "./Readings.ts"
import { draw, Finals, Input, Output, type Reading } from "./Topologies.ts"

const Dlt = Topic.bytes({ name: "dlt", description: "Test", owner: "tests", partitions: 1 })
const topics = [Input, Output, Finals, Dlt]

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

const written = (records: ReadonlyArray<TopicRecord>) =>
  records.map(({ key, value }) => [key && text(key), text(value!)] as const)

/** The reason of a dead letter, and the offset that it stood at. */
const letter = ({ headers }: TopicRecord): string => {
  const header = (name: string) => Buffer.from(headers.find(([of]) => of === name)![1])
  return `${header("kafka_dlt-original-offset").readBigInt64BE()} ${header("millrace-reason")}`
}

it.effect(
  "random pipelines that die at any request come to what a naive computation says",
  () =>
    forSeeds(1_000, (dice) =>
      Effect.gen(function* () {
        const topology = draw(dice)
        const drawn = input(dice)
        const pipeline = Pipeline.make(
          "random",
          topology.flow.pipe(Deliver.to(Finals), Failures.routeAll(DeadLetter.to(Dlt))),
          Guarantee.exactlyOnce(),
        )
        const records = drawn.map(({ record: { key, value } }) => ({ topic: Input.name, partition: 0, key, value }))
        const steps = Array.from(
          { length: Math.ceil(records.length / 10) },
          (_, i) => records.slice(i * 10, i * 10 + 10),
        )
        const { read } = yield* Simulation.throughSteps(pipeline, topics, steps, faults(dice))
        const expected = ofReference(topology.reference(decoded(drawn)), topology.table)
        const values = written(read(Finals.name)).map(([key, value]) => {
          const { id, n } = JSON.parse(value) as Reading
          return [key, `${id} ${n}`] as const
        })
        assert.deepStrictEqual(results(values, topology.table), expected.values, topology.name)
        assert.deepStrictEqual(results(written(read(Output.name)), false), expected.sent, topology.name)
        assert.deepStrictEqual(read(Dlt.name).map(letter).sort(), expected.failed, topology.name)
      })),
  120_000,
)
