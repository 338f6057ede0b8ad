/**
 * A pipeline with everything that moves records and time: two topics merged, a change of key, sessions, a branch, effects
 * and tables. What it must have committed is what its two halves answer when each task of them reads its log as a whole,
 * without brokers and without a stop: the order in which tasks reach the repartition topic is not given, but its log is.
 */
import { Effect, Result, Schema } from "effect"
import {
  Aggregate,
  Branch,
  Check,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Fold,
  Ingest,
  merge,
  Pipeline,
  repartition,
  Task,
  Topic,
  Topology,
} from "../../src/index.ts"
import type { Batch, Outgoing } from "../../src/Batch.ts"
import * as Sessions from "../../src/clickstream/Sessions.ts"
import type { TopicRecord } from "../../src/kafka/ClusterMemory.ts"
import { forKey } from "../../src/kafka/Partitioner.ts"
import { taskHeader } from "../../src/WriterHeaders.ts"
import { text } from "../../src/Topic.ts"
import { committed, run, sources } from "./FlowRunner.ts"
import type { Dice } from "./Seeds.ts"

export const partitions = 2
const common = { description: "Test", owner: "tests", partitions }

const Event = Schema.Struct({ id: Schema.String, visitor: Schema.String, n: Schema.Int, at: Schema.Int })
type Event = typeof Event.Type
const events = (name: string) => Topic.make({ ...common, name, schema: Event, eventTime: (event: Event) => event.at })

const Clicks = events("clicks")
const Views = events("views")
const ByVisitor = Topic.make({
  ...common,
  name: "by-visitor",
  schema: Event,
  eventTime: (event: Event) => event.at,
  key: ["visitor", (event) => event.visitor],
})
const Newest = Topic.make({
  ...common,
  name: "newest",
  schema: Event,
  key: ["page", (event) => event.id.split("-")[0]!],
  cleanup: "compact",
})
const Visits = Topic.make({
  ...common,
  name: "visits",
  schema: Sessions.Session,
  key: ["session", (session) => session.id],
  cleanup: "compact",
})
const Sums = Topic.make({
  ...common,
  name: "sums",
  schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
  key: ["visitor", (sum) => sum.key],
  cleanup: "compact",
})
const Dlt = Topic.bytes({ ...common, name: "dlt", partitions: 1 })
const Late = Topic.bytes({ ...common, name: "late", partitions: 1 })

export const inputs = [Clicks, Views]
export const topics = [...inputs, ByVisitor, Newest, Visits, Sums, Dlt, Late]

class Refused extends Schema.TaggedError<Refused>()("Refused", { message: Schema.String }) {}

/** Fails the task at each of these batches, in a way that passes. */
const stumbling =
  (at: ReadonlyArray<number>) =>
  <A, F, E, R>(flow: Flow.Flow<A, F, E, R>): Flow.Flow<A, F, E | Task.PipelineError, R> => {
    let batches = 0
    const error = new Task.PipelineError({ reason: "Sink", retriable: true, message: "the sink is away" })
    return Flow.perTask<A, A, never, Task.PipelineError, never, never, never>(
      Effect.succeed((batch) => at.includes(++batches) ? Effect.fail(error) : Effect.succeed(batch)),
      { stage: "stumbling" },
    )(flow)
  }

const merged = (stumblesAt: ReadonlyArray<number>) =>
  Ingest.topic(Clicks).pipe(
    Decode.schema,
    merge(Ingest.topic(Views).pipe(Decode.schema)),
    stumbling(stumblesAt),
    Flow.flatMap((event) => event.n % 5 === 0 ? [event, { ...event, id: `${event.id}-again` }] : [event]),
    Flow.effect((event) =>
      event.n % 11 === 0 ? Effect.fail(new Refused({ message: "a multiple of eleven" })) : Effect.succeed(event)
    ),
    Check.with((event) =>
      event.n % 7 === 0 ? Result.fail(new Refused({ message: "a multiple of seven" })) : Result.succeed(event)
    ),
    Branch.when(({ n }) => n % 2 === 0, (flow) =>
      flow.pipe(
        Deliver.latest(Newest, (event) => event),
        Flow.map((event) => ({ ...event, n: -event.n })),
        Flow.filter(({ n }) => n % 3 !== 0),
      )),
    Failures.routeAll(DeadLetter.to(Dlt)),
  )

const visiting = (stumblesAt: ReadonlyArray<number>) =>
  merged(stumblesAt).pipe(
    repartition(ByVisitor, { undeliverable: DeadLetter.to(Dlt) }),
    stumbling(stumblesAt),
    Flow.map((event) => ({ ...event, eventId: event.id, eventTime: event.at, path: `/${event.id}` })),
    Sessions.by({ name: "sessions", gap: "10 seconds", grace: "10 seconds" }),
    Deliver.latest(Visits, ({ session }) => session),
    Aggregate.running({
      name: "sums",
      fold: Fold.make({ state: Schema.Int, initial: () => 0, add: (sum, { n, session }) => sum + n * session.clicks }),
    }),
    Deliver.latest(Sums, (sum) => sum),
    Failures.route({
      DecodeError: DeadLetter.to(Dlt),
      Keyless: DeadLetter.to(Dlt),
      Undeliverable: DeadLetter.to(Dlt),
      Late: DeadLetter.to(Late),
    }),
  )

