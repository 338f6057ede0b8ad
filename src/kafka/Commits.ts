/** Committing what tasks have finished: all of it together, one commit after the other, while the tasks work on. */
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Latch, type Scope, Semaphore } from "effect"
import { isEmpty } from "../Batch.ts"
import { backoff, jittered, pause } from "../Jitter.ts"
import { elapsed } from "../Pace.ts"
import type { Claim, Committer, Membership as Generation, TaskId, Work } from "../Pipeline.ts"
import { PipelineError } from "../Task.ts"
import { taskKey } from "./Assignment.ts"
import * as Counters from "./Counters.ts"
import type { TaskRunner } from "./TaskRunner.ts"

export interface Options {
  readonly name: string
  readonly committer: Committer<unknown>
  /** How long finished work waits for more, and the bytes of it that do not wait. */
  readonly interval: Duration.Input
  readonly bytes: number
  /** The tasks of this process. */
  runners(): ReadonlyArray<TaskRunner>
  /** Told why nothing can be committed any more. */
  readonly fatal: Deferred.Deferred<never, PipelineError>
}

export interface Commits {
  /** Who we are in the group; nothing is committed while that is `undefined`. */
  member: Generation | undefined
  /** Open from a commit or a claim that was fenced until the next claim, which the group may not know to be needed. */
  readonly fenced: Latch.Latch
  /** Told whenever there is something to commit, and how many bytes of input led to it. */
  finished(size: number): void
  /**
   * Commits what is finished; positions that moved past markers alone only with `flush`, or now and then. A commit is
   * never cut off half way: who waits for it may stop waiting.
   */
  commit(flush: boolean): Effect.Effect<"done" | "failed" | "nothing">
  /** Takes tasks over, never at the same time as a commit; answers nothing where the group has moved on meanwhile. */
  claim(
    tasks: ReadonlyArray<TaskId>,
    member: Generation,
  ): Effect.Effect<ReadonlyArray<Claim> | undefined, PipelineError>
  /** Commits whenever there is something to commit. */
  readonly run: Effect.Effect<never>
}

/** How long at most a commit that failed waits before it is tried again: doubled each time. Milliseconds. */
const retries = { first: 200, last: 2_000 }

/** Positions that moved past markers and nothing else are committed with other work, or this often. */
const idleCommitEvery = Duration.toMillis("5 seconds")

