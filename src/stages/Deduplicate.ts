/** Dropping records that were seen before. */
import { Duration, Effect, Metric } from "effect"
import type { Batch, Dropped, Headers } from "../Batch.ts"
import { keep, placeOf, RecordContext, RecordDefect, row } from "../Batch.ts"
import { perTask, type Stage } from "../Flow.ts"
import { millis } from "../Pace.ts"
import { originOf } from "../Redriven.ts"
import { FingerprintIndex } from "../state/FingerprintIndex.ts"
import { codec, Fingerprints, words, write } from "../state/Fingerprints.ts"
import { Logged, type LoggedStore, type PipelineError } from "../Task.ts"

export interface Options<in A> {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  id(value: A, record: RecordContext): string
  /** How long an id is remembered, measured on arrival (the Kafka timestamp). 24 hours by default. */
  readonly window?: Duration.Input
  /**
   * The most ids that one task remembers, 1,000,000 by default (about 50 bytes each). Beyond it the oldest are
   * forgotten: the window is then shorter than asked for, and `millrace_deduplicate_forgotten_total` counts the ids.
   */
  readonly atMost?: number
}

/** Ids that were forgotten before their window was over, by store. */
export const forgotten = Metric.counter("millrace_deduplicate_forgotten_total", {
  description: "Ids that were forgotten before their window was over, by store",
  incremental: true,
})

/** The first time in a process is told. */
const count = Effect.fnUntraced(function* (store: string, lost: number) {
  const counter = Metric.withAttributes(forgotten, { store })
  if (Number((yield* Metric.value(counter)).count) === 0) {
    yield* Effect.logWarning(
      `store ${store} holds as many ids as it may, and forgets the oldest before their window is over: ` +
        "a repeat that comes later than that goes through; let it remember more",
    )
  }
  yield* Metric.update(counter, lost)
})

/**
 * Drops records whose id came before within the window, counted as `repeat`: the first one goes on. Ids are remembered
 * for at least the window and at most a twenty-fourth longer, per task: the same id must always have the same key.
 *
 * An id is remembered as 128 bits of its SHA-256, with the topic and offset it came with. A record that is read again is
 * not its own repeat: under at-least-once, where state can be ahead of positions after a crash, it is not lost. Nor is one
 * that went on from here, became a dead letter, and was sent again by `redrive`: it says where it stood first.
 */
export const by = <A>(options: Options<A>): Stage<A, A, never, PipelineError, Logged> => {
  millis(options.window ?? "24 hours", "Deduplicate.by: window")
  const { name, atMost = 1_000_000 } = options
  if (!(Number.isSafeInteger(atMost) && atMost >= 1)) {
    throw new RangeError(`Deduplicate.by: atMost is a whole number of at least 1, not ${atMost}`)
  }
  const spec = { name, shape: "ids", value: codec }
  return perTask<A, A, never, never, never, PipelineError, Logged>(
    Effect.gen(function* () {
      const seen = new SeenIds(yield* (yield* Logged).store(spec), options)
      return (batch) =>
        Effect.suspend(() => {
          const out = seen.filter(batch)
          const lost = seen.takeForgotten()
          return lost === 0 ? Effect.succeed(out) : Effect.as(count(name, lost), out)
        })
    }),
    { stage: "deduplicate", stores: [spec] },
  )
}

/** A window is forgotten in this many steps. */
const steps = 24

/** The most ids of one changelog entry, which is then 131 kB. */
const longest = 4_096

/** Batches that bring few ids add to an entry that has less than this, and log it again: each has some bytes of its own. */
const fewest = 32

/** Ids that arrived in one step of the window and one topic, with their places: one changelog entry. */
interface Chunk {
  readonly key: string
  readonly topic: string
  /** When that step ends; milliseconds. It stands in the key, so that the window may change with the program. */
  readonly until: number
  /** Counts the entries: places give those of several topics no order, and those of ticks can be the same. */
  readonly nth: number
  ids: Fingerprints
  /** The first so many of them are forgotten already. */
  gone: number
}

/** Whether a record was sent again after it had become a dead letter, and its id was seen where it stood first. */
const isRedriven = (
  headers: Headers | undefined,
  partition: number,
  isAt: (topic: string, offset: number) => boolean,
): boolean => {
  const origin = headers === undefined ? undefined : originOf(headers)
  return origin !== undefined && origin.partition === partition && isAt(origin.topic, origin.offset)
}

class SeenIds<A> {
  readonly #store: LoggedStore<Fingerprints>
  readonly #options: Options<A>
  readonly #stepLength: number
  readonly #atMost: number
  readonly #index = new FingerprintIndex((number) => this.#chunks[number - this.#first]!.ids)
  readonly #fingerprint = new Int32Array(words)
  /** Oldest first; `#first` is the number of the first one, `#oldest` of the first that is not forgotten. */
  #chunks: Array<Chunk> = []
  #first = 0
  #oldest = 0
  #forgotten = 0
  #entries = 0

