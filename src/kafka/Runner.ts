/**
 * Runs a pipeline in this process as a member of its consumer group: tasks come and go with rebalances, and what they
 * finish is committed together, by the pipeline's guarantee, while they work on.
 */
import {
  Cause,
  Clock,
  Context,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Latch,
  Metric,
  Option,
  Scope,
  Semaphore,
} from "effect"
import type { AnyFlow } from "../Flow.ts"
import { Program } from "../Failures.ts"
import {
  changelogTopic,
  type Claim,
  type Committer,
  type Membership as Generation,
  type Pipeline,
  type Plan,
  plan as planOf,
  type TaskId,
  type Work,
} from "../Pipeline.ts"
import { type Logged, PipelineError, type Task } from "../Task.ts"
import { within } from "../Within.ts"
import * as Topology from "../Topology.ts"
import { assign, decodeOwned, encodeOwned, taskKey } from "./Assignment.ts"
import * as Changelog from "./Changelog.ts"
import { Cluster, type KafkaError } from "./Cluster.ts"
import { asPipelineError } from "./Errors.ts"
import * as Counters from "./Counters.ts"
import * as Fetcher from "./Fetcher.ts"
import * as Leaders from "./Leaders.ts"
import * as Membership from "./Membership.ts"
import { fencing, partitionsOf } from "./Positions.ts"
import { patiently } from "./Retry.ts"
import * as TaskRunner from "./TaskRunner.ts"

export interface Options {
  /** The consumer group: the pipeline's name unless given. */
  readonly group?: string
  /** Where to start in partitions that the group has no position in, or whose position is gone. */
  readonly reset: Fetcher.Reset
  readonly commitInterval: Duration.Input
  /** Finished input bytes at which a commit does not wait for its interval. */
  readonly commitBytes: number
  readonly sessionTimeout: Duration.Input
  readonly heartbeatInterval: Duration.Input
  readonly rebalanceTimeout: Duration.Input
  /** How long a stop may take to finish, commit and leave. */
  readonly shutdownTimeout: Duration.Input
  /**
   * Whether a stop first reads and commits all that its tasks' topics hold when it begins, also what comes from their own
   * repartitions: for topics that end with the process. Off unless given; fails where `shutdownTimeout` is too short.
   */
  readonly drain: boolean
  readonly maxBytesPerTask: number
  readonly maxBytes: number
}

