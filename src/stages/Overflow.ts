/** A lane beside a flow for keys that come too fast, so that they hold nobody up. */
import { Effect, Metric, Schema } from "effect"
import { ask, type Batch, keep, type RecordContext, row } from "../Batch.ts"
import { filter, type Flow, perTask, type Stage } from "../Flow.ts"
import { interleave } from "../Interleave.ts"
import { Pace, type Rate } from "../Pace.ts"
import { Heap } from "../state/Heap.ts"
import { Logged, type PipelineError, type Store, type StoreSpec } from "../Task.ts"
import type { Topic } from "../Topic.ts"
import { inside } from "./Branch.ts"
import * as Deliver from "./Deliver.ts"

export interface Options<in A, in out B> extends Rate {
  /** Unique within its pipeline; names the changelog. */
  readonly name: string
  /** Whose rate it is. One key is always in one partition: mostly it is the record's own. */
  key(value: A, record: RecordContext): string
  /** The lane: values are written so, and read back by a flow of its own, with tasks of its own. */
  readonly to: Topic<B>
  /** The most keys that one task remembers, 100,000 unless given (about 200 bytes each). */
  readonly atMostKeys?: number
}

/** Buckets that were forgotten before they were full again, because there were too many keys. */
export const forgotten = Metric.counter("millrace_overflow_forgotten_total", {
  description: "Keys whose rate was forgotten before its time because there were too many, by stage",
  incremental: true,
})

/** A token bucket that is not full. */
const Bucket = Schema.Struct({
  /** When it will be full again, if nothing is taken: milliseconds since 1970. */
  fullAt: Schema.Finite,
  /** Whether the key is in the lane. */
  over: Schema.Boolean,
})
type Bucket = typeof Bucket.Type

/**
 * Lets through the values of keys that keep to their rate, and writes those of others to the lane `to`, counted as dropped
 * here: `overflowed`. A key goes to the lane with the first value for which its bucket is empty, and comes back when its
 * bucket is full again: in between all its values go there.
 *
 * **Order.** Values of a key keep their order here, and in the lane where that is keyed by it too. Between the two there is
 * none: when a key has come back, what it still has in the lane is overtaken. Keep state by key on one side only.
 *
 * A bucket goes by the Kafka timestamps of its key's records, never by the clock, and is state: logged with the commit and
 * restored. The same records go the same way again, wherever batches are cut, after a crash, and in a replay. What goes to
 * the lane commits with its position: under exactly-once every value is on one side, once. Memory is bounded by
 * `atMostKeys`, of which only those are kept whose buckets are not full; beyond it those are forgotten that are the nearest
 * to full, and counted.
 */
export const by = <A extends B, B>(
  options: Options<A, B>,
): Stage<A, A, Deliver.Undeliverable, PipelineError, Logged> => {
  const { name, to, atMostKeys = 100_000 } = options
  const stage = `Overflow.by: ${name}`
  const pace = new Pace(options, stage)
  if (!(Number.isSafeInteger(atMostKeys) && atMostKeys >= 1)) {
    throw new RangeError(`${stage}: atMostKeys is a whole number of at least 1, not ${atMostKeys}`)
  }
  const store: StoreSpec<Bucket> = { name, value: Bucket }
  const keyOf = (value: A, record: RecordContext) => options.key(value, record)
  const lane = (flow: Flow<A>) => flow.pipe(Deliver.to(to), filter((_): _ is never => false, "overflowed"))
  const made = (flow: Flow<A, unknown, unknown, unknown>) => {
    const { flow: inner, open } = inside(lane, "Overflow.by")
    return perTask<A, A, Deliver.Undeliverable, PipelineError, never, PipelineError, Logged>(
      Effect.gen(function* () {
        const buckets = new Buckets(yield* (yield* Logged).store(store), pace, atMostKeys)
        const divert = yield* open
        const counted = Metric.withAttributes(forgotten, { stage: name })
        return <F>(batch: Batch<A, F>) =>
          Effect.suspend(() => {
            const over = new Uint8Array(batch.values.length)
            let any = false
            let lost = 0
            for (let i = 0; i < over.length; i++) {
              const now = arrivalOf(batch, i)
              if (buckets.take(ask(keyOf, batch, i), now)) {
                over[i] = 1
                any = true
              }
              lost += buckets.trim(now)
            }
            const rest = any
              ? Effect.map(
                divert(batch, (i) => over[i] === 1),
                (diverted) => interleave(keep(batch, (i) => over[i] === 0), diverted),
              )
              : Effect.succeed(batch)
            return lost === 0 ? rest : Effect.andThen(Metric.update(counted, lost), rest)
          })
      }),
      { stage: "overflow", stores: [store], insides: [inner] },
    )(flow)
  }
  return made as never
}

/** When a value's record came. What a tick has caused comes at its time. */
const arrivalOf = (batch: Batch<unknown, unknown>, i: number): number =>
  batch.source.timestamps[row(batch, i)] ?? batch.time?.timestamps[i] ?? 0

/** When a bucket is full, as it was when it was put in order. */
interface Due {
  readonly key: string
  readonly fullAt: number
}

const sooner = (a: Due, b: Due): boolean => a.fullAt < b.fullAt || a.fullAt === b.fullAt && a.key < b.key

/** The buckets of a task that are not full, and which of them will be first. */
class Buckets {
  readonly #store: Store<Bucket>
  readonly #pace: Pace
  readonly #most: number
  #due = new Heap<Due>(sooner)
  /** By key: what stands for it among those that are due, no later than when it is full. */
  readonly #dueAt = new Map<string, number>()

  constructor(store: Store<Bucket>, pace: Pace, most: number) {
    this.#store = store
    this.#pace = pace
    this.#most = most
    for (const [key, { fullAt }] of store.entries()) this.#expect(key, fullAt)
  }

  /** Takes one of a key's bucket; whether the key is in the lane then. */
  take(key: string, now: number): boolean {
    const known = this.#store.get(key)
    const isFull = known === undefined || known.fullAt <= now
    const taken = this.#pace.take(isFull ? Pace.full : known.fullAt, now)
    const over = !isFull && known.over || this.#pace.wait(taken, now) > 0
    // What goes to the lane leaves no debt.
    const fullAt = over ? Math.min(taken, this.#pace.emptyAt(now)) : taken
    this.#store.set(key, { fullAt, over })
    const due = this.#dueAt.get(key)
    if (due === undefined || fullAt < due) this.#expect(key, fullAt)
    return over
  }

  /** Forgets buckets that are full, and while there are too many the nearest to full; how many these were. */
  trim(now: number): number {
    let lost = 0
    for (let due = this.#due.peek(); due !== undefined; due = this.#due.peek()) {
      if (due.fullAt > now && this.#store.size <= this.#most) break
      this.#due.pop()
      if (this.#dueAt.get(due.key) !== due.fullAt) continue
      const { fullAt } = this.#store.get(due.key)!
      if (fullAt > due.fullAt) {
        this.#expect(due.key, fullAt)
        continue
      }
      this.#dueAt.delete(due.key)
      this.#store.delete(due.key)
      if (fullAt > now) lost++
    }
    return lost
  }

  #expect(key: string, fullAt: number): void {
    this.#dueAt.set(key, fullAt)
    this.#due.push({ key, fullAt })
    // Times that go back leave some behind that stand for nothing.
    if (this.#due.size <= 2 * this.#dueAt.size + 1_000) return
    this.#due = new Heap<Due>(sooner)
    for (const [key, fullAt] of this.#dueAt) this.#due.push({ key, fullAt })
  }
}
