/** What a test says a run is, and what it can see and do in it. */
import type { Duration, Effect, Layer, LogLevel, Scope } from "effect"
import type { Cluster } from "../kafka/Cluster.ts"
import type * as ClusterMemory from "../kafka/ClusterMemory.ts"
import type * as Faults from "../kafka/Faults.ts"
import type * as Runner from "../kafka/Runner.ts"
import type { Pipeline } from "../Pipeline.ts"
import type { Logged, PipelineError, Task } from "../Task.ts"
import type { Any as AnyTopic, Topic } from "../Topic.ts"
import type { Counts } from "./Counts.ts"
import type { DriverError } from "./DriverError.ts"
import type { Bytes, Fed } from "./Feeding.ts"
import type { Call } from "./Network.ts"
import type { Line } from "./Journal.ts"
import type { Letter, Read, ReadBytes } from "./Reading.ts"
import type { Entry } from "./Stores.ts"

export type AnyPipeline = Pipeline<unknown, unknown>

export type Pipelines = AnyPipeline | ReadonlyArray<AnyPipeline>

/** What a run of pipelines and a test that needs `R` still needs: what neither the driver nor its layer brings. */
export type Left<P, R, S> = Exclude<Exclude<R, Brought> | Needs<P>, S>

/** What pipelines need that the driver does not bring: the services of their own stages. */
export type Needs<P> = P extends ReadonlyArray<infer One> ? NeedsOf<One> : NeedsOf<P>

type NeedsOf<P> = P extends Pipeline<infer _E, infer R> ? Exclude<R, Brought | Task | Logged> : never

/** What the driver brings, also to the test itself. */
export type Brought = Cluster | ClusterMemory.Control | Scope.Scope

export interface Options<P extends Pipelines, S = never, E = never> {
  readonly pipelines: P
  /** What ids and everything else that is random is drawn from; 1 unless given. */
  readonly seed?: number
  /** Topics to create beside those that the pipelines read and write. */
  readonly topics?: ReadonlyArray<AnyTopic>
  /**
   * Services of the pipelines and of the test, made anew at every run once the topics are there, over its cluster and
   * clock: tables that are read from topics, producers, stand-ins of databases.
   */
  readonly layer?: Layer.Layer<S, E, Cluster>
  /** What the clock says at first, in milliseconds since 1970; 2026-01-01T00:00:00Z unless given. */
  readonly now?: number
  /** How programs run: commit interval, session time-out and the like. */
  readonly runner?: Partial<Runner.Options>
  /** How the cluster behaves: its brokers, how late transactions' markers come, and the like. */
  readonly cluster?: ClusterMemory.Options
  /** From which level on what programs log is printed too; unless given it is only kept, for `logs`. */
  readonly logLevel?: LogLevel.LogLevel
  /** Whether one program of each pipeline is started at once; true unless given. */
  readonly start?: boolean
  /** How long by the test's clock `settle` waits; 2 minutes unless given. */
  readonly patience?: Duration.Input
}

/** One program of a pipeline: a member of its consumer group, as a process of its own would be. */
export interface Member {
  readonly pipeline: string
  /** From 1, in the order of starts. */
  readonly number: number
  /** Stops it as SIGTERM does, and ends when it has: it has committed what was at hand and left the group. */
  readonly stop: Effect.Effect<void>
  /**
   * Kills it: from now on nothing of it reaches the brokers, and they notice when its session has ended. An effect of a
   * stage that is under way may still come to its end.
   */
  readonly crash: Effect.Effect<void>
  /** Begins a plan of faults between it and the brokers, beside that of the run. */
  inject(plan: Faults.Plan): Effect.Effect<void>
  /** The calls that it has made to the brokers since its plan, or that of the run, began. */
  readonly calls: Effect.Effect<ReadonlyArray<Call>>
  /** How many tasks it has. */
  readonly tasks: Effect.Effect<number>
  /** Why it has ended without being told to; `undefined` where it has not. */
  readonly ended: Effect.Effect<PipelineError | undefined>
}

