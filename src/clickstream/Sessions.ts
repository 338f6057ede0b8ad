/** Session enrichment: which visit a click belongs to, and what is known of that visit so far. */
import { createHash } from "node:crypto"
import { Duration, Effect, Schema } from "effect"
import { Batch, Flow, Task, Window } from "../index.ts"

/** What the stage must know of a click. */
export interface Clicked {
  readonly eventId: string
  /** Milliseconds since 1970. */
  readonly eventTime: number
  readonly path: string | null
}

/** A visit: clicks of one key with no silence longer than the gap between them. */
export const Session = Schema.Struct({
  /** Made of the key and the event id of the first click that was processed: it never changes. */
  id: Schema.String,
  start: Schema.Int,
  last: Schema.Int,
  clicks: Schema.Int,
  /** The pages of the earliest and of the latest click so far, by event time. */
  firstPage: Schema.NullOr(Schema.String),
  lastPage: Schema.NullOr(Schema.String),
})
export type Session = typeof Session.Type

/** What the stage adds to a click: its session after it, so that `session.clicks` is the click's number. */
export interface InSession {
  readonly session: Session
}

export interface Options {
  /** Names the store. */
  readonly name: string
  /** The silence that ends a session; 30 minutes by default. Clicks exactly one gap apart are in one session. */
  readonly gap?: Duration.Input
  /** The longest that a session lasts; 24 hours by default. */
  readonly longest?: Duration.Input
  /** How long a session is kept for clicks that come late, beyond the gap; 1 hour by default. */
  readonly grace?: Duration.Input
}

const Sessions = Schema.Array(Session)

/**
 * Finds or begins the session of every click, per record key and in the order of processing. A click joins a session when
 * it is within the gap on either side of it; one that is within the gap of two joins the older, and the two stay apart.
 *
 * A session is kept until stream time has passed its last click by gap and grace. A click that is older than that, and in
 * no session that is kept, is `Late`: it does not go on, and what its record has caused before stays.
 */
export const by = (options: Options) =>
<A extends Clicked, F, E, R>(
  flow: Flow.Flow<A, F, E, R>,
): Flow.Flow<A & InSession, F | Window.Late | Window.Keyless, E | Task.PipelineError, R | Task.Logged> =>
  Flow.perTask<A, A & InSession, Window.Late | Window.Keyless, never, never, Task.PipelineError, Task.Logged>(
    Effect.gen(function* () {
      const store = yield* (yield* Task.Logged).store({ name: options.name, value: Sessions })
      const sessions = new OpenSessions(store, options)
      return (batch) => Effect.sync(() => sessions.step(batch))
    }),
    { stage: "sessions", stores: [{ name: options.name, value: Sessions }] },
  )(flow)

const minute = 60_000

class OpenSessions {
  readonly #store: Task.Store<ReadonlyArray<Session>>
  readonly #name: string
  readonly #gap: number
  readonly #longest: number
  /** After this much silence in stream time a session is forgotten. */
  readonly #kept: number
  /** Keys by the minute in which one of their sessions may be forgotten. */
  readonly #ends = new Map<number, Set<string>>()
  #minute = -Infinity

  constructor(store: Task.Store<ReadonlyArray<Session>>, options: Options) {
    this.#store = store
    this.#name = options.name
    this.#gap = Duration.toMillis(options.gap ?? "30 minutes")
    this.#longest = Duration.toMillis(options.longest ?? "24 hours")
    this.#kept = this.#gap + Duration.toMillis(options.grace ?? "1 hour")
    for (const [key, sessions] of store.entries()) for (const session of sessions) this.#expectEnd(key, session)
  }

