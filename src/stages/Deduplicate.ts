/** Dropping records that were seen before. */
import { Duration, Effect, Metric, Schema } from "effect"
import type { Batch, Dropped } from "../Batch.ts"
import { keep, RecordContext, row } from "../Batch.ts"
import { perTask, type Stage } from "../Flow.ts"
import { Logged, type LoggedStore, type PipelineError } from "../Task.ts"

export interface Options<in A> {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  id(value: A, record: RecordContext): string
  /** How long an id is remembered, measured on arrival (the Kafka timestamp). 24 hours by default. */
  readonly window?: Duration.Input
  /**
   * The most ids that one task remembers, 1,000,000 by default (about 150 bytes each). Beyond it the oldest are
   * forgotten: the window is then shorter than asked for, and `millrace_deduplicate_forgotten_total` counts the ids.
   */
  readonly atMost?: number
}

/** Ids that were forgotten before their window was over. */
export const forgotten = Metric.counter("millrace_deduplicate_forgotten_total", { incremental: true })

/**
 * Drops records whose id came before within the window, counted as `repeat`: the first one goes on. Ids are remembered
 * for at least the window and at most a twenty-fourth longer, per task: the same id must always have the same key.
 *
 * An id remembers the offset it came with, and a record is never its own repeat: under at-least-once, where state can be
 * ahead of positions after a crash, a record that is read again is not lost.
 */
export const by = <A>(options: Options<A>): Stage<A, A, never, PipelineError, Logged> =>
  perTask<A, A, never, never, never, PipelineError, Logged>(
    Effect.gen(function* () {
      const seen = new SeenIds(yield* (yield* Logged).store({ name: options.name, value: Ids }), options)
      return (batch) =>
        Effect.suspend(() => {
          const out = seen.filter(batch)
          const lost = seen.takeForgotten()
          return lost === 0
            ? Effect.succeed(out)
            : Effect.as(Metric.update(Metric.withAttributes(forgotten, { store: options.name }), lost), out)
        })
    }),
    { stage: "deduplicate", stores: [{ name: options.name, value: Ids }] },
  )

/** The ids that one batch brought, with their offsets: one changelog entry for all of them. */
const Ids = Schema.Struct({ ids: Schema.Array(Schema.String), offsets: Schema.Array(Schema.Int) })
type Ids = typeof Ids.Type

/** A window is forgotten in this many steps. */
const steps = 24

/** Ids that arrived in one batch and one step of the window. The first `gone` of them are forgotten already. */
interface Chunk {
  readonly key: string
  readonly step: number
  readonly ids: Array<string>
  readonly offsets: Array<number>
  gone: number
}

class SeenIds<A> {
  readonly #store: LoggedStore<Ids>
  readonly #options: Options<A>
  readonly #stepLength: number
  readonly #atMost: number
  readonly #offsets = new Map<string, number>()
  /** Oldest first, from `#oldest` on. */
  #chunks: Array<Chunk> = []
  #oldest = 0
  #forgotten = 0

  constructor(store: LoggedStore<Ids>, options: Options<A>) {
    this.#store = store
    this.#options = options
    this.#stepLength = Duration.toMillis(options.window ?? "24 hours") / steps
    this.#atMost = options.atMost ?? 1_000_000
    for (const [key, { ids, offsets }] of store.entries()) {
      this.#chunks.push({ key, step: Number(key.split(":", 1)[0]), ids: [...ids], offsets: [...offsets], gone: 0 })
    }
    this.#chunks.sort((a, b) => a.step - b.step || a.offsets[0]! - b.offsets[0]!)
    for (const chunk of this.#chunks) chunk.ids.forEach((id, i) => this.#offsets.set(id, chunk.offsets[i]!))
    this.#forget()
    this.#forgotten = 0
  }

  filter<F>(batch: Batch<A, F>): Batch<A, F> {
    const { source, values } = batch
    const dropped: Array<Dropped> = []
    const firstFresh = this.#chunks.length
    let fresh: Chunk | undefined
    const goesOn = new Uint8Array(values.length)
    for (let i = 0; i < values.length; i++) {
      const at = row(batch, i)
      const offset = source.offsets[at]!
      this.#store.streamTime = Math.max(this.#store.streamTime, source.timestamps[at]!)
      this.#forget()
      const id = this.#options.id(values[i]!, new RecordContext(batch, i))
      const seenAt = this.#offsets.get(id)
      if (seenAt !== undefined && seenAt !== offset) {
        dropped.push({ row: at, reason: "repeat" })
        continue
      }
      goesOn[i] = 1
      if (seenAt === offset) continue
      const step = Math.floor(this.#store.streamTime / this.#stepLength)
      if (fresh?.step !== step) {
        fresh = { key: `${step}:${source.topic.name}:${offset}`, step, ids: [], offsets: [], gone: 0 }
        this.#chunks.push(fresh)
      }
      fresh.ids.push(id)
      fresh.offsets.push(offset)
      this.#offsets.set(id, offset)
    }
    this.#forget()
    for (let i = Math.max(firstFresh, this.#oldest); i < this.#chunks.length; i++) {
      const { key, ids, offsets } = this.#chunks[i]!
      this.#store.set(key, { ids, offsets })
    }
    this.#compact()
    if (dropped.length === 0) return batch
    return { ...keep(batch, (i) => goesOn[i] === 1), dropped: [...batch.dropped, ...dropped] }
  }

  takeForgotten(): number {
    const forgotten = this.#forgotten
    this.#forgotten = 0
    return forgotten
  }

  /** Forgets what the window has left behind, and the oldest ids beyond the cap. */
  #forget(): void {
    const firstKept = Math.floor(this.#store.streamTime / this.#stepLength) - steps
    for (; this.#oldest < this.#chunks.length; this.#oldest++) {
      const chunk = this.#chunks[this.#oldest]!
      const over = chunk.step < firstKept
      while (chunk.gone < chunk.ids.length && (over || this.#offsets.size > this.#atMost)) {
        this.#offsets.delete(chunk.ids[chunk.gone++]!)
        if (!over) this.#forgotten++
      }
      if (chunk.gone < chunk.ids.length || this.#offsets.size <= this.#atMost && !over) return
      this.#store.delete(chunk.key)
    }
  }

  #compact(): void {
    if (this.#oldest * 2 < this.#chunks.length) return
    this.#chunks = this.#chunks.slice(this.#oldest)
    this.#oldest = 0
  }
}
