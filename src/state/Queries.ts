/**
 * Interactive queries: the stores of the tasks that are at work in this process, as of each task's last commit. What a task
 * has done since is not seen, so nothing is answered that an abort takes back.
 */
import { Context, Effect, Layer, Schema } from "effect"
import type { StoreSpec } from "../Task.ts"
import { text } from "../Topic.ts"
import { decodeCursor, encodeCursor, FirstAfter, type Place } from "./Pages.ts"
import { infoOf, keyOf, type Pipeline, Served, type Serving, type StoreInfo } from "./Served.ts"
import { joinId, type JournaledStore, splitId } from "./Store.ts"

export type { PartitionInfo, Pipeline, Serving, StoreInfo } from "./Served.ts"

/** A question that cannot be answered here, or not now. */
export class QueryError extends Schema.TaggedError<QueryError>()("QueryError", {
  reason: Schema.Literals([
    "Unknown", // no pipeline of this process has such a store
    "Invalid", // the question makes no sense
    "Elsewhere", // the partition belongs to another process
    "Unready", // the task is being restored or has stopped, or the group is being rebalanced
  ]),
  message: Schema.String,
  /** Of `Elsewhere`: which partition, and where whoever has it can be asked, if they have told. */
  partition: Schema.optionalKey(Schema.Int),
  owner: Schema.optionalKey(Schema.String),
}) {}

/** Which store: the name of its pipeline is needed where two pipelines of this process have one of that name. */
export interface Where {
  readonly store: string
  readonly pipeline?: string | undefined
}

export interface Entry {
  readonly partition: number
  readonly key: string
  /** Of a window: its start, and its end where all are equally long; milliseconds since 1970. */
  readonly start?: number
  readonly end?: number
  readonly value: unknown
  /** The value as JSON, as its codec writes it. */
  readonly json: string
}

export interface KeyQuery extends Where {
  readonly key: string
  /** Where the key is, if its records are not partitioned as Java's producer does. */
  readonly partition?: number | undefined
}

export interface WindowQuery extends KeyQuery {
  /** The first and the last start of a window; milliseconds since 1970, both included. */
  readonly from?: number | undefined
  readonly to?: number | undefined
}

export interface ScanQuery extends Where {
  /** Of the key. */
  readonly prefix?: string | undefined
  /** The `next` of the page before. */
  readonly after?: string | undefined
  /** At least 1, at most 1,000. */
  readonly limit: number
}

export interface Page {
  readonly entries: ReadonlyArray<Entry>
  /** Where to go on; absent on the last page. */
  readonly next?: string
  /** The partitions that the page is about: those of this process. */
  readonly partitions: ReadonlyArray<number>
  /** By partition that another process has: where that can be asked, if it has told. */
  readonly elsewhere: ReadonlyArray<readonly [partition: number, owner: string | undefined]>
}

/** The most entries of a page, and windows of an answer. */
export const most = 1_000

export interface Options {
  /** Where other processes can be told that this one answers queries: `http://10.0.0.7:8080`. */
  readonly endpoint?: string
}

/** With this service in its context, a pipeline's runner makes its stores readable; without it nothing is kept. */
export class Queries extends Context.Service<Queries, {
  readonly endpoint: string | undefined
  readonly serve: (pipeline: Pipeline) => Serving
  readonly stores: Effect.Effect<ReadonlyArray<StoreInfo>>
  /** Whether a store has an entry per key and window: `windows` is then what to ask. */
  readonly isWindowed: (where: Where) => Effect.Effect<boolean, QueryError>
  /** The entry of a key; `undefined` where the store has none. */
  readonly get: (query: KeyQuery) => Effect.Effect<Entry | undefined, QueryError>
  /** The windows of a key that are open, by their start, at most 1,000; closed ones are not in the store any more. */
  readonly windows: (query: WindowQuery) => Effect.Effect<ReadonlyArray<Entry>, QueryError>
  /**
   * A page of the entries of this process's partitions, in the order of keys (and then of windows). Of every partition it
   * is as of one commit, and looks at every entry: for stores of millions of keys, ask for keys.
   */
  readonly scan: (query: ScanQuery) => Effect.Effect<Page, QueryError>
}>()("millrace/state/Queries") {}