export const make = Effect.fnUntraced(function* (
  { name, committer, interval, bytes: most, runners, fatal }: Options,
): Effect.fn.Return<Commits, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const committing = yield* Semaphore.make(1)
  const waiting = Latch.makeUnsafe()
  const full = Latch.makeUnsafe()
  const fenced = Latch.makeUnsafe()
  let member: Generation | undefined
  let bytes = 0
  let lastCommit = -Infinity
  /** Tasks whose work was postponed while others' was committed: how often in a row, and until when they wait. */
  const resting = new Map<string, { readonly failed: number; readonly until: number }>()

  const commitNow = Effect.fnUntraced(function* (flush: boolean): Effect.fn.Return<"done" | "failed" | "nothing"> {
    const current = member
    if (current === undefined) return "nothing"
    const now = yield* elapsed
    Latch.closeUnsafe(waiting)
    Latch.closeUnsafe(full)
    bytes = 0
    const taken = new Map<Work, TaskRunner>()
    let isResting = false
    for (const runner of runners()) {
      const until = resting.get(taskKey(runner.id))?.until
      if (!flush && until !== undefined && until > (yield* elapsed)) {
        isResting = true
        continue
      }
      const work = runner.take()
      if (work !== undefined) taken.set(work, runner)
    }
    // Nobody else may tell that it is their time.
    if (isResting) Latch.openUnsafe(waiting)
    const work = [...taken.keys()]
    if (work.length === 0) return "nothing"
    const wanted = flush || runners().some((runner) => runner.isDraining())
    if (!wanted && work.every(isIdle) && now - lastCommit < idleCommitEvery) {
      for (const [one, runner] of taken) runner.putBack(one)
      // Nobody may come who has more: it is asked again until it is time.
      Latch.openUnsafe(waiting)
      return "nothing"
    }
    const exit = yield* Effect.exit(committer.commit(work, current))
    if (Exit.isSuccess(exit)) {
      lastCommit = now
      const { commit, refused, postponed = [] } = exit.value
      const errors = new Map(refused.map(({ task, error }) => [task, error]))
      const before = new Map(resting)
      for (const [one, runner] of taken) {
        const error = errors.get(one.task)
        resting.delete(taskKey(one.task))
        if (postponed.some(({ task }) => task === one.task)) runner.putBack(one)
        else if (error === undefined) runner.committed(one, commit)
        else yield* runner.fail(error)
      }
      const held = [...refused, ...postponed]
      yield* Counters.committed(name, work.filter(({ task }) => !held.some((one) => one.task === task)))
      if (postponed.length === 0) return "done"
      const { error } = postponed.find(({ error }) => error.reason === "Fenced") ?? postponed[0]!
      if (error.reason === "Fenced") return yield* tryAgain(error, current)
      yield* rest(postponed.map(({ task }) => task), before)
      yield* tryAgain(error, current)
      return postponed.length === work.length ? "nothing" : "done"
    }
    for (const [one, runner] of taken) runner.putBack(one)
    const error = Cause.squash(exit.cause)
    if (!(error instanceof PipelineError) || !error.retriable) {
      yield* Deferred.failCause(fatal, exit.cause)
      return "failed"
    }
    return yield* tryAgain(error, current)
  })

  /** They are left alone for a while, and the others commit as often as ever. */
  const rest = Effect.fnUntraced(function* (tasks: ReadonlyArray<TaskId>, before: typeof resting) {
    const now = yield* elapsed
    for (const task of tasks) {
      const failed = (before.get(taskKey(task))?.failed ?? 0) + 1
      resting.set(taskKey(task), {
        failed,
        until: now + (yield* jittered(backoff(retries.first, retries.last, failed))),
      })
    }
  })

  const tryAgain = Effect.fnUntraced(function* (error: PipelineError, current: Generation) {
    Latch.openUnsafe(waiting)
    if (error.reason !== "Fenced") {
      yield* Effect.logWarning(`${name}: a commit failed and is tried again`, error)
      return "failed" as const
    }
    if (member === current) {
      member = undefined
      Latch.openUnsafe(fenced)
    }
    yield* Effect.logInfo(`${name}: ${error.message}; waiting for the next assignment`)
    return "failed" as const
  })

  const commit = (flush: boolean) =>
    Effect.flatMap(Effect.forkIn(Semaphore.withPermits(committing, 1)(commitNow(flush)), scope), Fiber.join)

  return {
    get member() {
      return member
    },
    set member(now) {
      member = now
      if (now !== undefined) Latch.openUnsafe(waiting)
    },
    fenced,
    finished: (size) => {
      bytes += size
      Latch.openUnsafe(waiting)
      if (bytes >= most) Latch.openUnsafe(full)
    },
    commit,
    claim: Effect.fnUntraced(function* (tasks, generation) {
      const claiming = Semaphore.withPermits(committing, 1)(Effect.suspend(() => {
        Latch.closeUnsafe(fenced)
        resting.clear()
        return committer.claim(tasks, generation)
      }))
      const claims = yield* Effect.catchIf(
        retrying(name, claiming),
        (error) => error.retriable && error.reason === "Fenced",
        (error) => Effect.logInfo(`${name}: ${error.message}; waiting for the next assignment`),
      )
      if (claims !== undefined) return claims
      member = undefined
      Latch.openUnsafe(fenced)
      return undefined
    }),
    run: Effect.suspend(() => {
      let failed = 0
      return Effect.forever(Effect.gen(function* () {
        yield* waiting.await
        yield* Effect.raceFirst(Effect.sleep(interval), full.await)
        const outcome = yield* commit(false)
        failed = outcome === "failed" ? failed + 1 : 0
        if (outcome === "failed") yield* pause(backoff(retries.first, retries.last, failed))
        else if (outcome === "nothing") yield* Effect.sleep(interval)
      }))
    }),
  }
})

/** Nothing but positions that moved past markers, and ticks that caused nothing. */
const isIdle = ({ batches }: Work): boolean => batches.every(isEmpty)

/** Milliseconds at most. */
const claimAgain = 1_000

const retrying = <A>(name: string, claim: Effect.Effect<A, PipelineError>): Effect.Effect<A, PipelineError> =>
  Effect.catchIf(
    claim,
    (error) => error.retriable && error.reason !== "Fenced",
    (error) =>
      Effect.logWarning(`${name}: taking over tasks failed and is tried again`, error).pipe(
        Effect.andThen(pause(claimAgain)),
        Effect.andThen(Effect.suspend(() => retrying(name, claim))),
      ),
  )
