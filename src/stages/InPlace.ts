/** Trying records again where they stand, while what comes after them waits. */
import { Clock, Duration, Effect, Metric, Pull, Schedule } from "effect"
import type { Batch, Failed, Failure } from "../Batch.ts"
import { gather, row, unitOf, withoutRows, withoutValues } from "../Batch.ts"
import { HoldingBack, Task } from "../Task.ts"
import { nested } from "../Waiting.ts"
import type { Hold, InPlace, Policy } from "./Policies.ts"
import { isRoute } from "./Policies.ts"

/** Records that a stage has tried again, by stage and the reason why they had failed. */
export const retries = Metric.counter("millrace_retries_total", {
  description: "Records that a stage has tried again, by stage and reason",
  incremental: true,
})

/** Tasks of this process that wait for what a stage needs, by stage and reason: their partitions are not read. */
export const heldTasks = Metric.gauge("millrace_tasks_held", {
  description: "Tasks of this process that wait until records of a stage succeed, by stage and reason",
})

/** How long records are tried again in place before the task counts as held, in milliseconds. */
const patience = 5_000

/** What a stage has done with a record until it was given up or succeeded. */
export interface Attempts {
  attempts: number
  readonly firstFailedAt: number
}

/** What comes of a part of a batch. */
export interface Attempted<B, G> {
  /** What succeeded, a batch for each time that the stages inside have run; none has failures. */
  readonly passes: ReadonlyArray<Batch<B, G>>
  /** What failed for good, each unit once. */
  readonly failed: ReadonlyArray<Failed<G>>
}

/** Tries parts of batches, one at a time. */
export interface Trying<A, B, G, E> {
  /** `tried` is told of every unit that failed. */
  attempt(batch: Batch<A>, tried: Map<number, Attempts>): Effect.Effect<Attempted<B, G>, E>
}

/** Sends values of a batch through the stages inside. */
export type Through<A, B, G, E> = (batch: Batch<A>, is: (i: number) => boolean) => Effect.Effect<Batch<B, G>, E>

const all = () => true

type Again = Hold | InPlace<never, unknown>

type Step = (now: number, input: unknown) => Effect.Effect<number | undefined>

/** Records that failed, and when they are tried again. */
interface Waiting {
  readonly unit: number
  readonly due: number
  readonly tag: string
}

/** Tries by the policies of `name`'s table that are about trying in place. */
export const make = Effect.fnUntraced(function* <A, B, G, E, R>(
  name: string,
  open: Effect.Effect<Through<A, B, G, E>, never, R>,
  policies: ReadonlyMap<string, Policy<never, never>>,
) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const { partition } = yield* Task
  const holdingBack = nested(yield* HoldingBack)
  const through = yield* Effect.provideService(open, HoldingBack, holdingBack)
  const now = () => clock.currentTimeMillisUnsafe()

  const again = (tag: string): Again | undefined => {
    const policy = policies.get(tag)
    return policy === undefined || isRoute(policy) || policy.policy === "later" ? undefined : policy
  }

  const triesAgain = (tag: string): boolean => {
    const policy = policies.get(tag)
    return policy !== undefined && !isRoute(policy)
  }

  const stepOf = (policy: Again): Effect.Effect<Step> =>
    Effect.map(Schedule.toStep(policy.schedule as Schedule.Schedule<unknown, unknown>), (step) => {
      let last = 0
      return (now, input) =>
        step(now, input).pipe(
          Effect.map(([, delay]) => last = Math.max(0, Duration.toMillis(delay))),
          Pull.catchDone(() => Effect.succeed(policy.policy === "hold" ? Math.max(1, last) : undefined)),
        )
    })

  /** Tells that the task is held, and by what; the first time it says so. */
  const held = new Set<string>()
  let isBack = false
  const holdFor = Effect.fnUntraced(function* (tags: ReadonlySet<string>, example: Failure) {
    if (!isBack) {
      isBack = true
      holdingBack.hold()
      yield* Effect.logWarning(
        `stage ${name} holds partition ${partition} until it succeeds: ${example._tag}: ${example.message}`,
      )
    }
    for (const tag of held) if (!tags.has(tag)) yield* unhold(tag)
    for (const tag of tags) {
      if (held.has(tag)) continue
      held.add(tag)
      yield* Metric.modify(Metric.withAttributes(heldTasks, { stage: name, reason: tag }), 1)
    }
  })
  const unhold = (tag: string) => {
    held.delete(tag)
    return Metric.modify(Metric.withAttributes(heldTasks, { stage: name, reason: tag }), -1)
  }
  const unholdAll = Effect.suspend(() => Effect.forEach([...held], unhold, { discard: true }))
  const release = Effect.fnUntraced(function* () {
    if (!isBack) return
    isBack = false
    holdingBack.release()
    yield* unholdAll
    yield* Effect.logInfo(`stage ${name} goes on in partition ${partition}`)
  })
  yield* Effect.addFinalizer(() => unholdAll)

  const attempt = Effect.fnUntraced(function* (batch: Batch<A>, tried: Map<number, Attempts>) {
    const passes: Array<Batch<B, G>> = []
    const failed: Array<Failed<G>> = []
    const steps = new Map<string, Step>()
    const since = now()
    let waiting: Array<Waiting> = []
    let example: Failure | undefined
    let part = batch
    for (;;) {
      const out = yield* through(part, all)
      if (out.source !== batch.source) return yield* Effect.die(strayed(name))
      const undone: Array<Failed<G>> = []
      const delays = new Map<string, number>()
      for (const failure of distinct(out.failed)) {
        const reason = failure.reason as Failure
        const unit = failure.unit ?? failure.row
        const known = tried.get(unit)
        const at = now()
        const attempts = (known?.attempts ?? 0) + 1
        if (known === undefined) tried.set(unit, { attempts, firstFailedAt: at })
        else known.attempts = attempts
        const policy = again(reason._tag)
        if (failure.kept && triesAgain(reason._tag)) undone.push(failure)
        let delay: number | undefined
        if (policy !== undefined) {
          const key = `${unit} ${reason._tag}`
          let step = steps.get(key)
          if (step === undefined) steps.set(key, step = yield* stepOf(policy))
          delay = yield* step(at, reason)
        }
        if (delay === undefined) failed.push(undone.includes(failure) ? undoing(failure) : failure)
        else {
          // What has failed equally often for one reason is tried together, however its schedule jitters.
          const alike = `${attempts} ${reason._tag}`
          const shared = delays.get(alike) ?? delay
          delays.set(alike, shared)
          waiting.push({ unit, due: at + shared, tag: reason._tag })
          if (!failure.kept) undone.push(failure)
          example = reason
        }
      }
      passes.push(settled(out, undone))
      if (waiting.length === 0) break
      const due = Math.min(...waiting.map(({ due }) => due))
      for (;;) {
        const holds = waiting.some(({ tag }) => again(tag)!.policy === "hold")
        if (holds || now() - since >= patience) {
          yield* holdFor(new Set(waiting.map(({ tag }) => tag)), example!)
        }
        const left = due - now()
        if (left <= 0) break
        yield* Effect.sleep(Math.min(left, isBack ? longestSleep : since + patience - now()))
      }
      if (isBack) yield* holdingBack.gate
      const ready = waiting.filter(({ due }) => due <= now())
      waiting = waiting.filter(({ due }) => due > now())
      yield* countRetries(name, ready.map(({ tag }) => tag))
      const units = new Set(ready.map(({ unit }) => unit))
      part = partOf(batch, Uint32Array.from(batch.values.keys()).filter((i) => units.has(unitOf(batch, i))))
    }
    yield* release()
    return { passes, failed }
  })

  return { attempt } satisfies Trying<A, B, G, E>
})

