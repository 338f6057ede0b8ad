/** What a replay would do: read from the brokers and the database, changing nothing. */
import { Effect, type Scope } from "effect"
import { Cluster, type KafkaError } from "../../kafka/Cluster.ts"
import { placeOf } from "../../kafka/Bounded.ts"
import { patiently } from "../../kafka/Retry.ts"
import type { OnReplay } from "../../Flow.ts"
import { type Pipeline, type Plan as PipelinePlan, plan as planOf, type Written } from "../../Pipeline.ts"
import type { Logged, Task } from "../../Task.ts"
import { asFailure, refuse, type ReplayFailure, type ReplayRefused } from "./ReplayError.ts"
import * as From from "./From.ts"
import { countRecords } from "./Records.ts"

/** What becomes of one partition. Offsets; `records` may count a few markers of transactions that are no records. */
export interface PartitionPlan {
  readonly topic: string
  readonly partition: number
  /** `repartition` and `retry` topics are the pipeline's own: they stay where they stand unless they are named. */
  readonly kind: "input" | "repartition" | "retry"
  /** Where the group stands; `undefined` where it never was. */
  readonly position: number | undefined
  readonly from: number
  readonly to: number
  readonly records: number
  /** Where the log begins, and ends. */
  readonly earliest: number
  readonly end: number
  /** Records that were asked for and that retention has taken; of a replay by time it is not known. */
  readonly missing: number
}

export interface Plan {
  readonly pipeline: string
  readonly group: string
  readonly partitions: ReadonlyArray<PartitionPlan>
  /** Programs that are at work in the group. */
  readonly members: number
  /** Whether every input is read from the beginning of its log, and retention has taken nothing of it. */
  readonly isWhole: boolean
  readonly stores: ReadonlyArray<string>
  /** Topics that are written again, and whether a reader by key notices nothing of it. */
  readonly outputs: ReadonlyArray<{ readonly topic: string; readonly idempotent: boolean }>
  /** What is written besides topics. */
  readonly sink: Written | undefined
  readonly effects: ReadonlyArray<{
    readonly stage: string
    readonly onReplay: OnReplay | "undeclared"
    /** Behind a change of key nobody can tell which records are processed again. */
    readonly isBehindRepartition: boolean
  }>
  /** Records that wait in topics of the pipeline's own. */
  readonly pending: ReadonlyArray<{ readonly topic: string; readonly partition: number; readonly records: number }>
}

export interface Asked {
  readonly from: From.From
  /** Where it ends; unless given, where the group stands. */
  readonly to?: From.From | undefined
  /** The consumer group: the pipeline's name unless given. */
  readonly group?: string | undefined
}

export type Any<R> = Pipeline<unknown, R>

/** What a replay of a pipeline needs: what the pipeline does, but for what runs it. */
export type Needs<R> = Exclude<R, Scope.Scope | Task | Logged> | Cluster

/** Works out what a replay would do. Fails where what is asked makes no sense for the pipeline's topics. */
export const plan = <R>(
  pipeline: Any<R>,
  asked: Asked,
): Effect.Effect<Plan, ReplayFailure, Needs<R>> =>
  Effect.mapError(made(pipeline, asked), asFailure) as Effect.Effect<Plan, ReplayFailure, Needs<R>>

/** Partitions per flow, feeds first; creates nothing. */
export const partitionsOf = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  plan: PipelinePlan,
): Effect.fn.Return<ReadonlyArray<number>, KafkaError | ReplayRefused> {
  const names = plan.flows.map(({ reads }) => reads[0]!.name)
  const { topics } = yield* patiently(cluster.metadata(names), 30_000)
  const known = new Map(topics.map(({ topic, partitions }) => [topic, partitions.length]))
  const missing = names.find((name) => !known.get(name))
  if (missing !== undefined) {
    return yield* refuse("Positions", `topic ${missing} does not exist: there is nothing to replay`)
  }
  return names.map((name) => known.get(name)!)
})

