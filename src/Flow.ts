/**
 * A flow is a Stream of batches that also knows its topology: the topics and stores it touches, before anything runs.
 * A stage is a function from flow to flow.
 */
import { Context, Effect, Metric, Option, Result, type Scope, Stream } from "effect"
import type { Batch, Dropped, Failed, Failure } from "./Batch.ts"
import { fail, failing, gather, RecordContext, RecordDefect, row } from "./Batch.ts"
import * as Calls from "./Calls.ts"
import { Logged, type LoggedStore, type StoreSpec } from "./Task.ts"
import type { Any as AnyTopic } from "./Topic.ts"

/** What becomes of an effect when its record is processed again by a replay: it runs again, or it does not. */
export type OnReplay = "safe" | "skip"

/** What one stage adds to the topology. */
export interface Node {
  readonly stage: string
  readonly inputs: ReadonlyArray<AnyFlow>
  /** Flows inside the stage, through which it sends its batches. */
  readonly insides: ReadonlyArray<AnyFlow>
  readonly reads: ReadonlyArray<AnyTopic>
  /** Topics from which records come back to this stage: read by the same task beside what the flow reads. */
  readonly retries: ReadonlyArray<AnyTopic>
  readonly writes: ReadonlyArray<AnyTopic>
  /** Topics that only failed records go to. */
  readonly failures: ReadonlyArray<AnyTopic>
  readonly stores: ReadonlyArray<StoreSpec<unknown>>
  /** Of a stage that runs effects for its records: what a replay may do with them. */
  readonly effects?: OnReplay | "undeclared"
  /** Flows closed by a repartition: they run as tasks of their own, and what they write is read here. */
  readonly feeds: ReadonlyArray<AnyFlow>
}

export interface Flow<out A, out F = never, out E = never, out R = never> extends Stream.Stream<Batch<A, F>, E, R> {
  readonly node: Node
}

export type AnyFlow = Flow<unknown, unknown, unknown, unknown>

/**
 * A stage whose input type is fixed by its arguments. A stage that keeps fields it does not know declares `A` on the
 * returned function instead: on the constructor, `A` would collapse as soon as the stage is kept in a constant.
 */
export type Stage<in A, out B, out G = never, out E2 = never, out R2 = never> = <F, E, R>(
  flow: Flow<A, F, E, R>,
) => Flow<B, F | G, E | E2, R | R2>

export const fromStream = <A, F, E, R>(
  stream: Stream.Stream<Batch<A, F>, E, R>,
  node: Partial<Node> & { readonly stage: string },
): Flow<A, F, E, R> =>
  Object.assign(Stream.fromChannel(stream.channel), {
    node: { inputs: [], insides: [], reads: [], retries: [], writes: [], failures: [], stores: [], feeds: [], ...node },
  })

/** The flows that a task reads once for several consumers; empty where nothing is shared. */
export const Shared = Context.Reference<ReadonlyMap<AnyFlow, AnyFlow>>("millrace/Flow/Shared", {
  defaultValue: () => new Map(),
})

/** A flow as a stage's input: the task's shared reading of it where it has several consumers, else itself. */
export const input = <A, F, E, R>(flow: Flow<A, F, E, R>): Stream.Stream<Batch<A, F>, E, R> =>
  Stream.unwrap(Effect.map(Shared, (shared) => (shared.get(flow) ?? flow) as Flow<A, F, E, R>))

/** What a stage uses besides the flow that it is given. */
export interface Uses extends Partial<Node> {
  readonly stage: string
}

/** A pure stage. One batch in, one batch out, in order: the law that makes branches, joins and commits line up. */
export const each =
  <A, B, G = never>(step: <F>(batch: Batch<A, F>) => Batch<B, F | G>, uses: Uses): Stage<A, B, G> => (flow) =>
    fromStream(Stream.map(input(flow), (batch) => step(batch)), { ...uses, inputs: [flow, ...uses.inputs ?? []] })

/**
 * A stage with state: `open` runs once per task, and what it returns closes over that task's state. What it changes in
 * stores that it opened is logged when the batch at hand commits.
 */
