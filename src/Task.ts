/**
 * A task is one partition number of every co-partitioned input of a flow: the unit of assignment, state, clock,
 * back-pressure and failure. A flow runs once per task, with that task's own state.
 */
import { Context, Effect, Schema, type Scope, type Stream } from "effect"
import type { Batch, Changes } from "./Batch.ts"
import type { Clock } from "./StreamTime.ts"
import type { Any as AnyTopic, Topic } from "./Topic.ts"

/** The bytes of a record whose topic's contract says that they hold an `A`. */
export interface Raw<out A> {
  readonly "~millrace/Raw": A
}

/** What can be wrong with the pipeline rather than with a record. */
export class PipelineError extends Schema.TaggedError<PipelineError>()("PipelineError", {
  reason: Schema.Literals([
    "Kafka", // the brokers refused or did not answer
    "Fenced", // another process owns this work now
    "State", // logged state and positions do not agree
    "Sink", // what the pipeline writes to failed
    "Stopped", // a route said that this failure stops the task
    "Definition", // the topics in the cluster do not fit the pipeline
  ]),
  message: Schema.String,
  /** Whether trying again may help: such errors are retried with a delay, others stop the task. */
  retriable: Schema.Boolean,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

export class Task extends Context.Service<Task, {
  readonly partition: number
  /**
   * The task's records of one topic, one batch per fetch, from the committed position on. After `tickAfter` milliseconds
   * without a record, a batch without any every second.
   */
  read<A>(topic: Topic<A>, tickAfter?: number): Stream.Stream<Batch<Raw<A>>, PipelineError>
  /** The clock of one topic where the task starts: as it was committed with the position. */
  clock(topic: AnyTopic): Clock
  /** Whether nothing of a topic is on its way: the brokers have no more, and what they had has come through. */
  isDry(topic: AnyTopic): boolean
}>()("millrace/Task") {}

/**
 * Told by a stage that holds a batch back until another of its inputs has come so far, or until time has passed: a task that is to let go meanwhile
 * does not wait for that batch, which is read again wherever the task goes on.
 */
export const HoldingBack = Context.Reference<{
  /** A batch that came to the stage waits in it. */
  hold(): void
  /** It goes on, or a part of it does. */
  release(): void
  /** Waits while the task is to let go: nothing that was held back is begun meanwhile. */
  readonly gate: Effect.Effect<void>
}>("millrace/Task/HoldingBack", {
  defaultValue: () => ({ hold: () => {}, release: () => {}, gate: Effect.void }),
})

/** How many records of the task's topics the brokers have that no batch has brought yet, as last heard. */
export const Backlog = Context.Reference<() => number>("millrace/Task/Backlog", { defaultValue: () => () => 0 })

/** The circuits of the task's stages by name, for stages that leave work out while one is open. */
export const Circuits = Context.Reference<Map<string, CircuitView>>("millrace/Task/Circuits", {
  defaultValue: () => new Map(),
})

export interface CircuitView {
  /** Whether nothing is called: open, and not yet to be tried again. `now` is of a clock that never goes back. */
  isOpen(now: number): boolean
}

/**
 * A task's keyed store in memory. Values are immutable: replace them with `set`. Every change is logged with the commit
 * of the batch that caused it, and undone when that batch is not committed.
 */
export interface Store<V> {
  get(key: string): V | undefined
  set(key: string, value: V): void
  delete(key: string): void
  /** All entries, in no particular order. */
  entries(): IterableIterator<[string, V]>
  readonly size: number
  /** The latest stream time that the store's stage acted on: committed and restored with the entries. */
  streamTime: number
}

export interface StoreSpec<V> {
  /** Unique within its pipeline; names the changelog topic `<pipeline>-<name>-changelog`. */
  readonly name: string
  readonly value: Schema.Codec<V, unknown>
  /**
   * What its entries are, as far as their schema does not say: it is logged, and a task does not begin with what was logged
   * as something else.
   */
  readonly shape?: string
  /** Whether keys are `part:key`, and are kept by part: for windows, which close as a whole. */
  readonly isParted?: boolean
  /** Where the parts are windows, named after their starts: told to those who ask for what the store holds. */
  readonly windows?: Windows
}

export interface Windows {
  /** How long each of them is, in milliseconds; absent where they differ. */
  readonly size?: number
}

/** A store as the runtime hands it to `Flow.perTask`, which attaches the changes to the batch that caused them. */
export interface LoggedStore<V> extends Store<V> {
  /** What changed since the last call; `undefined` where nothing did. */
  takeChanges(): Changes | undefined
  /** The part of a name (without a colon); of a store that is not in parts the one that is named with an empty text. */
  part(name: string): Part<V>
  /** The parts that hold anything. */
  parts(): IterableIterator<Part<V>>
}

/**
 * The entries of a store whose keys begin with one name. A stage that keeps the slots of its keys need not look them up
 * again; after a failure it opens anew, with new slots.
 */
export interface Part<V> {
  readonly name: string
  readonly slots: Iterable<Slot<V>> & { readonly size: number }
  /** The slot of a key by its bytes, and their hash where that is at hand: no text is made of a key that is known. */
  find(bytes: Uint8Array, hash?: number): Slot<V> | undefined
  /** Puts in a key that is not there. */
  add(key: string, value: V): Slot<V>
  write(slot: Slot<V>, value: V): void
  remove(slot: Slot<V>): void
  /** Removes all keys. */
  clear(): void
}

export interface Slot<V> {
  readonly key: string
  /** `undefined` once it was removed. */
  readonly value: V | undefined
  /** For the stage's own use; 0 at first. */
  mark: number
}

/**
 * Logged state. Apart from `Task`, so that a guarantee that cannot log state (rows and positions in one database
 * transaction) refuses it by type.
 */
export class Logged extends Context.Service<Logged, {
  /** Opens a store, restored to what was last committed. */
  store<V>(spec: StoreSpec<V>): Effect.Effect<LoggedStore<V>, PipelineError, Scope.Scope>
}>()("millrace/Task/Logged") {}
