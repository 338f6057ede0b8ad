/** What a decider's task keeps of each aggregate, and for how long. */
import { Schema } from "effect"

/** One aggregate, as one entry of the changelog: what was decided is remembered with the state it has led to, or not. */
export interface Aggregate<out E, out S> {
  readonly state: S
  /** How many events there were. */
  readonly version: number
  /** What was answered to the latest commands, oldest first. */
  readonly results: ReadonlyArray<Remembered<E>>
  /** By topic: the offset of the last command that was decided or repeated. */
  readonly last: Readonly<Record<string, number>>
}

export interface Remembered<out E> {
  readonly id: string
  readonly topic: string
  /** -1 where it was the wall clock that brought the command. */
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
    last: Schema.Record(Schema.String, Schema.Int),
  })

/** Results are forgotten in so many steps of their window. */
const count = 24

/** Whose results were decided in which step of the window: forgetting them costs nothing for those that stay. */
export class Steps {
  readonly #length: number
  readonly #keys = new Map<number, Set<string>>()
  #oldest = Infinity
  #firstKept = -Infinity

  constructor(window: number) {
    this.#length = window / count
  }

  note(key: string, at: number): void {
    const step = Math.floor(at / this.#length)
    const keys = this.#keys.get(step)
    if (keys !== undefined) return void keys.add(key)
    this.#keys.set(step, new Set([key]))
    if (step < this.#oldest) this.#oldest = step
  }

  /** Whether the window holds a result of `at`. */
  holds(at: number): boolean {
    return Math.floor(at / this.#length) >= this.#firstKept
  }

  /** Moves the window's end to `now`; answers the keys that have results in what it leaves behind. */
  leave(now: number): ReadonlyArray<string> {
    this.#firstKept = Math.floor(now / this.#length) - count
    if (!(this.#oldest < this.#firstKept)) return none
    const left: Array<string> = []
    while (this.#oldest < this.#firstKept) {
      for (const key of this.#keys.get(this.#oldest)!) left.push(key)
      this.#keys.delete(this.#oldest)
      this.#oldest = Math.min(...this.#keys.keys())
    }
    return left
  }
}

const none: ReadonlyArray<string> = []
