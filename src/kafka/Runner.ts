/**
 * Runs a pipeline in this process as a member of its consumer group: tasks come and go with rebalances, and what they
 * finish is committed together, by the pipeline's guarantee, while they work on.
 */
import { Buffer } from "node:buffer"
import { Cause, Context, Deferred, Duration, Effect, Exit, Fiber, Latch, Metric, Option, Scope } from "effect"
import type { AnyFlow } from "../Flow.ts"
import { Program } from "../Failures.ts"
import {
  type Claim,
  type Committer,
  type Membership as Generation,
  type Pipeline,
  type Plan,
  plan as planOf,
  type TaskId,
} from "../Pipeline.ts"
import { type Logged, PipelineError, type Task } from "../Task.ts"
import { within } from "../Within.ts"
import * as Topology from "../Topology.ts"
import { Queries } from "../state/Queries.ts"
import * as Assignment from "./Assignment.ts"
import { Cluster } from "./Cluster.ts"
import * as Commits from "./Commits.ts"
import * as Drain from "./Drain.ts"
import { asPipelineError } from "./Errors.ts"
import * as Fetcher from "./Fetcher.ts"
import * as Layout from "./Layout.ts"
import * as Leaders from "./Leaders.ts"
import * as Membership from "./Membership.ts"
import { forKey } from "./Partitioner.ts"
import { fencing, partitionsOf } from "./Positions.ts"
import * as TaskRunner from "./TaskRunner.ts"

export interface Options {
  /** The consumer group: the pipeline's name unless given. */
  readonly group?: string
  /**
   * A name of this process that no other in the group has. Who stops with one keeps its tasks for `sessionTimeout`: where it
   * is back by then it goes on with them and nobody else stands still, where it is not they wait that long for nothing. A
   * process whose name another takes fails with `PipelineError` of reason `Fenced`.
   */
  readonly instanceId?: string | undefined
  /** Where to start in partitions that the group has no position in, or whose position is gone. */
  readonly reset: Fetcher.Reset
  readonly commitInterval: Duration.Input
  /** Finished input bytes at which a commit does not wait for its interval. */
  readonly commitBytes: number
  /** After this long without a heartbeat the brokers give our work to others: the most that a kill costs, but for a second or two. */
  readonly sessionTimeout: Duration.Input
  /** A rebalance is noticed by a heartbeat, so everybody's work stands still for about this long in each. */
  readonly heartbeatInterval: Duration.Input
  readonly rebalanceTimeout: Duration.Input
  /** How long a stop may take to finish, commit and leave. */
  readonly shutdownTimeout: Duration.Input
  /**
   * Whether a stop first reads and commits all that its tasks' topics hold when it begins, also what comes from their own
   * repartitions: for topics that end with the process. Off unless given; fails where `shutdownTimeout` is too short.
   */
  readonly drain: boolean
  /** Whether it fails with the first task that stops, and does not go on with the others: for what is to come to an end. */
  readonly failFast: boolean
  readonly maxBytesPerTask: number
  readonly maxBytes: number
  /** How often it is looked whether partitions were added to the topics. */
  readonly metadataInterval: Duration.Input
}

export const defaults: Options = {
  reset: "earliest",
  commitInterval: "100 millis",
  commitBytes: 3 * 1024 * 1024,
  sessionTimeout: "6 seconds",
  heartbeatInterval: "500 millis",
  rebalanceTimeout: "60 seconds",
  shutdownTimeout: "20 seconds",
  drain: false,
  failFast: false,
  maxBytesPerTask: Fetcher.defaults.maxBytesPerPartition,
  maxBytes: Fetcher.defaults.maxBytes,
  metadataInterval: "30 seconds",
}

/** Tasks at work in this process, by `pipeline`. */
export const assignedTasks = Metric.gauge("millrace_tasks", { description: "Tasks assigned to this process" })

/**
 * Tasks of this process that have stopped for good, by `pipeline`: what a program's health is. Anything above 0 needs
 * somebody to look: their partitions are not read until the tasks are started again, by a rebalance or a restart.
 */
export const stoppedTasks = Metric.gauge("millrace_tasks_stopped", {
  description: "Tasks of this process that have stopped for good",
})