export interface Driver {
  /**
   * Appends values, encoded, keyed and placed as the topic's contract says, in order, as a foreign producer does: those
   * of one partition as one record batch. Values with something beside them are made by `record`. Fails with `Invalid`
   * where the contract refuses a value; nothing is appended then.
   */
  feed<A>(topic: Topic<A>, values: ReadonlyArray<A | Fed<A>>): Effect.Effect<void, DriverError>
  /** Appends bytes or text as they are, and tombstones: what a contract does not allow. */
  feedBytes(topic: AnyTopic, records: Iterable<Bytes>): Effect.Effect<void, DriverError>

  /** Lets time pass while the programs work. */
  advance(duration: Duration.Input): Effect.Effect<void>
  /**
   * Lets as much time pass as it takes until all that stands in the pipelines' topics is processed and committed, from
   * one pipeline into the next, no transaction is undecided, and the groups know the programs that run. Fails with
   * `Unsettled` after the run's `patience`, and with `Ended` where programs or tasks have ended that should do it; the
   * message says why, and which group stands where.
   */
  readonly settle: Effect.Effect<void, DriverError>

  /** All committed records of a topic, by partition and offset. Fails with `Undecodable`. */
  read<A>(topic: Topic<A>): Effect.Effect<ReadonlyArray<Read<A>>, DriverError>
  /** Their values alone. */
  values<A>(topic: Topic<A>): Effect.Effect<ReadonlyArray<A | null>, DriverError>
  /** What has been committed to a topic since the last `take` of it. */
  take<A>(topic: Topic<A>): Effect.Effect<ReadonlyArray<Read<A>>, DriverError>
  /** Committed records as they are; a topic by its name where it has no contract. */
  readBytes(topic: AnyTopic | string): Effect.Effect<ReadonlyArray<ReadBytes>, DriverError>
  /** The last value of every key, without those that were deleted. */
  latest<A>(topic: Topic<A>): Effect.Effect<ReadonlyMap<string, A>, DriverError>
  /** What `DeadLetter.to` has sent to a topic: reasons, places and the original records. */
  letters(topic: AnyTopic): Effect.Effect<ReadonlyArray<Letter>, DriverError>

  /** A store's entries as its changelog holds them, those of all tasks together. */
  store(pipeline: AnyPipeline, name: string): Effect.Effect<ReadonlyMap<string, unknown>, DriverError>
  /** The same task by task, for stores in which several tasks have entries of one key. */
  entries(pipeline: AnyPipeline, name: string): Effect.Effect<ReadonlyArray<Entry>, DriverError>
  /** What a pipeline's programs have counted: what is committed, but for a commit whose answer a crash cut off. */
  counts(pipeline: AnyPipeline): Effect.Effect<Counts>

  /**
   * Starts another program of a pipeline, with a plan of faults for it alone: the group shares the tasks out anew as time
   * passes. It may be another version of one that this run has.
   */
  start(pipeline: AnyPipeline, faults?: Faults.Plan): Effect.Effect<Member>
  /** The programs that run, in the order of their starts. */
  readonly members: Effect.Effect<ReadonlyArray<Member>>
  /** Kills all programs. */
  readonly crash: Effect.Effect<void>
  /** Starts a program of every pipeline that has none. */
  readonly restart: Effect.Effect<void>

  /**
   * Begins a plan of faults between all programs and the brokers, in place of the one before: it sees the calls of all in
   * one row, counts begin at 1, and the log of calls is empty. A crash kills the program that makes the call, and another
   * follows it.
   */
  inject(plan: Faults.Plan): Effect.Effect<void>
  /** The calls that programs have made to the brokers since the plan began. */
  readonly calls: Effect.Effect<ReadonlyArray<Call>>
  /** What programs, and services of the layer, have logged. */
  readonly logs: Effect.Effect<ReadonlyArray<Line>>
  /** The cluster behind it all, for what else a test may want of it: retention, leaders, what a broker loses. */
  readonly control: ClusterMemory.Control["Service"]
}
