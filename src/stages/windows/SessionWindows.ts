/** Windows that last as long as there is no silence of more than a gap, key by key. */
import { Buffer } from "node:buffer"
import { Schema } from "effect"
import type { Batch } from "../../Batch.ts"
import { keyBytes } from "../../Batch.ts"
import type { LoggedStore, Part, Slot } from "../../Task.ts"
import { Deadlines } from "./Deadlines.ts"
import { type Emission, periodAt, StreamTime } from "./Emission.ts"
import type { MergingFold } from "../Fold.ts"
import * as OneOrMany from "./OneOrMany.ts"
import type { Step, Timed } from "../Timed.ts"
import { groupKey, type Keyless, type Late, late, type Session, type SessionResult } from "../Window.ts"

export interface Options<in A, S, out B> {
  readonly name: string
  readonly window: Session
  readonly fold: MergingFold<A, S, B>
  readonly emission: Emission
}

/** What is known of a session by those who read results, where they are emitted by periods. */
const nothing = 0
const something = 1
/** It has become another session, and this is still to be said. */
const outdated = 2

/** `changedAt` and `known` only where results are emitted by periods. */
type Open<S> = readonly [first: number, last: number, state: S, changedAt?: number, known?: number]

/** The sessions of a key, by their first record. */
type Sessions<S> = ReadonlyArray<Open<S>>
type Kept<S> = OneOrMany.OneOrMany<Open<S>>

export const codec = <S>(state: Schema.Codec<S, unknown>, { mode }: Emission): Schema.Codec<Kept<S>, unknown> =>
  OneOrMany.codec(
    mode === "periods"
      ? Schema.Tuple([
        Schema.Finite,
        Schema.Finite,
        state,
        StreamTime,
        Schema.Literals([nothing, something, outdated]),
      ])
      : Schema.Tuple([Schema.Finite, Schema.Finite, state]) as Schema.Codec<Open<S>, unknown>,
  )

/** A result that is to be emitted with its batch. */
interface Waiting<S> {
  readonly slot: Slot<Kept<S>>
  readonly first: number
  /** What it last was, where it is retracted. */
  readonly gone: Open<S> | undefined
  readonly bytes: Uint8Array
  readonly row: number
  readonly clock: number
  /** The place, plus one, of what waits for the same key. */
  previous: number
  isOver: boolean
}

/**
 * The sessions of a key are one entry: there are at most `grace / gap + 2` of them. A deadline of a key is never later than
 * the last record of any of its sessions; when it comes, those that have been extended get a new one.
 */
export class SessionWindows<A, S, B> implements Timed<A, SessionResult<B>, Late | Keyless> {
  readonly #store: LoggedStore<Kept<S>>
  readonly #part: Part<Kept<S>>
  readonly #options: Options<A, S, B>
  readonly #deadlines = new Deadlines<Slot<Kept<S>>>()
  #period: number
  #waiting: Array<Waiting<S>> = []
  /** Keys with something to emit at the end of the period. */
  #changed: Array<Slot<Kept<S>>> = []

