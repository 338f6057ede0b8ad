/** One task at work: its flow over its partitions, its stores, and what it has finished and not committed yet. */
import { Cause, Clock, Effect, Exit, Fiber, Latch, Metric, Option, type Scope, Stream } from "effect"
import type { Batch, Changes, Source } from "../Batch.ts"
import { departing, fromSource, isEmpty, spent } from "../Batch.ts"
import { unrouted } from "../Failures.ts"
import type { AnyFlow } from "../Flow.ts"
import { pause } from "../Jitter.ts"
import { monotonic } from "../Pace.ts"
import type { Claim, Clocks, Guarantee, Plan, Positions, TaskId, Work } from "../Pipeline.ts"
import { merge } from "../state/Changed.ts"
import { JournaledStore } from "../state/Store.ts"
import { unheard } from "../StreamTime.ts"
import { Backlog, Circuits, HoldingBack, Logged, PipelineError, type Raw, type StoreSpec, Task } from "../Task.ts"
import type { Topic } from "../Topic.ts"
import * as Topology from "../Topology.ts"
import { taskKey } from "./Assignment.ts"
import * as Changelog from "./Changelog.ts"
import type { Cluster, KafkaError } from "./Cluster.ts"
import { asPipelineError } from "./Errors.ts"
import type { Fetcher, Reading } from "./Fetcher.ts"
import type { Readable } from "./ReadCommitted.ts"

export interface Options {
  readonly plan: Plan
  readonly flow: AnyFlow
  readonly id: TaskId
  readonly claim: Claim
  readonly guarantee: Pick<Guarantee<never, never>, "state" | "writes">
  /** By repartition topic: how many tasks write it. */
  readonly upstream: ReadonlyMap<string, number>
  readonly cluster: Cluster["Service"]
  readonly fetcher: Fetcher
  readonly endPrevious: Effect.Effect<void, KafkaError>
  /** Called whenever there is something to commit. */
  finished(bytes: number): void
  /** Called when a store is restored. */
  opened?: ((store: JournaledStore<unknown>) => void) | undefined
  /** Runs when the task has stopped for good. */
  readonly stopped: Effect.Effect<void>
}

export interface TaskRunner {
  readonly id: TaskId
  /** Why the task has stopped, if it has. */
  readonly failure: () => Cause.Cause<unknown> | undefined
  /** The committed position in one of its topics. */
  position(topic: string): number
  /** Lets the task pull, or stops it from pulling; the batch at hand goes on to its end. */
  readonly resume: Effect.Effect<void>
  readonly pause: Effect.Effect<void>
  /** Waits until nothing is at hand but what a stage holds back until another input has more. */
  readonly idle: Effect.Effect<void>
  /** Whether there is work that is not committed. */
  readonly isBehind: () => boolean
  /** Whether it waits for a commit of what it has finished, before it is tried again. */
  readonly isDraining: () => boolean
  /** Whether the state in memory is the one that was committed last, by this very task. */
  holds(claim: Claim): boolean
  /** Everything finished since the last commit; it must be answered with one of the three below. */
  take(): Work | undefined
  committed(work: Work, commit: string): void
  putBack(work: Work): void
  /** Stops the task: its work cannot be committed, or its topics are not what they were. */
  fail(error: PipelineError): Effect.Effect<void>
}

/** Records of a task's topics behind its committed position, by `pipeline`, `topic` and `partition`: what is still to do. */
export const lag = Metric.gauge("millrace_lag_records", {
  description: "Records that are not committed yet, by pipeline, topic and partition",
})

/** How long a failed task waits at most before it is tried again, in milliseconds: doubled each time, up to the last. */
const backoff = { first: 100, last: 10_000 }