export const defaults: Options = {
  reset: "earliest",
  commitInterval: "100 millis",
  commitBytes: 2 * 1024 * 1024,
  sessionTimeout: "10 seconds",
  heartbeatInterval: "2 seconds",
  rebalanceTimeout: "60 seconds",
  shutdownTimeout: "20 seconds",
  drain: false,
  maxBytesPerTask: Fetcher.defaults.maxBytesPerPartition,
  maxBytes: Fetcher.defaults.maxBytes,
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

/** Positions that moved past markers and nothing else are committed with other work, or this often. */
const idleCommitEvery = Duration.toMillis("5 seconds")

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
  const plan = planOf(pipeline, { group: settings.group ?? name, reset: settings.reset })
  const flows = Topology.subflows(pipeline.flow)
  const partitions = yield* layout(cluster, plan)
  const committer = yield* guarantee.open(plan) as Effect.Effect<
    Committer<unknown>,
    PipelineError,
    Cluster | Scope.Scope
  >
  const leaders = yield* Leaders.make
  const fetcher = yield* Fetcher.make(leaders, {
    ...Fetcher.defaults,
    reset: settings.reset,
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
  let isDrained = true
  let assigning = false
  let member: Generation | undefined
  const waiting = Latch.makeUnsafe()
  const full = Latch.makeUnsafe()
  /** Open from a commit that was fenced until the next assignment, which the group may not know to be needed. */
  const fenced = Latch.makeUnsafe()
  let bytes = 0
  let lastCommit = -Infinity

  const finished = (size: number) => {
    bytes += size
    Latch.openUnsafe(waiting)
    if (bytes >= settings.commitBytes) Latch.openUnsafe(full)
  }

  const commitNow = Effect.fnUntraced(function* (flush: boolean): Effect.fn.Return<"done" | "failed" | "nothing"> {
    const current = member
    if (current === undefined) return "nothing"
    const now = yield* Clock.currentTimeMillis
    Latch.closeUnsafe(waiting)
    Latch.closeUnsafe(full)
    bytes = 0
    const taken = new Map<Work, TaskRunner.TaskRunner>()
    for (const runner of runners()) {
      const work = runner.take()
      if (work !== undefined) taken.set(work, runner)
    }
    const work = [...taken.keys()]
    if (work.length === 0) return "nothing"
    const wanted = flush || runners().some((runner) => runner.isDraining())
    if (!wanted && work.every(isIdle) && now - lastCommit < idleCommitEvery) {
      for (const [one, runner] of taken) runner.putBack(one)
      return "nothing"
    }
    const exit = yield* Effect.exit(committer.commit(work, current))
    if (Exit.isSuccess(exit)) {
      lastCommit = now
      const { commit, refused, postponed = [] } = exit.value
      const errors = new Map(refused.map(({ task, error }) => [task, error]))
      for (const [one, runner] of taken) {
        const error = errors.get(one.task)
        if (postponed.some(({ task }) => task === one.task)) runner.putBack(one)
        else if (error === undefined) runner.committed(one, commit)
        else yield* runner.fail(error)
      }
      const held = [...refused, ...postponed]
      yield* Counters.committed(name, work.filter(({ task }) => !held.some((one) => one.task === task)))
      if (postponed.length === 0) return "done"
      const { error } = postponed.find(({ error }) => error.reason === "Fenced") ?? postponed[0]!
      return yield* tryAgain(error, current)
    }
    for (const [one, runner] of taken) runner.putBack(one)
    const error = Cause.squash(exit.cause)
    if (!(error instanceof PipelineError) || !error.retriable) {
      yield* Deferred.failCause(fatal, exit.cause)
      return "failed"
    }
    return yield* tryAgain(error, current)
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

  /** Tells how many tasks have stopped; once all have, nothing more will come of this process. */
  const health = Effect.gen(function* () {
    const stopped = runners().filter((runner) => runner.failure() !== undefined)
    yield* Metric.update(Metric.withAttributes(assignedTasks, { pipeline: name }), tasks.size)
    yield* Metric.update(Metric.withAttributes(stoppedTasks, { pipeline: name }), stopped.length)
    if (!assigning && stopped.length > 0 && stopped.length === tasks.size) {
      yield* Deferred.fail(fatal, taskStopped(name, stopped[0]!))
    }
  })
  yield* Effect.addFinalizer(() => {
    tasks.clear()
    return health
  })

  const committing = yield* Semaphore.make(1)
  /** A commit is never cut off half way: who waits for it may stop waiting. */
  const commit = (flush: boolean) =>
    Effect.flatMap(Effect.forkIn(Semaphore.withPermits(committing, 1)(commitNow(flush)), scope), Fiber.join)

  const commits = Effect.gen(function* () {
    yield* waiting.await
    yield* Effect.raceFirst(Effect.sleep(settings.commitInterval), full.await)
    if ((yield* commit(false)) !== "done") yield* Effect.sleep(settings.commitInterval)
  })

  const close = Effect.fnUntraced(function* (key: string) {
    const task = tasks.get(key)
    if (task === undefined) return
    tasks.delete(key)
    yield* Scope.close(task.scope, Exit.void)
  }, Effect.uninterruptible)

  const pauseAll = Effect.suspend(() => Effect.forEach(runners(), (runner) => runner.pause, { discard: true }))

  const assigned = Effect.fnUntraced(function* (owned: ReadonlyArray<TaskId>, generation: Generation) {
    assigning = true
    Latch.closeUnsafe(fenced)
    const keys = new Set(owned.map(taskKey))
    for (const key of [...tasks.keys()]) if (!keys.has(key)) yield* close(key)
    const claims = yield* retrying(name, Semaphore.withPermits(committing, 1)(committer.claim(owned, generation))).pipe(
      Effect.catchIf(
        (error) => error.retriable && error.reason === "Fenced",
        (error) => Effect.logInfo(`${name}: ${error.message}; waiting for the next assignment`),
      ),
    )
    if (claims === undefined) {
      member = undefined
      return Latch.openUnsafe(fenced)
    }
    for (const [i, id] of owned.entries()) {
      const claim = claims[i]!
      const known = tasks.get(taskKey(id))
      if (known?.runner.holds(claim)) {
        yield* known.runner.resume
        continue
      }
      yield* close(taskKey(id))
      yield* Effect.uninterruptible(start(id, claim))
    }
    member = generation
    Latch.openUnsafe(waiting)
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
      upstream: upstreamOf(flows, plan, id.flow, partitions),
      cluster,
      fetcher,
      endPrevious: fencing(cluster, plan.group, transactionTimeout)(claim.previous),
      finished,
      stopped: health,
    }).pipe(Scope.provide(taskScope), Effect.provideContext(environment))
    tasks.set(taskKey(id), { runner, scope: taskScope })
  })

  const handlers: Membership.Handlers<PipelineError, never> = {
    userData: Effect.sync(() =>
      encodeOwned({ generation: member?.generation ?? -1, tasks: runners().map(({ id }) => id) })
    ),
    assign: (members) =>
      Effect.sync(() => {
        const asked = members.map(({ memberId, userData }) => ({ memberId, ...decodeOwned(userData) }))
        const assignment = assign(asked, partitions.map((partitions) => ({ partitions })))
        return new Map(Array.from(assignment, ([memberId, owned]) => [memberId, {
          partitions: owned.flatMap((task) => partitionsOf(plan, task)),
          userData: encodeOwned({ generation: 0, tasks: owned }),
        }]))
      }),
    assigned: ({ userData }, identity) => assigned(decodeOwned(userData).tasks, identity),
    revoke: Effect.gen(function* () {
      yield* pauseAll
      yield* Effect.forEach(runners(), (runner) => runner.idle, { concurrency: "unbounded", discard: true })
      yield* commit(true)
    }),
    lost: Effect.suspend(() => {
      member = undefined
      return pauseAll
    }),
    rejoin: fenced.await,
    stop: Deferred.await(leaving),
  }

  /** What a task of this process has not committed of the records before `ends`. */
  const behind = (flow: number, ends: ReadonlyMap<string, number>) =>
    runners().some((runner) =>
      runner.id.flow === flow && runner.failure() === undefined &&
      plan.flows[flow]!.reads.some(({ name }) =>
        runner.position(name) < (ends.get(`${name}/${runner.id.partition}`) ?? 0)
      )
    )
  /** Works on until all is committed that was in the topics when each flow's turn came, feeds first. */
  const drained = Effect.gen(function* () {
    for (const [flow, { reads }] of plan.flows.entries()) {
      const ends = yield* endsOf(cluster, reads.map((topic) => topic.name), partitions[flow]!)
      while (member === undefined || behind(flow, ends)) {
        yield* commit(true)
        yield* Effect.sleep("50 millis")
      }
    }
  })
  yield* Effect.forkScoped(Effect.gen(function* () {
    yield* stop
    if (settings.drain) {
      const patience = Duration.toMillis(settings.shutdownTimeout) * shareForDrain
      isDrained = yield* Effect.isSuccess(Effect.timeout(drained, patience))
    }
    yield* Deferred.succeed(leaving, undefined)
  }))

  yield* Effect.forkScoped(Effect.forever(commits).pipe(Effect.onError((cause) => Deferred.failCause(fatal, cause))))
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
  if (!isDrained) return yield* undrained(name)
  if (runners().some((runner) => runner.isBehind())) return yield* unfinished(name)
}) as <E, R>(
  pipeline: Pipeline<E, R>,
  settings: Options,
  stop: Effect.Effect<void>,
) => Effect.Effect<void, PipelineError, Exclude<R, Task | Logged | Scope.Scope> | Cluster | Scope.Scope>

/** Nothing but positions that moved past markers. */
const isIdle = ({ batches }: Work): boolean => batches.every(({ source }) => source.length === 0)

/** How much of `shutdownTimeout` may pass before a stop no longer waits for all that the topics hold. */
const shareForDrain = 0.8

/** The ends of topics, by topic and partition, where they hold anything. */
const endsOf = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  topics: ReadonlyArray<string>,
  partitions: number,
): Effect.fn.Return<ReadonlyMap<string, number>, KafkaError> {
  const all = topics.flatMap((topic) => Array.from({ length: partitions }, (_, partition) => ({ topic, partition })))
  const list = (at: "earliest" | "latest") => patiently(cluster.listOffsets(all, at, "read_uncommitted"), 30_000)
  const [earliest, latest] = [yield* list("earliest"), yield* list("latest")]
  return new Map(
    latest.filter(({ offset }, i) => offset > earliest[i]!.offset)
      .map(({ topic, partition, offset }) => [`${topic}/${partition}`, offset]),
  )
})

