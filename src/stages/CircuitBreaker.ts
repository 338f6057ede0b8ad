/** Leaving a dependency alone while it does not answer. */
import { Deferred, Effect, Exit, Metric, Random, Result, Schema, type Scope, type Types } from "effect"
import { ask, type Batch, type Failure, RecordContext } from "../Batch.ts"
import { Calls, type OpenCalls, type Options as CallOptions, type TimedOut, type TimedOutOf } from "../Calls.ts"
import { type Flow, perTask, settle, type Stage } from "../Flow.ts"
import { interleave } from "../Interleave.ts"
import { monotonic } from "../Pace.ts"
import { Circuits, Task } from "../Task.ts"
import { Waiting } from "../Waiting.ts"
import { inside } from "./Branch.ts"
import { type Admission, Circuit, type Policy, type State } from "./Circuit.ts"

/** A value came while the circuit was open. */
export class CircuitOpen extends Schema.TaggedError<CircuitOpen>()("CircuitOpen", {
  circuit: Schema.String,
  message: Schema.String,
}) {}

export interface Options<in A, out Tag extends string = string> extends Policy {
  /** Names the circuit in metrics and logs. */
  readonly name: string
  /** The tags of failures that tell that the dependency does not answer: all unless given. Others are answers. */
  readonly counts?: ReadonlyArray<Tag>
  /**
   * What becomes of values while the circuit is open: `hold` makes the task wait, `fail` fails them with `CircuitOpen`, to
   * be routed, and `fallback` puts another value in their place.
   */
  readonly whileOpen: "hold" | "fail" | { fallback(value: A, record: RecordContext): unknown }
}

type WhileOpen<O> = O extends { readonly whileOpen: infer W } ? W : never
type MayFail<O, F> = "fail" extends WhileOpen<O> ? F | CircuitOpen : F
/** What surely counts: with tags that are known only later, nothing does. */
type Counted<O, F> = "counts" extends keyof O
  ? O["counts"] extends ReadonlyArray<infer T> ? string extends T ? never : Types.ExtractTag<F, T & string> : never
  : F
type Fails<O, F> = [WhileOpen<O>] extends ["hold"] ? Exclude<F, Counted<O, F>> : MayFail<O, F>
type Fallback<O> = WhileOpen<O> extends infer W ? W extends { fallback(...args: never): infer B } ? B : never : never

/** By circuit and partition: 0 closed, 0.5 half-open, 1 open. */
export const state = Metric.gauge("millrace_circuit_state", {
  description: "Whether a circuit is closed (0), half-open (0.5) or open (1), by circuit and partition",
})

/** How often circuits have opened. */
export const opened = Metric.counter("millrace_circuit_opened_total", {
  description: "How often a circuit has opened, by circuit",
  incremental: true,
})

const levels: Readonly<Record<State, number>> = { "closed": 0, "half-open": 0.5, "open": 1 }

/** The circuit of one task. */
class Breaker {
  readonly #name: string
  readonly #circuit: Circuit
  readonly #partition: string
  #changed = Deferred.makeUnsafe<void>()

  constructor(name: string, circuit: Circuit, partition: number) {
    this.#name = name
    this.#circuit = circuit
    this.#partition = String(partition)
  }