export const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<TaskRunner, never, Scope.Scope> {
  const { plan, id, claim, cluster, fetcher, upstream } = options
  const name = `${plan.name} task ${taskKey(id)}`
  const gate = yield* Latch.make(true)
  const quiet = yield* Latch.make(true)
  const drained = yield* Latch.make(true)
  const stores = new Map<string, JournaledStore<unknown>>()
  const streamTimes = new Map<string, number>()
  let readings = new Map<string, Reading>()
  let positions: Positions = claim.positions
  let clocks: Clocks = claim.clocks
  let lastCommit = claim.commit
  let finished: Array<Batch<unknown>> = []
  let committing = false
  /** Fetches that have not come through with their last row, by the position after them. */
  const atHand = new Set<string>()
  /** Topics of which a fetch waits until the task may pull. */
  const atGate = new Set<string>()
  /** Batches, and parts of them, that are on their way: neither through nor held back by a stage. */
  let moving = 0
  /** By topic: the position after the last fetch that was handed to the flow. */
  const delivered = new Map<string, number>()
  let draining = false
  let failure: Cause.Cause<unknown> | undefined

  const move = (batches: number) => {
    // What is interrupted when the task has stopped is not at hand any more.
    if (failure !== undefined) return
    moving += batches
    if (moving > 0) Latch.closeUnsafe(quiet)
    else Latch.openUnsafe(quiet)
  }
  const holdingBack = { hold: () => move(-1), release: () => move(1), gate: Effect.asVoid(gate.await) }
  const end = ({ topic, next }: Source) => `${topic.name}:${next}`
  const entered = (source: Source) => {
    atHand.add(end(source))
    move(1)
  }
  const emerged = (batch: Batch<unknown>) => {
    const sorted = { ...batch, outgoing: departing(batch.outgoing) }
    finished.push(options.guarantee.writes === "values" ? sorted : spent(sorted))
    Latch.closeUnsafe(drained)
    atHand.delete(end(batch.source))
    move(-1)
    options.finished(batch.source.size)
  }
  const settled = () => {
    if (finished.length === 0 && !committing) Latch.openUnsafe(drained)
  }

  const context = yield* Effect.context<never>()
  const showLag = Effect.fnUntraced(function* (topic: string, reading: Reading) {
    const labels = { pipeline: plan.name, topic, partition: String(id.partition) }
    const series = Metric.registerUnsafe(Metric.withAttributes(lag, labels), context, {
      get: () => ({ value: Math.max(0, reading.end() - positions.get(topic)!) }),
      update: () => {},
      modify: () => {},
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => series.remove()))
  })

  /** Records that the brokers have, as far as is known, and no batch has brought yet. */
  const backlog = () => {
    let records = 0
    for (const [topic, reading] of readings) {
      const brought = delivered.get(topic) ?? positions.get(topic)!
      records += Math.max(0, reading.end() - brought)
    }
    return records
  }

  const read = <A>(topic: Topic<A>, tickAfter?: number): Stream.Stream<Batch<Raw<A>>, PipelineError> =>
    Stream.unwrap(Effect.gen(function* () {
      const isRetry = plan.flows[id.flow]!.retries.some(({ name }) => name === topic.name)
      const where = { topic: topic.name, partition: id.partition }
      const reading = yield* fetcher.read(where, positions.get(topic.name)!, isRetry, {
        topicId: claim.topicIds?.get(topic.name),
        failsAbove: options.guarantee.state === "same" || plan.flows[id.flow]!.stores.length > 0,
      })
      readings.set(topic.name, reading)
      yield* showLag(topic.name, reading)
      const next = tickAfter === undefined
        ? reading.next
        : yield* orTicks(reading, positions.get(topic.name)!, tickAfter)
      const pull = Effect.gen(function* () {
        const fetched = yield* Effect.mapError(next, asPipelineError)
        atGate.add(topic.name)
        yield* gate.await
        atGate.delete(topic.name)
        const source = sourceOf(topic, id.partition, fetched, {
          upstream: upstream.get(topic.name),
          replayedBelow: claim.replays?.get(topic.name)?.below,
        })
        delivered.set(topic.name, source.next)
        entered(source)
        return [fromSource(source, source.bytes as ReadonlyArray<unknown> as ReadonlyArray<Raw<A>>)] as const
      })
      return Stream.fromPull(Effect.succeed(pull))
    }))

  const open = Effect.fnUntraced(function* <V>(spec: StoreSpec<V>) {
    const known = stores.get(spec.name)
    if (known !== undefined) return known as JournaledStore<unknown> as JournaledStore<V>
    const store = new JournaledStore(spec)
    const { read, replay } = yield* Changelog.restore(cluster, fetcher, store, {
      plan,
      partition: id.partition,
      claim: { ...claim, positions },
      state: options.guarantee.state,
      endPrevious: options.endPrevious,
    }).pipe(Effect.mapError(asPipelineError))
    if (replay !== undefined) {
      positions = new Map([...positions, ...replay])
      // Their clocks stand where the group stands: by them what is read again would be late.
      clocks = new Map([...clocks].filter(([topic]) => !replay.has(topic)))
      return yield* new PipelineError({
        reason: "State",
        retriable: true,
        message:
          `store ${spec.name} is behind the positions of group ${plan.group}: what came since is processed again`,
      })
    }
    if (read > 0) yield* Effect.logDebug(`${name}: store ${spec.name} restored from ${read} records`)
    streamTimes.set(spec.name, store.streamTime)
    stores.set(spec.name, store as JournaledStore<unknown>)
    options.opened?.(store as JournaledStore<unknown>)
    return store
  })

  const attempt = Effect.suspend(() => {
    moving = 0
    atHand.clear()
    atGate.clear()
    readings = new Map()
    delivered.clear()
    const clock = (topic: Topic<unknown>) => clocks.get(topic.name) ?? unheard
    const isDry = ({ name }: Topic<unknown>) =>
      readings.get(name)?.isDry() === true && !atGate.has(name) &&
      ![...atHand].some((fetch) => fetch.startsWith(`${name}:`))
    return Topology.running(options.flow).pipe(
      Stream.provideService(Task, Task.of({ partition: id.partition, read, clock, isDry })),
      Stream.provideService(Logged, Logged.of({ store: open })),
      Stream.provideService(HoldingBack, holdingBack),
      Stream.provideService(Backlog, backlog),
      Stream.provideService(Circuits, new Map()),
      Stream.runForEach((batch) => {
        const [failed] = batch.failed
        return failed === undefined
          ? Effect.sync(() => emerged(batch as Batch<unknown>))
          : Effect.fail(unrouted(batch.source, failed))
      }),
    )
  })

  const stop = (cause: Cause.Cause<unknown>) =>
    Effect.sync(() => {
      failure = cause
      moving = 0
      atHand.clear()
      Latch.openUnsafe(quiet)
      Latch.openUnsafe(drained)
    })

  /** Tries again after what may pass; anything else stops this task and no other. */
  const run = (delay: number): Effect.Effect<void, never, unknown> =>
    Effect.flatMap(Effect.exit(attempt), (exit) => {
      if (Exit.isSuccess(exit)) return Effect.void
      // The task's own interruption ends it and does not come here.
      const cause = Cause.hasInterruptsOnly(exit.cause) ? Cause.die(interrupted) : exit.cause
      if (!mayPass(cause)) {
        return Effect.andThen(
          stop(cause),
          Effect.logError(`${name} has stopped; its partitions are not read until it is started again`, cause),
        ).pipe(Effect.andThen(options.stopped))
      }
      return Effect.gen(function* () {
        yield* Effect.logWarning(`${name} failed and is tried again within ${delay} ms`, cause)
        moving = 0
        atHand.clear()
        yield* quiet.open
        draining = true
        options.finished(0)
        yield* drained.await
        draining = false
        for (const store of stores.values()) store.rewind()
        yield* pause(delay)
        yield* run(Math.min(delay * 2, backoff.last))
      })
    })

  const fiber = yield* Effect.forkScoped(Effect.interruptible(run(backoff.first) as Effect.Effect<void>))

  return {
    id,
    failure: () => failure,
    position: (topic) => positions.get(topic)!,
    resume: Effect.asVoid(gate.open),
    pause: Effect.asVoid(gate.close),
    idle: quiet.await,
    isBehind: () => moving > 0 || committing || !finished.every(isEmpty),
    isDraining: () => draining,
    holds: (now) =>
      failure === undefined && now.commit === lastCommit &&
      Array.from(now.positions).every(([topic, position]) => positions.get(topic) === position),
    take: () => {
      if (failure !== undefined || committing || finished.length === 0) return undefined
      committing = true
      const batches = finished
      finished = []
      const changes = merged(batches, stores, streamTimes)
      return {
        task: id,
        batches,
        changes,
        from: positions,
        replays: claim.replays,
        ...after(batches, positions, clocks),
        ...claim.topicIds !== undefined && { topicIds: claim.topicIds },
      }
    },
    committed: (work, commit) => {
      committing = false
      positions = work.positions
      clocks = work.clocks
      lastCommit = commit
      for (const { store, version, streamTime } of work.changes) {
        streamTimes.set(store, streamTime)
        stores.get(store)?.committed(version)
      }
      for (const { source } of work.batches) readings.get(source.topic.name)?.release(source.size)
      settled()
    },
    putBack: (work) => {
      committing = false
      finished = [...work.batches, ...finished]
    },
    fail: (error) =>
      Effect.gen(function* () {
        yield* stop(Cause.fail(error))
        yield* Effect.logError(`${name} has stopped`, error)
        yield* Fiber.interrupt(fiber)
        yield* options.stopped
      }),
  }
})

