/** The aggregates of one task: their states, and what was answered to their commands. */
import { Buffer } from "node:buffer"
import { Result, Schema, SchemaAST } from "effect"
import type { Batch, Failed, Outgoing } from "../../Batch.ts"
import { fail, failing, gather, keyBytes, offsetOf, RecordDefect, row, units } from "../../Batch.ts"
import * as JsonCodec from "../../JsonCodec.ts"
import type { LoggedStore } from "../../Task.ts"
import { type Decided, type Decider, type Publishing, type Recorded, Undecidable } from "./Decision.ts"
import { Undeliverable } from "../Deliver.ts"
import { recordOf } from "../Record.ts"
import { type Aggregate, type Remembered, Steps } from "./Remembered.ts"
import { groupKey, type Keyless } from "../Window.ts"

/**
 * The most bytes of one aggregate's results, as they are logged: half of what an entry of the changelog may take, by the
 * brokers' default. The other half is for its state.
 */
const mostBytes = 512 * 1024

/** A bound on what is logged of a result beside its id, its topic and its events. */
const around = 160

/** What a command has come to. */
type Verdict<C, E, R> = Decided<C, E> | { readonly reason: R | Keyless | Undecidable | Undeliverable }

export class Aggregates<C, E, R, S> {
  readonly #store: LoggedStore<Aggregate<E, S>>
  readonly #decider: Decider<C, E, R, S>
  readonly #publishing: Publishing<E> | undefined
  readonly #topics: ReadonlySet<string>
  readonly #encodeRejection: (rejection: R) => unknown
  readonly #decodeRejection: (rejected: unknown) => R
  /** Whether events are logged as they are. */
  readonly #isPlain: boolean
  readonly #encodeEvents: (events: ReadonlyArray<E>) => unknown
  readonly #steps: Steps
  /** How many bytes the results of an aggregate take, as far as it was asked. */
  readonly #bytes = new WeakMap<Aggregate<E, S>, number>()
  /** The row at hand, and for which keys it is read again. */
  #row = -1
  readonly #isReadAgain = new Map<string, boolean>()

  constructor(
    store: LoggedStore<Aggregate<E, S>>,
    decider: Decider<C, E, R, S>,
    publishing: Publishing<E> | undefined,
  ) {
    this.#store = store
    this.#decider = decider
    this.#publishing = publishing
    this.#topics = new Set(publishing?.topics.map(({ name }) => name))
    const rejection = JsonCodec.of(decider.rejection)
    this.#encodeRejection = Schema.encodeSync(rejection)
    this.#decodeRejection = Schema.decodeUnknownSync(rejection)
    const { event } = decider
    this.#isPlain = JsonCodec.of(event) === event && SchemaAST.toEncoded(event.ast) === event.ast
    this.#encodeEvents = Schema.encodeSync(JsonCodec.of(Schema.Array(decider.event)))
    this.#steps = new Steps(decider.remember.window)
    for (const [key, { results }] of store.entries()) for (const { at } of results) this.#steps.note(key, at)
  }