export const perTask = <A, B, G, E2, R2, E3, R3>(
  open: Effect.Effect<<F>(batch: Batch<A, F>) => Effect.Effect<Batch<B, F | G>, E2, R2>, E3, R3 | Scope.Scope>,
  uses: Uses,
): Stage<A, B, G, E2 | E3, R2 | R3> =>
(flow) =>
  fromStream(
    Stream.unwrap(Effect.gen(function* () {
      const stores: Array<LoggedStore<unknown>> = []
      const step = yield* recordingStores(open, stores) as typeof open
      return Stream.mapEffect(
        input(flow),
        (batch) => stores.length === 0 ? step(batch) : Effect.map(step(batch), (out) => attachChanges(out, stores)),
      )
    })),
    { ...uses, inputs: [flow, ...uses.inputs ?? []] },
  )

const recordingStores = <A, E, R>(open: Effect.Effect<A, E, R>, opened: Array<LoggedStore<unknown>>) =>
  Effect.flatMap(
    Effect.serviceOption(Logged),
    (logged) =>
      Option.isNone(logged) ? open : Effect.provideService(open, Logged, {
        store: (spec) => Effect.tap(logged.value.store(spec), (store) => Effect.sync(() => opened.push(store))),
      }) as Effect.Effect<A, E, R>,
  )

const attachChanges = <A, F>(batch: Batch<A, F>, stores: ReadonlyArray<LoggedStore<unknown>>): Batch<A, F> => {
  const changes = stores.flatMap((store) => store.takeChanges() ?? [])
  return changes.length === 0 ? batch : { ...batch, changes: [...batch.changes, ...changes] }
}