const made = Effect.fnUntraced(function* <R>(pipeline: Any<R>, { from, to, group }: Asked) {
  const cluster = yield* Cluster
  const plan = planOf(pipeline, group === undefined ? {} : { group })
  const counts = yield* partitionsOf(cluster, plan)
  const reads = plan.flows.flatMap(({ reads, retries, feeds }, flow) =>
    reads.flatMap(({ name }) =>
      Array.from({ length: counts[flow]! }, (_, partition) => ({
        topic: name,
        partition,
        kind: feeds.has(name) ? "repartition" : retries.some((retry) => retry.name === name) ? "retry" : "input",
      } as const))
    )
  )
  for (const one of [from, to ?? from]) yield* known(one, reads)
  const inputs = reads.filter(({ kind }) => kind === "input")
  const asked = one(from) ? reads : inputs
  const begins = yield* From.resolve(cluster, from, asked)
  const endings = to === undefined ? undefined : yield* From.resolve(cluster, to, one(to) ? reads : inputs)
  const earliest = yield* From.listed(cluster, reads, "earliest")
  const ends = yield* From.listed(cluster, reads, "latest")
  const positions = yield* positionsOf(pipeline, plan, reads)
  const [described] = yield* patiently(cluster.describeGroups([plan.group]), 30_000)

  const partitions: Array<PartitionPlan> = []
  for (const { topic, partition, kind } of reads) {
    const place = placeOf({ topic, partition })
    const position = positions.get(place)
    const [first, end] = [earliest.get(place)!, ends.get(place)!]
    const stands = position ?? first
    const wanted = begins.get(place) ?? stands
    if (one(from) && wanted > end) {
      return yield* refuse("Positions", `topic ${topic} partition ${partition} ends at ${end}, before ${wanted}`)
    }
    if (one(from) && position !== undefined && wanted > position) {
      return yield* refuse(
        "Positions",
        `group ${plan.group} stands at ${position} in topic ${topic} partition ${partition}: a replay from ${wanted} ` +
          "would leave records out",
      )
    }
    const begin = Math.max(first, Math.min(wanted, position ?? wanted))
    const until = kind !== "input" || endings === undefined
      ? Math.max(begin, Math.min(position ?? end, end))
      : Math.min(endings.get(place) ?? position ?? end, end)
    if (until < begin) {
      return yield* refuse(
        "Positions",
        `topic ${topic} partition ${partition}: the replay would end at ${until}, before it begins at ${begin}`,
      )
    }
    partitions.push({
      topic,
      partition,
      kind,
      position,
      from: begin,
      to: until,
      records: until - begin,
      earliest: first,
      end,
      missing: one(from) && begins.has(place) ? Math.max(0, Math.min(first, stands) - wanted) : 0,
    })
  }
  const own = partitions.filter(({ kind, position, from, end }) => kind !== "input" && (position ?? from) < end)
  const pending = yield* Effect.forEach(own, ({ topic, partition, position, from, end }) =>
    Effect.map(
      countRecords({ topic, partition }, position ?? from, end),
      (records) => ({ topic, partition, records }),
    ))
  const internal = new Set(reads.filter(({ kind }) => kind !== "input").map(({ topic }) => topic))
  const outputs = new Map(plan.flows.flatMap(({ writes }) => writes.map((topic) => [topic.name, topic] as const)))
  return {
    pipeline: pipeline.name,
    group: plan.group,
    partitions,
    members: described?.members.length ?? 0,
    isWhole: partitions.every(({ kind, from, earliest }) => kind !== "input" || from === 0 && earliest === 0),
    stores: plan.flows.flatMap(({ stores }) => stores.map(({ name }) => name)),
    outputs: Array.from(outputs.values(), ({ name, cleanup }) => ({
      topic: name,
      idempotent: cleanup !== "delete",
    })).filter(({ topic }) => !internal.has(topic)),
    sink: pipeline.guarantee.sink,
    effects: plan.flows.flatMap(({ effects, feeds }) =>
      effects.map((effect) => ({ ...effect, isBehindRepartition: feeds.size > 0 }))
    ),
    pending: pending.filter(({ records }) => records > 0),
  } satisfies Plan
})

const one = (from: From.From): boolean => from._tag === "Offsets"

const known = (
  from: From.From,
  reads: ReadonlyArray<{ readonly topic: string; readonly partition: number }>,
): Effect.Effect<void, ReplayRefused> => {
  if (from._tag !== "Offsets") return Effect.void
  for (const [topic, of] of from.offsets) {
    for (const partition of of.keys()) {
      if (reads.some((read) => read.topic === topic && read.partition === partition)) continue
      return Effect.fail(
        refuse(
          "Positions",
          `the pipeline does not read topic ${topic} partition ${partition}: it reads ` +
            [...new Set(reads.map((read) => read.topic))].join(", "),
        ),
      )
    }
  }
  return Effect.void
}

/**
 * Where a pipeline stands, by `topic/partition`: in its database where it keeps positions there, else in its group. What a
 * transaction is about to move is left out with `stable`: it may be decided already, and not show yet.
 */
