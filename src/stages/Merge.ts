/** Two flows as one. */
import { Cause, Clock, Deferred, Duration, Effect, Exit, Option, Pull, Stream } from "effect"
import type { Batch, Time } from "../Batch.ts"
import { type AnyFlow, type Flow, fromStream, input } from "../Flow.ts"
import { interleave } from "../Interleave.ts"
import { monotonic } from "../Pace.ts"
import { Slices } from "../Slices.ts"
import { HoldingBack, Task } from "../Task.ts"
import * as Topology from "../Topology.ts"

/**
 * Merges `that` into the flow.
 *
 * Two branches of one flow meet batch by batch, in the order of their records. Flows of different topics must be
 * co-partitioned: their records go on in the order of stream time, those of the flow itself first where it is equal, and
 * the merged clock is the lower of the two. A batch is cut where the other input's next record comes first, which a
 * batch with changes of state cannot be: stages with state stand after the merge, and before it they are refused. An
 * input that has been silent for longer than `idle` (5 seconds by default) stops holding the other back until it speaks
 * again. Each input's records keep their order.
 */
export const merge = <B, F2, E2, R2>(that: Flow<B, F2, E2, R2>, options?: { readonly idle?: Duration.Input }) => {
  const idle = Duration.toMillis(options?.idle ?? "5 seconds")
  if (!(idle > 0)) throw new RangeError(`merge: idle is a time above 0, and Infinity waits for ever; it was ${idle} ms`)
  return <A, F, E, R>(flow: Flow<A, F, E, R>): Flow<A | B, F | F2, E | E2, R | R2 | Task> => {
    const merged = sameRoots(flow, that) ? together(flow, that) : byTime(flow, that, idle)
    return fromStream(merged, { stage: "merge", inputs: [flow, that] })
  }
}

const sameRoots = (a: AnyFlow, b: AnyFlow): boolean => {
  const [left, right] = [Topology.roots(a), Topology.roots(b)]
  const common = [...left].filter((root) => right.has(root))
  if (common.length === 0) {
    for (const flow of [a, b]) {
      refuseState(flow)
      refuseRetries(flow)
    }
    return false
  }
  refuseOtherRetries(a, b)
  if (left.size === 1 && right.size === 1) return true
  const topics = common.flatMap((root) => root.node.reads.map((topic) => topic.name))
  throw Topology.refused(
    `a merge of flows that share topic ${topics.join(", ")} but not all of their topics has no order: ` +
      "merge the branches of the shared topic first",
  )
}

const together = <A, B, F, F2, E, E2, R, R2>(
  left: Flow<A, F, E, R>,
  right: Flow<B, F2, E2, R2>,
): Stream.Stream<Batch<A | B, F | F2>, E | E2, R | R2> =>
  Stream.unwrap(Effect.gen(function* () {
    const a = yield* Stream.toPull(input(left))
    const b = yield* Stream.toPull(input(right))
    return Stream.fromPull(Effect.succeed(Effect.gen(function* () {
      const [ofLeft] = yield* a
      const [ofRight] = yield* b
      return [interleave(ofLeft, ofRight)] as const
    })))
  }))

const refuseState = (flow: AnyFlow): void => {
  const [store] = Topology.of(flow).stores
  if (store === undefined) return
  throw Topology.refused(
    `a merge of different topics, which every join with another topic is, cuts batches, and store ${store.name} before it ` +
      "changes with whole batches: put that stage behind it, or a repartition (for a table: Table.through) between them",
  )
}

const refuseRetries = (flow: AnyFlow): void => {
  const [topic] = Topology.of(flow).retries
  if (topic === undefined) return
  throw Topology.refused(
    `a merge of different topics, which every join with another topic is, takes their records in the order of stream time, ` +
      `and what comes back from retry topic ${topic.name} has none: put the stage that tries again after it`,
  )
}

/** Branches meet batch by batch: both must see what comes back, or none. */
const refuseOtherRetries = (a: AnyFlow, b: AnyFlow): void => {
  const [left, right] = [Topology.of(a).retries, Topology.of(b).retries]
  const topic = left.find((topic) => !right.includes(topic)) ?? right.find((topic) => !left.includes(topic))
  if (topic === undefined) return
  throw Topology.refused(
    `what comes back from retry topic ${topic.name} enters one of two branches that are merged: put the stage that tries ` +
      "again before the branches part, or after the merge",
  )
}

/** One input of a merge by time: its next batch, if it has come, and its stream time after the last row taken. */
interface Side<A, F, E> {
  readonly flow: AnyFlow
  readonly pull: Pull.Pull<readonly [Batch<A, F>, ...Array<Batch<A, F>>], E>
  next: Arrived<A, F> | undefined
  pulling: boolean
  failure: Cause.Cause<E | Cause.Done> | undefined
  idle: boolean
  now: number
}

/** A batch that has come; its rows before `row` have gone on. */
interface Arrived<A, F> {
  readonly batch: Batch<A, F>
  slices: Slices<A, F> | undefined
  row: number
}

