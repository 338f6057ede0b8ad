/** Joins of two streams: records of one key whose event times are close to each other. */
import { Buffer } from "node:buffer"
import { Duration, Effect, type Schema } from "effect"
import { type Batch, keyBytes, offsetOf, RecordDefect } from "../../Batch.ts"
import { type Flow, map } from "../../Flow.ts"
import { Heap } from "../../state/Heap.ts"
import { Logged, type PipelineError, type Task } from "../../Task.ts"
import { isBefore, JoinSide, type Origin, placeOf, type Row, spec } from "./JoinSide.ts"
import { millis } from "./Joined.ts"
import { merge } from "../Merge.ts"
import { type Step, type Timed, timed } from "../Timed.ts"
import { groupKey, type Keyless, Late } from "../Window.ts"

/** Which records without a partner are results of their own: none (`inner`), the flow's (`left`), both flows' (`outer`). */
export type StreamKind = "inner" | "left" | "outer"

/** What `join` gets of the flow, and of the other one: `undefined` where it may be missing, which never both are. */
export type FromLeft<A, K extends StreamKind> = K extends "outer" ? A | undefined : A
export type FromRight<B, K extends StreamKind> = K extends "inner" ? B : B | undefined

/**
 * Which records are partners, both ends included: a record's partners are those of the other flow from `before` ahead of
 * its time until `after` its time. `within` is both. A negative one moves that end across: with `before` of -5 minutes and
 * `after` of 10 the partner comes 5 to 10 minutes later.
 */
export type StreamBound =
  | { readonly within: Duration.Input; readonly before?: never; readonly after?: never }
  | { readonly within?: never; readonly before: Duration.Input; readonly after: Duration.Input }

export type StreamOptions<A, B, C, K extends StreamKind = StreamKind> = StreamBound & {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  /** `inner` unless told. */
  readonly kind?: K
  /**
   * How far a record may be behind stream time: what is out of order by no more than this finds all its partners, what is
   * further behind is `Late`. Records without a partner leave that much later.
   */
  readonly grace: Duration.Input
  /** The schemas by which records that wait for partners are logged: those of the topics, or of what was made of them. */
  readonly left: Schema.Codec<A, unknown>
  readonly right: Schema.Codec<B, unknown>
  join(left: FromLeft<A, K>, right: FromRight<B, K>): C
  /** The silence after which one input stops holding the other back, as in `merge`; 5 seconds by default. */
  readonly idle?: Duration.Input
}

/**
 * Joins every record with the records of `that` that have its key and a time within the bound. Both flows must be
 * co-partitioned. The result is exactly the join of the records that are not `Late`: each pair once, whichever of the two
 * comes first, and each record without a partner once, when none can come any more: when stream time is more than `after`
 * (of one of `that`: `before`) and `grace` beyond its time. No record is both in a pair and without a partner.
 *
 * A pair has the later one of both times, and leaves with the record that came last; the pairs of one record leave in the
 * order of their partners' times, those of one time in the order of their offsets. Records without a partner leave in the
 * order in which their bound passes. Nothing that leaves is late for stages that follow.
 *
 * A record that is more than `grace` behind stream time is `Late`; stream time is the lower one of both inputs', an idle one
 * left out. A record without a key is `Keyless`, on either side. A bad record of one side does not hold up the other.
 * Memory and changelog: of the flow the records of the last `after` and `grace`, of `that` those of the last `before` and
 * `grace`.
 */
export const stream = <A, B, C, F2, E2, R2, K extends StreamKind = "inner">(
  that: Flow<B, F2, E2, R2>,
  options: StreamOptions<A, B, C, K>,
) => {
  const { name, kind, idle } = options
  const { before, after, grace } = timesOf(options)
  const kept = spec(name, options.left, options.right)
  const ofLeft = {
    name: "left",
    behind: before,
    ahead: after,
    grace,
    isKept: kind === "left" || kind === "outer",
  } as const
  const ofRight = { name: "right", behind: after, ahead: before, grace, isKept: kind === "outer" } as const
  const open = Effect.gen(function* () {
    const store = yield* (yield* Logged).store(kept)
    const join = options.join as (left: unknown, right: unknown) => C
    const [left, right] = [new JoinSide(store, ofLeft), new JoinSide(store, ofRight)]
    return [store, new StreamJoin(name, () => store.streamTime, left, right, join)] as const
  })
  const stage = timed<A | Right<B>, C, Late | Keyless>(name, open, { stage: "join", stores: [kept] })
  const others = that.pipe(map((value) => new Right(value)))
  return <F, E, R>(
    flow: Flow<A, F, E, R>,
  ): Flow<C, F | F2 | Late | Keyless, E | E2 | PipelineError, R | R2 | Task | Logged> =>
    flow.pipe(merge(others, idle === undefined ? undefined : { idle }), stage)
}

/** A record of the other flow, on its way through the merge of both. */
class Right<out B> {
  readonly value: B
  constructor(value: B) {
    this.value = value
  }
}

const timesOf = ({ name, ...options }: StreamBound & { readonly name: string; readonly grace: Duration.Input }) => {
  const grace = millis(name, "grace", options.grace, 0)
  if (options.within !== undefined) {
    const within = millis(name, "within", options.within, 0)
    return { before: within, after: within, grace }
  }
  const before = Duration.toMillis(options.before)
  const after = Duration.toMillis(options.after)
  if (!Number.isInteger(before) || !Number.isInteger(after)) {
    throw new RangeError(`join ${name}: before and after are whole milliseconds; they were ${before} and ${after}`)
  }
  if (before + after >= 0) return { before, after, grace }
  throw new RangeError(
    `join ${name}: its bound ends ${-before - after} ms before it begins; before + after is at least 0`,
  )
}

