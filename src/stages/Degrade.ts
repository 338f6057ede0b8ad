/** Doing less while there is too much to do: a policy that says when, and two ways to go. */
import { Context, type Duration, Effect, Metric, type Scope } from "effect"
import type { Batch, Failure } from "../Batch.ts"
import { type Flow, perTask, type Stage } from "../Flow.ts"
import { interleave } from "../Interleave.ts"
import { millis, monotonic } from "../Pace.ts"
import { Backlog, Circuits, Task } from "../Task.ts"
import { inside } from "./Branch.ts"

/** When a task does less. Each condition has two bounds, so that it does not come and go: any of them turns the policy on. */
export interface Options {
  /** Names the policy in metrics, logs and for its switch. */
  readonly name: string
  /** How old the newest record of a batch is, by its Kafka timestamp: on above the one, off below the other, half of it unless given. */
  readonly behind?: { readonly above: Duration.Input; readonly below?: Duration.Input }
  /** How many records of its topics the task has not read: on above the one, off below the other, half of it unless given. */
  readonly backlog?: { readonly above: number; readonly below?: number }
  /** The name of a circuit of the same flow (see `CircuitBreaker`): on while nothing is called, off when it is tried. */
  readonly circuit?: string
}

/** What turns a policy on. */
export type Cause = "behind" | "backlog" | "circuit" | "switch"

/** A policy, checked. */
export interface Policy {
  readonly name: string
  readonly behind: Bounds | undefined
  readonly backlog: Bounds | undefined
  readonly circuit: string | undefined
}

interface Bounds {
  readonly above: number
  readonly below: number
}

/** Throws a `RangeError` where the options make no sense. Without a condition only its switch turns it on. */
export const policy = ({ name, behind, backlog, circuit }: Options): Policy => {
  const what = `Degrade.policy: ${name}`
  const bounds = (of: string, { above, below = above / 2 }: { readonly above: number; readonly below?: number }) => {
    if (!(above > 0 && above < Infinity)) throw new RangeError(`${what}: ${of}.above is a finite number above 0`)
    if (!(below > 0 && below <= above)) throw new RangeError(`${what}: ${of}.below is above 0, and at most above`)
    return { above, below }
  }
  return {
    name,
    behind: behind && bounds("behind", {
      above: millis(behind.above, `${what}: behind.above`),
      ...behind.below !== undefined && { below: millis(behind.below, `${what}: behind.below`) },
    }),
    backlog: backlog && bounds("backlog", backlog),
    circuit,
  }
}

/** What people say of a policy: `auto` leaves it to its conditions. */
export type Mode = "auto" | "on" | "off"

/** The switches of this process by policy: those that are absent stand on `auto`. */
export const Switches = Context.Reference<Map<string, Mode>>("millrace/stages/Degrade/Switches", {
  defaultValue: () => new Map(),
})

/** Turns a policy on or off in this process, or leaves it to its conditions again: from the next batch of each task on. */
export const turn = (policy: string, mode: Mode): Effect.Effect<void> =>
  Effect.map(Switches, (switches) => {
    if (mode === "auto") switches.delete(policy)
    else switches.set(policy, mode)
  })

/** By policy and partition: whether the task does less. */
export const degraded = Metric.gauge("millrace_degraded", {
  description: "Whether a task does less (1) or all (0), by policy and partition",
})

/** Values that went the reduced way, by policy; again where a batch is processed again. */
export const degradedRecords = Metric.counter("millrace_degraded_records_total", {
  description: "Values that went the reduced way, by policy",
  incremental: true,
})

/** A policy in one task. */
class Judge {
  readonly #policy: Policy
  readonly #partition: string
  readonly #backlog: () => number
  readonly #circuits: typeof Circuits.Service
  readonly #switches: Map<string, Mode>
  #isBehind = false
  #isFull = false
  #cause: Cause | undefined

  private constructor(
    policy: Policy,
    partition: number,
    backlog: () => number,
    circuits: typeof Circuits.Service,
    switches: Map<string, Mode>,
  ) {
    this.#policy = policy
    this.#partition = String(partition)
    this.#backlog = backlog
    this.#circuits = circuits
    this.#switches = switches
  }

