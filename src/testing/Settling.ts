/** Whether everything that was fed is through, and where it stands if not. */
import { Effect } from "effect"
import { Cluster } from "../kafka/Cluster.ts"
import { Control } from "../kafka/ClusterMemory.ts"
import type { Any as AnyTopic } from "../Topic.ts"
import type { AnyPipeline } from "./Controls.ts"
import * as Counts from "./Counts.ts"
import type { Crew } from "./Crew.ts"
import { DriverError } from "./DriverError.ts"
import type { Process } from "./Process.ts"

/** What a run watches of one pipeline. */
export interface Watched {
  readonly pipeline: AnyPipeline
  readonly group: string
  /** All that it reads, its own repartition topics included. */
  readonly reads: ReadonlyArray<AnyTopic>
}

/** Where a group stands in one partition, and how far the partition goes. */
interface Stand {
  readonly topic: string
  readonly partition: number
  /** Undefined while it is undecided, -1 before a program has taken the partition over. */
  readonly position: number | undefined
  readonly end: number
}

interface Standing {
  readonly settled: boolean
  readonly behind: ReadonlyMap<Watched, ReadonlyArray<Stand>>
  readonly rebalancing: ReadonlySet<Watched>
  readonly transactions: number
  /** Programs that have ended although nobody told them to, and that nobody has followed. */
  readonly ended: ReadonlyArray<Process>
  /** Programs in which tasks have stopped for good. */
  readonly stopped: ReadonlyArray<Process>
}

/**
 * Where everything stands. Settled is: every group has committed past the last record of all that it reads, no
 * transaction is undecided, and the groups know exactly the programs that run. Nothing can have moved in between: the
 * ends are asked for before and after.
 */
export const standing = Effect.fnUntraced(function* (watched: ReadonlyArray<Watched>, crew: Crew) {
  const cluster = yield* Cluster
  const control = yield* Control
  const topics = [...new Set(watched.flatMap(({ reads }) => reads.map(({ name }) => name)))]
  const ends = () =>
    Effect.forEach(topics, (topic) => Effect.map(control.ends(topic), (ends) => [topic, ends] as const))
  const before = new Map(yield* ends())
  const behind = new Map<Watched, ReadonlyArray<Stand>>()
  for (const one of watched) {
    const where = one.reads.flatMap(({ name }) => before.get(name)!.map((_, partition) => ({ topic: name, partition })))
    const committed = yield* cluster.offsetFetch(one.group, where, true)
    const stands = committed.map(({ topic, partition, offset, error }): Stand => ({
      topic,
      partition,
      position: error === null ? offset : undefined,
      end: before.get(topic)![partition]!,
    }))
    const claims = crew.running(one.pipeline).length > 0
    const left = stands.filter(({ position, end }) =>
      position === undefined || position < end && !(position === -1 && end === 0) || position === -1 && claims
    )
    if (left.length > 0) behind.set(one, left)
  }
  const described = yield* cluster.describeGroups(watched.map(({ group }) => group))
  const rebalancing = new Set(watched.filter(({ pipeline }, i) => {
    const running = crew.running(pipeline).length
    const { state, members } = described[i]!
    return running > 0 && (state !== "Stable" || members.length !== running)
  }))
  const transactions = (yield* control.openTransactions).length
  const unmoved = (yield* ends()).every(([topic, ends]) => ends.every((end, i) => end === before.get(topic)![i]))
  const ended = watched.flatMap(({ pipeline }) => {
    const last = crew.of(pipeline).at(-1)
    return last?.fate() === "ended" && !crew.isFollowed(pipeline) ? [last] : []
  })
  const stopped = crew.running().filter((one) => Counts.stopped(one.metrics()) > 0)
  const settled = unmoved && behind.size === 0 && rebalancing.size === 0 && transactions === 0 && ended.length === 0 &&
    stopped.length === 0
  return { settled, behind, rebalancing, transactions, ended, stopped } satisfies Standing
}, Effect.orDie)

/** The pipelines that nobody will go on with. */
export const abandoned = ({ behind, ended }: Standing, crew: Crew): ReadonlySet<string> =>
  new Set([
    ...ended.map(({ pipeline }) => pipeline.name),
    ...Array.from(behind.keys(), ({ pipeline }) => pipeline)
      .filter((pipeline) => crew.running(pipeline).length === 0 && !crew.isFollowed(pipeline))
      .map(({ name }) => name),
  ])

/** Says which group stands where, who has ended and why, and what was logged last. */
export const unsettled = (
  { behind, rebalancing, transactions, stopped }: Standing,
  crew: Crew,
  problem: string,
  reason: DriverError["reason"],
): DriverError => {
  const said: Array<string> = []
  for (const [{ pipeline, group }, stands] of behind) {
    said.push(`group ${group} ${stands.map(place).join(", ")}`)
    if (crew.of(pipeline).length === 0) said.push(`no program of ${pipeline.name} was started`)
  }
  for (const one of crew.of()) {
    const fate = one.fate()
    const why = one.failure()?.message ?? one.crashedAt()
    if (fate !== "running") said.push(`${nameOf(one)} has ${fate}${why === undefined ? "" : `: ${why}`}`)
  }
  for (const one of stopped) said.push(`of ${nameOf(one)} ${Counts.stopped(one.metrics())} tasks have stopped`)
  for (const { group } of rebalancing) said.push(`group ${group} is rebalancing`)
  if (transactions > 0) said.push(`${transactions} transactions are undecided`)
  for (const { pipeline, message } of crew.warnings.slice(-3)) said.push(`${pipeline} logged: ${message}`)
  const cause = crew.of().map((one) => one.failure()).find((failure) => failure !== undefined)
  const message = [problem, ...said].join("\n  ")
  return new DriverError({ reason, message, ...cause === undefined ? {} : { cause } })
}

const nameOf = ({ number, pipeline }: Process): string => `program ${number}, of ${pipeline.name},`

const place = ({ topic, partition, position, end }: Stand): string =>
  position === undefined
    ? `is undecided in ${topic}/${partition}`
    : position === -1
    ? `has no position in ${topic}/${partition}, which goes to ${end}`
    : `stands at ${position} of ${end} in ${topic}/${partition}`
