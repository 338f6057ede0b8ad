/** The aggregates of one task: their states, and what was answered to their commands. */
import { Result, Schema } from "effect"
import type { Batch, Failed, Outgoing } from "../Batch.ts"
import { fail, failing, gather, keyBytes, offsetOf, RecordDefect, row, units } from "../Batch.ts"
import type { LoggedStore } from "../Task.ts"
import { type Decided, type Decider, type Publishing, type Recorded, Undecidable } from "./Decision.ts"
import { Undeliverable } from "./Deliver.ts"
import { recordOf } from "./Record.ts"
import { groupKey, type Keyless } from "./Window.ts"

/** One aggregate, as one entry of the changelog: what was decided is remembered with the state it has led to, or not. */
export interface Aggregate<out E, out S> {
  readonly state: S
  /** How many events there were. */
  readonly version: number
  /** What was answered to the latest commands, oldest first. */
  readonly results: ReadonlyArray<Remembered<E>>
  /** By topic: the offset of the last command whose result is forgotten. */
  readonly forgotten: Readonly<Record<string, number>>
}

export interface Remembered<out E> {
  readonly id: string
  readonly topic: string
  readonly offset: number
  /** Stream time when it was decided, in milliseconds since 1970. */
  readonly at: number
  /** Where it was accepted: the version before it, and its events. */
  readonly accepted?: { readonly after: number; readonly events: ReadonlyArray<E> }
  /** Where it was rejected: why, as JSON. */
  readonly rejected?: unknown
}

export const codec = <E, S>(
  state: Schema.Codec<S, unknown>,
  event: Schema.Codec<E, unknown>,
): Schema.Codec<Aggregate<E, S>, unknown> =>
  Schema.Struct({
    state,
    version: Schema.Int,
    results: Schema.Array(Schema.Struct({
      id: Schema.String,
      topic: Schema.String,
      offset: Schema.Int,
      at: Schema.Finite,
      accepted: Schema.optionalKey(Schema.Struct({ after: Schema.Int, events: Schema.Array(event) })),
      rejected: Schema.optionalKey(Schema.Unknown),
    })),
    forgotten: Schema.Record(Schema.String, Schema.Int),
  })

/** Results are forgotten in steps of a twenty-fourth of their window. */
const steps = 24

/** What a command has come to. */
type Verdict<C, E, R> = Decided<C, E> | { readonly reason: R | Keyless | Undecidable | Undeliverable }

export class Aggregates<C, E, R, S> {
  readonly #store: LoggedStore<Aggregate<E, S>>
  readonly #decider: Decider<C, E, R, S>
  readonly #publishing: Publishing<E> | undefined
  readonly #topics: ReadonlySet<string>
  readonly #encodeRejection: (rejection: R) => unknown
  readonly #decodeRejection: (rejected: unknown) => R
  readonly #stepLength: number
  /** By step of the window: whose results were decided in it. */
  readonly #decidedIn = new Map<number, Set<string>>()
  #oldest = Infinity
  /** What was decided for the row at hand in this very reading of it, and for whom. */
  #fresh: Array<Remembered<E>> = []
  #freshKeys: Array<string> = []
  #freshRow = -1

  constructor(
    store: LoggedStore<Aggregate<E, S>>,
    decider: Decider<C, E, R, S>,
    publishing: Publishing<E> | undefined,
  ) {
    this.#store = store
    this.#decider = decider
    this.#publishing = publishing
    this.#topics = new Set(publishing?.topics.map(({ name }) => name))
    this.#encodeRejection = Schema.encodeSync(decider.rejection)
    this.#decodeRejection = Schema.decodeUnknownSync(decider.rejection)
    this.#stepLength = decider.remember.window / steps
    for (const [key, { results }] of store.entries()) for (const { at } of results) this.#note(key, at)
  }