  static readonly open = Effect.fnUntraced(function* (
    policy: Policy,
  ): Effect.fn.Return<Judge, never, Task | Scope.Scope> {
    const { partition } = yield* Task
    const judge = new Judge(policy, partition, yield* Backlog, yield* Circuits, yield* Switches)
    yield* Metric.update(judge.#gauge, 0)
    yield* Effect.addFinalizer(() => Metric.update(judge.#gauge, 0))
    return judge
  })

  /** Whether a batch goes the reduced way. A change is told once. */
  judge(batch: Batch<unknown, unknown>): Effect.Effect<boolean> {
    return Effect.clockWith((clock) => {
      const before = this.#cause
      this.#cause = this.#causeOf(batch, clock.currentTimeMillisUnsafe(), monotonic(clock))
      const isOn = this.#cause !== undefined
      const counted = isOn && batch.values.length > 0
        ? Metric.update(Metric.withAttributes(degradedRecords, { policy: this.#policy.name }), batch.values.length)
        : Effect.void
      const told = (before !== undefined) === isOn ? counted : Effect.andThen(this.#tell, counted)
      return Effect.as(told, isOn)
    })
  }

  #causeOf({ source }: Batch<unknown, unknown>, now: number, monotonic: number): Cause | undefined {
    const { name, behind, backlog, circuit } = this.#policy
    if (behind !== undefined && (source.length > 0 || source.silence !== undefined)) {
      // A tick comes when there is nothing to read.
      const age = source.length === 0 ? 0 : now - source.timestamps[source.length - 1]!
      this.#isBehind = this.#isBehind ? age >= behind.below : age > behind.above
    }
    if (backlog !== undefined) {
      const records = this.#backlog()
      this.#isFull = this.#isFull ? records >= backlog.below : records > backlog.above
    }
    switch (this.#switches.get(name) ?? "auto") {
      case "on":
        return "switch"
      case "off":
        return undefined
      case "auto":
        if (this.#isBehind) return "behind"
        if (this.#isFull) return "backlog"
        return circuit !== undefined && this.#circuits.get(circuit)?.isOpen(monotonic) === true ? "circuit" : undefined
    }
  }

  get #gauge() {
    return Metric.withAttributes(degraded, { policy: this.#policy.name, partition: this.#partition })
  }

  get #tell(): Effect.Effect<void> {
    const what = `policy ${this.#policy.name} of partition ${this.#partition}`
    return this.#cause === undefined
      ? Effect.andThen(Metric.update(this.#gauge, 0), Effect.logInfo(`${what} is off: everything is done again`))
      : Effect.andThen(Metric.update(this.#gauge, 1), Effect.logWarning(`${what} is on: ${whys[this.#cause]}`))
  }
}

const whys: Readonly<Record<Cause, string>> = {
  behind: "the task is too far behind",
  backlog: "too many records wait for the task",
  circuit: "its circuit is open",
  switch: "it was switched on",
}

/**
 * Sends values through `full` while the policy is off, and through `reduced` while it is on, a batch as a whole; both meet
 * again in order. What `reduced` does is up to it: leave an enrichment out and mark the value in its type, keep a sample,
 * leave out what can be spared. What it drops is counted under its own reasons, as anywhere.
 *
 * Each task has a policy of its own, off when it starts, and judges it once for each batch, by the clock and by what waits:
 * which records went which way is not the same in another run, and not told by cuts alone. Whichever way is not taken gets
 * the batch without its values, so that time goes on in it. Keep no state by key inside: it would miss what went the other
 * way.
 */
export const by = <A, B, F2 extends Failure, E2, R2, C, F3 extends Failure, E3, R3>(
  policy: Policy,
  full: (flow: Flow<A>) => Flow<B, F2, E2, R2>,
  reduced: (flow: Flow<A>) => Flow<C, F3, E3, R3>,
): Stage<A, B | C, F2 | F3, E2 | E3, R2 | R3 | Task> =>
(flow) => {
  const fully = inside(full, "Degrade.by")
  const less = inside(reduced, "Degrade.by")
  return perTask<A, B | C, F2 | F3, E2 | E3, never, never, R2 | R3 | Task>(
    Effect.gen(function* () {
      const policyOfTask = yield* Judge.open(policy)
      const [all, some] = [yield* fully.open, yield* less.open]
      return <F>(batch: Batch<A, F>): Effect.Effect<Batch<B | C, F | F2 | F3>, E2 | E3> =>
        Effect.flatMap(
          policyOfTask.judge(batch),
          (isOn) =>
            Effect.flatMap(all(batch, () => !isOn), (out) =>
              Effect.map(some(batch, () => isOn), (rest) => interleave(out, rest))),
        )
    }),
    { stage: "degrade", insides: [fully.flow, less.flow] },
  )(flow)
}

/** The way that does nothing: for policies that only let less through. */
export const pass = <A>(flow: Flow<A>): Flow<A> => flow