  constructor(store: LoggedStore<Fingerprints>, options: Options<A>) {
    this.#store = store
    this.#options = options
    this.#stepLength = Duration.toMillis(options.window ?? "24 hours") / steps
    this.#atMost = options.atMost ?? 1_000_000
    for (const [key, ids] of store.entries()) {
      const chunk = { key, ...this.#parse(key), ids, gone: 0 }
      this.#chunks.push(chunk)
      this.#entries = Math.max(this.#entries, chunk.nth)
    }
    this.#chunks.sort((a, b) => a.until - b.until || a.nth - b.nth || a.ids.numbers[0]! - b.ids.numbers[0]!)
    // The newest first: an id that was forgotten and came again is the newer one's.
    for (let number = this.#chunks.length - 1; number >= 0; number--) {
      const { ids } = this.#chunks[number]!
      for (let place = ids.length - 1; place >= 0; place--) {
        if (!this.#index.find(ids.ids, place * words)) this.#index.add(number, place)
      }
    }
    this.#forget()
    this.#forgotten = 0
  }

  filter<F>(batch: Batch<A, F>): Batch<A, F> {
    const { source, values } = batch
    const topic = source.topic.name
    const dropped: Array<Dropped> = []
    const last = this.#first + this.#chunks.length - 1
    const lastLength = this.#chunks.at(-1)?.ids.length ?? 0
    let fresh: Chunk | undefined
    const goesOn = new Uint8Array(values.length)
    for (let i = 0; i < values.length; i++) {
      const at = row(batch, i)
      const place = placeOf(source, at)
      // What a tick has caused arrived with no record: its own time is the nearest there is.
      const arrival = source.timestamps[at] ?? batch.time?.timestamps[i] ?? -Infinity
      this.#store.streamTime = Math.max(this.#store.streamTime, arrival)
      this.#forget()
      write(this.#idOf(batch, i), this.#fingerprint)
      if (this.#index.find(this.#fingerprint, 0)) {
        const { chunk, place: nth } = this.#index
        const seen = this.#chunks[chunk - this.#first]!
        const known = chunk < last || chunk === last && nth < lastLength
        const isAt = (topic: string, place: number) => seen.topic === topic && seen.ids.numbers[nth] === place
        // A tick of the wall clock is never read again.
        const isSame = known && Number.isInteger(place) && isAt(topic, place)
        if (isSame || known && isRedriven(source.headers[at], source.partition, isAt)) goesOn[i] = 1
        else dropped.push({ row: at, reason: "repeat" })
        continue
      }
      goesOn[i] = 1
      const until = (Math.floor(this.#store.streamTime / this.#stepLength) + 1) * this.#stepLength
      if (fresh?.until !== until || fresh.ids.length === longest) {
        fresh = this.#goOn(topic, until) ?? this.#begin(topic, until)
        this.#store.set(fresh.key, fresh.ids)
      }
      fresh.ids.push(this.#fingerprint, place)
      this.#index.add(this.#first + this.#chunks.length - 1, fresh.ids.length - 1)
    }
    this.#forget()
    for (let number = Math.max(last, this.#oldest); number < this.#first + this.#chunks.length; number++) {
      this.#chunks[number - this.#first]!.ids.trim()
    }
    this.#compact()
    if (dropped.length === 0) return batch
    return { ...keep(batch, (i) => goesOn[i] === 1), dropped: [...batch.dropped, ...dropped] }
  }

  /** The last chunk, where it is for more ids of a topic and a step. What was logged of it stays as it was. */
  #goOn(topic: string, until: number): Chunk | undefined {
    const last = this.#chunks.at(-1)
    if (last === undefined || last.until !== until || last.topic !== topic || last.ids.length >= fewest) {
      return undefined
    }
    if (this.#oldest === this.#first + this.#chunks.length) return undefined
    last.ids = last.ids.copy()
    return last
  }

  #begin(topic: string, until: number): Chunk {
    const nth = ++this.#entries
    const begun = { key: `${until}:${topic}:${nth}`, topic, until, nth, ids: new Fingerprints(), gone: 0 }
    this.#chunks.push(begun)
    return begun
  }

  #parse(key: string): Pick<Chunk, "until" | "topic" | "nth"> {
    const [time, topic, nth, ...more] = key.split(":") as [string, string, string, ...Array<string>]
    if (more.length === 0) return { until: Number(time), topic, nth: Number(nth) }
    // Logged before entries were counted: step of the window, topic, offset, value.
    return { until: (Number(time) + 1) * this.#stepLength, topic, nth: 0 }
  }

  #idOf(batch: Batch<A, unknown>, i: number): string {
    try {
      return this.#options.id(batch.values[i]!, new RecordContext(batch, i))
    } catch (cause) {
      throw new RecordDefect(batch, i, cause)
    }
  }

  takeForgotten(): number {
    const forgotten = this.#forgotten
    this.#forgotten = 0
    return forgotten
  }

  /** Forgets what the window has left behind, and the oldest ids beyond the cap. */
  #forget(): void {
    const from = (Math.floor(this.#store.streamTime / this.#stepLength) - steps) * this.#stepLength
    for (; this.#oldest < this.#first + this.#chunks.length; this.#oldest++) {
      const chunk = this.#chunks[this.#oldest - this.#first]!
      const over = chunk.until <= from
      while (chunk.gone < chunk.ids.length && (over || this.#index.size > this.#atMost)) {
        this.#index.delete(this.#oldest, chunk.gone++)
        if (!over) this.#forgotten++
      }
      if (chunk.gone < chunk.ids.length || this.#index.size <= this.#atMost && !over) return
      this.#store.delete(chunk.key)
    }
  }

  #compact(): void {
    const forgotten = this.#oldest - this.#first
    if (forgotten * 2 < this.#chunks.length) return
    this.#chunks = this.#chunks.slice(forgotten)
    this.#first = this.#oldest
  }
}
