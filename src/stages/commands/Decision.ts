/** What a decider is made of, and what it makes of commands. */
import { type Result, Schema } from "effect"
import type { Any as AnyTopic } from "../../Topic.ts"

/**
 * Rules for one kind of aggregate (an order, an account): what becomes of a command, given the state that the aggregate's
 * events have led to. Its functions are pure: no clock, no chance, nothing but what they are given.
 */
export interface Decider<in C, in out E, in out R, in out S> {
  readonly name: string
  readonly state: Schema.Codec<S, unknown>
  readonly event: Schema.Codec<E, unknown>
  readonly rejection: Schema.Codec<R, unknown>
  /** The state of an aggregate that nothing has happened to yet. */
  readonly initial: S
  /** Which aggregate a command is for: the key of its record must be the same. */
  aggregate(command: C): string
  /** What tells a command from all others of its aggregate: the same when it is sent again. */
  commandId(command: C): string
  /** What happens because of a command, in order, perhaps nothing; or why it is refused. */
  decide(state: S, command: C): Result.Result<ReadonlyArray<E>, R>
  /** The state after an event. Must answer a new one and not change the old. */
  evolve(state: S, event: E): S
  /** How long results are remembered, in milliseconds of stream time, and how many of one aggregate. */
  readonly remember: { readonly window: number; readonly atMost: number }
}

/** An event and where it stands among those of its aggregate. */
export interface Recorded<out E> {
  /** The aggregate. */
  readonly key: string
  /** Counts the aggregate's events from 1, without a gap: a reader that misses a number has missed an event. */
  readonly version: number
  /** The command that it came of. */
  readonly commandId: string
  readonly event: E
}

/** A command that was not rejected, and what has come of it. */
export interface Decided<out C, out E> {
  readonly key: string
  readonly command: C
  readonly commandId: string
  /** `repeated` where the command came before: `events` are those of the first time, and nothing has happened again. */
  readonly outcome: "accepted" | "repeated"
  readonly events: ReadonlyArray<Recorded<E>>
}

/** What became of a command in a pure run: its events, or why it was rejected. */
export interface Answer<out C, out E, out R> {
  readonly key: string
  readonly command: C
  readonly commandId: string
  readonly outcome: "accepted" | "rejected" | "repeated"
  readonly result: Result.Result<ReadonlyArray<Recorded<E>>, R>
}

/** A command that is not decided, whatever the state. */
export class Undecidable extends Schema.TaggedError<Undecidable>()("Undecidable", {
  reason: Schema.Literals([
    "Misaddressed", // its record's key is not its aggregate: the state is in another task
    "Unidentified", // its id is empty
    "Oversized", // what has come of it is too large to be remembered: nothing has happened
    "Forgotten", // it was decided before a crash, and so many came behind it that its result is forgotten
  ]),
  field: Schema.String,
  message: Schema.String,
}) {}

/** A value and the topic whose contract it obeys. */
export interface Addressed {
  readonly topic: AnyTopic
  readonly value: unknown
}

/** Where events are published: `record` answers for each of them one of `topics`, and its value there. */
export interface Publishing<in E> {
  readonly topics: ReadonlyArray<AnyTopic>
  record(event: Recorded<E>): Addressed
}
