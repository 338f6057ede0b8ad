/** Folding the values of a key into one, in windows or for ever. */
import { Effect } from "effect"
import type { Batch, Failed } from "../Batch.ts"
import { addFailed, failing, gather, units, withoutRows } from "../Batch.ts"
import { perTask, type Stage } from "../Flow.ts"
import { Logged, type LoggedStore, type PipelineError } from "../Task.ts"
import { AlignedWindows } from "./AlignedWindows.ts"
import { type Emit, keeping, periodOf } from "./Emission.ts"
import * as Fold from "./Fold.ts"
import { timed } from "./Timed.ts"
import { type Aligned, groupKey, type Keyless, type Late, type Windowed } from "./Window.ts"

export interface WindowedOptions<in A, in out S, out B> {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  readonly window: Aligned
  readonly fold: Fold.Fold<A, S, B>
  /** When results are emitted; `updates` by default. */
  readonly emit?: Emit
}

/**
 * Folds the values of each record key per window of event time.
 *
 * Windows close by stream time, in the order of their starts; a closed window stays closed over restarts. Memory is
 * bounded by the keys of the windows that are open: size plus grace behind stream time.
 */
export const windowed = <A, S, B>(
  options: WindowedOptions<A, S, B>,
): Stage<A, Windowed<B>, Late | Keyless, PipelineError, Logged> => {
  const emit = options.emit ?? "updates"
  const period = periodOf(emit)
  const keeps = keeping(options.fold.state, period)
  const spec = { name: options.name, value: keeps.codec, isParted: true, windows: { size: options.window.size } }
  const open = Effect.gen(function* () {
    const store = yield* (yield* Logged).store(spec)
    const windows = new AlignedWindows(store, {
      ...options,
      keeping: keeps,
      emit: typeof emit === "string" ? emit : "periods",
      period: period ?? Infinity,
    })
    return [store, windows] as const
  })
  return timed<A, Windowed<B>, Late | Keyless>(options.name, open, { stage: "windowed", stores: [spec] })
}

/** Values per key and minute are counted most often, so that has a name. */
export const count = (
  options: Pick<WindowedOptions<unknown, number, number>, "name" | "window" | "emit">,
): Stage<unknown, Windowed<number>, Late | Keyless, PipelineError, Logged> => windowed({ ...options, fold: Fold.count })

export interface RunningOptions<in A, in out S, out B> {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  readonly fold: Fold.Fold<A, S, B>
}

/**
 * Folds all values of each record key and emits the key's result once per batch that changed it. Memory grows with the
 * number of keys.
 */
export const running = <A, S, B>(
  options: RunningOptions<A, S, B>,
): Stage<A, { readonly key: string; readonly value: B }, Keyless, PipelineError, Logged> => {
  const spec = { name: options.name, value: options.fold.state }
  return perTask<A, { readonly key: string; readonly value: B }, Keyless, never, never, PipelineError, Logged>(
    Effect.gen(function* () {
      const store = yield* (yield* Logged).store(spec)
      return (batch) => Effect.sync(() => foldKeys(batch, store, options))
    }),
    { stage: "running", stores: [spec] },
  )
}

const foldKeys = <A, S, B, F>(
  batch: Batch<A, F>,
  store: LoggedStore<S>,
  { name, fold }: RunningOptions<A, S, B>,
): Batch<{ readonly key: string; readonly value: B }, F | Keyless> => {
  const touched = new Map<string, number>()
  const without: Array<Failed<Keyless>> = []
  let folded = 0
  for (let i = 0; i < batch.values.length; i++) {
    const key = groupKey(batch, i, name)
    if (typeof key !== "string") {
      addFailed(without, failing(batch, i, key))
      continue
    }
    folded++
    store.set(key, Fold.added(fold, store.get(key), batch, i))
    touched.delete(key)
    touched.set(key, i)
  }
  const last = Uint32Array.from(touched.values())
  return {
    ...gather(batch, Array.from(touched.keys(), (key) => ({ key, value: fold.result(store.get(key)!) })), last),
    units: units(last.length),
    outgoing: withoutRows(batch.outgoing, without),
    failed: [...batch.failed, ...without],
    folded: [...batch.folded, { stage: name, count: folded }],
  }
}
