/** Commands in, events out: what is asked for is decided by the state that the events before have led to. */
import { Duration, Effect, Result, Schema } from "effect"
import type { Batch, Failed, Failure } from "../Batch.ts"
import { addFailed, fail, failing, gather, RecordDefect, row } from "../Batch.ts"
import { perTask, type Stage } from "../Flow.ts"
import { Logged, type LoggedStore, type PipelineError } from "../Task.ts"
import { groupKey, type Keyless } from "./Window.ts"

/** How commands of one aggregate (an order, an account) become events. All functions are pure. */
export interface Decider<in C, E, S, R extends Failure> {
  /** Names the stores, and with them the changelog topics. */
  readonly name: string
  readonly state: Schema.Codec<S, unknown>
  readonly event: Schema.Codec<E, unknown>
  readonly rejection: Schema.Codec<R, unknown>
  /** The state of an aggregate that nothing has happened to. */
  readonly initial: S
  /** What comes of a command: events, none where there is nothing to do, or why it is refused. */
  decide(state: S, command: C): Result.Result<ReadonlyArray<E>, R>
  evolve(state: S, event: E): S
  /** The same for every attempt to send the same command. Unique among the commands of its aggregate. */
  commandId(command: C): string
  /** The aggregate that a command is for; given, a command under another key fails with `WrongKey`. */
  aggregateId?(command: C): string
  /** How long the result of a command is remembered, by arrival (the Kafka timestamp). 24 hours unless given. */
  readonly remember?: Duration.Input
  /** The most results that one task remembers, 100,000 unless given; beyond it the oldest are forgotten before their time. */
  readonly atMost?: number
}

/** An event, and its number among those of its aggregate: 1, 2, 3, without gaps. */
export interface Numbered<out E> {
  readonly version: number
  readonly event: E
}

/** A command that was accepted. */
export interface Accepted<out C, out E> {
  readonly command: C
  /** The aggregate's id: the record's key. */
  readonly key: string
  readonly events: ReadonlyArray<Numbered<E>>
  /** The command came before: these are the events of the first time, published then. */
  readonly repeated: boolean
}

/** A command stands under another key than that of the aggregate it is for. */
export class WrongKey extends Schema.TaggedError<WrongKey>()("WrongKey", {
  field: Schema.String,
  message: Schema.String,
}) {}

export const make = <C, E, S, R extends Failure>(decider: Decider<C, E, S, R>): Decider<C, E, S, R> => decider

/** The state that events lead to. */
export const fold = <E, S>(
  { initial, evolve }: Pick<Decider<never, E, S, never>, "initial" | "evolve">,
  events: Iterable<E>,
): S => {
  let state = initial
  for (const event of events) state = evolve(state, event)
  return state
}

/**
 * Decides commands one after the other, each against the state that all before it have led to. Commands must be keyed by
 * their aggregate: those of one key are decided in their order, by one task at a time.
 *
 * A command that is accepted goes on with its events: publish those of the ones that are not `repeated` (`published`). All
 * events of a command leave with its position, or none. A command that is refused fails with its rejection.
 *
 * A command that comes again, by its id, gets its first result again: the same events, marked as repeated, or the same
 * rejection. It changes nothing. What is read again after a crash under at-least-once is not its own repeat: its events are
 * published again.
 *
 * State grows with the number of aggregates; results are remembered for a time and up to a number.
 */
export const stage = <C, E, S, R extends Failure>(
  decider: Decider<C, E, S, R>,
): Stage<C, Accepted<C, E>, R | Keyless | WrongKey, PipelineError, Logged> => {
  const states = { name: decider.name, value: Schema.Struct({ version: Schema.Int, state: decider.state }) }
  const results = { name: `${decider.name}-results`, value: resultOf(decider) }
  return perTask<C, Accepted<C, E>, R | Keyless | WrongKey, never, never, PipelineError, Logged>(
    Effect.gen(function* () {
      const logged = yield* Logged
      const deciding = new Deciding(decider, yield* logged.store(states), yield* logged.store(results))
      return (batch) => Effect.sync(() => deciding.decide(batch))
    }),
    { stage: "decide", stores: [states, results] },
  )
}

/** The events to publish: one value for each of a command that is not a repeat. */
export const published = <C, E>({ key, events, repeated }: Accepted<C, E>): ReadonlyArray<Published<E>> =>
  repeated ? [] : events.map(({ version, event }) => ({ key, version, event }))

export interface Published<out E> extends Numbered<E> {
  /** The aggregate's id. */
  readonly key: string
}

interface State<out S> {
  readonly version: number
  readonly state: S
}

/** What came of a command, and which record brought it. */
interface Remembered<out E, out R> {
  readonly at: number
  readonly topic: string
  readonly offset: number
  readonly outcome:
    | { readonly _tag: "Accepted"; readonly version: number; readonly events: ReadonlyArray<E> }
    | { readonly _tag: "Rejected"; readonly reason: R }
}

