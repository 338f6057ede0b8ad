/**
 * Carries a list of decisions out on Kafka in memory and a clock of its own: programs come, die and are followed, and in the
 * end, when the network is whole again, what is left is finished.
 */
import { Clock, Context, Effect, Random, References } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Admin, type Topic, Topology } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import type * as Faults from "../../src/kafka/Faults.ts"
import type { Decision, Fed, Who } from "./Decision.ts"
import {
  type AnyPipeline,
  brokers,
  type PlannedFault,
  Program,
  replicationLag,
  sessionTimeout,
  type Surroundings,
} from "./Program.ts"
import { Tally } from "./Tally.ts"

/** What runs, and what it must come to. */
export interface System {
  readonly pipelines: ReadonlyArray<AnyPipeline>
  readonly topics: ReadonlyArray<Topic.Any>
  /** What programs reach the brokers through, unless that is the cluster itself: a place for a defect. */
  readonly plant?: (cluster: Cluster["Service"]) => Cluster["Service"]
  /** A database of this run, where pipelines write to one. */
  readonly database?: (clock: Clock.Clock) => Database
  /** Throws where the run has not come to what a reference says. */
  check(input: ReadonlyArray<Fed>, ended: Ended): void
}

type Row = Readonly<Record<string, unknown>>

export interface Database {
  services(program: Program): Context.Context<never>
  table(name: string): ReadonlyArray<Row>
  /** What was inserted and committed, in that order, whatever stood there already. */
  written(table: string): ReadonlyArray<Row>
}

/** What stands everywhere in the end. */
export interface Ended {
  records(topic: string): ReadonlyArray<ClusterMemory.TopicRecord>
  readonly database: Pick<Database, "table" | "written">
}

export interface Ran {
  readonly tally: Tally
  /** The calls of the programs of a pipeline that the decisions have started, in the order of their starts. */
  calls(pipeline: string): ReadonlyArray<ReadonlyArray<Faults.Call>>
  /** What they have asked of the database. */
  statements(pipeline: string): ReadonlyArray<Program["statements"]>
}

const noDatabase: Ended["database"] = { table: () => [], written: () => [] }

/** When runs begin: event times of input are near. */
export const epoch = Date.parse("2026-01-01T00:00:00Z")

/** How long all that is left may take when nothing is in its way any more. */
const patience = 150_000

export interface Options {
  readonly seed: number
  readonly cluster?: ClusterMemory.Options
}

export const run = (system: System, decisions: ReadonlyArray<Decision>, options: Options): Effect.Effect<Ran> =>
  Effect.suspend(() => carryOut(system, decisions)).pipe(
    Effect.scoped,
    Effect.provide(ClusterMemory.layer({ ...brokers, ...options.cluster })),
    Effect.orDie,
    Effect.provideService(References.MinimumLogLevel, "None"),
    Random.withSeed(options.seed),
    (running) => Effect.andThen(TestClock.setTime(epoch), running),
    Effect.provide(TestClock.layer({ warningDelay: "1 minute" }), { local: true }),
  )

