/** A source behind a cache: one request per key in flight, keys of a batch in few requests, hits without any effect. */
import { Cause, type Clock, Deferred, Duration, Effect, Exit, type Fiber, Semaphore } from "effect"
import type { Failure } from "../../Batch.ts"
import { monotonic } from "../../Pace.ts"
import { type Linked, LruMap } from "../../state/LruMap.ts"
import {
  type Answer,
  type Cached,
  type Found,
  type Missing,
  missing,
  type Unavailable,
  unavailable,
  Undecodable,
  undecodable,
} from "./LookupAnswer.ts"
import type { Figures } from "./LookupFigures.ts"

/** What a lookup is made of, in milliseconds. */
export interface Settings<in out V> {
  readonly name: string
  /** Asks the source: keys that are absent from the answer are missing. */
  load(keys: ReadonlyArray<string>): Effect.Effect<ReadonlyMap<string, V | Undecodable>, Failure>
  readonly timeout: Duration.Duration
  readonly batchSize: number
  readonly concurrency: number
  readonly size: number
  readonly ttl: number
  readonly missingTtl: number
  readonly failureTtl: number
  readonly staleFor: number
  /** The age at which an entry is refreshed; `Infinity` for never. */
  readonly refreshAfter: number
  fallback(key: string, why: Unavailable): V | undefined
}

class Entry<V> implements Linked {
  readonly key: string
  newer: this | undefined = undefined
  older: this | undefined = undefined
  answer: Found<V> | Missing | undefined = undefined
  /** These times are those of a clock that is never put. */
  expires = -Infinity
  refreshAt = Infinity
  /** Why the source could not be asked, and until when it is not asked again. */
  failure: Unavailable | undefined = undefined
  failedUntil = -Infinity

  constructor(key: string) {
    this.key = key
  }
}

type Landing<V> = Exit.Exit<ReadonlyMap<string, V | Undecodable>, Unavailable>

type Fork = (effect: Effect.Effect<void>) => Fiber.Fiber<void>

/** A request for some keys that is on its way. */
class Flight<V> {
  readonly answers = new Map<string, Answer<V>>()
  /** Dies where the source throws. */
  readonly done = Deferred.makeUnsafe<void>()
}

/** Requests for refreshes that may wait for others, per request that may be made at a time. */
const refreshesWaiting = 4

export class LookupCache<V> implements Cached<V> {
  readonly name: string
  readonly #settings: Settings<V>
  readonly #figures: Figures
  readonly #clock: Clock.Clock
  readonly #fork: Fork
  readonly #entries: LruMap<Entry<V>>
  readonly #flights = new Map<string, Flight<V>>()
  readonly #asking: Semaphore.Semaphore
  readonly #refreshing: Semaphore.Semaphore
  #refreshes = 0

  /** `fork` runs requests beside their callers, who may be interrupted while others wait for the same keys. */
  constructor(settings: Settings<V>, figures: Figures, clock: Clock.Clock, fork: Fork) {
    this.name = settings.name
    this.#settings = settings
    this.#figures = figures
    this.#clock = clock
    this.#fork = fork
    this.#entries = new LruMap(settings.size)
    this.#asking = Semaphore.makeUnsafe(settings.concurrency)
    this.#refreshing = Semaphore.makeUnsafe(settings.concurrency)
  }

  readonly get = (key: string): Effect.Effect<Answer<V>> => Effect.map(this.getAll([key]), ([answer]) => answer!)

