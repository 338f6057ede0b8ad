/** States from events alone. */
import { Result, Schema } from "effect"
import type { Decider, Recorded } from "./Decision.ts"

/** An event is missing: those that come after it cannot be applied. */
export class Gap extends Schema.TaggedError<Gap>()("Gap", {
  /** The aggregate. */
  key: Schema.String,
  /** The first version that is missing. */
  version: Schema.Int,
  message: Schema.String,
}) {}

export interface Rebuilt<out S> {
  readonly state: S
  /** That of the last event; how many there were. */
  readonly version: number
}

/** Takes events one by one, those of an aggregate in any order and any number of times. */
export interface Rebuilding<in E, out S> {
  add(event: Recorded<E>): void
  /** The state of every aggregate; or the first gap, where events have come of which an earlier one is missing. */
  result(): Result.Result<ReadonlyMap<string, Rebuilt<S>>, Gap>
}

/**
 * Rebuilds the states of all aggregates. Events in the order of their versions are applied as they come; others wait for
 * those before them, in memory, as where an aggregate's events are in several topics that are read one after the other.
 * What comes again, as under at-least-once, changes nothing.
 */
export const rebuilding = <C, E, R, S>(decider: Decider<C, E, R, S>): Rebuilding<E, S> => {
  const states = new Map<string, Rebuilt<S>>()
  const early = new Map<string, Map<number, E>>()
  const apply = (key: string, state: S, version: number, event: E): void => {
    let now: Rebuilt<S> = { state: decider.evolve(state, event), version }
    const waiting = early.get(key)
    for (let next = waiting?.get(now.version + 1); next !== undefined; next = waiting!.get(now.version + 1)) {
      now = { state: decider.evolve(now.state, next), version: now.version + 1 }
      waiting!.delete(now.version)
    }
    if (waiting?.size === 0) early.delete(key)
    states.set(key, now)
  }
  return {
    add: ({ key, version, event }) => {
      const { state, version: last } = states.get(key) ?? { state: decider.initial, version: 0 }
      if (version <= last) return
      if (version === last + 1) return apply(key, state, version, event)
      const waiting = early.get(key)
      if (waiting === undefined) early.set(key, new Map([[version, event]]))
      else waiting.set(version, event)
    },
    result: () => {
      for (const [key, waiting] of early) {
        const missing = (states.get(key)?.version ?? 0) + 1
        const there = waiting.size === 1 ? "1 later event is" : `${waiting.size} later events are`
        const message = `version ${missing} is missing, and ${there} there`
        return Result.fail(new Gap({ key, version: missing, message }))
      }
      return Result.succeed(states)
    },
  }
}

/** The states of all aggregates that these events tell of: see `rebuilding`. */
export const rebuild = <C, E, R, S>(
  decider: Decider<C, E, R, S>,
  events: Iterable<Recorded<E>>,
): Result.Result<ReadonlyMap<string, Rebuilt<S>>, Gap> => {
  const states = rebuilding(decider)
  for (const event of events) states.add(event)
  return states.result()
}