  static readonly open = Effect.fnUntraced(function* (
    { name, ...policy }: Options<never>,
    stage: string,
  ): Effect.fn.Return<Breaker, never, Task | Scope.Scope> {
    const { partition } = yield* Task
    const random = yield* Random.Random
    const breaker = new Breaker(name, new Circuit(policy, stage, () => random.nextDoubleUnsafe()), partition)
    const circuits = yield* Circuits
    circuits.set(name, breaker)
    yield* breaker.#report
    yield* Effect.addFinalizer(() => Metric.update(breaker.#gauge, levels.closed))
    return breaker
  })

  isOpen(now: number): boolean {
    return this.#circuit.state === "open" && now < this.#circuit.openUntil
  }

  /** A call that may be made, or what to wait for before asking again. */
  readonly admit: Effect.Effect<Admission | Effect.Effect<void>> = this.#with((now) => {
    const admission = this.#circuit.admit(now)
    if (admission !== undefined) return admission
    if (this.#circuit.state === "half-open") return Deferred.await(this.#changed)
    return Effect.sleep(Math.max(1, Math.ceil(this.#circuit.openUntil - now)))
  })

  settle(admission: Admission, answered: number, failed: number): Effect.Effect<void> {
    return this.#with((now) => {
      this.#circuit.settle(admission, answered, failed, now)
      Deferred.doneUnsafe(this.#changed, Exit.void)
      this.#changed = Deferred.makeUnsafe()
    })
  }

  get #gauge() {
    return Metric.withAttributes(state, { circuit: this.#name, partition: this.#partition })
  }

  get #report(): Effect.Effect<void> {
    return Metric.update(this.#gauge, levels[this.#circuit.state])
  }

  #with<B>(f: (now: number) => B): Effect.Effect<B> {
    return Effect.clockWith((clock) => {
      const before = this.#circuit.state
      const answer = f(monotonic(clock))
      const after = this.#circuit.state
      return after === before ? Effect.succeed(answer) : Effect.as(this.#tell(after), answer)
    })
  }

  #tell(now: State): Effect.Effect<void> {
    const what = `circuit ${this.#name} of partition ${this.#partition}`
    if (now === "half-open") return Effect.andThen(this.#report, Effect.logDebug(`${what} is tried again`))
    if (now === "closed") return Effect.andThen(this.#report, Effect.logInfo(`${what} has closed`))
    return this.#report.pipe(
      Effect.andThen(Metric.update(Metric.withAttributes(opened, { circuit: this.#name }), 1)),
      Effect.andThen(Effect.logWarning(`${what} has opened: too many failures`)),
    )
  }
}

/** What is the same for both stages: which failures count, and what becomes of values while the circuit is open. */
const policyOf = <A>({ name, counts, whileOpen }: Options<A>) => {
  const tags = counts && new Set(counts)
  const open = new CircuitOpen({ circuit: name, message: `circuit ${name} is open: what is behind it does not answer` })
  return {
    isCounted: (failure: Failure) => tags === undefined || tags.has(failure._tag),
    holds: whileOpen === "hold",
    /** The value that goes on in place of another, or why none does. */
    instead: (batch: Batch<A, unknown>, i: number): Result.Result<unknown, CircuitOpen> =>
      typeof whileOpen === "string"
        ? Result.fail(open)
        : Result.succeed(ask((value: A, record) => whileOpen.fallback(value, record), batch, i)),
  }
}

/**
 * Runs an effect for every value, as `Flow.effect` does and with its options, while its circuit is closed. It opens with
 * too many failures that count, and then nothing is called for `wait`; after that `probes` calls find out whether it closes
 * or stays open. Every task has a circuit of its own, closed when it starts.
 *
 * With `hold`, failures that count fail no record: such an effect is run again, at once while the circuit is closed, once
 * it is tried again after it has opened, and until there is an answer. Nothing behind it goes on meanwhile, and a task that
 * waits here can be let go. With `fail` and `fallback` they fail their records, and so the first ones of an outage do.
 */
export const effect = <
  A,
  B,
  G extends Failure,
  R2,
  const O extends Options<A, Types.Tags<G> | "TimedOut"> & CallOptions,
>(
  f: (value: A, record: RecordContext) => Effect.Effect<B, G, R2>,
  options: O,
): Stage<A, B | Fallback<O>, Fails<O, G | TimedOutOf<O>>, never, R2 | Task> => {
  const stage = "CircuitBreaker.effect"
  const calls = new Calls(options, stage)
  const policy = policyOf<A>(options)
  new Circuit(options, stage)
  type Answer = Result.Result<B, G | TimedOut | CircuitOpen>
  const guarded = (
    batch: Batch<A, unknown>,
    i: number,
    breaker: Breaker,
    open: OpenCalls,
  ): Effect.Effect<Answer, never, R2> =>
    Effect.flatMap(breaker.admit, (admission) => {
      const again = Effect.suspend(() => guarded(batch, i, breaker, open))
      if (Effect.isEffect(admission)) {
        if (policy.holds) return Effect.andThen(open.waiting.wait(admission), again)
        return Effect.sync(() => policy.instead(batch, i) as Answer)
      }
      return Effect.flatMap(
        open.attempt(batch, i, () => f(batch.values[i]!, new RecordContext(batch, i))),
        (result) => {
          const failed = Result.isFailure(result) && policy.isCounted(result.failure)
          const settled = breaker.settle(admission, failed ? 0 : 1, failed ? 1 : 0)
          if (!failed || !policy.holds) return Effect.as(settled, result)
          return settled.pipe(Effect.andThen(open.waiting.pause), Effect.andThen(again))
        },
      )
    })
  return perTask<A, B, Failure, never, R2, never, Task>(
    Effect.gen(function* () {
      const breaker = yield* Breaker.open(options, stage)
      const open = yield* calls.open
      return <F>(batch: Batch<A, F>): Effect.Effect<Batch<B, F | Failure>, never, R2> =>
        Effect.map(
          open.forValues(batch, (i) => guarded(batch, i, breaker, open)),
          (results) => settle(batch, results),
        )
    }),
    { stage: "circuitBreaker", effects: options.onReplay ?? "undeclared" },
  ) as never
}

/** Of a part of a flow, it must be said which failures tell of a dependency. */
export interface Around<in A, out Tag extends string = string> extends Options<A, Tag> {
  readonly counts: ReadonlyArray<Tag>
}

/**
 * Sends values through `body` while its circuit is closed, as `effect` does with one effect: its failures are those of the
 * body's records. One batch counts as one call where the circuit is tried again. A record that fails in the body fails,
 * also with `hold`, which holds back the batches behind it. While the circuit is open the body sees batches without
 * values, so that time goes on in it.
 */
export const around = <A, B, F2 extends Failure, E2, R2, const O extends Around<A, Types.Tags<F2>>>(
  body: (flow: Flow<A>) => Flow<B, F2, E2, R2>,
  options: O,
): Stage<A, B | Fallback<O>, MayFail<O, F2>, E2, R2 | Task> => {
  const stage = "CircuitBreaker.around"
  const policy = policyOf<A>(options)
  new Circuit(options, stage)
  const made = (flow: Flow<A, unknown, unknown, unknown>) => {
    const { flow: inner, open } = inside(body, stage)
    return perTask<A, B, F2 | CircuitOpen, E2, never, never, R2 | Task>(
      Effect.gen(function* () {
        const breaker = yield* Breaker.open(options, stage)
        const waiting = yield* Waiting.make
        const through = yield* open
        const step = <F>(batch: Batch<A, F>): Effect.Effect<Batch<B, F | F2 | CircuitOpen>, E2> =>
          Effect.flatMap(breaker.admit, (admission) => {
            if (Effect.isEffect(admission)) {
              if (policy.holds) return Effect.andThen(waiting.wait(admission), Effect.suspend(() => step(batch)))
              const instead = settle(batch, batch.values.map((_, i) => policy.instead(batch, i))) as Batch<
                B,
                F | CircuitOpen
              >
              return Effect.map(through(batch, () => false), (rest) => interleave(instead, rest))
            }
            return Effect.tap(through(batch, () => true), ({ failed }) => {
              const known = new Set<unknown>(batch.failed)
              const count = failed.filter((one) => !known.has(one) && policy.isCounted(one.reason as Failure)).length
              return breaker.settle(admission, Math.max(0, batch.values.length - count), count)
            })
          })
        return step
      }),
      { stage: "circuitBreaker", insides: [inner] },
    )(flow)
  }
  return made as never
}