  readonly getAll = (
    keys: ReadonlyArray<string | undefined>,
    defect: (i: number, cause: unknown) => unknown = (_, cause) => cause,
  ): Effect.Effect<ReadonlyArray<Answer<V>>> =>
    Effect.suspend(() => {
      const now = monotonic(this.#clock)
      const answers = new Array<Answer<V>>(keys.length)
      const waiting: Array<number> = []
      let hits = 0
      let negative = 0
      let ageing: Array<Entry<V>> | undefined
      for (let i = 0; i < keys.length; i++) {
        const key = keys[i]
        if (key === undefined) {
          answers[i] = missing
          continue
        }
        const entry = this.#entries.get(key)
        if (entry !== undefined && now < entry.expires) {
          if (entry.answer!._tag === "Found") hits++
          else negative++
          answers[i] = entry.answer!
          if (now >= entry.refreshAt) (ageing ??= []).push(entry)
        } else if (entry !== undefined && now < entry.failedUntil) {
          negative++
          try {
            answers[i] = this.#without(key, entry, entry.failure!, now)
          } catch (cause) {
            throw defect(i, cause)
          }
        } else waiting.push(i)
      }
      this.#figures.asked(hits, negative, waiting.length)
      if (ageing !== undefined) this.#refresh(ageing)
      return waiting.length === 0 ? Effect.succeed(answers) : this.#ask(keys, waiting, answers, defect)
    })

  readonly invalidate = (key: string): Effect.Effect<void> => Effect.sync(() => this.#entries.delete(key))

  /** Answers the rest of a batch, keys that are in flight by the request they are in. */
  #ask(
    keys: ReadonlyArray<string | undefined>,
    waiting: ReadonlyArray<number>,
    answers: Array<Answer<V>>,
    defect: (i: number, cause: unknown) => unknown,
  ): Effect.Effect<ReadonlyArray<Answer<V>>> {
    const flights = new Map<string, Flight<V>>()
    const wanted = new Set<string>()
    for (const i of waiting) {
      const flight = this.#flights.get(keys[i]!)
      if (flight === undefined) wanted.add(keys[i]!)
      else flights.set(keys[i]!, flight)
    }
    for (const [key, flight] of this.#load([...wanted], this.#asking)) flights.set(key, flight)
    const first = new Map<Flight<V>, number>()
    for (const i of waiting) {
      const flight = flights.get(keys[i]!)!
      if (!first.has(flight)) first.set(flight, i)
    }
    const landed = Effect.forEach(
      first,
      ([flight, i]) => Effect.catchDefect(Deferred.await(flight.done), (cause) => Effect.die(defect(i, cause))),
      { discard: true },
    )
    return Effect.map(landed, () => {
      for (const i of waiting) answers[i] = flights.get(keys[i]!)!.answers.get(keys[i]!)!
      return answers
    })
  }

  /** Asks for what is about to be too old, unless enough is being asked for already: then the next hit tries again. */
  #refresh(ageing: ReadonlyArray<Entry<V>>): void {
    const { batchSize, concurrency } = this.#settings
    const keys = new Set<string>()
    for (const entry of ageing) {
      if (this.#refreshes + keys.size / batchSize >= concurrency * refreshesWaiting) break
      if (!this.#flights.has(entry.key)) keys.add(entry.key)
    }
    this.#load([...keys], this.#refreshing)
  }

  /** Sends requests for keys that are not in flight; they may be answered before this returns. */
  #load(keys: ReadonlyArray<string>, places: Semaphore.Semaphore): ReadonlyMap<string, Flight<V>> {
    const { batchSize } = this.#settings
    const flights = new Map<string, Flight<V>>()
    const isRefresh = places === this.#refreshing
    for (let from = 0; from < keys.length; from += batchSize) {
      const some = keys.slice(from, from + batchSize)
      const flight = new Flight<V>()
      for (const key of some) {
        flights.set(key, flight)
        this.#flights.set(key, flight)
      }
      if (isRefresh) this.#refreshes++
      const request = Semaphore.withPermits(places, 1)(this.#request(some))
      const landing = (exit: Landing<V>) =>
        Effect.suspend(() => {
          if (isRefresh) this.#refreshes--
          this.#land(some, flight, exit)
          return isRefresh && Exit.isFailure(exit) ? this.#tell(some.length, exit.cause) : Effect.void
        })
      const fiber = this.#fork(
        Effect.uninterruptibleMask((restore) => Effect.flatMap(Effect.exit(restore(request)), landing)),
      )
      const neverRan = fiber.pollUnsafe() !== undefined && !Deferred.isDoneUnsafe(flight.done)
      if (neverRan) this.#land(some, flight, Exit.interrupt())
    }
    return flights
  }

  /** One request to the source, bounded in time from when it is its turn. */
  #request(keys: ReadonlyArray<string>): Effect.Effect<ReadonlyMap<string, V | Undecodable>, Unavailable> {
    const { name, timeout, load } = this.#settings
    return Effect.suspend(() => {
      this.#figures.started()
      return load(keys).pipe(
        Effect.mapError(({ message }) => unavailable("failed", `lookup ${name}: ${message}`)),
        Effect.timeoutOrElse({
          duration: timeout,
          orElse: () =>
            Effect.fail(unavailable("timeout", `lookup ${name}: no answer within ${Duration.format(timeout)}`)),
        }),
        Effect.ensuring(Effect.sync(() => this.#figures.ended())),
      )
    })
  }

  /** Takes an answer in, and lets those go on that wait for it. */
  #land(keys: ReadonlyArray<string>, flight: Flight<V>, exit: Landing<V>): void {
    const now = monotonic(this.#clock)
    for (const key of keys) this.#flights.delete(key)
    try {
      const why = Exit.isFailure(exit) ? this.#whyNot(exit.cause) : undefined
      if (Exit.isFailure(exit)) this.#figures.failed(why?.reason ?? "defect")
      for (const key of keys) {
        if (Exit.isSuccess(exit)) this.#take(key, exit.value.get(key), flight, now)
        else if (why !== undefined) this.#fail(key, why, flight, now)
        else throw Cause.squash(exit.cause)
      }
      Deferred.doneUnsafe(flight.done, Exit.void)
    } catch (cause) {
      Deferred.doneUnsafe(flight.done, Exit.die(cause))
    }
  }

  /** Why there is no answer; `undefined` where the source threw. */
  #whyNot(cause: Cause.Cause<Unavailable>): Unavailable | undefined {
    const failure = Cause.findErrorOption(cause)
    if (failure._tag === "Some") return failure.value
    return Cause.hasInterruptsOnly(cause) ? unavailable("failed", `lookup ${this.name}: it was closed`) : undefined
  }

  /** Nobody waits for a refresh: that it failed is told. */
  #tell(keys: number, cause: Cause.Cause<Unavailable>): Effect.Effect<void> {
    const why = this.#whyNot(cause)
    return why === undefined
      ? Effect.logError(`lookup ${this.name}: a refresh failed`, cause)
      : Effect.logWarning(`${why.message}; what is known of ${keys} keys stays until its time is over`)
  }

  #take(key: string, value: V | Undecodable | undefined, flight: Flight<V>, now: number): void {
    if (value instanceof Undecodable) {
      this.#figures.failed("undecodable")
      return this.#fail(key, undecodable(this.name, value), flight, now)
    }
    const { ttl, missingTtl, refreshAfter } = this.#settings
    const answer: Found<V> | Missing = value === undefined
      ? missing
      : { _tag: "Found", value, at: this.#clock.currentTimeMillisUnsafe(), origin: "source" }
    flight.answers.set(key, answer)
    const entry = this.#entry(key)
    entry.answer = answer
    entry.expires = now + (answer._tag === "Found" ? ttl : missingTtl)
    entry.refreshAt = answer._tag === "Found" ? now + refreshAfter : Infinity
    entry.failure = undefined
    entry.failedUntil = -Infinity
  }

  #fail(key: string, why: Unavailable, flight: Flight<V>, now: number): void {
    const entry = this.#entry(key)
    entry.failure = why
    entry.failedUntil = now + this.#settings.failureTtl
    entry.refreshAt = entry.failedUntil
    flight.answers.set(key, this.#without(key, entry, why, now))
  }

  #entry(key: string): Entry<V> {
    const known = this.#entries.peek(key)
    if (known !== undefined) return known
    const entry = new Entry<V>(key)
    if (this.#settings.size > 0) this.#figures.evicted(this.#entries.add(entry))
    return entry
  }

  /** What is answered where the source cannot be asked. */
  #without(key: string, { answer, expires }: Entry<V>, why: Unavailable, now: number): Answer<V> {
    if (answer !== undefined && now < expires) return answer
    if (answer?._tag === "Found" && now < expires + this.#settings.staleFor) return { ...answer, origin: "stale" }
    const value = this.#settings.fallback(key, why)
    return value === undefined
      ? why
      : { _tag: "Found", value, at: this.#clock.currentTimeMillisUnsafe(), origin: "fallback" }
  }
}