/** The stores of the pipelines that run with it, and of no others. */
export const layer = (options: Options = {}): Layer.Layer<Queries> =>
  Layer.sync(Queries, () => Queries.of(new Registry(options.endpoint)))

interface Candidate extends Place {
  readonly id: string
  readonly value: unknown
  readonly store: JournaledStore<unknown>
}

/** A store of a pipeline at work. */
interface Found {
  readonly served: Served
  readonly spec: StoreSpec<unknown>
  readonly flow: number
  readonly partitions: number
}

class Registry {
  readonly endpoint: string | undefined
  readonly #served = new Set<Served>()

  constructor(endpoint: string | undefined) {
    this.endpoint = endpoint
  }

  readonly serve = (pipeline: Pipeline): Serving => {
    const served = new Served(pipeline, () => this.#served.delete(served))
    this.#served.add(served)
    return served
  }

  readonly stores = Effect.sync(() =>
    this.#all().map(({ served, spec, flow, partitions }): StoreInfo => ({
      pipeline: served.pipeline.name,
      store: spec.name,
      windowed: spec.windows !== undefined,
      partitions,
      held: range(partitions).filter((partition) => served.has({ flow, partition })).map((partition) =>
        infoOf(served, { flow, partition }, spec.name)
      ),
    }))
  )

  readonly isWindowed = (where: Where): Effect.Effect<boolean, QueryError> =>
    answering(() => this.#find(where).spec.windows !== undefined)

  readonly get = ({ key, ...where }: KeyQuery): Effect.Effect<Entry | undefined, QueryError> =>
    answering(() => {
      const found = this.#find(where)
      if (found.spec.windows !== undefined) {
        throw invalid(`store ${where.store} has an entry per window: ask for windows`)
      }
      const [partition, store] = this.#storeOf(found, key, where.partition)
      const value = store.committedValue(key)
      return value === undefined ? undefined : entryOf(found, store, partition, key, value)
    })

  readonly windows = ({ key, from, to, ...where }: WindowQuery): Effect.Effect<ReadonlyArray<Entry>, QueryError> =>
    answering(() => {
      const found = this.#find(where)
      if (found.spec.windows === undefined) throw invalid(`store ${where.store} has no windows`)
      const [partition, store] = this.#storeOf(found, key, where.partition)
      const entries: Array<Entry> = []
      for (const part of store.committedParts()) {
        const start = Number(part)
        if (start < (from ?? -Infinity) || start > (to ?? Infinity)) continue
        const id = joinId(part, key)
        const value = store.committedValue(id)
        if (value !== undefined) entries.push(entryOf(found, store, partition, id, value))
      }
      return entries.sort((a, b) => a.start! - b.start!).slice(0, most)
    })

  readonly scan = ({ prefix = "", after, limit, ...where }: ScanQuery): Effect.Effect<Page, QueryError> =>
    Effect.gen({ self: this }, function* () {
      const begin = after === undefined ? undefined : decodeCursor(after)
      const found = yield* answering(() => {
        if (!(Number.isInteger(limit) && limit >= 1 && limit <= most)) {
          throw invalid(`limit is a whole number from 1 to ${most}`)
        }
        if (after !== undefined && begin === undefined) throw invalid("after is not what an earlier page has said")
        const found = this.#find(where)
        if (!found.served.isAssigned) throw rebalancing(found.served)
        return found
      })
      const { served, flow, partitions } = found
      const held = range(partitions).filter((partition) => served.has({ flow, partition }))
      const first = new FirstAfter<Candidate>(begin, limit + 1)
      for (const partition of held) {
        yield* answering(() => collect(found, this.#ready(found, partition), partition, prefix, first))
        yield* Effect.yieldNow
      }
      const entries = first.entries.slice(0, limit)
      return {
        entries: entries.map(({ store, partition, id, value }) => entryOf(found, store, partition, id, value)),
        ...first.entries.length > limit && { next: encodeCursor(entries.at(-1)!) },
        partitions: held,
        elsewhere: range(partitions).filter((partition) => !held.includes(partition)).map((partition) =>
          [partition, served.owners.get(keyOf({ flow, partition }))] as const
        ),
      }
    })

  #all(): Array<Found> {
    return [...this.#served].flatMap((served) => served.pipeline.stores.map((store) => ({ served, ...store })))
  }

  #find({ store, pipeline }: Where): Found {
    const named = this.#all().filter(({ served, spec }) =>
      spec.name === store && (pipeline === undefined || served.pipeline.name === pipeline)
    )
    const pipelines = [...new Set(named.map(({ served }) => served.pipeline.name))]
    if (pipelines.length > 1) {
      throw invalid(`pipelines ${pipelines.join(" and ")} have a store named ${store}: say which`)
    }
    const latest = named.at(-1)
    if (latest !== undefined) return latest
    const whose = pipeline === undefined ? "no pipeline of this process has a" : `pipeline ${pipeline} has no`
    throw new QueryError({ reason: "Unknown", message: `${whose} store named ${store}` })
  }

  /** The store that has a key, and its partition. */
  #storeOf(found: Found, key: string, given: number | undefined): readonly [number, JournaledStore<unknown>] {
    const { served, partitions } = found
    const partition = given ?? served.pipeline.partitionOf(key, partitions)
    if (!(Number.isInteger(partition) && partition >= 0 && partition < partitions)) {
      throw invalid(`partition is a whole number from 0 to ${partitions - 1}`)
    }
    return [partition, this.#ready(found, partition)]
  }

  #ready({ served, spec, flow }: Found, partition: number): JournaledStore<unknown> {
    if (!served.isAssigned) throw rebalancing(served)
    const task = { flow, partition }
    if (!served.has(task)) {
      const owner = served.owners.get(keyOf(task))
      const message = `partition ${partition} of store ${spec.name} is not in this process`
      throw new QueryError({ reason: "Elsewhere", message, partition, ...owner !== undefined && { owner } })
    }
    if (served.pipeline.isStopped(task)) {
      throw unready(`the task of partition ${partition} has stopped: what it holds is not kept up to date`)
    }
    const store = served.store(task, spec.name)
    if (store === undefined) throw unready(`partition ${partition} of store ${spec.name} is being restored`)
    return store
  }
}

