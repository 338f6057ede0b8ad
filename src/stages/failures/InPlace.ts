/** Trying records again where they stand, while what comes after them waits. */
import { Clock, Duration, Effect, Metric, Pull, Schedule } from "effect"
import { type Batch, type Failed, type Failure, RecordDefect } from "../../Batch.ts"
import { monotonic } from "../../Pace.ts"
import { HoldingBack } from "../../Task.ts"
import { nested } from "../../Waiting.ts"
import { Held } from "./Held.ts"
import { distinct, ofUnits, succeeded } from "./Passes.ts"
import { type Hold, type InPlace, isRoute, type Policy } from "./Policies.ts"

/** Records that a stage has tried again, by stage and the reason why they had failed. */
export const retries = Metric.counter("millrace_retries_total", {
  description: "Records that a stage has tried again, by stage and reason",
  incremental: true,
})

/** What a stage has done with a record until it succeeded or was given up. */
export interface Attempts {
  attempts: number
  readonly firstFailedAt: number
}

/** What comes of a part of a batch. */
export interface Attempted<B, G> {
  /** What succeeded, a batch for each time that the stages inside have run; none has failures. */
  readonly passes: ReadonlyArray<Batch<B, G>>
  /** What has failed and is not tried again in place, each unit once. */
  readonly failed: ReadonlyArray<Failed<G>>
}

/** Sends values of a batch through the stages inside. */
export type Through<A, B, G, E> = (batch: Batch<A>, is: (i: number) => boolean) => Effect.Effect<Batch<B, G>, E>

/** Tries parts of batches, one at a time. `tried` has what was done before, and is told of every unit that fails. */
export type Attempt<A, B, G, E> = (
  batch: Batch<A>,
  tried: Map<number, Attempts>,
) => Effect.Effect<Attempted<B, G>, E>

type Policies = ReadonlyMap<string, Policy<never, never>>
type Step = (now: number, reason: Failure) => Effect.Effect<number | undefined>

/** A record that failed, why, and when it is tried again, by a clock that is never put. */
interface Waiting {
  readonly unit: number
  readonly due: number
  readonly reason: Failure
}

/** Opens the stages inside `name` for one task: tries by the policies of its table that are about trying in place. */
export const make = Effect.fnUntraced(function* <A, B, G, E, R>(
  name: string,
  open: Effect.Effect<Through<A, B, G, E>, never, R>,
  policies: Policies,
) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const holdingBack = nested(yield* HoldingBack)
  const held = yield* Held.make(name, holdingBack)
  const through = yield* Effect.provideService(open, HoldingBack, holdingBack)
  const now = () => monotonic(clock)

  return Effect.fnUntraced(function* (batch: Batch<A>, tried: Map<number, Attempts>) {
    const passes: Array<Batch<B, G>> = []
    const failed: Array<Failed<G>> = []
    const delays = new Delays(policies)
    const since = now()
    let waiting: Array<Waiting> = []
    let part = batch
    for (;;) {
      const out = yield* through(part, all)
      if (out.source !== batch.source) return yield* Effect.die(strayed(name))
      const at = clock.currentTimeMillisUnsafe()
      const failedAt = now()
      const undone: Array<Failed<G>> = []
      delays.begin()
      for (const failure of distinct(out.failed)) {
        const reason = failure.reason as Failure
        const unit = failure.unit ?? failure.row
        const attempts = (tried.get(unit)?.attempts ?? 0) + 1
        tried.set(unit, { attempts, firstFailedAt: tried.get(unit)?.firstFailedAt ?? at })
        const delay = yield* Effect.catchDefect(
          delays.of(unit, attempts, reason, at),
          (cause) => Effect.die(new RecordDefect({ source: batch.source, rows: undefined }, failure.row, cause)),
        )
        const isUndone = delay !== undefined || failure.kept === true && triesAgain(policies, reason._tag)
        if (isUndone) undone.push(failure)
        if (delay === undefined) failed.push(isUndone ? undoing(failure) : failure)
        else waiting.push({ unit, due: failedAt + delay, reason })
      }
      passes.push(succeeded(out, undone))
      if (waiting.length === 0) break
      const need = {
        tags: new Set(waiting.map(({ reason }) => reason._tag)),
        example: waiting[0]!.reason,
        isOutage: waiting.some(({ reason }) => inPlace(policies, reason._tag)?.policy === "hold"),
      }
      yield* held.wait(need, since, Math.min(...waiting.map(({ due }) => due)))
      const ready = waiting.filter(({ due }) => due <= now())
      waiting = waiting.filter(({ due }) => due > now())
      yield* countRetries(name, ready.map(({ reason }) => reason._tag))
      part = ofUnits(batch, new Set(ready.map(({ unit }) => unit)))
    }
    yield* held.release
    return { passes, failed }
  }) as Attempt<A, B, G, E>
})

