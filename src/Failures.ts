/**
 * What becomes of records that failed: one table by tag, after the last stage that can fail a record. A failure that the
 * table does not name stays in the flow's type, and `Pipeline.make` then does not compile.
 */
import { Context, Effect, type Types } from "effect"
import type { Batch, Dropped, Failed, Failure, Headers, Outgoing, Source } from "./Batch.ts"
import { offsetOf, RecordDefect } from "./Batch.ts"
import { type Flow, perTask } from "./Flow.ts"
import { PipelineError } from "./Task.ts"
import type { Any as AnyTopic } from "./Topic.ts"

/** The running program's name and version, for the headers of what it writes about failures. */
export const Program = Context.Reference<{ readonly name: string; readonly version: string }>("millrace/Program", {
  defaultValue: () => ({ name: "unnamed", version: "0" }),
})

/** A stage that has a name, and what it did with a record. */
export interface Stage {
  readonly name: string
  /** How often it has tried the record, and when it first failed: milliseconds since 1970. */
  readonly attempts: number
  readonly firstFailedAt: number
  /** What it was given, as JSON, where it has a schema for that. */
  readonly input: Uint8Array | undefined
  /** Headers that say how what it was given comes back to it, where a topic leads there. */
  readonly back?: Headers | undefined
}

/** A failed record as a route sees it: its original bytes are the source's, at the failed row. */
export interface Rejected<out F> {
  readonly failed: Failed<F>
  readonly source: Source
  readonly program: { readonly name: string; readonly version: string }
  /** When it is routed, in milliseconds since 1970. */
  readonly at: number
  /** The stage that has given it up. */
  readonly stage?: Stage
}

/** Where a failed record goes: a record that is produced with its commit, a count, or the end of the task. */
export type Sent =
  | { readonly _tag: "Outgoing"; readonly outgoing: Outgoing }
  | { readonly _tag: "Dropped" }
  | { readonly _tag: "Stop" }

export interface Route<in F = Failure> {
  readonly writes: ReadonlyArray<AnyTopic>
  send(rejected: Rejected<F>): Sent
}

/** Drops the record and counts it under its failure's tag. */
export const skip: Route = { writes: [], send: () => ({ _tag: "Dropped" }) }

/** Stops the task at the record, uncommitted: for failures that somebody must look at before anything goes on. */
export const stop: Route = { writes: [], send: () => ({ _tag: "Stop" }) }

type Unknown<T, F> = {
  readonly [K in Exclude<keyof T, Types.Tags<F>>]: `no stage before this fails with ${K & string}`
}

type Table = Readonly<Record<string, Route<never>>>

/** The names that a table surely has: where one may be absent, what it names stays. */
export type Named<T> = {
  [K in keyof T]-?: undefined extends T[K] ? never : K
}[keyof T]

/**
 * Routes failures by tag. What the table names leaves `F`, what it does not name, or perhaps not, stays, and a name that
 * cannot occur does not compile. What a route sends commits together with the position of the record.
 */
export const route =
  <const T extends { readonly [K in Types.Tags<F>]?: Route<Types.ExtractTag<F, K>> }, F>(table: T & Unknown<T, F>) =>
  <A, E, R>(
    flow: Flow<A, F, E, R>,
  ): Flow<A, Types.ExcludeTag<F, Named<T> & string>, E | PipelineError, R> => {
    const routes = new Map(Object.entries(table as Table).filter(([, route]) => route !== undefined))
    return applied(flow, (failed) => routes.get((failed.reason as Failure)._tag), [...routes.values()]) as Flow<
      A,
      Types.ExcludeTag<F, Named<T> & string>,
      E | PipelineError,
      R
    >
  }

/** Routes every failure that is left the same way. */
export const routeAll =
  <G extends Failure>(to: Route<G>) =>
  <A, F extends G, E, R>(flow: Flow<A, F, E, R>): Flow<A, never, E | PipelineError, R> =>
    applied(flow, () => to, [to]) as Flow<A, never, E | PipelineError, R>

const applied = <A, F, E, R>(
  flow: Flow<A, F, E, R>,
  of: (failed: Failed<unknown>) => Route<never> | undefined,
  routes: ReadonlyArray<Route<never>>,
): Flow<A, F, E | PipelineError, R> =>
  perTask<A, A, never, PipelineError, never, never, never>(
    Effect.map(Program, (program) => <G>(batch: Batch<A, G>) =>
      batch.failed.length === 0
        ? Effect.succeed(batch)
        : Effect.clockWith((clock) =>
          settle(batch, of, program, clock.currentTimeMillisUnsafe())
        )),
    { stage: "route", failures: routes.flatMap((route) => route.writes) },
  )(flow)

const settle = <A, F>(
  batch: Batch<A, F>,
  of: (failed: Failed<F>) => Route<never> | undefined,
  program: Rejected<F>["program"],
  at: number,
): Effect.Effect<Batch<A, F>, PipelineError> => {
  const left: Array<Failed<F>> = []
  const dropped: Array<Dropped> = []
  const outgoing: Array<Outgoing> = []
  for (const failed of batch.failed) {
    const route = of(failed)
    if (route === undefined) {
      left.push(failed)
      continue
    }
    const sent = send(route, { failed, source: batch.source, program, at })
    switch (sent._tag) {
      case "Outgoing":
        outgoing.push(sent.outgoing)
        break
      case "Dropped":
        dropped.push(sent.dropped)
        break
      case "Stop":
        return Effect.fail(sent.error)
    }
  }
  return Effect.succeed({
    ...batch,
    failed: left,
    dropped: [...batch.dropped, ...dropped],
    outgoing: [...batch.outgoing, ...outgoing],
  })
}

/** What a route makes of a failed record; a throw in it becomes a defect that names the record. */
export const send = (route: Route<never>, rejected: Rejected<unknown>) => {
  const { failed, source } = rejected
  const { _tag } = failed.reason as Failure
  const sent = sentBy(route, rejected)
  switch (sent._tag) {
    case "Outgoing":
      return { _tag: "Outgoing", outgoing: { ...sent.outgoing, failure: _tag } } as const
    case "Dropped":
      return { _tag: "Dropped", dropped: { row: failed.row, reason: _tag } } as const
    case "Stop":
      return { _tag: "Stop", error: stopped(source, failed) } as const
  }
}

const sentBy = (route: Route<never>, rejected: Rejected<unknown>): Sent => {
  try {
    return route.send(rejected as Rejected<never>)
  } catch (cause) {
    throw new RecordDefect({ source: rejected.source, rows: undefined }, rejected.failed.row, cause)
  }
}

const stopped = (source: Source, failed: Failed<unknown>): PipelineError =>
  new PipelineError({
    reason: "Stopped",
    retriable: false,
    message: `${described(source, failed)}. Its route stops the task; nothing from here on was committed`,
  })

/** A failure that has come to the end of its flow, against the types: committed, its record would be lost in silence. */
export const unrouted = (source: Source, failed: Failed<unknown>): PipelineError =>
  new PipelineError({
    reason: "Definition",
    retriable: false,
    message:
      `${described(source, failed)}. No route is there for it, although the pipeline's types say so; nothing from ` +
      "here on was committed",
  })

const described = (source: Source, { row, reason }: Failed<unknown>): string => {
  const { _tag, message } = reason as Failure
  const { topic, partition } = source
  return `${_tag} at topic ${topic.name} partition ${partition} offset ${offsetOf(source, row)}: ${message}`
}