const resultOf = <C, E, S, R extends Failure>(
  { event, rejection }: Decider<C, E, S, R>,
): Schema.Codec<Remembered<E, R>, unknown> =>
  Schema.Struct({
    at: Schema.Finite,
    topic: Schema.String,
    offset: Schema.Int,
    outcome: Schema.Union([
      Schema.TaggedStruct("Accepted", { version: Schema.Int, events: Schema.Array(event) }),
      Schema.TaggedStruct("Rejected", { reason: rejection }),
    ]),
  })

class Deciding<C, E, S, R extends Failure> {
  readonly #decider: Decider<C, E, S, R>
  readonly #states: LoggedStore<State<S>>
  readonly #results: LoggedStore<Remembered<E, R>>
  readonly #remember: number
  readonly #atMost: number
  /** The ids of results, the oldest first; those before `#oldest` are forgotten. */
  #order: Array<string>
  #oldest = 0
  /** What the batch at hand has brought first. */
  readonly #ofBatch = new Set<string>()

  constructor(
    decider: Decider<C, E, S, R>,
    states: LoggedStore<State<S>>,
    results: LoggedStore<Remembered<E, R>>,
  ) {
    this.#decider = decider
    this.#states = states
    this.#results = results
    this.#remember = Duration.toMillis(decider.remember ?? "24 hours")
    this.#atMost = decider.atMost ?? 100_000
    this.#order = Array.from(results.entries())
      .sort(([, a], [, b]) => a.at - b.at || a.offset - b.offset)
      .map(([id]) => id)
  }

  decide<F>(batch: Batch<C, F>): Batch<Accepted<C, E>, F | R | Keyless | WrongKey> {
    const { values } = batch
    const accepted: Array<Accepted<C, E>> = []
    const from = new Uint32Array(values.length)
    const failures: Array<Failed<R | Keyless | WrongKey>> = []
    this.#ofBatch.clear()
    for (let i = 0; i < values.length; i++) {
      const answer = this.#answer(batch, i)
      if (Result.isFailure(answer)) addFailed(failures, failing(batch, i, answer.failure))
      else {
        from[accepted.length] = i
        accepted.push(answer.success)
      }
    }
    return fail(gather<C, Accepted<C, E>, F>(batch, accepted, from.subarray(0, accepted.length)), failures)
  }

  #answer(batch: Batch<C, unknown>, i: number): Result.Result<Accepted<C, E>, R | Keyless | WrongKey> {
    const { name } = this.#decider
    const key = groupKey(batch, i, name)
    if (typeof key !== "string") return Result.fail(key)
    const command = batch.values[i]!
    try {
      const meant = this.#decider.aggregateId?.(command) ?? key
      if (meant !== key) {
        const message = `${name} decides per aggregate, and this command's key is not the aggregate that it names`
        return Result.fail(new WrongKey({ field: "key", message }))
      }
      const { source } = batch
      const at = row(batch, i)
      this.#pass(source.timestamps[at]!)
      const id = `${key.length}:${key}${this.#decider.commandId(command)}`
      const known = this.#results.get(id)
      const isSame = known?.topic === source.topic.name && known.offset === source.offsets[at] && !this.#ofBatch.has(id)
      const { outcome } = known ?? this.#first(key, id, command, source.topic.name, source.offsets[at]!)
      if (outcome._tag === "Rejected") return Result.fail(outcome.reason)
      const events = outcome.events.map((event, n) => ({ version: outcome.version + n, event }))
      return Result.succeed({ command, key, events, repeated: known !== undefined && !isSame })
    } catch (cause) {
      throw new RecordDefect(batch, i, cause)
    }
  }

  /** Decides a command that has not come before. */
  #first(key: string, id: string, command: C, topic: string, offset: number): Remembered<E, R> {
    const { decide, evolve, initial } = this.#decider
    const { version, state } = this.#states.get(key) ?? { version: 0, state: initial }
    const decided = decide(state, command)
    const result: Remembered<E, R> = {
      at: this.#results.streamTime,
      topic,
      offset,
      outcome: Result.isFailure(decided)
        ? { _tag: "Rejected", reason: decided.failure }
        : { _tag: "Accepted", version: version + 1, events: decided.success },
    }
    if (Result.isSuccess(decided) && decided.success.length > 0) {
      const after = decided.success.reduce((state, event) => evolve(state, event), state)
      this.#states.set(key, { version: version + decided.success.length, state: after })
    }
    this.#results.set(id, result)
    this.#order.push(id)
    this.#ofBatch.add(id)
    this.#forget()
    return result
  }

  /** Time goes on. */
  #pass(arrival: number): void {
    if (arrival <= this.#results.streamTime) return
    this.#results.streamTime = arrival
    this.#forget()
  }

  #forget(): void {
    const results = this.#results
    for (; this.#oldest < this.#order.length; this.#oldest++) {
      const id = this.#order[this.#oldest]!
      const isOver = results.get(id)!.at <= results.streamTime - this.#remember
      if (!isOver && this.#order.length - this.#oldest <= this.#atMost) break
      results.delete(id)
    }
    if (this.#oldest * 2 > this.#order.length) {
      this.#order = this.#order.slice(this.#oldest)
      this.#oldest = 0
    }
  }
}
