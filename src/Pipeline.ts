/**
 * A pipeline is a flow that says where every failed record goes, under a name, with a guarantee of how its batches are
 * committed. It is a value: programs run it, and plans, access rules and tests read its topology.
 */
import type { Effect, Scope, Types } from "effect"
import type { Batch, Changes } from "./Batch.ts"
import type { Flow } from "./Flow.ts"
import type { Clock } from "./StreamTime.ts"
import type { Logged, PipelineError } from "./Task.ts"
import * as Topology from "./Topology.ts"

/** What a flow lacks when failures are unrouted: the compiler's message names them. */
export type Routed<F> = [F] extends [never] ? unknown : { readonly "unrouted failures": Types.Tags<F> }

type Logs<R, G> = [Extract<R, Logged>] extends [never] ? unknown
  : G extends { readonly logs: false }
    ? { readonly "this guarantee keeps no changelog, but the flow has logged state": true }
  : unknown

/** One task of a pipeline: which of its flows (feeds first), and which partition of every topic that flow reads. */
export interface TaskId {
  readonly flow: number
  readonly partition: number
}

/** The next offset to read, per topic that a task reads. */
export type Positions = ReadonlyMap<string, number>

/** The clock of each topic that a task reads, as it stood at a position; none where nothing was decoded yet. */
export type Clocks = ReadonlyMap<string, Clock>

/** A replay of one topic: records below the offset were processed before, and are processed again. */
export interface Replayed {
  readonly id: string
  readonly below: number
}

/** By topic, where a replay is under way. */
export type Replays = ReadonlyMap<string, Replayed>

/** Where a task starts, which commit brought it there (none yet: `undefined`), and who may have left something open there. */
export interface Claim {
  readonly positions: Positions
  /** By topic: the id of the one that the position is in, where it is known. */
  readonly topicIds?: ReadonlyMap<string, string>
  readonly clocks: Clocks
  readonly commit: string | undefined
  readonly previous: ReadonlyArray<{ readonly txn: string; readonly member: string }>
  readonly replays?: Replays
}

/** What one task has finished since its last commit. */
export interface Work<out A = unknown> {
  readonly task: TaskId
  readonly batches: ReadonlyArray<Batch<A>>
  /** By store: the last change of every key. */
  readonly changes: ReadonlyArray<Changes>
  /** Where the task was before, and where it will be. */
  readonly from: Positions
  readonly positions: Positions
  /** At `positions`. */
  readonly clocks: Clocks
  /** As they were claimed. */
  readonly topicIds?: ReadonlyMap<string, string>
  /** As the task was claimed with. */
  readonly replays?: Replays | undefined
}

/** Who we are in the consumer group while a commit is made. */
export interface Membership {
  readonly generation: number
  readonly memberId: string
}

/** A task whose work is not committed although the others' is, and why. */
export interface Refused {
  readonly task: TaskId
  readonly error: PipelineError
}

export interface Committed {
  /** Names this commit in the positions' metadata. */
  readonly commit: string
  /** Not committed, and never to be: these tasks stop. */
  readonly refused: ReadonlyArray<Refused>
  /**
   * Not committed although others' work is, and to be tried again like the work of a call that failed: after a new claim
   * where the reason is `Fenced`. Only from guarantees whose commits can be divided by task.
   */
  readonly postponed?: ReadonlyArray<Refused>
}

/** A guarantee at work in one process. Calls never overlap. */
export interface Committer<in A> {
  /**
   * Takes tasks over and answers where they stand. Waits for what a previous owner left undecided; afterwards nothing of
   * theirs can be committed any more.
   */
  claim(tasks: ReadonlyArray<TaskId>, member: Membership): Effect.Effect<ReadonlyArray<Claim>, PipelineError>
  /**
   * Commits the work of every task that the answer does not name as refused or postponed, each task's as a whole. A call
   * that fails is made again with the same batches, and perhaps more behind them, until it succeeds: it has committed
   * nothing, or finds out by then what it has. `PipelineError` with reason `Fenced` where the group has moved on: the work
   * is then not committed and must not be tried again before a new claim.
   */
  commit(work: ReadonlyArray<Work<A>>, member: Membership): Effect.Effect<Committed, PipelineError>
}