const all = () => true

const inPlace = (policies: Policies, tag: string): Hold | InPlace<never, unknown> | undefined => {
  const policy = policies.get(tag)
  return policy === undefined || isRoute(policy) || policy.policy === "later" ? undefined : policy
}

const triesAgain = (policies: Policies, tag: string): boolean => {
  const policy = policies.get(tag)
  return policy !== undefined && !isRoute(policy)
}

/** When records of one part of a batch are tried again, each by the schedules of what it has failed with. */
class Delays {
  readonly #policies: Policies
  readonly #steps = new Map<string, Step>()
  readonly #shared = new Map<string, number>()

  constructor(policies: Policies) {
    this.#policies = policies
  }

  /** Begins another round: what fails in it equally often for one reason is tried together, however a schedule jitters. */
  begin(): void {
    this.#shared.clear()
  }

  /** In milliseconds; `undefined` for what is not tried again in place. */
  of(unit: number, attempts: number, reason: Failure, now: number): Effect.Effect<number | undefined> {
    const policy = inPlace(this.#policies, reason._tag)
    if (policy === undefined) return Effect.undefined
    return Effect.map(
      Effect.flatMap(this.#stepOf(`${unit} ${reason._tag}`, policy), (step) => step(now, reason)),
      (delay) => {
        if (delay === undefined) return undefined
        const alike = `${attempts} ${reason._tag}`
        const shared = this.#shared.get(alike) ?? delay
        this.#shared.set(alike, shared)
        return shared
      },
    )
  }

  #stepOf(key: string, policy: Hold | InPlace<never, unknown>): Effect.Effect<Step> {
    const known = this.#steps.get(key)
    if (known !== undefined) return Effect.succeed(known)
    return Effect.map(stepOf(policy), (step) => {
      this.#steps.set(key, step)
      return step
    })
  }
}

/** A schedule at work. An outage has no end: there its last delay goes on, and is no shorter than a timer can be. */
const stepOf = (policy: Hold | InPlace<never, unknown>): Effect.Effect<Step> =>
  Effect.map(Schedule.toStep(policy.schedule as Schedule.Schedule<unknown, unknown>), (step) => {
    const isHold = policy.policy === "hold"
    let last = isHold ? 1 : 0
    return (now, reason) =>
      step(now, reason).pipe(
        Effect.map(([, delay]) => last = Math.max(isHold ? 1 : 0, Duration.toMillis(delay))),
        Pull.catchDone(() => Effect.succeed(isHold ? last : undefined)),
      )
  })

/** Counts records that are tried again, by the tags that they had failed with. */
export const countRetries = (stage: string, tags: ReadonlyArray<string>): Effect.Effect<void> => {
  const counts = new Map<string, number>()
  for (const tag of tags) counts.set(tag, (counts.get(tag) ?? 0) + 1)
  return Effect.forEach(
    counts,
    ([reason, count]) => Metric.update(Metric.withAttributes(retries, { stage, reason }), count),
    { discard: true },
  )
}

/** A failure that takes back all that its row has caused: what is tried again must not count twice. */
const undoing = <G>({ kept: _, ...failed }: Failed<G>): Failed<G> => failed

const strayed = (name: string): Error =>
  new Error(
    `the stages inside ${name} answered with another batch than they were given: merge and repartition before them`,
  )