export const positionsOf = Effect.fnUntraced(function* <R>(
  pipeline: Any<R>,
  plan: PipelinePlan,
  reads: ReadonlyArray<{ readonly topic: string; readonly partition: number }>,
  stable = false,
) {
  const cluster = yield* Cluster
  const positions = new Map<string, number>()
  const committed = yield* patiently(
    cluster.offsetFetch(plan.group, reads.map(({ topic, partition }) => ({ topic, partition })), stable),
    30_000,
  )
  for (const one of committed) if (one.error === null && one.offset >= 0) positions.set(placeOf(one), one.offset)
  if (pipeline.guarantee.keeper !== undefined) {
    const keeper = yield* pipeline.guarantee.keeper(plan)
    for (const kept of yield* keeper.read) positions.set(placeOf(kept), kept.next)
  }
  return positions as ReadonlyMap<string, number>
})

export interface Allowed {
  /** Whether the state is reset with the positions. */
  readonly resetState?: boolean | undefined
  /** Whether the state may begin in the middle of the input. */
  readonly partialState?: boolean | undefined
}

/** Why a replay in place is refused, all of it; nothing where it is not. */
export const refusals = (plan: Plan, allowed: Allowed): ReadonlyArray<ReplayRefused> => {
  const refused = [...ofBoth(plan)]
  const { stores, sink, group } = plan
  if (plan.members > 0) {
    refused.unshift(refuse(
      "Active",
      `group ${group} has ${plan.members} ${
        plan.members === 1 ? "member" : "members"
      } at work: stop the programs that ` +
        "run it, and try again",
    ))
  }
  const untellable = plan.effects.filter(({ onReplay, isBehindRepartition }) =>
    onReplay === "skip" && isBehindRepartition
  )
  for (const { stage } of untellable) {
    refused.push(refuse(
      "Effects",
      `stage ${stage} is to be left out by replays, but it stands behind a change of key, where nobody can tell which ` +
        'records are processed again: move it before the change, declare it "safe", or run a shadow',
    ))
  }
  if (sink !== undefined && sink.idempotentBy === undefined) {
    refused.push(refuse(
      "Sink",
      `${sink.name}: what makes that a row is there once however often it is written is not declared, and a replay would ` +
        "write rows twice: let the sink's statement be idempotent by a key, and say so in its idempotentBy",
    ))
  }
  if (stores.length > 0 && allowed.resetState !== true) {
    refused.push(refuse(
      "Stateful",
      `the pipeline keeps state (${
        stores.join(", ")
      }), which already holds what would be processed again: reset it with ` +
        "the positions (--reset-state), or run a shadow beside it (replay shadow)",
    ))
  }
  if (stores.length > 0 && allowed.resetState === true) {
    if (!plan.isWhole && allowed.partialState !== true) {
      refused.push(refuse(
        "PartialState",
        "the state would begin empty in the middle of the input, for records before it are left out or gone: begin at " +
          "the beginning of a log that has kept everything, or, where the state needs nothing older, say --partial-state",
      ))
    }
    if (plan.partitions.some(({ kind, position, to }) => kind === "input" && position !== undefined && to < position)) {
      refused.push(refuse(
        "Stateful",
        "the replay would end before where the group stands, and the state with it: leave out --to, or run a shadow",
      ))
    }
  }
  return refused
}

/** Why a shadow is refused. */
export const shadowRefusals = (plan: Plan): ReadonlyArray<ReplayRefused> =>
  plan.sink === undefined ? ofBoth(plan) : [
    refuse(
      "Sink",
      `${plan.sink.name}: a shadow would write into the same tables; replay in place, or run the pipeline with another ` +
        "prefix and compare the tables",
    ),
    ...ofBoth(plan),
  ]

const ofBoth = (plan: Plan): ReadonlyArray<ReplayRefused> => {
  const refused: Array<ReplayRefused> = []
  for (const { stage, onReplay } of plan.effects) {
    if (onReplay !== "undeclared") continue
    refused.push(refuse(
      "Effects",
      `stage ${stage} has effects that are not declared safe to run again: give it onReplay "safe", or "skip" where its ` +
        "values can do without",
    ))
  }
  const missing = plan.partitions.filter(({ missing }) => missing > 0)
  if (missing.length > 0) {
    const { topic, partition, earliest } = missing[0]!
    refused.push(refuse(
      "Retention",
      `retention has taken ${missing.reduce((sum, one) => sum + one.missing, 0)} records that were asked for: topic ` +
        `${topic} partition ${partition} begins at ${earliest} (--from earliest begins where the logs do)`,
    ))
  }
  for (const { topic, partition, records } of plan.pending) {
    refused.push(refuse(
      "Pending",
      `${records} records wait in topic ${topic} partition ${partition}, which is the pipeline's own: let it run until ` +
        "they are processed",
    ))
  }
  return refused
}
