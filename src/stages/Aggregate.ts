/** Folding the values of a key into one, in windows or for ever. */
import { Buffer } from "node:buffer"
import { Effect, Schema } from "effect"
import type { Batch, Failed } from "../Batch.ts"
import { failing, gather, RecordDefect, row, units, withoutRows } from "../Batch.ts"
import { perTask, type Stage } from "../Flow.ts"
import { Logged, type LoggedStore, type PipelineError } from "../Task.ts"
import { groupKey, type Keyless, Late, type Tumbling } from "./Window.ts"

/** The state of one key in one window. `final` once the window has closed: nothing is added to it any more. */
export interface Windowed<out V> {
  readonly key: string
  /** Milliseconds since 1970; the window is `[start, end)`. */
  readonly start: number
  readonly end: number
  readonly value: V
  readonly final: boolean
}

export interface Fold<in A, in out V> {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  readonly state: Schema.Codec<V, unknown>
  initial(): V
  /** Must not change `state` in place. */
  add(state: V, value: A): V
}

export interface WindowedOptions<in A, in out V> extends Fold<A, V> {
  readonly window: Tumbling
  /**
   * `updates` (the default) emits a window's state once per batch that changed it, and once more as final; `final` emits
   * it only then. For the updates of one key and window the last one counts: write them to a compacted topic or upsert.
   */
  readonly emit?: "updates" | "final"
}

/**
 * Folds the values of each record key per window of event time.
 *
 * Windows close by stream time, in the order of their starts; a closed window stays closed over restarts. Memory is
 * bounded by the keys of the windows that are open: size plus grace behind stream time.
 */
export const windowed = <A, V>(
  options: WindowedOptions<A, V>,
): Stage<A, Windowed<V>, Late | Keyless, PipelineError, Logged> =>
  perTask<A, Windowed<V>, Late | Keyless, never, never, PipelineError, Logged>(
    Effect.gen(function* () {
      const store = yield* (yield* Logged).store({ name: options.name, value: options.state })
      const windows = new OpenWindows(store, options)
      return (batch) => Effect.sync(() => windows.fold(batch))
    }),
    { stage: "windowed", stores: [{ name: options.name, value: options.state }] },
  )

/** Values per key and minute are counted most often, so that has a name. */
export const count = (
  options: Pick<WindowedOptions<unknown, number>, "name" | "window" | "emit">,
): Stage<unknown, Windowed<number>, Late | Keyless, PipelineError, Logged> =>
  windowed({ ...options, state: Schema.Int, initial: () => 0, add: (n) => n + 1 })

/** A result, the row that caused it to be emitted, and the stream time of what is emitted then. */
interface Emitted<V> {
  readonly row: number
  readonly clock: number
  readonly value: Windowed<V>
}

class OpenWindows<A, V> {
  readonly #store: LoggedStore<V>
  readonly #options: WindowedOptions<A, V>
  /** The keys of every open window, and the start of the oldest. */
  readonly #open = new Map<number, Set<string>>()
  #oldest = Infinity

  constructor(store: LoggedStore<V>, options: WindowedOptions<A, V>) {
    this.#store = store
    this.#options = options
    for (const [id] of store.entries()) {
      const separator = id.indexOf(":")
      this.#keysOf(Number(id.slice(0, separator))).add(id.slice(separator + 1))
    }
  }

