/** Commands and events: what is asked for, what happens because of it, and why something does not. */
import { Duration, Effect, Result, type Schema } from "effect"
import type { Batch, Dropped, Failure } from "../Batch.ts"
import { gather, row } from "../Batch.ts"
import { each, type Flow, perTask, type Stage } from "../Flow.ts"
import { Logged, type PipelineError } from "../Task.ts"
import type { Topic } from "../Topic.ts"
import { Aggregates } from "./commands/Aggregates.ts"
import type { Addressed, Answer, Decided, Decider, Publishing, Recorded, Undecidable } from "./commands/Decision.ts"
import type { Undeliverable } from "./Deliver.ts"
import { codec } from "./commands/Remembered.ts"
import type { Keyless } from "./Window.ts"

export {
  type Answer,
  type Decided,
  type Decider,
  type Publishing,
  type Recorded,
  Undecidable,
} from "./commands/Decision.ts"
export { Gap, rebuild, type Rebuilding, rebuilding, type Rebuilt } from "./commands/Rebuilding.ts"

export interface Options<in C, in out E, in out R, in out S> {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  readonly state: Schema.Codec<S, unknown>
  readonly event: Schema.Codec<E, unknown>
  /** The tagged errors that `decide` may refuse a command with; `Schema.Never` where it refuses none. */
  readonly rejection: Schema.Codec<R, unknown>
  readonly initial: NoInfer<S>
  aggregate(command: C): string
  commandId(command: C): string
  decide(state: NoInfer<S>, command: C): Result.Result<ReadonlyArray<NoInfer<E>>, NoInfer<R>>
  evolve(state: NoInfer<S>, event: NoInfer<E>): NoInfer<S>
  readonly remember?: {
    /** How long a command's result is remembered in stream time, and at most a twenty-fourth longer. 24 hours unless given. */
    readonly window?: Duration.Input
    /** Of how many of an aggregate's latest commands, from 1 to 10,000; 100 unless given, and no more than 512 KiB of them. */
    readonly atMost?: number
  }
}

/** A decider. Throws a `RangeError` where a bound of what is remembered makes no sense. */
export const make = <C, E, R extends Failure, S>(options: Options<C, E, R, S>): Decider<C, E, R, S> => {
  const window = Duration.toMillis(options.remember?.window ?? "24 hours")
  const atMost = options.remember?.atMost ?? 100
  if (!(window >= 1)) throw new RangeError(`decider ${options.name}: results are remembered for 1 ms at least`)
  if (!(Number.isInteger(atMost) && atMost >= 1 && atMost <= 10_000)) {
    throw new RangeError(`decider ${options.name}: of each aggregate 1 to 10,000 results are remembered`)
  }
  return { ...options, remember: { window, atMost } }
}

/** The state that events lead to, from the beginning unless told. */
export const fold = <C, E, R, S>(
  decider: Decider<C, E, R, S>,
  events: Iterable<E>,
  state: S = decider.initial,
): S => {
  for (const event of events) state = decider.evolve(state, event)
  return state
}

/**
 * What becomes of commands, one after the other, for tests of the rules and as the reference for the stage: which answers
 * the same, but for what it has forgotten. Here everything is remembered.
 */
export const run = <C, E, R, S>(
  decider: Decider<C, E, R, S>,
  commands: Iterable<C>,
): ReadonlyArray<Answer<C, E, R>> => {
  const aggregates = new Map<string, { state: S; version: number; readonly answers: Map<string, Answer<C, E, R>> }>()
  return Array.from(commands, (command): Answer<C, E, R> => {
    const key = decider.aggregate(command)
    const commandId = decider.commandId(command)
    const aggregate = aggregates.get(key) ?? { state: decider.initial, version: 0, answers: new Map() }
    aggregates.set(key, aggregate)
    const first = aggregate.answers.get(commandId)
    if (first !== undefined) {
      return { ...first, command, outcome: first.outcome === "rejected" ? "rejected" : "repeated" }
    }
    const result = Result.map(decider.decide(aggregate.state, command), (events) =>
      events.map((event): Recorded<E> => {
        aggregate.state = decider.evolve(aggregate.state, event)
        return { key, version: ++aggregate.version, commandId, event }
      }))
    const answer = {
      key,
      command,
      commandId,
      outcome: Result.isSuccess(result) ? "accepted" : "rejected",
      result,
    } as const
    aggregate.answers.set(commandId, answer)
    return answer
  })
}