const carryOut = Effect.fnUntraced(function* (system: System, decisions: ReadonlyArray<Decision>) {
  const cluster = yield* Cluster
  const control = yield* ClusterMemory.Control
  const clock = yield* Clock.clockWith(Effect.succeed)
  const tally = new Tally()
  const database = system.database?.(clock)
  const context = yield* Effect.context<never>()
  const restart = (node: number) =>
    Effect.map(control.restart(node), (lost) => lost > 0 ? tally.add("broker restarted with loss") : undefined)
  const around: Surroundings = {
    tally,
    runner: {},
    restartSoon: () => {
      const all = Effect.forEach([1, 2, 3], restart, { discard: true })
      Effect.runForkWith(context)(Effect.delay(all, 10))
    },
    cluster: system.plant?.(cluster) ?? cluster,
    services: (program) => database?.services(program) ?? Context.empty(),
  }
  const programs = new Map<string, Array<Program>>(system.pipelines.map(({ name }) => [name, []]))
  const find = ({ pipeline, nth }: Who) => programs.get(pipeline)?.[nth - 1]
  const all = () => [...programs.values()].flat()
  const running = (name: string) => programs.get(name)!.filter((one) => one.runs)
  const planned = decisions.filter((one): one is PlannedFault => one.do === "fault")

  const start = (pipeline: AnyPipeline, instance?: string) =>
    Effect.suspend(() => {
      const { name } = pipeline
      const known = programs.get(name)!
      if (running(name).length > 0) tally.add("rebalance: a member came")
      const namesake = instance === undefined ? undefined : known.findLast((one) => one.instance === instance)
      if (namesake !== undefined) {
        tally.add(namesake.runs ? "static member's name taken by another" : "static member came back")
      }
      const who = { pipeline: name, nth: known.length + 1 }
      const faults = planned.filter((one) => one.who.pipeline === name && one.who.nth === who.nth)
      const program = new Program(who, pipeline, clock, faults, around, instance)
      known.push(program)
      return program.start
    })
  /** Somebody starts again what has died or ended. */
  const follow = Effect.suspend(() =>
    Effect.forEach(
      system.pipelines.filter(({ name }) => {
        const known = programs.get(name)!
        return known.length > 0 && known.every((one) => one.isOver)
      }),
      (pipeline) => start(pipeline, programs.get(pipeline.name)!.at(-1)!.instance),
      { discard: true },
    )
  )
  const pass = Effect.fnUntraced(function* (millis: number) {
    for (let left = millis, step = 20; left > 0; left -= step, step = millis - left < 1_000 ? 20 : 100) {
      yield* TestClock.adjust(Math.min(left, step))
      yield* follow
    }
  })

  const removed = Effect.fnUntraced(function* ({ pipeline, nth }: Who) {
    const [group] = yield* cluster.describeGroups([pipeline])
    const { members } = group!
    if (members.length === 0) return
    tally.add("rebalance: a member was removed")
    yield* control.kick(pipeline, members[(nth - 1) % members.length]!.memberId)
  })

  const feed = Effect.fnUntraced(function* (records: ReadonlyArray<Fed>) {
    for (const some of Map.groupBy(records, ({ topic, partition }) => `${topic}/${partition}`).values()) {
      const { topic, partition } = some[0]!
      yield* control.append({ topic, partition }, {
        keys: some.map(({ key }) => key === null ? null : Buffer.from(key)),
        values: some.map(({ value }) => value === null ? null : Buffer.from(value)),
        headers: some.map(() => []),
        timestamps: some.map(({ at }) => epoch + at),
      })
    }
  })

  const happen = Effect.fnUntraced(function* (decision: Exclude<Decision, { readonly do: "feed" }>) {
    switch (decision.do) {
      case "wait":
        return yield* pass(decision.millis)
      case "start": {
        const pipeline = system.pipelines.find(({ name }) => name === decision.pipeline)!
        return yield* start(pipeline, decision.instance)
      }
      case "restart broker":
        return yield* restart(decision.node)
      case "fault":
        return
    }
    const program = find(decision.who)
    if (program === undefined || !program.runs) return
    switch (decision.do) {
      case "stop":
        tally.add("program stopped")
        return yield* program.stop
      case "kill":
        tally.add("program killed")
        if (running(decision.who.pipeline).length > 1) tally.add("rebalance: a member was lost")
        return yield* program.die
      case "kick":
        return yield* removed(decision.who)
      case "fence": {
        if (program.transactionalId === undefined) return
        tally.add("producer fenced")
        return yield* Effect.ignore(cluster.initProducerId(program.transactionalId, 60_000))
      }
      case "cut off":
        if (decision.millis > sessionTimeout) tally.add("rebalance: a member was lost")
        return program.cutOff(decision.millis)
      case "freeze":
        return program.freeze(decision.millis)
      case "slow to join":
        return program.slowToJoin(decision.millis)
      case "jump":
        tally.add(decision.millis > 0 ? "clock jumped forwards" : "clock jumped backwards")
        return program.clock.jump(decision.millis)
    }
  })

  yield* Admin.createTopics(system.topics, { replicationFactor: 3 })
  const input: Array<Fed> = []
  for (let i = 0; i < decisions.length;) {
    const decision = decisions[i]!
    if (decision.do !== "feed") {
      i++
      yield* happen(decision)
      continue
    }
    const records: Array<Fed> = []
    for (; i < decisions.length; i++) {
      const next = decisions[i]!
      if (next.do !== "feed") break
      records.push(next.record)
    }
    input.push(...records)
    yield* feed(records)
  }

  for (const program of all()) program.calm()
  for (const pipeline of system.pipelines) if (running(pipeline.name).length === 0) yield* start(pipeline)
  const reads = system.pipelines.map((pipeline) => ({
    group: pipeline.name,
    topics: Topology.subflows(pipeline.flow).flatMap((flow) => Topology.of(flow).reads),
  }))
  /** Where a group has not come to the end of what is committed, if it has not. */
  const behind = Effect.gen(function* () {
    const open = yield* control.openTransactions
    if (open.length > 0) return `${open[0]!.transactionalId} has a transaction open`
    for (const { group, topics } of reads) {
      for (const { name } of topics) {
        const ends = yield* control.ends(name)
        const where = ends.map((_, partition) => ({ topic: name, partition }))
        for (const { partition, offset, error } of yield* cluster.offsetFetch(group, where, true)) {
          if (error === null && offset >= ends[partition]!) continue
          if (ends[partition] === 0 && offset < 0) continue
          return `${group} stands at ${error ?? offset} of ${ends[partition]} in ${name}/${partition}`
        }
      }
    }
  })
  const began = clock.currentTimeMillisUnsafe()
  let restarted = false
  let quiet = 0
  for (;;) {
    const left = yield* behind
    // What is committed can be read only when followers have its markers.
    if (left === undefined && quiet++ > 2) break
    if (left === undefined) {
      yield* TestClock.adjust(3 * replicationLag)
      continue
    }
    quiet = 0
    const passed = clock.currentTimeMillisUnsafe() - began
    if (!restarted && passed > patience / 3 && tally.of("produce refused for good") > 0) {
      // A task that was refused for good stands until somebody starts it again.
      restarted = true
      for (const program of all()) yield* program.die
    }
    if (passed > patience) {
      const failures = all().flatMap(({ failure }) => failure ?? [])
      throw new Error([`not done after ${patience / 1_000} s: ${left}`, ...failures].join("\n"))
    }
    // What sleeps until then wakes in its order all the same: only who has died is followed later.
    yield* TestClock.adjust(passed < 2_000 ? 100 : 300)
    yield* follow
  }
  const read = new Map<string, ReadonlyArray<ClusterMemory.TopicRecord>>()
  for (const { topic } of (yield* cluster.metadata()).topics) read.set(topic, yield* control.records(topic))
  for (const program of all()) yield* program.die
  system.check(input, {
    records: (topic) => read.get(topic) ?? [],
    database: database ?? noDatabase,
  })
  return {
    tally,
    calls: (pipeline) => programs.get(pipeline)!.map(({ calls }) => calls),
    statements: (pipeline) => programs.get(pipeline)!.map(({ statements }) => statements),
  } satisfies Ran
})
