/** A pipeline that copies readings and does something with each batch before, and what a test needs around it. */
import { Effect, Schema } from "effect"
import { Buffer } from "node:buffer"
import {
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  Runner,
  Task,
  Topic,
} from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import { options, stop, until } from "./Simulation.ts"

export const Reading = Schema.Struct({ id: Schema.Int, at: Schema.Int })
export type Reading = typeof Reading.Type

export const readings = (name: string, partitions: number) =>
  Topic.make({
    name,
    description: "",
    owner: "",
    schema: Reading,
    eventTime: (reading: Reading) => reading.at,
    partitions,
  })
export const Copies = Topic.make({ name: "copies", description: "", owner: "", schema: Reading, partitions: 1 })
export const Dlt = Topic.bytes({ name: "dlt", description: "", owner: "", partitions: 1 })

export interface Around {
  readonly guarantee?: Pipeline.Guarantee<unknown, Cluster>
  /** Runs whenever a task is started. */
  readonly opened?: Effect.Effect<void>
}

/** Copies records, and does something with each batch before. */
export const copying = (
  topic: Topic.Topic<Reading>,
  before: (rows: ReadonlyArray<Reading>) => Effect.Effect<unknown, Task.PipelineError> = () => Effect.void,
  { guarantee = Guarantee.exactlyOnce(), opened = Effect.void }: Around = {},
) =>
  Pipeline.make(
    "copying",
    Ingest.topic(topic).pipe(
      Decode.schema,
      Flow.perTask<Reading, Reading, never, Task.PipelineError, never, never, never>(
        Effect.as(opened, (batch) => Effect.as(before(batch.values), batch)),
        { stage: "before" },
      ),
      Deliver.to(Copies),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    guarantee,
  )

export const append = Effect.fnUntraced(
  function* (topic: string, partition: number, rows: ReadonlyArray<object>, key = "key") {
    const control = yield* ClusterMemory.Control
    yield* control.append({ topic, partition }, {
      keys: rows.map(() => Buffer.from(key)),
      values: rows.map((row) => Buffer.from(JSON.stringify(row))),
      headers: rows.map(() => []),
      timestamps: rows.map(() => 0),
    })
  },
)

const decode = Schema.decodeSync(Schema.fromJsonString(Reading))

export const copies = Effect.flatMap(
  ClusterMemory.Control,
  (control) => Effect.map(control.records("copies"), (records) => records.map(({ value }) => decode(String(value)).id)),
)

export const copied = (...ids: ReadonlyArray<number>) =>
  until(`copies of ${ids}`, Effect.map(copies, (copies) => ids.every((id) => copies.includes(id))))

/** Runs a pipeline until the end of the scope, as a program does that is told to stop then. */
export const running = <E, R>(pipeline: Pipeline.Pipeline<E, R>, more?: Partial<Runner.Options>) =>
  Effect.acquireRelease(
    Effect.forkDetach(Runner.run(pipeline, { ...options, ...more })),
    (fiber) => Effect.ignore(stop(fiber)),
  )

/** A transaction of some other program that has died in it; answers what ends it. */
export const open = Effect.fnUntraced(function* (topic: string, value = "{}") {
  const cluster = yield* Cluster
  const producer = yield* cluster.initProducerId("other", 30_000)
  const txn = { transactionalId: "other", ...producer }
  yield* cluster.addPartitionsToTxn(txn, [{ topic, partition: 0 }])
  const records = { keys: [null], values: [Buffer.from(value)], headers: [[]], timestamps: [0] }
  yield* cluster.produce({
    node: 1,
    transactionalId: "other",
    timeout: 1_000,
    compression: "none",
    batches: [{ topic, partition: 0, producer: { ...producer, baseSequence: 0 }, records }],
  })
  return { abort: cluster.endTxn(txn, false) }
})

/** A transaction of some other program, that is aborted: offsets without records. */
export const aborted = (topic: string) => Effect.flatMap(open(topic), ({ abort }) => abort)

export const away = Effect.fail(new Task.PipelineError({ reason: "Sink", message: "away", retriable: true }))
