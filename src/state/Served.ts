/** Pipelines that are at work in this process, and which stores of theirs can be read. */
import type { TaskId } from "../Pipeline.ts"
import type { StoreSpec } from "../Task.ts"
import type { JournaledStore } from "./Store.ts"

/** What a runner tells of a pipeline that is at work in this process. */
export interface Serving {
  /** The group has given this process these tasks; `owners` are the addresses of tasks of others, as far as known. */
  assigned(tasks: ReadonlyArray<TaskId>, owners: ReadonlyMap<string, string>): void
  /** Tasks may be given away from now on, or have been: nothing is answered until the next `assigned`. */
  unassigned(): void
  /** A task's store is restored. */
  opened(task: TaskId, store: JournaledStore<unknown>): void
  /** A task is gone, and its stores with it. */
  closed(task: TaskId): void
  /** The pipeline is not at work here any more. */
  readonly end: () => void
}

export interface Pipeline {
  readonly name: string
  readonly stores: ReadonlyArray<{
    readonly spec: StoreSpec<unknown>
    readonly flow: number
    readonly partitions: number
  }>
  /** The partition of a record's key, among so many. */
  partitionOf(key: string, partitions: number): number
  /** Whether this process is in the group, as far as it knows. */
  isMember(): boolean
  /** Whether a task has stopped for good. */
  isStopped(task: TaskId): boolean
}

export interface PartitionInfo {
  readonly partition: number
  readonly state: "ready" | "restoring" | "rebalancing" | "stopped"
  readonly entries: number
  /** As of the last commit, milliseconds since 1970; `null` before the first record. */
  readonly streamTime: number | null
}

export interface StoreInfo {
  readonly pipeline: string
  readonly store: string
  readonly windowed: boolean
  /** How many there are, of which `held` are in this process. */
  readonly partitions: number
  readonly held: ReadonlyArray<PartitionInfo>
}

type Stores = Map<string, JournaledStore<unknown>>

/** A pipeline at work. */
export class Served implements Serving {
  readonly pipeline: Pipeline
  readonly end: () => void
  #isAssigned = false
  owners: ReadonlyMap<string, string> = new Map()
  readonly #tasks = new Set<string>()
  readonly #open = new Map<string, Stores>()

  constructor(pipeline: Pipeline, end: () => void) {
    this.pipeline = pipeline
    this.end = end
  }

  assigned(tasks: ReadonlyArray<TaskId>, owners: ReadonlyMap<string, string>): void {
    this.#tasks.clear()
    for (const task of tasks) this.#tasks.add(keyOf(task))
    this.owners = owners
    this.#isAssigned = true
  }

  unassigned(): void {
    this.#isAssigned = false
  }

  /** Whether what tasks hold is what they last committed, and nobody else has committed since. */
  get isAssigned(): boolean {
    return this.#isAssigned && this.pipeline.isMember()
  }

  opened(task: TaskId, store: JournaledStore<unknown>): void {
    const stores = this.#open.get(keyOf(task)) ?? new Map()
    this.#open.set(keyOf(task), stores.set(store.name, store))
  }

  closed(task: TaskId): void {
    this.#open.delete(keyOf(task))
  }

  has(task: TaskId): boolean {
    return this.#tasks.has(keyOf(task))
  }

  store(task: TaskId, name: string): JournaledStore<unknown> | undefined {
    return this.#open.get(keyOf(task))?.get(name)
  }
}

export const keyOf = ({ flow, partition }: TaskId): string => `${flow}-${partition}`

export const infoOf = (served: Served, task: TaskId, name: string): PartitionInfo => {
  const store = served.store(task, name)
  const streamTime = store?.committedStreamTime ?? -Infinity
  return {
    partition: task.partition,
    state: stateOf(served, task, store),
    entries: store?.committedSize ?? 0,
    streamTime: streamTime === -Infinity ? null : streamTime,
  }
}

const stateOf = (
  served: Served,
  task: TaskId,
  store: JournaledStore<unknown> | undefined,
): PartitionInfo["state"] => {
  if (!served.isAssigned) return "rebalancing"
  if (served.pipeline.isStopped(task)) return "stopped"
  return store === undefined ? "restoring" : "ready"
}