  fold<F>(batch: Batch<A, F>): Batch<Windowed<V>, F | Late | Keyless> {
    const { window: { size, grace }, name, emit } = this.#options
    const store = this.#store
    const { source, values, time } = batch
    const out: Array<Emitted<V>> = []
    const touched = new Map<string, Omit<Emitted<V>, "value"> & { readonly key: string; readonly start: number }>()
    const rowClock = new Float64Array(source.length)
    const late: Array<Failed<Late>> = []
    const without: Array<Failed<Keyless>> = []
    let folded = 0
    let passed = 0
    const pass = (end: number) => {
      if (time !== undefined) {
        for (; passed < end; passed++) {
          this.#advance(time.rowClock[passed]!, passed, out, touched)
          rowClock[passed] = this.#closed
        }
      }
    }
    for (let i = 0; i < values.length; i++) {
      const at = row(batch, i)
      const timestamp = time?.timestamps[i] ?? source.timestamps[at]!
      if (time === undefined) this.#advance(timestamp, at, out, touched)
      else pass(at + 1)
      const start = timestamp - timestamp % size
      if (start + size <= store.streamTime - grace) {
        const message = `the window that ends at ${start + size} closed before this record of ${timestamp} came`
        late.push({ ...failing(batch, i, new Late({ message, windowEnd: start + size })), kept: true })
        continue
      }
      const key = groupKey(batch, i, name)
      if (typeof key !== "string") {
        without.push(failing(batch, i, key))
        continue
      }
      const id = `${start}:${key}`
      const state = store.get(id)
      if (state === undefined) this.#keysOf(start).add(key)
      store.set(id, added(this.#options, state, batch, i))
      if (emit !== "final") {
        touched.delete(id)
        touched.set(id, { row: at, clock: this.#closed, key, start })
      }
      folded++
    }
    pass(source.length)
    for (const [id, { row, clock, key, start }] of touched) {
      out.push({ row, clock, value: { key, start, end: start + size, value: store.get(id)!, final: false } })
    }
    out.sort((a, b) => a.row - b.row)
    return {
      ...batch,
      outgoing: withoutRows(batch.outgoing, without),
      values: out.map(({ value }) => value),
      rows: Uint32Array.from(out, ({ row }) => row),
      keys: out.map(({ value }) => Buffer.from(value.key)),
      units: units(out.length),
      time: time && {
        timestamps: Float64Array.from(out, ({ value }) => value.start),
        clock: Float64Array.from(out, ({ clock }) => clock),
        rowClock,
        now: this.#closed,
      },
      failed: [...batch.failed, ...late, ...without],
      folded: [...batch.folded, { stage: name, count: folded }],
    }
  }

  /**
   * The start of the latest window that has closed. It is the stream time of what is emitted: no window that starts
   * earlier is emitted any more.
   */
  get #closed(): number {
    const { size, grace } = this.#options.window
    return Math.floor((this.#store.streamTime - grace) / size) * size - size
  }

  /** Moves stream time, and closes the windows that it has passed by their grace: oldest first. */
  #advance(
    to: number,
    at: number,
    out: Array<Emitted<V>>,
    touched: Map<string, unknown>,
  ): void {
    const { size, grace } = this.#options.window
    if (!(to > this.#store.streamTime)) return
    this.#store.streamTime = to
    while (this.#oldest + size <= to - grace) {
      const start = this.#oldest
      for (const key of this.#open.get(start)!) {
        const id = `${start}:${key}`
        const value = { key, start, end: start + size, value: this.#store.get(id)!, final: true }
        out.push({ row: at, clock: start, value })
        touched.delete(id)
        this.#store.delete(id)
      }
      this.#open.delete(start)
      this.#oldest = Infinity
      for (const other of this.#open.keys()) if (other < this.#oldest) this.#oldest = other
    }
  }

  #keysOf(start: number): Set<string> {
    let keys = this.#open.get(start)
    if (keys === undefined) {
      keys = new Set()
      this.#open.set(start, keys)
      if (start < this.#oldest) this.#oldest = start
    }
    return keys
  }
}

/**
 * Folds all values of each record key and emits the key's state once per batch that changed it. Memory grows with the
 * number of keys.
 */
export const running = <A, V>(
  options: Fold<A, V>,
): Stage<A, { readonly key: string; readonly value: V }, Keyless, PipelineError, Logged> =>
  perTask<A, { readonly key: string; readonly value: V }, Keyless, never, never, PipelineError, Logged>(
    Effect.gen(function* () {
      const store = yield* (yield* Logged).store({ name: options.name, value: options.state })
      return (batch) => Effect.sync(() => foldKeys(batch, store, options))
    }),
    { stage: "running", stores: [{ name: options.name, value: options.state }] },
  )

const foldKeys = <A, V, F>(
  batch: Batch<A, F>,
  store: LoggedStore<V>,
  fold: Fold<A, V>,
): Batch<{ readonly key: string; readonly value: V }, F | Keyless> => {
  const { name } = fold
  const touched = new Map<string, number>()
  const without: Array<Failed<Keyless>> = []
  for (let i = 0; i < batch.values.length; i++) {
    const key = groupKey(batch, i, name)
    if (typeof key !== "string") {
      without.push(failing(batch, i, key))
      continue
    }
    const state = store.get(key)
    store.set(key, added(fold, state, batch, i))
    touched.delete(key)
    touched.set(key, i)
  }
  const last = Uint32Array.from(touched.values())
  return {
    ...gather(batch, Array.from(touched.keys(), (key) => ({ key, value: store.get(key)! })), last),
    units: units(last.length),
    outgoing: withoutRows(batch.outgoing, without),
    failed: [...batch.failed, ...without],
    folded: [...batch.folded, { stage: name, count: batch.values.length - without.length }],
  }
}

/** The state with value `i` in it; a throw in the fold's functions names the record. */
const added = <A, V>(fold: Fold<A, V>, state: V | undefined, batch: Batch<A, unknown>, i: number): V => {
  try {
    return fold.add(state === undefined ? fold.initial() : state, batch.values[i]!)
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
}