  decide<F>(batch: Batch<C, F>): Batch<Decided<C, E>, F | R | Keyless | Undecidable | Undeliverable> {
    const { source, values, time } = batch
    const decided: Array<Decided<C, E>> = []
    const from = new Uint32Array(values.length)
    const failures: Array<Failed<R | Keyless | Undecidable | Undeliverable>> = []
    const published: Array<Outgoing> = []
    this.#freshRow = -1
    let passed = 0
    for (let i = 0; i < values.length; i++) {
      const at = row(batch, i)
      if (time !== undefined) {
        for (; passed < at && passed < source.length; passed++) this.#advance(time.rowClock[passed]!)
      }
      this.#advance(time === undefined ? source.timestamps[at]! : time.clock[i]!)
      const verdict = this.#guarded(batch, i, published)
      if ("reason" in verdict) failures.push(failing(batch, i, verdict.reason))
      else {
        from[decided.length] = i
        decided.push(verdict)
      }
    }
    if (time !== undefined) {
      for (; passed < source.length; passed++) this.#advance(time.rowClock[passed]!)
      this.#advance(time.now)
    }
    const out = fail(gather<C, Decided<C, E>, F>(batch, decided, from.subarray(0, decided.length)), failures)
    return published.length === 0 ? out : { ...out, outgoing: [...out.outgoing, ...asFacts(published)] }
  }