/** What a committer must know of the pipeline it works for. */
export interface Plan {
  readonly name: string
  /** The consumer group. */
  readonly group: string
  /** Where the group starts in partitions that it has no position in. */
  readonly reset: "earliest" | "latest" | "fail"
  /** Whether a partition was added while the program ran: then the group starts at its beginning, whatever `reset` says. */
  readonly isAdded?: (where: { readonly topic: string; readonly partition: number }) => boolean
  /** By flow, feeds first. */
  readonly flows: ReadonlyArray<Topology.Topology>
}

/** How batches are committed. `A` is what it writes itself (rows), `R` what that needs. */
export interface Guarantee<in A, out R> {
  readonly name: string
  /** Whether logged positions must equal the group's (`same`) or may be ahead of them after a crash (`ahead`). */
  readonly state: "same" | "ahead"
  /** Whether commits write the batches' own values, or only what they have outgoing: values then need not wait for it. */
  readonly writes: "values" | "outgoing"
  open(plan: Plan): Effect.Effect<Committer<A>, PipelineError, R | Scope.Scope>
  /** Where it keeps positions of its own, which count instead of the group's: for tools that move them. */
  readonly keeper?: (plan: Plan) => Effect.Effect<Keeper, PipelineError, R>
  /** What it writes besides topics, for tools that make it write again. */
  readonly sink?: Written
}

/** Something besides topics that a pipeline writes. */
export interface Written {
  readonly name: string
  /**
   * What makes that a row is there once however often it is written, in words ("table clicks by event_id"); `undefined`
   * where nothing does, or nobody has said so.
   */
  readonly idempotentBy: string | undefined
}

/** A position as it is kept outside of Kafka. */
export interface Kept {
  readonly topic: string
  readonly partition: number
  readonly next: number
  readonly epoch: number
  /** The replay that moved it last. */
  readonly replay: Replayed | undefined
}

/** A position to be moved, from where it was read. */
export interface Move {
  readonly topic: string
  readonly partition: number
  /** As it was read; `undefined` where there was none. */
  readonly from: Kept | undefined
  readonly next: number
  readonly replay: Replayed
}

/** Positions that are kept outside of Kafka. */
export interface Keeper {
  /** All that the group has. */
  readonly read: Effect.Effect<ReadonlyArray<Kept>, PipelineError>
  /**
   * Moves all of them in one transaction, and cuts off who still writes from where they stood. Answers `false`, with nothing
   * moved, where one is not as it was read.
   */
  move(moves: ReadonlyArray<Move>): Effect.Effect<boolean, PipelineError>
}

export interface Pipeline<out E, out R> {
  readonly name: string
  readonly guarantee: Guarantee<never, R>
  readonly flow: Flow<unknown, never, E, R>
}

/** The changelog topic of a pipeline's store. */
export const changelogTopic = (pipeline: string, store: string): string => `${pipeline}-${store}-changelog`

/**
 * Closes a flow. Does not compile while a failure is unrouted; throws a `PipelineError` where the flow reads a topic
 * twice or has two stores of one name.
 */
export const make = <A, F, E, R, R2, G extends Guarantee<A, R2>>(
  name: string,
  flow: Flow<A, F, E, R> & Routed<F> & Logs<R, G>,
  guarantee: G & Guarantee<A, R2>,
): Pipeline<E, R | R2> => {
  Topology.check(name, flow)
  return { name, guarantee, flow: flow as Flow<unknown, never, E, R> }
}

/** What a pipeline touches, flow by flow, feeds first. */
export const plan = (
  pipeline: Pipeline<unknown, unknown>,
  options?: { readonly group?: string; readonly reset?: Plan["reset"] },
): Plan => ({
  name: pipeline.name,
  group: options?.group ?? pipeline.name,
  reset: options?.reset ?? "earliest",
  flows: Topology.subflows(pipeline.flow).map(Topology.of),
})