  step<A extends Clicked, F>(batch: Batch.Batch<A, F>): Batch.Batch<A & InSession, F | Window.Late | Window.Keyless> {
    const { values, time, source } = batch
    const out: Array<A & InSession> = []
    const from = new Uint32Array(values.length)
    const missed: Array<Batch.Failed<Window.Late>> = []
    const without: Array<Batch.Failed<Window.Keyless>> = []
    for (let i = 0; i < values.length; i++) {
      const click = values[i]!
      const row = Batch.row(batch, i)
      this.#advance(time?.clock[i] ?? source.timestamps[row]!)
      const key = Window.groupKey(batch, i, this.#name)
      if (typeof key !== "string") {
        without.push(Batch.failing(batch, i, key))
        continue
      }
      const session = this.#join(key, click)
      if (session === undefined) {
        Batch.addFailed(missed, { ...Batch.failing(batch, i, late(click, this.#gap)), kept: true })
        continue
      }
      from[out.length] = i
      out.push({ ...click, session })
    }
    if (time !== undefined) this.#advance(time.now)
    if (out.length === values.length) return { ...batch, values: out }
    const joined = Batch.gather<A, A & InSession, F>(batch, out, from.subarray(0, out.length))
    return Batch.fail<A & InSession, F | Window.Late, Window.Keyless>(
      { ...joined, failed: [...joined.failed, ...missed] },
      without,
    )
  }

  /** The click's session with the click in it; none where the click is too old to begin one. */
  #join(key: string, { eventId, eventTime, path }: Clicked): Session | undefined {
    const known = this.#store.get(key) ?? []
    const live = known.some((session) => this.#isOver(session))
      ? known.filter((session) => !this.#isOver(session))
      : known
    const at = live.findIndex((session) => this.#takes(session, eventTime))
    const joined = live[at]
    if (joined === undefined && eventTime < this.#store.streamTime - this.#kept) return undefined
    const session: Session = joined === undefined
      ? { id: sessionId(key, eventId), start: eventTime, last: eventTime, clicks: 1, firstPage: path, lastPage: path }
      : {
        ...joined,
        start: Math.min(joined.start, eventTime),
        last: Math.max(joined.last, eventTime),
        clicks: joined.clicks + 1,
        firstPage: eventTime < joined.start ? path : joined.firstPage,
        lastPage: eventTime >= joined.last ? path : joined.lastPage,
      }
    const sessions = at === -1 ? [...live, session] : live.with(at, session)
    this.#store.set(key, sessions.length === 1 ? sessions : sessions.sort((a, b) => a.start - b.start))
    this.#expectEnd(key, session)
    return session
  }

  #takes({ start, last }: Session, at: number): boolean {
    return at >= start - this.#gap && at <= last + this.#gap &&
      Math.max(last, at) - Math.min(start, at) <= this.#longest
  }

  #isOver(session: Session): boolean {
    return session.last < this.#store.streamTime - this.#kept
  }

  /** The minute in which a session is over. */
  #endOf({ last }: Session): number {
    return Math.floor((last + this.#kept) / minute)
  }

  #expectEnd(key: string, session: Session): void {
    const end = this.#endOf(session)
    const keys = this.#ends.get(end)
    if (keys === undefined) this.#ends.set(end, new Set([key]))
    else keys.add(key)
  }

  /** Moves stream time, and once a minute of it forgets the sessions that are over. */
  #advance(to: number): void {
    if (!(to > this.#store.streamTime)) return
    this.#store.streamTime = to
    const now = Math.floor(to / minute)
    if (now === this.#minute) return
    this.#minute = now
    for (const [end, keys] of this.#ends) {
      if (end >= now) continue
      this.#ends.delete(end)
      for (const key of keys) {
        const sessions = this.#store.get(key)
        if (sessions === undefined) continue
        const live = sessions.filter((session) => this.#endOf(session) >= now)
        if (live.length === 0) this.#store.delete(key)
        else if (live.length < sessions.length) this.#store.set(key, live)
      }
    }
  }
}

const sessionId = (key: string, eventId: string): string =>
  createHash("sha256").update(key).update("\0").update(eventId).digest("base64url").slice(0, 22)

const late = ({ eventTime }: Clicked, gap: number): Window.Late =>
  new Window.Late({
    message: `no session is kept any more that a click of ${eventTime} could belong to`,
    windowEnd: eventTime + gap,
  })