const byTime = <A, B, F, F2, E, E2, R, R2>(
  left: Flow<A, F, E, R>,
  right: Flow<B, F2, E2, R2>,
  idle: number,
): Stream.Stream<Batch<A | B, F | F2>, E | E2, R | R2 | Task> =>
  Stream.unwrap(Effect.gen(function* () {
    type AnySide = Side<A | B, F | F2, E | E2>
    const scope = yield* Effect.scope
    const task = yield* Task
    const holdingBack = yield* HoldingBack
    const clock = yield* Clock.clockWith(Effect.succeed)
    const side = (flow: AnyFlow, pull: AnySide["pull"]): AnySide => (
      { flow, pull, next: undefined, pulling: false, failure: undefined, idle: false, now: startOf(flow, task) }
    )
    const a = side(left, yield* Stream.toPull(input(left)))
    const b = side(right, yield* Stream.toPull(input(right)))
    let arrived = Deferred.makeUnsafe<void>()
    let now = Math.min(a.now, b.now)
    /** Since when the records that wait have been held back by a silent side. */
    let heldBackSince: number | undefined

    const start = (side: AnySide): Effect.Effect<void> => {
      if (side.pulling || side.next !== undefined || side.failure !== undefined) return Effect.void
      side.pulling = true
      return side.pull.pipe(
        Effect.exit,
        Effect.map((exit) => {
          side.pulling = false
          if (Exit.isSuccess(exit)) {
            const [batch] = exit.value
            // A tick of the wall clock does not end a silence.
            if (batch.source.length > 0) {
              side.idle = false
              heldBackSince = undefined
            }
            side.next = { batch, slices: undefined, row: 0 }
            holdingBack.hold()
          } else side.failure = exit.cause
          Deferred.doneUnsafe(arrived, Exit.void)
        }),
        Effect.forkIn(scope),
        Effect.asVoid,
      )
    }
    const over = (side: AnySide) => side.failure !== undefined && Pull.isDoneCause(side.failure)
    const isIdle = (side: AnySide) => side.idle && isDry(side.flow, task)
    const choose = (): AnySide | undefined => {
      for (const side of [a, b]) if (side.next?.batch.source.length === 0) return side
      if (a.next !== undefined && b.next !== undefined) return clockOf(b.next) < clockOf(a.next) ? b : a
      if (a.next !== undefined && (goesFirst(a, a.next, b) || isIdle(b) || over(b))) return a
      if (b.next !== undefined && (goesFirst(b, b.next, a) || isIdle(a) || over(a))) return b
      return undefined
    }
    const isBefore = (side: AnySide, clock: number, until: number) => clock < until || side === a && clock === until
    /** Whether the next row of `side` comes before all that `other` can still bring. */
    const goesFirst = (side: AnySide, next: Arrived<A | B, F | F2>, other: AnySide) =>
      next.batch.time !== undefined && isBefore(side, clockOf(next), other.now)
    /** The rows of `side` that come before the next one of `other`. */
    const end = ({ batch, row }: Arrived<A | B, F | F2>, side: AnySide, other: AnySide): number => {
      if (batch.time === undefined || other.next === undefined && (isIdle(other) || over(other))) {
        return batch.source.length
      }
      const until = other.next === undefined ? other.now : clockOf(other.next)
      const { rowClock } = batch.time
      let end = row
      while (end < rowClock.length && isBefore(side, rowClock[end]!, until)) end++
      return end
    }
    const take = (side: AnySide): readonly [Batch<A | B, F | F2>] => {
      const other = side === a ? b : a
      const next = side.next!
      const to = end(next, side, other)
      holdingBack.release()
      if (next.batch.source.length > 0) heldBackSince = undefined
      const whole = next.row === 0 && to === next.batch.source.length
      const batch = whole ? next.batch : (next.slices ??= new Slices(next.batch)).take(to)
      next.row = to
      if (to === next.batch.source.length) side.next = undefined
      side.now = Math.max(side.now, batch.time?.now ?? -Infinity)
      const bound = isIdle(other) || over(other) ? Infinity : other.now
      const time = batch.time && held(batch.time, bound, now)
      now = time?.now ?? now
      return [time === undefined ? batch : { ...batch, time }]
    }
    const pull: Effect.Effect<readonly [Batch<A | B, F | F2>], E | E2 | Cause.Done> = Effect.suspend(() => {
      for (const side of [a, b]) {
        if (side.failure !== undefined && !over(side)) return Effect.failCause(side.failure)
      }
      if (over(a) && over(b) && a.next === undefined && b.next === undefined) return Cause.done()
      const chosen = choose()
      if (chosen !== undefined) return Effect.succeed(take(chosen))
      arrived = Deferred.makeUnsafe<void>()
      const waitsOnlyForOther = a.next !== undefined || b.next !== undefined
      const wait = waitsOnlyForOther ? waitFor(a.next === undefined ? a : b) : Deferred.await(arrived)
      return start(a).pipe(Effect.andThen(start(b)), Effect.andThen(wait), Effect.andThen(pull))
    })
    const waitFor = (silent: AnySide) => {
      const now = monotonic(clock)
      heldBackSince ??= now
      const left = Math.max(0, heldBackSince + idle - now)
      return Effect.map(Effect.timeoutOption(Deferred.await(arrived), left), (came) => {
        if (Option.isSome(came)) return
        heldBackSince = undefined
        silent.idle = isDry(silent.flow, task)
      })
    }
    return Stream.fromPull(Effect.succeed(pull))
  }))

/** Stream time after the next row. */
const clockOf = ({ batch, row }: Arrived<unknown, unknown>): number => batch.time?.rowClock[row] ?? -Infinity

const isDry = (flow: AnyFlow, task: Task["Service"]): boolean =>
  Array.from(Topology.roots(flow)).every((root) => task.isDry(root.node.reads[0]!))

/** The stream time at which a flow's topics were left. */
const startOf = (flow: AnyFlow, task: Task["Service"]): number =>
  Math.min(...Array.from(Topology.roots(flow), (root) => task.clock(root.node.reads[0]!).now))

/** A batch's clock held back to `bound`, the other input's stream time, but never below `now`, where it already was. */
const held = (time: Time, bound: number, now: number): Time => {
  const hold = (at: number) => Math.max(now, Math.min(at, bound))
  return {
    timestamps: time.timestamps,
    clock: time.clock.map(hold),
    rowClock: time.rowClock.map(hold),
    now: hold(time.now),
  }
}