/** Calls `f` for every value; a throw becomes a defect that names the record. */
const forValues = <A, F>(batch: Batch<A, F>, f: (value: A, record: RecordContext, i: number) => void): void => {
  const { values } = batch
  let i = 0
  try {
    for (; i < values.length; i++) f(values[i]!, new RecordContext(batch, i), i)
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
}

/** Changes every value. A throw in `f` stops the task and names the record. */
export const map = <A, B>(f: (value: A, record: RecordContext) => B): Stage<A, B> =>
  each(<F>(batch: Batch<A, F>): Batch<B, F> => {
    const values = new Array<B>(batch.values.length)
    forValues(batch, (value, record, i) => values[i] = f(value, record))
    return { ...batch, values }
  }, { stage: "map" })

/** Puts any number of values in the place of each, in order. A value that becomes none is counted as dropped. */
export const flatMap = <A, B>(f: (value: A, record: RecordContext) => Iterable<B>): Stage<A, B> =>
  each(<F>(batch: Batch<A, F>): Batch<B, F> => {
    const values: Array<B> = []
    const from: Array<number> = []
    const dropped: Array<Dropped> = []
    forValues(batch, (value, record, i) => {
      const before = values.length
      for (const made of f(value, record)) {
        values.push(made)
        from.push(i)
      }
      if (values.length === before) dropped.push({ row: row(batch, i), reason: "empty" })
    })
    return { ...gather(batch, values, Uint32Array.from(from)), dropped: [...batch.dropped, ...dropped] }
  }, { stage: "flatMap" })

/** Keeps the values for which `is` holds; the others are dropped and counted under `reason`. */
export const filter: {
  <A, B extends A>(is: (value: A, record: RecordContext) => value is B, reason?: string): Stage<A, B>
  <A>(is: (value: A, record: RecordContext) => boolean, reason?: string): Stage<A, A>
} = <A>(is: (value: A, record: RecordContext) => boolean, reason = "filtered"): Stage<A, A> =>
  each(<F>(batch: Batch<A, F>): Batch<A, F> => {
    const values: Array<A> = []
    const from = new Uint32Array(batch.values.length)
    const dropped: Array<Dropped> = []
    forValues(batch, (value, record, i) => {
      if (is(value, record)) {
        from[values.length] = i
        values.push(value)
      } else dropped.push({ row: row(batch, i), reason })
    })
    if (dropped.length === 0) return batch
    return {
      ...gather(batch, values, from.subarray(0, values.length)),
      dropped: batch.dropped.length === 0 ? dropped : [...batch.dropped, ...dropped],
    }
  }, { stage: "filter" })

/** Changes every value with a function that can refuse it: the refused row fails with the reason given. */
export const check = <A, B, G extends Failure>(
  f: (value: A, record: RecordContext) => Result.Result<B, G>,
): Stage<A, B, G> =>
  each<A, B, G>(<F>(batch: Batch<A, F>): Batch<B, F | G> => {
    const results = new Array<Result.Result<B, G>>(batch.values.length)
    forValues(batch, (value, record, i) => results[i] = f(value, record))
    return settle(batch, results)
  }, { stage: "check" })

/**
 * Runs an effect for every value, `concurrency` at a time within one batch (1 unless given); the values go on in the order
 * they came. Effects of one key run one after the other and in order, unless `order` says otherwise.
 *
 * What the effect fails with fails the record, and so does `TimedOut` where it has a time-out; a defect stops the task and
 * names the record. An effect that has run runs again when the program ends before its batch is committed.
 */
export const effect = <A, B, G extends Failure, R2, const O extends Calls.Options = Calls.Patient>(
  f: (value: A, record: RecordContext) => Effect.Effect<B, G, R2>,
  options?: O,
): Stage<A, B, G | Calls.TimedOutOf<O>, never, R2> => {
  type Fails = G | Calls.TimedOutOf<O>
  const calls = new Calls.Calls(options ?? {}, "Flow.effect")
  return perTask<A, B, Fails, never, R2, never, never>(
    Effect.map(
      calls.open,
      (open) => <F>(batch: Batch<A, F>): Effect.Effect<Batch<B, F | Fails>, never, R2> =>
        Effect.map(open.each(batch, f), (results) => settle(batch, results as Results<B, Fails>)),
    ),
    { stage: "effect", effects: options?.onReplay ?? "undeclared" },
  )
}

/** How many values one effect takes, besides what `effect` can be told. */
export interface Together extends Calls.Options {
  /** The most values of one effect, which all come from one batch. */
  readonly size: number
}

/**
 * Runs one effect for up to `size` values of a batch, such as a request in bulk: it answers a result per value, in their
 * order. An effect that itself fails, or takes too long, fails all its records; one that answers more or fewer results than
 * it was given values is a defect.
 *
 * One effect runs after the other unless `concurrency` is given. Then the values of one key are in one effect, or in
 * effects that run one after the other (see `order`).
 */
export const effectAll = <A, B, G extends Failure, R2, const O extends Together, G2 extends Failure = never>(
  f: (
    values: readonly [A, ...Array<A>],
    records: ReadonlyArray<RecordContext>,
  ) => Effect.Effect<ReadonlyArray<Result.Result<B, G>>, G2, R2>,
  options: O,
): Stage<A, B, G | G2 | Calls.TimedOutOf<O>, never, R2> => {
  type Fails = G | G2 | Calls.TimedOutOf<O>
  const { size } = options
  if (!(Number.isSafeInteger(size) && size >= 1)) {
    throw new RangeError(`Flow.effectAll: size is a whole number of at least 1, not ${size}`)
  }
  const calls = new Calls.Calls(options, "Flow.effectAll")
  return perTask<A, B, Fails, never, R2, never, never>(
    Effect.map(
      calls.open,
      (open) => <F>(batch: Batch<A, F>): Effect.Effect<Batch<B, F | Fails>, never, R2> =>
        Effect.map(open.together(batch, size, f), (results) => settle(batch, results as Results<B, Fails>)),
    ),
    { stage: "effectAll", effects: options.onReplay ?? "undeclared" },
  )
}

/** Looks at every value, and changes none. A throw in `f` stops the task and names the record. */
export const tap = <A>(f: (value: A, record: RecordContext) => void): Stage<A, A> =>
  each(<F>(batch: Batch<A, F>): Batch<A, F> => {
    forValues(batch, f)
    return batch
  }, { stage: "tap" })

export interface TapOptions extends Omit<Calls.Options, "onReplay"> {
  /**
   * What a replay does with records that were processed before: `safe` runs the effect again, `skip` lets their values go on
   * without it. Replays are refused to a pipeline whose effects say neither.
   */
  readonly onReplay?: OnReplay
  /** `count` (the default) lets the value of an effect that fails go on and counts it; `fail` fails the record. */
  readonly failures?: "count" | "fail"
}

/** Effects of `tapEffect` that failed while their values went on, by the failure's tag. */
export const tapFailures = Metric.counter("millrace_tap_failures_total", {
  description: "Effects beside the flow that failed while their values went on, by reason",
  incremental: true,
})

/**
 * Runs an effect beside every value, which goes on as it is once the effect has ended. By default its failures, and
 * time-outs, are counted and harm no record. It may run again: what was not committed when a program ends is looked at
 * once more by the next.
 */
export const tapEffect = <A, G extends Failure, R2, const O extends TapOptions = Calls.Patient>(
  f: (value: A, record: RecordContext) => Effect.Effect<unknown, G, R2>,
  options?: O,
): Stage<A, A, TapFails<G, O>, never, R2> => {
  type Fails = TapFails<G, O>
  const onReplay = options?.onReplay
  const calls = new Calls.Calls((options ?? {}) as Calls.Options, "Flow.tapEffect")
  const fails = options?.failures === "fail"
  const skips = onReplay === "skip"
  const isAllReplayed = ({ source }: Batch<A, unknown>) => source.next <= (source.replayedBelow ?? -1)
  const once = (value: A, record: RecordContext): Effect.Effect<unknown, G, R2> =>
    skips && record.isReplayed ? Effect.void : f(value, record)
  return perTask<A, A, Fails, never, R2, never, never>(
    Effect.map(
      calls.open,
      (open) => <F>(batch: Batch<A, F>): Effect.Effect<Batch<A, F | Fails>, never, R2> =>
        skips && isAllReplayed(batch) ? Effect.succeed(batch) : Effect.flatMap(open.each(batch, once), (results) => {
          if (!fails) return Effect.as(countFailures(results), batch)
          const same = results.map((result, i) => Result.isSuccess(result) ? Result.succeed(batch.values[i]!) : result)
          return Effect.succeed(settle(batch, same as Results<A, Fails>))
        }),
    ),
    { stage: "tapEffect", effects: onReplay ?? "undeclared" },
  )
}

type Results<B, G> = ReadonlyArray<Result.Result<B, G>>

type TapFails<G, O> = "failures" extends keyof O
  ? [O["failures"]] extends ["count" | undefined] ? never : G | Calls.TimedOutOf<O>
  : never

const countFailures = (results: ReadonlyArray<Result.Result<unknown, Failure>>): Effect.Effect<void> => {
  const tags = new Map<string, number>()
  for (const result of results) {
    if (Result.isFailure(result)) tags.set(result.failure._tag, (tags.get(result.failure._tag) ?? 0) + 1)
  }
  return Effect.forEach(
    tags,
    ([reason, count]) => Metric.update(Metric.withAttributes(tapFailures, { reason }), count),
    { discard: true },
  )
}

export { type Options as EffectOptions, TimedOut } from "./Calls.ts"

/** One result per value: successes go on, failures fail their rows. */
export const settle = <A, B, G, F>(
  batch: Batch<A, F>,
  results: ReadonlyArray<Result.Result<B, G>>,
): Batch<B, F | G> => {
  const values: Array<B> = []
  const from = new Uint32Array(results.length)
  const failures: Array<Failed<G>> = []
  for (let i = 0; i < results.length; i++) {
    const result = results[i]!
    if (Result.isSuccess(result)) {
      from[values.length] = i
      values.push(result.success)
    } else failures.push(failing(batch, i, result.failure))
  }
  return failures.length === 0
    ? { ...batch, values }
    : fail(gather<A, B, F>(batch, values, from.subarray(0, values.length)), failures)
}
