/** What a lookup answers: values, never a failure of its own. */
import { type Effect, Schema } from "effect"

/** The source has the key. */
export interface Found<out V> {
  readonly _tag: "Found"
  readonly value: V
  /** When the source answered, or began to load the set that this is from; milliseconds since 1970. */
  readonly at: number
  /**
   * `source`: no older than the cache may be. `stale`: the last known value, older than that, because the source could not
   * be asked again. `fallback`: what the lookup's `fallback` gave in its place.
   */
  readonly origin: "source" | "stale" | "fallback"
}

/** The source does not have the key, or there was no key to ask for. */
export interface Missing {
  readonly _tag: "Missing"
}

/** Nobody knows whether the source has the key. */
export interface Unavailable {
  readonly _tag: "Unavailable"
  /**
   * `timeout`: no answer in time. `failed`: the source failed. `undecodable`: it has a value that its schema refuses.
   * `outdated`: a reference set could not be loaded for longer than it may be used.
   */
  readonly reason: "timeout" | "failed" | "undecodable" | "outdated"
  /** Says what is wrong, without the key and without personal data. */
  readonly message: string
}

export type Answer<V> = Found<V> | Missing | Unavailable

export const missing: Missing = { _tag: "Missing" }

export const unavailable = (reason: Unavailable["reason"], message: string): Unavailable => ({
  _tag: "Unavailable",
  reason,
  message,
})

/** The value of an answer that found one, or else what `otherwise` gives. */
export const getOrElse = <V, B>(answer: Answer<V>, otherwise: () => B): V | B =>
  answer._tag === "Found" ? answer.value : otherwise()

/** A record's lookup was not answered, and the stage was told that this fails the record. */
export class LookupFailed extends Schema.TaggedError<LookupFailed>()("LookupFailed", {
  lookup: Schema.String,
  reason: Schema.Literals(["timeout", "failed", "undecodable", "outdated"]),
  message: Schema.String,
}) {}

/**
 * Among the values that a source answers: it has one for this key, and its schema refuses it. The other keys of the request
 * are answered all the same.
 */
export class Undecodable extends Schema.TaggedError<Undecodable>()("Undecodable", {
  /** The path of the field that is wrong; empty where it is the value as a whole. */
  field: Schema.String,
  message: Schema.String,
}) {}

export const undecodable = (lookup: string, { field, message }: Undecodable): Unavailable =>
  unavailable(
    "undecodable",
    `lookup ${lookup}: a value is not what its schema says: ${field === "" ? "" : `${field}: `}${message}`,
  )

/** A table elsewhere, as stages ask it. All tasks of a process share one. */
export interface Lookup<out V> {
  readonly name: string
  readonly get: (key: string) => Effect.Effect<Answer<V>>
  /**
   * `answers[i]` is for `keys[i]`; no key is `Missing`. A key that stands there twice is asked for once. Where the source
   * throws, it dies with what `defect` makes of the throw and of the first key whose answer it was.
   */
  readonly getAll: (
    keys: ReadonlyArray<string | undefined>,
    defect?: (i: number, cause: unknown) => unknown,
  ) => Effect.Effect<ReadonlyArray<Answer<V>>>
}

export interface Cached<out V> extends Lookup<V> {
  /** Forgets what is known of a key: whoever wants it next asks the source, unless it is just being asked. */
  readonly invalidate: (key: string) => Effect.Effect<void>
}

export interface Reference<out V> extends Lookup<V> {
  /** Loads the set anew now, or joins a load that is under way; answers whether there is a new one. */
  readonly refresh: Effect.Effect<boolean>
}
