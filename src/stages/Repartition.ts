/** Records under a new key, in the partition of that key. */
import { Effect } from "effect"
import type { Batch, Headers, Outgoing } from "../Batch.ts"
import { row } from "../Batch.ts"
import type { Route } from "../Failures.ts"
import { routeAll } from "../Failures.ts"
import { type Flow, fromStream, perTask } from "../Flow.ts"
import type { Routed } from "../Pipeline.ts"
import { writerHeaders } from "../WriterHeaders.ts"
import { type PipelineError, type Raw, Task } from "../Task.ts"
import type { Topic } from "../Topic.ts"
import { type Change, changes, type Table } from "./Change.ts"
import * as Decode from "./Decode.ts"
import * as Deliver from "./Deliver.ts"
import * as Ingest from "./Ingest.ts"

export interface Options extends Ingest.Options {
  /** Where values go that `via` cannot hold. */
  readonly undeliverable: Route<Deliver.Undeliverable>
}

/**
 * Writes every value to `via`, keyed as that topic's contract says, and goes on as a flow that reads it: a change of key
 * must move the record to the task that has the key's state. The two halves are tasks of one pipeline and commit on their
 * own. Records of one old key and one new key keep their order. Values that `via` cannot hold take the route given.
 */
export const repartition = <B>(via: Topic<B>, options: Options) =>
<A extends B, F, E, R>(
  flow: Flow<A, F, E, R> & Routed<F>,
): Flow<B, Decode.DecodeError, E | PipelineError, R | Task> => {
  return Decode.schema(fed(via, options, Deliver.to(via)(flow as Flow<A, never, E, R>)))
}

/**
 * Writes a table to `via`, a compacted topic with the keys of the table, and goes on as a table that reads it: with it a
 * table that is made by stages with state can be joined again. The two halves are tasks of one pipeline and commit on their
 * own. Changes of one key keep their order and their times. Rows that `via` cannot hold take the route given.
 */
export const through = <B>(via: Topic<B>, options: Options) =>
<A extends B, F, E, R>(
  flow: Flow<Change<A>, F, E, R> & Routed<F>,
): Table<B, Decode.DecodeError, E | PipelineError, R | Task> => {
  const read = fed(via, options, Deliver.table(via)(flow as Flow<Change<A>, never, E, R>))
  return Decode.table(read).pipe(changes(via.schema))
}

/** What `via` holds, written by a flow that is closed. */
const fed = <B, A, E, R>(
  via: Topic<B>,
  options: Options,
  written: Flow<A, Deliver.Undeliverable, E, R>,
): Flow<Raw<B>, never, E | PipelineError, R | Task> => {
  const closed = stamped(written, via).pipe(routeAll(options.undeliverable))
  const read = Ingest.topic(via, options)
  return fromStream(read, { ...read.node, feeds: [closed] })
}

/** Adds which task wrote a record, and its stream time at the value written, to what goes into the repartition topic. */
const stamped = <A, F, E, R>(flow: Flow<A, F, E, R>, via: Topic<unknown>): Flow<A, F, E, R | Task> =>
  perTask<A, A, never, never, never, never, Task>(
    Effect.map(Task, (task) => {
      const stamp = <G>(batch: Batch<A, G>): Batch<A, G> => {
        let i = 0
        let clock: number | undefined
        let headers: Headers = []
        const outgoing = batch.outgoing.map((out): Outgoing => {
          if (out.topic !== via.name) return out
          while (i < batch.values.length - 1 && row(batch, i) < out.row) i++
          const now = batch.time?.clock[i] ?? -1
          if (now !== clock) headers = writerHeaders(String(task.partition), clock = now)
          return { ...out, headers: out.headers === undefined ? headers : [...out.headers, ...headers] }
        })
        return { ...batch, outgoing }
      }
      return (batch) => Effect.succeed(stamp(batch))
    }),
    { stage: "repartition" },
  )(flow)