/**
 * Runs until interrupted; then finishes what is at hand, commits it and leaves the group, within `shutdownTimeout`. Where
 * that cannot be done, it fails with `PipelineError` of reason `Stopped` beside the interruption.
 *
 * Fails with `PipelineError` when the topics do not fit, when the group refuses this process, or when another process has
 * taken its transactional id. A task that fails is tried again or stops, without stopping others: `stoppedTasks` tells how
 * many have. When all have, or when the pipeline ends with some, it fails with the first one's reason.
 */
export const run = <E, R>(
  pipeline: Pipeline<E, R>,
  options?: Partial<Options>,
): Effect.Effect<void, PipelineError, Exclude<R, Task | Logged | Scope.Scope> | Cluster> =>
  Effect.gen(function* () {
    const stop = yield* Deferred.make<void>()
    const settings = { ...defaults, ...options }
    const work = yield* Effect.forkChild(Effect.scoped(untilStopped(pipeline, settings, Deferred.await(stop))))
    const stopped = Effect.gen(function* () {
      yield* Deferred.succeed(stop, undefined)
      const ended = yield* within(Fiber.join(work), settings.shutdownTimeout)
      if (Option.isNone(ended)) return yield* unfinished(pipeline.name)
    })
    return yield* Fiber.join(work).pipe(Effect.onInterrupt(() => stopped))
  })

/** What a stop that could not commit everything fails with. */
const unfinished = Effect.fnUntraced(function* (name: string) {
  const error = new PipelineError({
    reason: "Stopped",
    retriable: false,
    message: `${name} stopped, and what was at hand could not be committed: it is processed again by the next process`,
  })
  yield* Effect.logError(error.message)
  return yield* error
})