type Failing = Late | Keyless

class StreamJoin<C> implements Timed<unknown, C, Failing> {
  readonly #name: string
  readonly #now: () => number
  readonly #left: JoinSide
  readonly #right: JoinSide
  readonly #join: (left: unknown, right: unknown) => C
  readonly #grace: number
  /** How long a record can wait in all, to leave without a partner. */
  readonly #longest: number
  readonly #waiting = new Heap<Row>((a, b) => this.#leavesFirst(a, b))
  /** The last value's record, and which of its values it was. */
  #last: Pick<Origin, "topic" | "offset" | "nth"> = { topic: "", offset: -1, nth: 0 }
  /** By topic, the last that was caused by a tick: ticks can follow each other, before a restart and after it. */
  readonly #lastOfTicks = new Map<string, Pick<Origin, "topic" | "offset" | "nth">>()

  constructor(
    name: string,
    now: () => number,
    left: JoinSide,
    right: JoinSide,
    join: (left: unknown, right: unknown) => C,
  ) {
    this.#name = name
    this.#now = now
    this.#left = left
    this.#right = right
    this.#join = join
    this.#grace = left.options.grace
    const waits = [left, right].filter(({ options }) => options.isKept).map(({ options }) => options.ahead)
    this.#longest = Math.max(0, ...waits) + this.#grace
    for (const side of [left, right]) {
      for (const row of side.rows()) {
        this.#waiting.push(row)
        if (!Number.isInteger(row.offset)) this.#note(row)
      }
    }
  }

  get clock(): number {
    return this.#now() - this.#longest
  }

  advance(now: number, step: Step<C, Failing>): void {
    for (let next = this.#waiting.peek(); next !== undefined && next.until < now; next = this.#waiting.peek()) {
      this.#waiting.pop()
      next.side.remove(next)
      this.#alone(next, next.until - this.#longest, step)
    }
  }

  add(value: unknown, timestamp: number, i: number, batch: Batch<unknown, unknown>, step: Step<C, Failing>): void {
    const origin = this.#origin(batch, step.row)
    if (timestamp < this.#now() - this.#grace) return step.isLate(batch, i, this.#late(timestamp))
    const key = groupKey(batch, i, this.#name)
    if (typeof key !== "string") return step.fail(batch, i, key)
    step.folded++
    const isRight = value instanceof Right
    const [own, other] = isRight ? [this.#right, this.#left] : [this.#left, this.#right]
    const given = isRight ? value.value : value
    const partners = other.between(key, timestamp - own.options.behind, timestamp + own.options.ahead)
    const { clock } = this
    for (const partner of partners) {
      let joined: C
      try {
        joined = isRight ? this.#join(partner.value, given) : this.#join(given, partner.value)
      } catch (cause) {
        throw new RecordDefect(batch, i, cause)
      }
      step.emit(joined, keyBytes(batch, i), Math.max(timestamp, partner.at), clock)
      other.match(partner)
    }
    const row = own.row(origin, key, timestamp, given, own.options.isKept && partners.length > 0)
    if (row.until < this.#now()) this.#alone(row, clock, step)
    else if (own.add(row)) this.#waiting.push(row)
  }

  /** No partner can come any more: what has had none leaves alone. */
  #alone(row: Row, clock: number, step: Step<C, Failing>): void {
    const { side, key, at, value, matched } = row
    if (matched || !side.options.isKept) return
    let joined: C
    try {
      joined = side === this.#left ? this.#join(value, undefined) : this.#join(undefined, value)
    } catch (cause) {
      throw new RecordDefect(placeOf(row), 0, cause)
    }
    step.emit(joined, Buffer.from(key), at, clock)
  }

  /** Rows leave as their bound passes, the left ones first. */
  #leavesFirst(a: Row, b: Row): boolean {
    if (a.until !== b.until) return a.until < b.until
    return a.side === b.side ? isBefore(a, b) : a.side === this.#left
  }

  #origin({ source }: Batch<unknown, unknown>, row: number): Origin {
    const { topic: { name: topic }, partition } = source
    const isTick = source.silence !== undefined
    const offset = isTick ? source.next - 0.5 : offsetOf(source, row)
    const last = isTick ? this.#lastOfTicks.get(topic) : this.#last
    const nth = last?.offset === offset && last.topic === topic ? last.nth + 1 : 0
    const origin = { topic, partition, offset, nth }
    if (isTick) this.#lastOfTicks.set(topic, origin)
    else this.#last = origin
    return origin
  }

  /** What ticks have caused never comes again: what they cause next is counted on from there. */
  #note(row: Row): void {
    const last = this.#lastOfTicks.get(row.topic)
    if (last === undefined || row.offset > last.offset || row.offset === last.offset && row.nth > last.nth) {
      this.#lastOfTicks.set(row.topic, row)
    }
  }

  #late(timestamp: number): Late {
    return new Late({
      message: `join ${this.#name} waits ${this.#grace} ms for what is out of order, and this record of ${timestamp} ` +
        `came at a stream time of ${this.#now()}`,
      windowEnd: timestamp + 1,
    })
  }
}