const range = (length: number): ReadonlyArray<number> => Array.from({ length }, (_, i) => i)

const invalid = (message: string): QueryError => new QueryError({ reason: "Invalid", message })

const unready = (message: string): QueryError => new QueryError({ reason: "Unready", message })

const rebalancing = ({ pipeline: { name } }: Served): QueryError =>
  unready(`pipeline ${name} is being rebalanced: ask again in a moment`)

const answering = <A>(answer: () => A): Effect.Effect<A, QueryError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(answer())
    } catch (thrown) {
      if (thrown instanceof QueryError) return Effect.fail(thrown)
      throw thrown
    }
  })

const collect = (
  { spec }: Found,
  store: JournaledStore<unknown>,
  partition: number,
  prefix: string,
  first: FirstAfter<Candidate>,
): void => {
  for (const [id, value] of store.committedEntries()) {
    const [start, key] = spec.windows === undefined ? [0, id] as const : windowOf(id)
    if (!key.startsWith(prefix) || !first.takes(key, start, partition)) continue
    first.add({ key, start, partition, id, value, store })
  }
}

const entryOf = (
  { spec: { windows } }: Found,
  store: JournaledStore<unknown>,
  partition: number,
  id: string,
  value: unknown,
): Entry => {
  const json = text(store.encode(value))
  if (windows === undefined) return { partition, key: id, value, json }
  const [start, key] = windowOf(id)
  return { partition, key, start, ...windows.size !== undefined && { end: start + windows.size }, value, json }
}

/** The start of an entry's window, and its key. */
const windowOf = (id: string): readonly [start: number, key: string] => {
  const [part, key] = splitId(id)!
  return [Number(part), key]
}