/** A value for one of the topics that events are published to. */
export const into = <A>(topic: Topic<A>, value: NoInfer<A>): Addressed => ({ topic, value })

/** Publishes every event to one topic, as `of` makes it. */
export const to = <E, A>(topic: Topic<A>, of: (event: Recorded<E>) => NoInfer<A>): Publishing<E> => ({
  topics: [topic],
  record: (event) => into(topic, of(event)),
})

/**
 * Decides commands, which must be keyed by their aggregate, in the order they come, and goes on with what was accepted.
 *
 * A rejection fails the record, with the tag that `decide` gave it. A command that comes again gets its first result
 * again: its rejection, or its events with `outcome: "repeated"`; nothing happens twice. With `publish` the events go to
 * their topics together with the state that they lead to, all of a command or none (`Undeliverable`, and nothing has
 * happened), whatever becomes of the value behind this stage. Under at-least-once a command that is read again after a
 * crash is accepted again with the same events in the same versions, and they are published again.
 *
 * Memory grows with the number of aggregates. Beside its state each holds the results of its latest commands, within the
 * bounds of `remember`; all of it is one entry of the changelog, written once per commit that changed it.
 */
export function stage<C, E, R extends Failure, S>(
  decider: Decider<C, E, R, S>,
): Stage<C, Decided<C, E>, R | Keyless | Undecidable, PipelineError, Logged>
export function stage<C, E, R extends Failure, S>(
  decider: Decider<C, E, R, S>,
  options: { readonly publish: Publishing<E> },
): Stage<C, Decided<C, E>, R | Keyless | Undecidable | Undeliverable, PipelineError, Logged>
export function stage<C, E, R extends Failure, S>(
  decider: Decider<C, E, R, S>,
  options?: { readonly publish: Publishing<E> },
): Stage<C, Decided<C, E>, R | Keyless | Undecidable | Undeliverable, PipelineError, Logged> {
  const spec = { name: decider.name, value: codec(decider.state, decider.event) }
  type Failures = R | Keyless | Undecidable | Undeliverable
  return perTask<C, Decided<C, E>, Failures, never, never, PipelineError, Logged>(
    Effect.gen(function* () {
      const aggregates = new Aggregates(yield* (yield* Logged).store(spec), decider, options?.publish)
      return (batch) => Effect.sync(() => aggregates.decide(batch))
    }),
    { stage: "decide", stores: [spec], writes: options?.publish.topics ?? [] },
  )
}

/** Goes on with the events, each by itself; a command that was repeated brings none, and is counted as dropped. */
export const events = <C, E, F, E2, R2>(flow: Flow<Decided<C, E>, F, E2, R2>): Flow<Recorded<E>, F, E2, R2> =>
  each<Decided<C, E>, Recorded<E>>(<G>(batch: Batch<Decided<C, E>, G>): Batch<Recorded<E>, G> => {
    const values: Array<Recorded<E>> = []
    const from: Array<number> = []
    const dropped: Array<Dropped> = []
    for (let i = 0; i < batch.values.length; i++) {
      const { outcome, events } = batch.values[i]!
      if (outcome === "repeated" || events.length === 0) {
        dropped.push({ row: row(batch, i), reason: outcome === "repeated" ? "repeated" : "empty" })
        continue
      }
      for (const event of events) {
        values.push(event)
        from.push(i)
      }
    }
    return { ...gather(batch, values, Uint32Array.from(from)), dropped: [...batch.dropped, ...dropped] }
  }, { stage: "events" })(flow)
