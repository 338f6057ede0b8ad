/**
 * Runs a pipeline in memory alone, without a broker and on one core: its flows one after the other, those that feed others
 * first, in one task each. State is logged, and what a commit makes of it is done. When input ends so does its time: the
 * clock goes on by an hour, as it does in a topic that is silent.
 */
import { Buffer } from "node:buffer"
import { Effect, Stream } from "effect"
import type { Batch, Changes, Source } from "../../../src/Batch.ts"
import { departing, fromSource } from "../../../src/Batch.ts"
import type { Flow } from "../../../src/Flow.ts"
import type { Pipeline } from "../../../src/index.ts"
import { merge } from "../../../src/state/Changed.ts"
import { JournaledStore } from "../../../src/state/Store.ts"
import { unheard } from "../../../src/StreamTime.ts"
import { Logged, type PipelineError, type Raw, Task } from "../../../src/Task.ts"
import type { Any as AnyTopic } from "../../../src/Topic.ts"
import * as Topology from "../../../src/Topology.ts"
import { Log } from "./Log.ts"

export interface Options {
  /** How many records the next batch has; 1,000 unless given. */
  readonly cut?: () => number
  /** After how many batches there is a commit; 10 unless given. */
  readonly commitEvery?: number
}

/** The end of a topic's time. */
const silence = 60 * 60_000

export type Logs = Map<string, Log>

/** Adds what the pipeline writes, and `changelog` with what its state comes to, to the logs that it reads. */
export const run = (
  pipeline: Pipeline.Pipeline<unknown, unknown>,
  logs: Logs,
  options: Options = {},
): Effect.Effect<void, unknown> =>
  Effect.forEach(
    Topology.subflows(pipeline.flow),
    (flow) => runFlow(flow as Flow<unknown, never, PipelineError, Task | Logged>, logs, options),
    { discard: true },
  )

const runFlow = (
  flow: Flow<unknown, never, PipelineError, Task | Logged>,
  logs: Logs,
  { cut = () => 1_000, commitEvery = 10 }: Options,
): Effect.Effect<void, PipelineError> => {
  const stores = new Map<string, JournaledStore<unknown>>()
  let pending: Array<Changes> = []
  let batches = 0
  const write = (topic: string) => {
    const log = logs.get(topic) ?? new Log()
    logs.set(topic, log)
    return log
  }
  const commit = (now: number) => {
    for (const [name, changes] of Map.groupBy(pending, ({ store }) => store)) {
      const last = changes.at(-1)!
      for (const [key, value] of merge(changes.map(({ entries }) => entries))) {
        write("changelog").append({
          key: Buffer.from(key),
          value: value === undefined ? null : last.encode(value),
        }, now)
      }
      stores.get(name)!.committed(last.version)
    }
    pending = []
  }
  const task = Task.of({
    partition: 0,
    read: <A>(topic: AnyTopic, tickAfter?: number) =>
      Stream.fromIterable(batchesOf<A>(topic, write(topic.name), cut, tickAfter !== undefined)).pipe(Stream.rechunk(1)),
    clock: () => unheard,
    isDry: () => true,
  })
  const logged = Logged.of({
    store: (spec) =>
      Effect.sync(() => {
        const store = new JournaledStore(spec)
        stores.set(spec.name, store as JournaledStore<unknown>)
        return store
      }),
  })
  const through = ({ source, outgoing, changes }: Batch<unknown>): void => {
    const now = source.timestamps.at(-1) ?? 0
    for (const out of departing(outgoing)) write(out.topic).append(out, now)
    pending.push(...changes)
    if (++batches % commitEvery === 0) commit(now)
  }
  return Topology.running(flow).pipe(
    Stream.runForEach((batch) => Effect.sync(() => through(batch))),
    Effect.andThen(Effect.sync(() => commit(0))),
    Effect.provideService(Task, task as Task["Service"]),
    Effect.provideService(Logged, logged),
    Effect.scoped,
  )
}

function* batchesOf<A>(topic: AnyTopic, log: Log, cut: () => number, ticks: boolean): Generator<Batch<Raw<A>>> {
  const raw = (source: Source) => fromSource(source, source.bytes as ReadonlyArray<unknown> as ReadonlyArray<Raw<A>>)
  for (let from = 0; from < log.length;) {
    const to = Math.min(log.length, from + cut())
    yield raw(log.fetch(topic, from, to))
    from = to
  }
  if (ticks) yield raw({ ...log.fetch(topic, log.length, log.length), silence })
}