const undrained = (name: string): PipelineError =>
  new PipelineError({
    reason: "Stopped",
    retriable: false,
    message: `${name} stopped before it had read and committed all that was in its topics: give a stop more time`,
  })

/** What a fenced transactional id's successor would be given; the id is not used again. */
const transactionTimeout = 60_000

const retrying = <A>(name: string, claim: Effect.Effect<A, PipelineError>): Effect.Effect<A, PipelineError> =>
  Effect.catchIf(
    claim,
    (error) => error.retriable && error.reason !== "Fenced",
    (error) =>
      Effect.logWarning(`${name}: taking over tasks failed and is tried again`, error).pipe(
        Effect.andThen(Effect.sleep("1 second")),
        Effect.andThen(Effect.suspend(() => retrying(name, claim))),
      ),
  )

/** Partitions per flow, feeds first; fails where topics are missing, or what must be co-partitioned is not. */
const layout = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  plan: Plan,
): Effect.fn.Return<ReadonlyArray<number>, PipelineError> {
  const ask = (topics: ReadonlyArray<string>): Effect.Effect<ReadonlyMap<string, number>, KafkaError> =>
    Effect.map(
      patiently(cluster.metadata(topics), 30_000),
      (metadata) => new Map(metadata.topics.map(({ topic, partitions }) => [topic, partitions.length])),
    )
  const changelogs = ({ stores }: Topology.Topology) => stores.map((store) => changelogTopic(plan.name, store.name))
  const names = plan.flows.flatMap(({ reads, writes }) => [...reads, ...writes].map((topic) => topic.name))
  const known = yield* Effect.mapError(ask(names), asPipelineError)
  const missing = names.find((topic) => !known.get(topic))
  if (missing !== undefined) {
    return yield* misfit(`topic ${missing} does not exist: create the pipeline's topics before it starts`)
  }
  const counts: Array<number> = []
  for (const flow of plan.flows) {
    const [first, ...others] = flow.reads.map((topic) => topic.name)
    const partitions = known.get(first!)!
    const other = others.find((topic) => known.get(topic) !== partitions)
    if (other !== undefined) {
      return yield* misfit(
        `topics ${first} (${partitions} partitions) and ${other} (${
          known.get(other)
        }) are read together and must have ` +
          "equally many: repartition one of them",
      )
    }
    counts.push(partitions)
  }
  const wanted = plan.flows.flatMap((flow, i) => changelogs(flow).map((topic) => ({ topic, partitions: counts[i]! })))
  if (wanted.length === 0) return counts
  const created = yield* Effect.mapError(
    patiently(
      cluster.createTopics(wanted.map((one) => ({ ...one, replicationFactor: -1, config: Changelog.config }))),
      30_000,
    ),
    asPipelineError,
  )
  const failed = created.find(({ error }) => error !== null && error !== "TOPIC_ALREADY_EXISTS")
  if (failed !== undefined) {
    return yield* misfit(`changelog ${failed.topic} cannot be created: ${failed.error} ${failed.message ?? ""}`)
  }
  const logs = yield* Effect.mapError(ask(wanted.map(({ topic }) => topic)), asPipelineError)
  const odd = wanted.find(({ topic, partitions }) => (logs.get(topic) || partitions) !== partitions)
  if (odd !== undefined) {
    return yield* misfit(
      `changelog ${odd.topic} has ${logs.get(odd.topic)} partitions and the topic it belongs to ${odd.partitions}: ` +
        "state cannot follow its records",
    )
  }
  return counts
})

const misfit = (message: string): PipelineError =>
  new PipelineError({ reason: "Definition", retriable: false, message })

const upstreamOf = (
  flows: ReadonlyArray<AnyFlow>,
  plan: Plan,
  flow: number,
  partitions: ReadonlyArray<number>,
): ReadonlyMap<string, number> =>
  new Map(Array.from(plan.flows[flow]!.feeds, ([topic, feed]) => [topic, partitions[flows.indexOf(feed)]!]))

const taskStopped = (pipeline: string, runner: TaskRunner.TaskRunner): PipelineError => {
  const cause = runner.failure()!
  const error = Cause.squash(cause)
  return new PipelineError({
    reason: error instanceof PipelineError ? error.reason : "Stopped",
    retriable: false,
    message: `${pipeline} task ${taskKey(runner.id)} stopped: ${
      error instanceof Error ? error.message : "not an Error"
    }`,
    cause: error,
  })
}