const interrupted = new Error("a stage was interrupted, and not by its task")

/** A defect or a failure that says so does not pass by itself. */
const mayPass = (cause: Cause.Cause<unknown>): boolean =>
  !Cause.hasDies(cause) &&
  cause.reasons.every((reason) =>
    reason._tag !== "Fail" || !(reason.error instanceof PipelineError) || reason.error.retriable
  )

const sourceOf = (
  topic: Topic<unknown>,
  partition: number,
  { length, next, size, keys, bytes, headers, timestamps, offsets, silence }: Readable & { readonly silence?: number },
  { upstream, replayedBelow }: { readonly upstream: number | undefined; readonly replayedBelow: number | undefined },
): Source => ({
  topic,
  partition,
  length,
  next,
  size,
  keys,
  bytes,
  headers,
  timestamps,
  offsets,
  upstream,
  ...replayedBelow !== undefined && { replayedBelow },
  ...silence !== undefined && { silence },
})

/** How often the wall clock ticks once it does, in milliseconds. */
const tickEvery = 1_000

/** The next fetch; or a tick where the topic has brought no record for `after`, and the brokers say that they have none. */
const orTicks = Effect.fnUntraced(function* (reading: Reading, position: number, after: number) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const now = () => Math.floor(monotonic(clock))
  let next = position
  let heard = now()
  let due = heard + after
  return Effect.gen(function* () {
    for (;;) {
      const fetched = yield* Effect.timeoutOption(reading.next, Math.max(1, due - now()))
      if (Option.isSome(fetched)) {
        next = fetched.value.next
        if (fetched.value.length > 0) {
          heard = now()
          due = heard + after
        }
        return fetched.value
      }
      due = now() + tickEvery
      if (!reading.isDry()) continue
      const silence = now() - heard
      heard = now()
      return { ...nothing, next, silence }
    }
  })
})