  decide<F>(batch: Batch<C, F>): Batch<Decided<C, E>, F | R | Keyless | Undecidable | Undeliverable> {
    const { source, values, time } = batch
    const decided: Array<Decided<C, E>> = []
    const from = new Uint32Array(values.length)
    const failures: Array<Failed<R | Keyless | Undecidable | Undeliverable>> = []
    const published: Array<Outgoing> = []
    this.#row = -1
    let passed = 0
    for (let i = 0; i < values.length; i++) {
      const at = row(batch, i)
      if (time !== undefined) {
        for (; passed < at && passed < source.length; passed++) this.#advance(time.rowClock[passed]!)
      }
      this.#advance(time === undefined ? timestampOf(batch, i) : time.clock[i]!)
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
    // What the wall clock has caused has no record, and is not read again.
    const offset = batch.source.length === 0 ? -1 : offsetOf(batch.source, at)
    if (at !== this.#row) {
      this.#row = at
      this.#isReadAgain.clear()
    }

    const aggregate = this.#store.get(key)
    const known = aggregate?.results.find(({ id }) => id === commandId)
    let isReadAgain = this.#isReadAgain.get(key)
    if (isReadAgain === undefined) {
      isReadAgain = offset >= 0 && offset <= (aggregate?.last[topic] ?? -1)
      this.#isReadAgain.set(key, isReadAgain)
    }
    if (known === undefined && isReadAgain) return { reason: forgotten }
    if (aggregate !== undefined && known !== undefined) {
      if (!isReadAgain) {
        this.#set(key, { ...aggregate, last: after(aggregate.last, topic, offset) }, this.#bytes.get(aggregate))
      }
      if (known.accepted === undefined) return { reason: this.#decodeRejection(known.rejected) }
      const events = recorded(key, commandId, known.accepted.after, known.accepted.events)
      const isItself = isReadAgain && known.topic === topic && known.offset === offset
      if (!isItself) return { key, command, commandId, outcome: "repeated", events }
      const undeliverable = this.#publish(batch, i, events, published)
      return undeliverable ?? { key, command, commandId, outcome: "accepted", events }
    }

    // Inputs that are merged have no common time before each has one.
    const now = this.#store.streamTime === -Infinity ? timestampOf(batch, i) : this.#store.streamTime
    const about = { id: commandId, topic, offset, at: now }
    const state = aggregate === undefined ? decider.initial : aggregate.state
    const version = aggregate?.version ?? 0
    const result = decider.decide(state, command)
    if (Result.isFailure(result)) {
      const rejected = { ...about, rejected: this.#encodeRejection(result.failure) }
      const size = this.#sizeOf(rejected)
      if (size > mostBytes) return { reason: oversized }
      this.#remember(key, aggregate, rejected, size, state, version)
      return { reason: result.failure }
    }
    const happened = result.success
    const accepted = { ...about, accepted: { after: version, events: happened } }
    const size = this.#sizeOf(accepted)
    if (size > mostBytes) return { reason: oversized }
    let next = state
    for (const event of happened) next = decider.evolve(next, event)
    const events = recorded(key, commandId, version, happened)
    const undeliverable = this.#publish(batch, i, events, published)
    if (undeliverable !== undefined) return undeliverable
    this.#remember(key, aggregate, accepted, size, next, version + happened.length)
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
    size: number,
    state: S,
    version: number,
  ): void {
    const results = aggregate === undefined ? [result] : [...aggregate.results, result]
    const { atMost } = this.#decider.remember
    let bytes = size + (aggregate === undefined ? 0 : this.#bytesOf(aggregate))
    let first = 0
    while (results.length - first > atMost || bytes > mostBytes) bytes -= this.#sizeOf(results[first++]!)
    this.#set(key, {
      state,
      version,
      results: first === 0 ? results : results.slice(first),
      last: after(aggregate?.last ?? {}, result.topic, result.offset),
    }, bytes)
    this.#steps.note(key, result.at)
  }

  #set(key: string, aggregate: Aggregate<E, S>, bytes: number | undefined): void {
    if (bytes !== undefined) this.#bytes.set(aggregate, bytes)
    this.#store.set(key, aggregate)
  }

  #bytesOf(aggregate: Aggregate<E, S>): number {
    return this.#bytes.get(aggregate) ?? aggregate.results.reduce((bytes, result) => bytes + this.#sizeOf(result), 0)
  }

  /**
   * At most so many bytes are logged for it. Only what could be too much, with as many more as are remembered, is measured
   * exactly; this throws where the schema of events refuses one.
   */
  #sizeOf({ id, topic, accepted, rejected }: Remembered<E>): number {
    if (this.#isPlain) {
      const bound = JsonCodec.bound(accepted === undefined ? rejected : accepted.events) + JsonCodec.bound(id) +
        topic.length + around
      if (bound * this.#decider.remember.atMost <= mostBytes) return bound
    }
    const json = JSON.stringify([id, accepted === undefined ? rejected : this.#encodeEvents(accepted.events)])
    return Buffer.byteLength(json) + topic.length + around
  }

  /** Moves stream time, and forgets what its window has left behind. */
  #advance(to: number): void {
    if (!(to > this.#store.streamTime)) return
    this.#store.streamTime = to
    for (const key of this.#steps.leave(to)) {
      const aggregate = this.#store.get(key)
      if (aggregate === undefined) continue
      const { results, version } = aggregate
      const kept = results.findIndex(({ at }) => this.#steps.holds(at))
      if (kept === 0) continue
      // Nothing has happened to it: a command that is read again is decided as it was.
      if (kept === -1 && version === 0) this.#store.delete(key)
      else this.#store.set(key, { ...aggregate, results: kept === -1 ? [] : results.slice(kept) })
    }
  }
}

const timestampOf = ({ time, source, rows }: Batch<unknown, unknown>, i: number): number =>
  time === undefined ? source.timestamps[rows === undefined ? i : rows[i]!]! : time.timestamps[i]!

const after = (last: Readonly<Record<string, number>>, topic: string, offset: number) =>
  offset < 0 || offset === last[topic] ? last : { ...last, [topic]: offset }

const recorded = <E>(
  key: string,
  commandId: string,
  version: number,
  events: ReadonlyArray<E>,
): ReadonlyArray<Recorded<E>> => events.map((event, i) => ({ key, version: version + 1 + i, commandId, event }))

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
const unidentified = new Undecidable({
  reason: "Unidentified",
  field: "command id",
  message: "the command's id is empty",
})
const oversized = new Undecidable({
  reason: "Oversized",
  field: "",
  message:
    `what has come of the command takes more than the ${mostBytes} bytes that are remembered: nothing has happened`,
})
const forgotten = new Undecidable({
  reason: "Forgotten",
  field: "command id",
  message: "the command was decided before, and its result is forgotten: it is not decided again",
})
