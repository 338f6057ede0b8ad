/** A flow and what comes back to it from retry topics, as one. */
import { Cause, Clock, Deferred, Effect, Exit, Pull, Stream } from "effect"
import type { Batch } from "../../Batch.ts"
import { type Flow, input } from "../../Flow.ts"
import { Slices } from "../../Slices.ts"
import { HoldingBack, type PipelineError, Task } from "../../Task.ts"
import { dueAt } from "./RetryRecord.ts"
import { isRetryTopic, type RetryTopic } from "./RetryTopic.ts"

/** An input of a stage: its next batch, if it has come. */
interface Side<A, F, E> {
  readonly pull: Pull.Pull<readonly [Batch<A, F>, ...Array<Batch<A, F>>], E>
  readonly isRetry: boolean
  next: Arrived<A, F> | undefined
  pulling: boolean
  failure: Cause.Cause<E | Cause.Done> | undefined
}

/** A batch that has come; its rows before `row` have gone on. */
interface Arrived<A, F> {
  readonly batch: Batch<A, F>
  /** When each row of a retry topic is due. */
  readonly due: Float64Array | undefined
  slices: Slices<A, F> | undefined
  row: number
  /** Whether the task need not wait for it. */
  isHeld: boolean
}

/**
 * The batches of the flow and, in between, those of retry topics as far as their rows are due, with the records' own bytes
 * as values. Those of each topic keep their order: a row that is not due yet holds back those behind it in its topic, and
 * nothing else. The flow's batches wait while `isFull`.
 *
 * What is not due is not at hand: a task that is to let go does not wait for it.
 */
export const reentering = <A, F, E, R>(
  flow: Flow<A, F, E, R>,
  topics: ReadonlyArray<RetryTopic>,
  isFull: () => boolean,
): Stream.Stream<Batch<A, F>, E | PipelineError, R | Task> =>
  Stream.unwrap(Effect.gen(function* () {
    type AnySide = Side<A, F, E | PipelineError>
    const scope = yield* Effect.scope
    const task = yield* Task
    const holdingBack = yield* HoldingBack
    const clock = yield* Clock.clockWith(Effect.succeed)
    const side = (pull: AnySide["pull"], isRetry: boolean): AnySide => (
      { pull, isRetry, next: undefined, pulling: false, failure: undefined }
    )
    const sides = [side(yield* Stream.toPull(input(flow)), false)]
    for (const topic of topics) {
      sides.push(side((yield* Stream.toPull(task.read(topic))) as unknown as AnySide["pull"], true))
    }
    let arrived = Deferred.makeUnsafe<void>()
    /** Whose turn it is: all in turn, so that none waits for ever while others have more and more. */
    let turn = 0

    const hold = (next: Arrived<A, F>) => {
      if (next.isHeld) return
      next.isHeld = true
      holdingBack.hold()
    }
    const start = (side: AnySide): Effect.Effect<void> => {
      if (side.pulling || side.next !== undefined || side.failure !== undefined) return Effect.void
      side.pulling = true
      return side.pull.pipe(
        Effect.exit,
        Effect.map((exit) => {
          side.pulling = false
          if (Exit.isSuccess(exit)) {
            const [batch] = exit.value
            const due = isRetryTopic(batch.source.topic) ? dues(batch, clock.currentTimeMillisUnsafe()) : undefined
            side.next = { batch, due, slices: undefined, row: 0, isHeld: false }
            if (side.isRetry) hold(side.next)
          } else side.failure = exit.cause
          Deferred.doneUnsafe(arrived, Exit.void)
        }),
        Effect.forkIn(scope),
        Effect.asVoid,
      )
    }
    const isOver = (side: AnySide) => side.failure !== undefined && Pull.isDoneCause(side.failure)
    /** When the next row of a side may go on: in the past or `Infinity` where that is not a matter of time. */
    const ready = ({ next, isRetry }: AnySide): number => {
      if (next === undefined) return Infinity
      if (!isRetry) return isFull() ? Infinity : -Infinity
      return next.due!.length === 0 ? -Infinity : next.due![next.row]!
    }
    const take = (side: AnySide): readonly [Batch<A, F>] => {
      const next = side.next!
      const { batch, due } = next
      const { length } = batch.source
      if (next.isHeld) holdingBack.release()
      if (!side.isRetry || length === 0) {
        side.next = undefined
        return [batch]
      }
      const now = clock.currentTimeMillisUnsafe()
      let end = next.row + 1
      while (end < length && due![end]! <= now) end++
      const whole = next.row === 0 && end === length
      const slice = whole ? batch : (next.slices ??= new Slices(batch)).take(end)
      next.row = end
      if (end === length) side.next = undefined
      return [slice]
    }
    const pull: Effect.Effect<readonly [Batch<A, F>], E | PipelineError | Cause.Done> = Effect.suspend(() => {
      for (const side of sides) if (side.failure !== undefined && !isOver(side)) return Effect.failCause(side.failure)
      if (sides.every((side) => isOver(side) && side.next === undefined)) return Cause.done()
      arrived = Deferred.makeUnsafe<void>()
      return Effect.andThen(Effect.forEach(sides, start, { discard: true }), choose)
    })
    const choose = Effect.suspend(() => {
      const now = clock.currentTimeMillisUnsafe()
      for (let i = 0; i < sides.length; i++) {
        const side = sides[(turn + i) % sides.length]!
        if (ready(side) > now) continue
        turn = (turn + i + 1) % sides.length
        return side.next!.isHeld ? Effect.map(holdingBack.gate, () => take(side)) : Effect.sync(() => take(side))
      }
      const [main] = sides
      if (main!.next !== undefined) hold(main!.next)
      const due = Math.min(...sides.map(ready), main!.next === undefined ? Infinity : now + askAgainAfter)
      const wait = due === Infinity
        ? Deferred.await(arrived)
        : Effect.timeoutOption(Deferred.await(arrived), Math.min(Math.max(1, due - now), longestSleep))
      return Effect.andThen(wait, pull)
    })
    return Stream.fromPull(Effect.succeed(pull))
  }))

/** How often it is asked whether the flow's batches may go on, in milliseconds. */
const askAgainAfter = 1_000

/** Timers hold at most 2^31 milliseconds. */
const longestSleep = 3_600_000

const dues = ({ source }: Batch<unknown, unknown>, now: number): Float64Array => {
  const due = new Float64Array(source.length)
  for (let row = 0; row < source.length; row++) due[row] = dueAt(source, row, now)
  return due
}