const noNumbers = new Float64Array(0)
const nothing = { length: 0, size: 0, keys: [], bytes: [], headers: [], timestamps: noNumbers, offsets: noNumbers }

/** Where the topics stand after batches. */
const after = (
  batches: ReadonlyArray<Batch<unknown>>,
  positions: Positions,
  clocks: Clocks,
): Pick<Work, "positions" | "clocks"> => {
  const last = new Map(batches.map((batch) => [batch.source.topic.name, batch]))
  const reached = { positions: new Map(positions), clocks: new Map(clocks) }
  for (const [topic, { source, clockAfter }] of last) {
    reached.positions.set(topic, source.next)
    if (clockAfter !== undefined) reached.clocks.set(topic, clockAfter(source.length))
  }
  return reached
}

/**
 * The last change of every key by store. Every open store is named, also without changes: its changelog must say where
 * the task stands.
 */
const merged = (
  batches: ReadonlyArray<Batch<unknown>>,
  stores: ReadonlyMap<string, JournaledStore<unknown>>,
  streamTimes: ReadonlyMap<string, number>,
): ReadonlyArray<Changes> => {
  const byStore = new Map<string, Array<Changes>>()
  for (const batch of batches) {
    for (const changes of batch.changes) {
      const list = byStore.get(changes.store)
      if (list === undefined) byStore.set(changes.store, [changes])
      else list.push(changes)
    }
  }
  return Array.from(stores, ([name, store]): Changes => {
    const list = byStore.get(name) ?? []
    const last = list.at(-1)
    if (last === undefined) {
      const streamTime = streamTimes.get(name) ?? -Infinity
      const { shape, encode, logStart } = store
      return { store: name, version: 0, streamTime, entries: new Map(), shape, encode, logStart }
    }
    return { ...last, entries: merge(list.map(({ entries }) => entries)), logStart: store.logStart }
  })
}