/** Timers hold at most 2^31 milliseconds. */
const longestSleep = 3_600_000

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

/** A batch for the stages inside, without what others have caused; of it the values at `places`, where they are given. */
export const partOf = <A>(batch: Batch<A, unknown>, places?: Uint32Array): Batch<A> => {
  const bare: Batch<A> = { ...batch, failed: [], dropped: [], folded: [], outgoing: [], changes: [] }
  return places === undefined ? bare : gather(bare, Array.from(places, (i) => batch.values[i]!), places)
}

/** One failure for each unit: one that undoes it, if any does. */
const distinct = <G>(failed: ReadonlyArray<Failed<G>>): Iterable<Failed<G>> => {
  if (failed.length < 2) return failed
  const byUnit = new Map<number, Failed<G>>()
  for (const failure of failed) {
    const unit = failure.unit ?? failure.row
    const known = byUnit.get(unit)
    if (known === undefined || known.kept && !failure.kept) byUnit.set(unit, failure)
  }
  return byUnit.values()
}

/** A failure that takes back all that its row has caused: what is tried again must not count twice. */
const undoing = <G>({ kept: _, ...failed }: Failed<G>): Failed<G> => failed

/** A pass without its failures, and without all that comes of records that are tried again. */
const settled = <B, G>(out: Batch<B, G>, undone: ReadonlyArray<Failed<G>>): Batch<B, G> => ({
  ...withoutValues(out, undone),
  failed: [],
  outgoing: withoutRows(out.outgoing, undone),
  dropped: undone.length === 0 ? out.dropped : withoutRows(out.dropped, undone),
})

const strayed = (name: string): Error =>
  new Error(
    `the stages inside ${name} answered with another batch than they were given: merge and repartition before them`,
  )

/** Batches made of parts of one batch, as one: in the order in which their values' units stand in it. */
export const woven = <A, B, G>(batch: Batch<A, unknown>, passes: ReadonlyArray<Batch<B, G>>): Batch<B, G> => {
  if (passes.length === 1) return passes[0]!
  const places = new Map<number, number>()
  for (let i = 0; i < batch.values.length; i++) {
    const unit = unitOf(batch, i)
    if (!places.has(unit)) places.set(unit, i)
  }
  const order: Array<
    { readonly pass: Batch<B, G>; readonly at: number; readonly row: number; readonly place: number }
  > = []
  for (const pass of passes) {
    for (let at = 0; at < pass.values.length; at++) {
      order.push({ pass, at, row: row(pass, at), place: places.get(unitOf(pass, at)) ?? -1 })
    }
  }
  order.sort((a, b) => a.row - b.row || a.place - b.place)
  const first = passes[0]!
  const column = (of: (pass: Batch<B, G>) => Float64Array) => Float64Array.from(order, ({ pass, at }) => of(pass)[at]!)
  return {
    ...first,
    values: order.map(({ pass, at }) => pass.values[at]!),
    rows: Uint32Array.from(order, ({ row }) => row),
    keys: passes.some(({ keys }) => keys !== undefined)
      ? order.map(({ pass, at, row }) => pass.keys === undefined ? pass.source.keys[row]! : pass.keys[at]!)
      : undefined,
    units: passes.some(({ units }) => units !== undefined)
      ? Float64Array.from(order, ({ pass, at }) => unitOf(pass, at))
      : undefined,
    time: first.time && {
      ...first.time,
      timestamps: column(({ time }) => time!.timestamps),
      clock: column(({ time }) => time!.clock),
    },
    dropped: passes.flatMap(({ dropped }) => dropped),
    folded: passes.flatMap(({ folded }) => folded),
    outgoing: passes.flatMap(({ outgoing }) => outgoing),
    changes: passes.flatMap(({ changes }) => changes),
  }
}