  #guarded(batch: Batch<C, unknown>, i: number, published: Array<Outgoing>): Verdict<C, E, R> {
    try {
      return this.#answer(batch, i, published)
    } catch (cause) {
      throw new RecordDefect(batch, i, cause)
    }
  }

  #answer(batch: Batch<C, unknown>, i: number, published: Array<Outgoing>): Verdict<C, E, R> {
    const at = row(batch, i)
    const decider = this.#decider
    const command = batch.values[i]!
    const key = groupKey(batch, i, decider.name)
    if (typeof key !== "string") return { reason: key }
    const commandId = decider.commandId(command)
    if (decider.aggregate(command) !== key) return { reason: misaddressed }
    if (commandId === "") return { reason: unidentified }
    const topic = batch.source.topic.name
    const offset = offsetOf(batch.source, at)
    if (at !== this.#freshRow) {
      this.#freshRow = at
      this.#fresh = []
      this.#freshKeys = []
    }

    const aggregate = this.#store.get(key)
    const known = aggregate?.results.find(({ id }) => id === commandId)
    if (known !== undefined) {
      if (known.accepted === undefined) return { reason: this.#decodeRejection(known.rejected) }
      const events = recorded(key, commandId, known.accepted.after, known.accepted.events)
      const isReadAgain = known.topic === topic && known.offset === offset && !this.#fresh.includes(known)
      if (!isReadAgain) return { key, command, commandId, outcome: "repeated", events }
      const undeliverable = this.#publish(batch, i, events, published)
      return undeliverable ?? { key, command, commandId, outcome: "accepted", events }
    }
    if (aggregate !== undefined && offset <= (aggregate.forgotten[topic] ?? -1) && !this.#freshKeys.includes(key)) {
      return { reason: forgotten }
    }

    const about = { id: commandId, topic, offset, at: this.#store.streamTime }
    const state = aggregate === undefined ? decider.initial : aggregate.state
    const version = aggregate?.version ?? 0
    const result = decider.decide(state, command)
    if (Result.isFailure(result)) {
      this.#remember(key, aggregate, { ...about, rejected: this.#encodeRejection(result.failure) }, state, version)
      return { reason: result.failure }
    }
    const happened = result.success
    let next = state
    for (const event of happened) next = decider.evolve(next, event)
    const events = recorded(key, commandId, version, happened)
    const undeliverable = this.#publish(batch, i, events, published)
    if (undeliverable !== undefined) return undeliverable
    const accepted = { after: version, events: happened }
    this.#remember(key, aggregate, { ...about, accepted }, next, version + happened.length)
    return { key, command, commandId, outcome: "accepted", events }
  }

  /** All events of a command, or none. */
  #publish(
    batch: Batch<C, unknown>,
    i: number,
    events: ReadonlyArray<Recorded<E>>,
    published: Array<Outgoing>,
  ): { readonly reason: Undeliverable } | undefined {
    if (this.#publishing === undefined) return undefined
    const before = published.length
    for (const event of events) {
      const { topic, value } = this.#publishing.record(event)
      if (!this.#topics.has(topic.name)) {
        throw new Error(`an event of ${this.#decider.name} goes to topic ${topic.name}, which \`topics\` does not name`)
      }
      const record = recordOf(topic, value, keyBytes(batch, i))
      if (record instanceof Undeliverable) {
        published.length = before
        return { reason: record }
      }
      published.push({ topic: record.topic, key: record.key, value: record.value, row: row(batch, i) })
    }
    return undefined
  }

  #remember(
    key: string,
    aggregate: Aggregate<E, S> | undefined,
    result: Remembered<E>,
    state: S,
    version: number,
  ): void {
    const results = aggregate === undefined ? [result] : [...aggregate.results, result]
    const excess = results.length - this.#decider.remember.atMost
    this.#store.set(key, {
      state,
      version,
      results: excess > 0 ? results.slice(excess) : results,
      forgotten: forgetting(aggregate?.forgotten ?? {}, results, Math.max(0, excess)),
    })
    this.#fresh.push(result)
    this.#freshKeys.push(key)
    this.#note(key, result.at)
  }

  #note(key: string, at: number): void {
    const step = Math.floor(at / this.#stepLength)
    const keys = this.#decidedIn.get(step)
    if (keys !== undefined) return void keys.add(key)
    this.#decidedIn.set(step, new Set([key]))
    if (step < this.#oldest) this.#oldest = step
  }

  /** Moves stream time, and forgets what its window has left behind. */
  #advance(to: number): void {
    if (!(to > this.#store.streamTime)) return
    this.#store.streamTime = to
    const firstKept = Math.floor(to / this.#stepLength) - steps
    while (this.#oldest < firstKept) {
      for (const key of this.#decidedIn.get(this.#oldest)!) this.#forget(key, firstKept)
      this.#decidedIn.delete(this.#oldest)
      this.#oldest = Math.min(...this.#decidedIn.keys())
    }
  }

  #forget(key: string, firstKept: number): void {
    const aggregate = this.#store.get(key)
    if (aggregate === undefined) return
    const { results, version } = aggregate
    const kept = results.findIndex(({ at }) => Math.floor(at / this.#stepLength) >= firstKept)
    const gone = kept === -1 ? results.length : kept
    if (gone === 0) return
    // Nothing has happened to it: a command that is read again is decided as it was.
    if (gone === results.length && version === 0) return this.#store.delete(key)
    this.#store.set(key, {
      ...aggregate,
      results: results.slice(gone),
      forgotten: forgetting(aggregate.forgotten, results, gone),
    })
  }
}

/** By topic the offset of the last result that is forgotten, once the first `gone` of these are. */
const forgetting = (
  forgotten: Readonly<Record<string, number>>,
  results: ReadonlyArray<Remembered<unknown>>,
  gone: number,
): Readonly<Record<string, number>> => {
  if (gone === 0) return forgotten
  const now = { ...forgotten }
  for (let i = 0; i < gone; i++) {
    const { topic, offset } = results[i]!
    now[topic] = Math.max(now[topic] ?? -1, offset)
  }
  return now
}

const recorded = <E>(
  key: string,
  commandId: string,
  after: number,
  events: ReadonlyArray<E>,
): ReadonlyArray<Recorded<E>> => events.map((event, i) => ({ key, version: after + 1 + i, commandId, event }))

/** Events have happened: whatever fails behind their command does not take them back. */
const asFacts = (published: ReadonlyArray<Outgoing>): ReadonlyArray<Outgoing> => {
  const unit = units(1)[0]!
  return published.map((out) => ({ ...out, unit }))
}

const misaddressed = new Undecidable({
  reason: "Misaddressed",
  field: "key",
  message: "the record's key is not the aggregate that the command is for",
})
const unidentified = new Undecidable({ reason: "Unidentified", field: "command id", message: "the command's id is empty" })
const forgotten = new Undecidable({
  reason: "Forgotten",
  field: "command id",
  message: "the command was decided before, and its result is forgotten: it is not decided again",
})