/** The pipeline; of its two flows, each fails at the given batches and is tried again. */
export const pipeline = <R>(guarantee: Pipeline.Guarantee<unknown, R>, stumblesAt: ReadonlyArray<number> = []) =>
  Pipeline.make("visiting", visiting(stumblesAt), guarantee)

export interface Input {
  readonly topic: string
  readonly partition: number
  readonly key: string
  readonly value: string
}

/**
 * Steps of input that wander in event time, each partition and topic on its own; in the end all stand at one time, so
 * that nothing depends on how long an input was silent.
 */
export const input = (dice: Dice, steps: number): ReadonlyArray<ReadonlyArray<Input>> => {
  const start = 1_000_000
  const clocks = new Map<string, number>()
  const record = (topic: string, partition: number, i: number, at: number): Input => {
    const visitor = dice.pick(["ann", "ben", "cho", "dee", "eva", "fay"])
    const id = `p${partition}${dice.int(0, 3)}-${topic}-${i}`
    const n = dice.int(1, 99)
    return { topic, partition, key: id, value: JSON.stringify({ id, visitor, n, at }) }
  }
  const all = Array.from(
    { length: steps },
    (_, step) =>
      inputs.flatMap(({ name }) =>
        Array.from({ length: partitions }, (_, partition) => {
          const where = `${name}/${partition}`
          const pace = dice.pick([0, 1, 1, 4])
          return dice.list(1, 4, (i): Input => {
            const at = (clocks.get(where) ?? start) + dice.int(-8_000, 14_000) * pace
            clocks.set(where, Math.max(start, at))
            if (dice.int(0, 24) === 0) return { topic: name, partition, key: "damaged", value: `damaged ${where} ${i}` }
            return record(name, partition, step * 10 + i, Math.max(start, at - dice.pick([0, 0, 20_000, 40_000])))
          })
        }).flat()
      ),
  )
  const end = Math.max(...clocks.values()) + 100_000
  const last = inputs.flatMap(({ name }) =>
    Array.from({ length: partitions }, (_, partition) => record(name, partition, steps * 10, end))
  )
  return [...all, last]
}

type Records = (topic: string) => ReadonlyArray<TopicRecord>

/** What was committed, in a form that can be compared. */
export type Results = Readonly<Record<string, unknown>>

/** Of the repartition topic, what each task wrote into each partition, in order; of tables the last value of each key. */
const results = (
  read: (topic: string) => ReadonlyArray<Pick<TopicRecord, "partition" | "key" | "value" | "headers">>,
): Results => {
  const texts = (topic: string) => read(topic).map(({ value }) => String(value)).sort()
  const table = (topic: string) => Object.fromEntries(read(topic).map(({ key, value }) => [String(key), String(value)]))
  return {
    moved: Object.groupBy(
      read(ByVisitor.name).map(({ partition, value, headers }) => {
        const said = headers.map(([, value]) => text(value))
        return `${headers[0]![0] === taskHeader ? said[0] : "?"} to ${partition}: ${value} at ${said[1]}`
      }),
      (record) => record.split(":", 1)[0]!,
    ),
    newest: table(Newest.name),
    visits: table(Visits.name),
    sums: table(Sums.name),
    dead: texts(Dlt.name),
    late: texts(Late.name),
  }
}

export const observed = (read: Records): Results => results(read)

/** What must have been committed, given what stands in the logs that were read. */
export const expected = (read: Records): Effect.Effect<Results, unknown> =>
  Effect.gen(function* () {
    const sent: Array<Outgoing> = []
    for (const flow of Topology.subflows(visiting([]))) {
      for (let partition = 0; partition < partitions; partition++) {
        sent.push(...yield* whole(flow as ReturnType<typeof visiting>, partition, read))
      }
    }
    const written = sent.map(({ topic, key, value, headers = [] }) => ({
      topic,
      key,
      value,
      headers,
      partition: key === null ? 0 : forKey(key, partitions),
    }))
    return results((topic) => written.filter((one) => one.topic === topic))
  })

/** What one task sends when it reads its logs as a whole. */
const whole = (flow: Flow.Flow<unknown, never, unknown, Task.Task | Task.Logged>, partition: number, read: Records) => {
  const { reads, feeds } = Topology.of(flow)
  const log = (topic: Topic.Any) =>
    read(topic.name).filter((record) => record.partition === partition).map(({ key, value, headers, timestamp }) => ({
      key: key && text(key),
      value: value && text(value),
      headers,
      timestamp,
    }))
  const inputs = new Map(reads.map((topic) => [
    topic,
    sources(topic, log(topic), [], { upstream: feeds.has(topic.name) ? partitions : undefined }),
  ]))
  return Effect.map(
    run(flow, inputs, { ...committed([]), partition }),
    ({ batches }) => batches.flatMap(({ outgoing }: Batch<unknown, unknown>) => outgoing),
  )
}