const untilStopped = Effect.fnUntraced(function* <E, R>(
  pipeline: Pipeline<E, R>,
  settings: Options,
  stop: Effect.Effect<void>,
): Effect.fn.Return<void, PipelineError, Exclude<R, Task | Logged | Scope.Scope> | Cluster | Scope.Scope> {
  const cluster = yield* Cluster
  const scope = yield* Effect.scope
  const { name, guarantee } = pipeline
  const planned = planOf(pipeline, { group: settings.group ?? name, reset: settings.reset })
  const flows = Topology.subflows(pipeline.flow)
  const initial = yield* Layout.partitionsOfFlows(cluster, planned)
  /** More may be added to flows without state. */
  const partitions = [...initial]
  const plan: Plan = {
    ...planned,
    isAdded: ({ topic, partition }) =>
      planned.flows.some(({ reads }, flow) => partition >= initial[flow]! && reads.some(({ name }) => name === topic)),
  }
  const committer = yield* guarantee.open(plan) as Effect.Effect<
    Committer<unknown>,
    PipelineError,
    Cluster | Scope.Scope
  >
  const leaders = yield* Leaders.make
  const fetcher = yield* Fetcher.make(leaders, {
    ...Fetcher.defaults,
    reset: settings.reset,
    pipeline: name,
    maxBytes: settings.maxBytes,
    maxBytesPerPartition: settings.maxBytesPerTask,
  })
  const program = yield* Program
  const environment = Context.add(
    yield* Effect.context<never>(),
    Program,
    program.name === "unnamed" ? { ...program, name } : program,
  )

  const tasks = new Map<string, { readonly runner: TaskRunner.TaskRunner; readonly scope: Scope.Closeable }>()
  const runners = () => Array.from(tasks.values(), ({ runner }) => runner)
  const fatal = yield* Deferred.make<never, PipelineError>()
  const leaving = yield* Deferred.make<void>()
  const commits = yield* Commits.make({
    name,
    committer,
    interval: settings.commitInterval,
    bytes: settings.commitBytes,
    runners,
    fatal,
  })
  const queries = Option.getOrUndefined(yield* Effect.serviceOption(Queries))
  const serving = queries?.serve({
    name,
    stores: plan.flows.flatMap(({ stores }, flow) =>
      stores.map((spec) => ({ spec, flow, partitions: partitions[flow]! }))
    ),
    partitionOf: (key, partitions) => forKey(Buffer.from(key), partitions),
    isMember: () => commits.member !== undefined,
    isStopped: (task) => tasks.get(Assignment.taskKey(task))?.runner.failure() !== undefined,
  })
  let isDrained = true
  let assigning = false
  /** Tells how many tasks have stopped; once all have, nothing more will come of this process. */
  const health = Effect.gen(function* () {
    const stopped = runners().filter((runner) => runner.failure() !== undefined)
    yield* Metric.update(Metric.withAttributes(assignedTasks, { pipeline: name }), tasks.size)
    yield* Metric.update(Metric.withAttributes(stoppedTasks, { pipeline: name }), stopped.length)
    if (!assigning && stopped.length > 0 && (settings.failFast || stopped.length === tasks.size)) {
      yield* Deferred.fail(fatal, taskStopped(name, stopped[0]!))
    }
  })
  yield* Effect.addFinalizer(() => {
    serving?.end()
    tasks.clear()
    return health
  })

  const close = Effect.fnUntraced(function* (key: string) {
    const task = tasks.get(key)
    if (task === undefined) return
    tasks.delete(key)
    yield* Scope.close(task.scope, Exit.void)
    serving?.closed(task.runner.id)
  }, Effect.uninterruptible)

  const pauseAll = Effect.suspend(() => Effect.forEach(runners(), (runner) => runner.pause, { discard: true }))

  const grown = Latch.makeUnsafe()
  /** By flow: why its tasks must not go on, since its topics are not what they were. */
  const barred = new Map<number, PipelineError>()
  const bar = (runner: TaskRunner.TaskRunner) => {
    const error = barred.get(runner.id.flow)
    return error === undefined || runner.failure() !== undefined ? Effect.void : runner.fail(error)
  }
  /** How many partitions there are; nothing where the brokers do not answer: the next look will tell. */
  const look = Effect.gen(function* () {
    const { partitions: now, stopped, waiting } = yield* Layout.changed(cluster, plan, partitions)
    for (const message of waiting) yield* Effect.logWarning(`${name}: ${message}`)
    for (const [flow, error] of stopped) barred.set(flow, error)
    return now
  }).pipe(Effect.orElseSucceed(() => partitions))
  const adopt = (now: ReadonlyArray<number>) => {
    for (const flow of plan.flows.keys()) partitions[flow] = Math.max(partitions[flow]!, now[flow] ?? 0)
  }
  /** How often in a row we have asked for more than was assigned. */
  let asked = 0
  /**
   * A static member that comes back has the assignment that was there, which may lack flows that its program did not have,
   * and partitions that were added. A leader that does not know better is not asked for ever.
   */
  const lacks = (all: ReadonlyArray<number>) => {
    const isAll = plan.flows.every((_, flow) => (all[flow] ?? 0) >= partitions[flow]!)
    asked = isAll ? 0 : asked + 1
    return !isAll && asked <= 3
  }

  const assigned = Effect.fnUntraced(function* (
    { tasks: given, owners, partitions: all = partitions }: Assignment.Assigned,
    generation: Generation,
  ) {
    assigning = true
    Latch.closeUnsafe(grown)
    if (lacks(all)) Latch.openUnsafe(grown)
    adopt(all)
    const owned = given.filter(({ flow }) => flow < plan.flows.length)
    if (owned.length < given.length) {
      yield* Effect.logWarning(
        `${name}: the group's leader runs another version, and assigns tasks of flows that this one does not have: ` +
          "they wait until it is replaced",
      )
    }
    const keys = new Set(owned.map(Assignment.taskKey))
    for (const key of [...tasks.keys()]) if (!keys.has(key)) yield* close(key)
    const claims = yield* commits.claim(owned, generation)
    if (claims === undefined) return
    for (const [i, id] of owned.entries()) {
      const claim = claims[i]!
      const known = tasks.get(Assignment.taskKey(id))
      if (known?.runner.holds(claim)) {
        yield* known.runner.resume
        continue
      }
      yield* close(Assignment.taskKey(id))
      yield* Effect.uninterruptible(start(id, claim))
    }
    commits.member = generation
    serving?.assigned(owned, owners)
    yield* Effect.forEach(runners(), bar, { discard: true })
    assigning = false
    yield* health
  })

  const start = Effect.fnUntraced(function* (id: TaskId, claim: Claim) {
    const taskScope = yield* Scope.fork(scope)
    const runner = yield* TaskRunner.make({
      plan,
      flow: flows[id.flow]! as AnyFlow,
      id,
      claim,
      guarantee,
      upstream: Layout.upstreamOf(flows, plan, id.flow, partitions),
      cluster,
      fetcher,
      endPrevious: fencing(cluster, plan.group, transactionTimeout)(claim.previous),
      finished: commits.finished,
      opened: serving && ((store) => serving.opened(id, store)),
      stopped: health,
    }).pipe(Scope.provide(taskScope), Effect.provideContext(environment))
    tasks.set(Assignment.taskKey(id), { runner, scope: taskScope })
  })

  const handlers: Membership.Handlers<PipelineError, never> = {
    userData: Effect.sync(() =>
      Assignment.encodeOwned({
        generation: commits.member?.generation ?? -1,
        tasks: runners().map(({ id }) => id),
        ...queries?.endpoint !== undefined && { endpoint: queries.endpoint },
      })
    ),
    assign: (members) =>
      Effect.gen(function* () {
        adopt(yield* look)
        const asked = members.map(({ memberId, userData }) => ({ memberId, ...Assignment.decodeOwned(userData) }))
        const assignment = Assignment.assign(asked, partitions.map((partitions) => ({ partitions })))
        const owners = Assignment.ownersIn(assignment, asked)
        return new Map(Array.from(assignment, ([memberId, tasks]) => [memberId, {
          partitions: tasks.flatMap((task) => partitionsOf(plan, task)),
          userData: Assignment.encodeAssigned({ tasks, owners, partitions }),
        }]))
      }),
    assigned: ({ userData }, identity) => assigned(Assignment.decodeAssigned(userData), identity),
    revoke: Effect.gen(function* () {
      yield* pauseAll
      yield* Effect.forEach(runners(), (runner) => runner.idle, { concurrency: "unbounded", discard: true })
      yield* commits.commit(true)
      Latch.closeUnsafe(commits.fenced)
      Latch.closeUnsafe(grown)
    }).pipe(Effect.ensuring(Effect.sync(() => serving?.unassigned()))),
    lost: Effect.suspend(() => {
      serving?.unassigned()
      commits.member = undefined
      Latch.closeUnsafe(commits.fenced)
      Latch.closeUnsafe(grown)
      return pauseAll
    }),
    rejoin: Effect.raceFirst(commits.fenced.await, grown.await),
    stop: Deferred.await(leaving),
  }

  yield* Effect.forkScoped(Effect.gen(function* () {
    yield* stop
    if (settings.drain) {
      const patience = Duration.toMillis(settings.shutdownTimeout) * shareForDrain
      const draining = Drain.drained(cluster, {
        plan,
        partitions,
        runners: () => commits.member && runners(),
        commit: commits.commit(true),
      })
      isDrained = yield* Effect.isSuccess(Effect.timeout(draining, patience))
    }
    yield* Deferred.succeed(leaving, undefined)
  }))

  yield* Effect.forkScoped(Effect.forever(Effect.gen(function* () {
    yield* Effect.sleep(settings.metadataInterval)
    const now = yield* look
    yield* Effect.forEach(runners(), bar, { discard: true })
    // The leader asks by itself how many there are.
    if (now.some((count, flow) => count > partitions[flow]!)) Latch.openUnsafe(grown)
  })))
  yield* Effect.forkScoped(Effect.onError(commits.run, (cause) => Deferred.failCause(fatal, cause)))
  yield* Effect.raceFirst(
    Membership.run({
      group: plan.group,
      topics: plan.flows.flatMap(({ reads }) => reads.map((topic) => topic.name)),
      ...settings,
    }, handlers),
    Deferred.await(fatal),
  ).pipe(Effect.mapError(asPipelineError))

  const stopped = runners().find((runner) => runner.failure() !== undefined)
  if (stopped !== undefined) return yield* taskStopped(name, stopped)
  if (!isDrained) return yield* Drain.undrained(name)
  if (runners().some((runner) => runner.isBehind())) return yield* unfinished(name)
}) as <E, R>(
  pipeline: Pipeline<E, R>,
  settings: Options,
  stop: Effect.Effect<void>,
) => Effect.Effect<void, PipelineError, Exclude<R, Task | Logged | Scope.Scope> | Cluster | Scope.Scope>

/** How much of `shutdownTimeout` may pass before a stop no longer waits for all that the topics hold. */
const shareForDrain = 0.8

/** What a fenced transactional id's successor would be given; the id is not used again. */
const transactionTimeout = 60_000

const taskStopped = (pipeline: string, runner: TaskRunner.TaskRunner): PipelineError => {
  const cause = runner.failure()!
  const error = Cause.squash(cause)
  return new PipelineError({
    reason: error instanceof PipelineError ? error.reason : "Stopped",
    retriable: false,
    message: `${pipeline} task ${Assignment.taskKey(runner.id)} stopped: ${
      error instanceof Error ? error.message : "not an Error"
    }`,
    cause: error,
  })
}