  constructor(store: LoggedStore<Kept<S>>, options: Options<A, S, B>) {
    this.#store = store
    this.#part = store.part("")
    this.#options = options
    const { mode, period } = options.emission
    this.#period = periodAt(store.streamTime, period)
    for (const slot of this.#part.slots) {
      for (const [, last, , , known] of sessionsOf(slot)) if (known !== outdated) this.#deadlines.push(last, slot)
      if (mode === "periods" && sessionsOf(slot).some((session) => this.#isFresh(session))) this.#change(slot)
    }
  }

  /** Sessions that end before this have closed. */
  get clock(): number {
    const { gap, grace } = this.#options.window
    return this.#store.streamTime - gap - grace
  }

  /** Closes the sessions that stream time has passed by gap and grace, in the order of their ends. */
  advance(now: number, step: Step<SessionResult<B>, Late | Keyless>): void {
    const { window: { gap, grace }, emission: { mode, period } } = this.#options
    while (this.#deadlines.next < now - gap - grace) {
      const last = this.#deadlines.next
      this.#close(this.#deadlines.pop()!, last, step)
    }
    if (mode !== "periods" || periodAt(now, period) === this.#period) return
    this.#emitPeriod(step)
    this.#period = periodAt(now, period)
  }

  add(
    value: A,
    timestamp: number,
    i: number,
    batch: Batch<A, unknown>,
    step: Step<SessionResult<B>, Late | Keyless>,
  ): void {
    const { window: { gap }, name, fold, emission: { mode } } = this.#options
    // Where sessions have closed none can begin, nor begin earlier than it did: a key and a start name one session.
    const before = timestamp < this.clock ? 0 : gap
    const bytes = keyBytes(batch, i)
    let slot = bytes === null ? undefined : this.#part.find(bytes)
    const isNear = ([first, last, , , known]: Open<S>) =>
      known !== outdated && timestamp >= first - before && timestamp <= last + gap
    const open = sessionsOf(slot)
    const [only] = open
    // Nearly always there is one, and then nothing is copied.
    const joined = open.length > 1 ? open.filter(isNear) : only !== undefined && isNear(only) ? open : none
    const others = joined.length === open.length ? none : open.filter((session) => !joined.includes(session))
    if (joined.length === 0 && before === 0) return step.isLate(batch, i, late(timestamp, timestamp))
    const key = slot?.key ?? groupKey(batch, i, name)
    if (typeof key !== "string") return step.fail(batch, i, key)

    let first = timestamp
    let last = timestamp
    let state = joined.length === 0 ? fold.initial() : joined[0]![2]
    for (let n = 0; n < joined.length; n++) {
      const session = joined[n]!
      if (session[0] < first) first = session[0]
      if (session[1] > last) last = session[1]
      if (n > 0) state = fold.merge(state, session[2])
    }
    state = fold.add(state, value)
    const sessions = mode === "periods"
      ? this.#stamped(first, last, state, joined, others)
      : others.length === 0
      ? [[first, last, state] as const]
      : [...others, [first, last, state] as const]
    if (slot === undefined) slot = this.#part.add(key, kept(sessions))
    else this.#part.write(slot, kept(sessions))
    if (joined.length === 0) this.#deadlines.push(last, slot)
    step.folded++

    if (mode === "periods") this.#change(slot)
    if (mode !== "updates") return
    for (const session of joined) if (session[0] !== first) this.#wait(slot, session[0], session, bytes!, step.row)
    this.#wait(slot, first, undefined, bytes!, step.row)
  }

  end(step: Step<SessionResult<B>, Late | Keyless>): void {
    if (this.#waiting.length === 0) return
    for (const { slot, first, gone, bytes, row, clock, isOver } of this.#waiting) {
      slot.mark = 0
      if (isOver) continue
      step.row = row
      const session = gone ?? sessionsOf(slot).find((session) => session[0] === first)
      if (session !== undefined) {
        step.emit(this.#result(slot.key, session, gone !== undefined), bytes, session[1], clock)
      }
    }
    this.#waiting = []
  }

  /** Closes what ends at `last`; what ends later gets its deadline anew. */
  #close(slot: Slot<Kept<S>>, last: number, step: Step<SessionResult<B>, Late | Keyless>): void {
    const left: Array<Open<S>> = []
    let next = Infinity
    const open = sessionsOf(slot)
    for (const session of open) {
      const isOutdated = session[4] === outdated
      if (session[1] === last && !isOutdated) {
        step.emit({ ...this.#result(slot.key, session, false), final: true }, Buffer.from(slot.key), last, last)
        continue
      }
      left.push(session)
      if (!isOutdated && session[1] > last && session[1] < next) next = session[1]
    }
    if (left.length < open.length) this.#keep(slot, left)
    if (next < Infinity) this.#deadlines.push(next, slot)
  }

  /** The sessions of a key after one has changed, with what those who read results know of each. */
  #stamped(
    first: number,
    last: number,
    state: S,
    joined: Sessions<S>,
    others: Sessions<S>,
  ): Sessions<S> {
    const isKnown = ([, , , changedAt, known]: Open<S>) =>
      known === something || periodAt(changedAt!, this.#options.emission.period) !== this.#period
    const same = joined.find((session) => session[0] === first)
    const gone = joined.filter((session) => session[0] !== first && isKnown(session))
    return [
      ...others,
      ...gone.map(([first, last, state, changedAt]): Open<S> => [first, last, state, changedAt!, outdated]),
      [first, last, state, this.#store.streamTime, same !== undefined && isKnown(same) ? something : nothing],
    ]
  }

  /** Emits what has changed in a period that is over, by key and then by start. */
  #emitPeriod(step: Step<SessionResult<B>, Late | Keyless>): void {
    const changed = this.#changed.sort((a, b) => a.key < b.key ? -1 : 1)
    this.#changed = []
    const { clock } = this
    for (const slot of changed) {
      slot.mark = 0
      const open = sessionsOf(slot)
      for (const session of open) {
        if (!this.#isFresh(session)) continue
        const time = Math.max(session[1], clock)
        step.emit(this.#result(slot.key, session, session[4] === outdated), Buffer.from(slot.key), time, clock)
      }
      const left = open.filter((session) => session[4] !== outdated)
      if (left.length < open.length) this.#keep(slot, left)
    }
  }

  /** Whether it is to be emitted at the end of the period at hand. */
  #isFresh([, , , changedAt, known]: Open<S>): boolean {
    return known === outdated || periodAt(changedAt!, this.#options.emission.period) === this.#period
  }

  #change(slot: Slot<Kept<S>>): void {
    if (slot.mark === 0) slot.mark = this.#changed.push(slot)
  }

  /** Of a session that waits already only the latest counts. */
  #wait(slot: Slot<Kept<S>>, first: number, gone: Open<S> | undefined, bytes: Uint8Array, row: number): void {
    let after: Waiting<S> | undefined
    for (let place = slot.mark; place > 0;) {
      const waiting = this.#waiting[place - 1]!
      place = waiting.previous
      if (waiting.first === first) {
        waiting.isOver = true
        if (after === undefined) slot.mark = place
        else after.previous = place
      } else after = waiting
    }
    const previous = slot.mark
    slot.mark = this.#waiting.push({ slot, first, gone, bytes, row, clock: this.clock, previous, isOver: false })
  }

  #keep(slot: Slot<Kept<S>>, sessions: Sessions<S>): void {
    if (sessions.length === 0) this.#part.remove(slot)
    else this.#part.write(slot, kept(sessions))
  }

  #result(key: string, [first, last, state]: Open<S>, retracted: boolean): SessionResult<B> {
    return { key, start: first, end: last, value: this.#options.fold.result(state), final: false, retracted }
  }
}

const none: ReadonlyArray<never> = []

const sessionsOf = <S>(slot: Slot<Kept<S>> | undefined): Sessions<S> =>
  slot?.value === undefined ? none : OneOrMany.listed(slot.value)

const kept = <S>(sessions: Sessions<S>): Kept<S> =>
  OneOrMany.compact(sessions.length === 1 ? sessions : sessions.toSorted((a, b) => a[0] - b[0]))
