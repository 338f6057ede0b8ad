/** Folding the values of a key into one, in windows or for ever. */
import { Effect, type Schema, type Scope } from "effect"
import type { Stage } from "../Flow.ts"
import { Logged, type LoggedStore, type PipelineError, type StoreSpec } from "../Task.ts"
import { AlignedWindows } from "./windows/AlignedWindows.ts"
import * as Counting from "./windows/CountWindows.ts"
import { type Emission, emission, type Emit, keeping } from "./windows/Emission.ts"
import * as Fold from "./Fold.ts"
import { type Running, RunningFold } from "./windows/RunningFold.ts"
import * as Sessions from "./windows/SessionWindows.ts"
import * as Sliding from "./windows/SlidingWindows.ts"
import { type Timed, timed } from "./Timed.ts"
import type { Aligned, Any, Count, Failure, Keyless, Result, Session, Sliding as SlidingWindow } from "./Window.ts"

export type { Emit, Running }

export interface WindowedOptions<in A, in out S, out B, out W extends Any = Any> {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  readonly window: W
  readonly fold: Fold.Fold<A, S, B>
  /** When results are emitted; `updates` by default. */
  readonly emit?: Emit
}

/** Windows that grow into each other, or are made of parts, need a fold that can be merged. */
export interface MergingOptions<in A, in out S, out B, out W extends Any> extends WindowedOptions<A, S, B, W> {
  readonly fold: Fold.MergingFold<A, S, B>
}

/**
 * Folds the values of each record key per window.
 *
 * Windows of event time close by stream time, in the order of their times; a closed window stays closed over restarts.
 * Memory is bounded by the keys of the windows that are open: what they hold, and their grace, behind stream time.
 */
export const windowed: {
  <A, S, B, W extends Aligned | Count>(
    options: WindowedOptions<A, S, B, W>,
  ): Stage<A, Result<W, B>, Failure<W>, PipelineError, Logged>
  <A, S, B, W extends Session | SlidingWindow>(
    options: MergingOptions<A, S, B, W>,
  ): Stage<A, Result<W, B>, Failure<W>, PipelineError, Logged>
} = <A, S, B>(options: WindowedOptions<A, S, B>): never => stageOf(options) as unknown as never

const stageOf = <A, S, B>(options: WindowedOptions<A, S, B>) => {
  const { window, name } = options
  const when = emission(options.emit ?? "updates")
  const merging = { ...options, fold: options.fold as Fold.MergingFold<A, S, B>, emission: when }
  switch (window._tag) {
    case "Aligned": {
      const keeps = keeping(options.fold.state, when)
      const how = { ...merging, window, keeping: keeps }
      const windows = { size: window.size }
      return stage(
        name,
        "windowed",
        keeps.codec,
        { isParted: true, windows, shape: `windows of ${window.size} ms every ${window.every} ms` },
        (store) => new AlignedWindows(store, how),
      )
    }
    case "Session": {
      const codec = Sessions.codec(options.fold.state, when)
      return stage(
        name,
        "windowed",
        codec,
        { shape: "sessions" },
        (store) => new Sessions.SessionWindows(store, { ...merging, window }),
      )
    }
    case "Sliding": {
      const codec = Sliding.codec(options.fold.state, when)
      return stage(
        name,
        "windowed",
        codec,
        { shape: "sliding windows" },
        (store) => new Sliding.SlidingWindows(store, { ...merging, window }),
      )
    }
    case "Count": {
      const codec = Counting.codec(options.fold.state, window, when)
      return stage(
        name,
        "windowed",
        codec,
        { shape: `windows of ${window.size} records every ${window.every}` },
        (store) => new Counting.CountWindows(store, { ...merging, window }),
      )
    }
  }
}

const stage = <A, K, B, G>(
  name: string,
  kind: string,
  value: Schema.Codec<K, unknown>,
  kept: Pick<StoreSpec<K>, "isParted" | "windows" | "shape">,
  make: (store: LoggedStore<K>) => Timed<A, B, G>,
): Stage<A, B, G, PipelineError, Logged> => {
  const spec = { name, value, ...kept }
  const open: Effect.Effect<readonly [LoggedStore<unknown>, Timed<A, B, G>], PipelineError, Logged | Scope.Scope> =
    Effect.gen(function* () {
      const store = yield* (yield* Logged).store(spec)
      return [store as LoggedStore<unknown>, make(store)]
    })
  return timed(name, open, { stage: kind, stores: [spec] })
}

/** Values per key and minute are counted most often, so that has a name. */
export const count = <W extends Any>(
  options: { readonly name: string; readonly window: W; readonly emit?: Emit },
): Stage<unknown, Result<W, number>, Failure<W>, PipelineError, Logged> =>
  stageOf({ ...options, fold: Fold.count }) as unknown as Stage<
    unknown,
    Result<W, number>,
    Failure<W>,
    PipelineError,
    Logged
  >

export interface RunningOptions<in A, in out S, out B> {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  readonly fold: Fold.Fold<A, S, B>
  /** `updates` (the default) emits a key's result once per batch that changed it. */
  readonly emit?: Exclude<Emit, "final">
}

/** Folds all values of each record key and emits the key's result as it changes. Memory grows with the number of keys. */
export const running = <A, S, B>(
  options: RunningOptions<A, S, B>,
): Stage<A, Running<B>, Keyless, PipelineError, Logged> => {
  const when: Emission = emission(options.emit ?? "updates")
  if (when.mode === "final") throw new RangeError(`${options.name}: what is folded for ever is never final`)
  const keeps = keeping(options.fold.state, when)
  const how = { ...options, emission: when, keeping: keeps }
  return stage(
    options.name,
    "running",
    keeps.codec,
    { shape: "running results" },
    (store) => new RunningFold(store, how),
  )
}
