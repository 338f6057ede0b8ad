/** A pipeline that copies a topic, with what a test needs to feed it and to see what came out. */
import { Effect, Schema } from "effect"
import { Buffer } from "node:buffer"
import { DeadLetter, Decode, Deliver, Failures, Ingest, Pipeline, Topic } from "../../src/index.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"

export const Reading = Schema.Struct({ id: Schema.Int })

const common = { description: "Test", owner: "tests" }
export const In = Topic.make({ ...common, name: "in", schema: Reading, partitions: 1 })
export const Out = Topic.make({ ...common, name: "out", schema: Reading, partitions: 1 })
export const Dlt = Topic.bytes({ ...common, name: "dlt", partitions: 1 })
export const topics = [In, Out, Dlt]

export const pipeline = <R>(guarantee: Pipeline.Guarantee<unknown, R>, to: typeof Out = Out) =>
  Pipeline.make(
    "copy",
    Ingest.topic(In).pipe(Decode.schema, Deliver.to(to), Failures.routeAll(DeadLetter.to(Dlt))),
    guarantee,
  )

export const append = (ids: ReadonlyArray<number>, { key = "key", partition = 0 } = {}) =>
  Effect.flatMap(ClusterMemory.Control, (control) =>
    control.append({ topic: In.name, partition }, {
      keys: ids.map(() => Buffer.from(key)),
      values: ids.map((id) => Buffer.from(JSON.stringify({ id }))),
      headers: ids.map(() => []),
      timestamps: ids.map(() => 0),
    }))

/** The values of a topic, as committed. */
export const valuesOf = (topic: string) =>
  Effect.flatMap(
    ClusterMemory.Control,
    (control) =>
      Effect.map(control.records(topic), (records) => records.map(({ value }): unknown => JSON.parse(String(value)))),
  )

export const copied = Effect.map(valuesOf(Out.name), (values) => values.map((value) => (value as { id: number }).id))
