/** The topics that a pipeline works on, as the cluster has them. */
import { Effect } from "effect"
import type { AnyFlow } from "../Flow.ts"
import { changelogTopic, type Plan } from "../Pipeline.ts"
import { PipelineError } from "../Task.ts"
import type * as Topology from "../Topology.ts"
import * as Changelog from "./Changelog.ts"
import type { Cluster, KafkaError } from "./Cluster.ts"
import { asPipelineError } from "./Errors.ts"
import { patiently } from "./Retry.ts"

/**
 * Partitions per flow, feeds first; creates the changelogs that do not exist yet. Fails where topics are missing, or what
 * must be co-partitioned is not.
 */
export const partitionsOfFlows = Effect.fnUntraced(function* (
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

/** How the topics have changed since the program has asked for them. */
export interface Changed {
  /** By flow: how many partitions there are to be worked on now. */
  readonly partitions: ReadonlyArray<number>
  /** By flow: why its tasks cannot go on. */
  readonly stopped: ReadonlyMap<number, PipelineError>
  /** Why partitions that were added are not worked on yet. */
  readonly waiting: ReadonlyArray<string>
}

/**
 * Asks whether partitions were added. Tasks without state simply get more; keys of which there is state have moved, and the
 * state has not. Topics that are gone, and ones with fewer partitions, are left to those who read them.
 */
export const changed = (
  cluster: Cluster["Service"],
  plan: Plan,
  known: ReadonlyArray<number>,
): Effect.Effect<Changed, KafkaError> =>
  Effect.map(cluster.metadata(plan.flows.flatMap(({ reads }) => reads.map(({ name }) => name))), ({ topics }) => {
    const counts = new Map(topics.map(({ topic, partitions }) => [topic, partitions.length]))
    const stopped = new Map<number, PipelineError>()
    const waiting: Array<string> = []
    const partitions = plan.flows.map(({ reads, stores }, flow) => {
      const before = known[flow]!
      const grown = reads.filter(({ name }) => (counts.get(name) ?? 0) > before)
      if (grown.length === 0) return before
      const { name } = grown[0]!
      const now = counts.get(name)!
      if (stores.length > 0) {
        stopped.set(
          flow,
          misfit(
            `topic ${name} has ${now} partitions, and had ${before}: keys are in other partitions than the state that belongs ` +
              `to them (${
                stores.map((store) => store.name).join(", ")
              }). Reset positions and state together, so that the ` +
              "state is made anew in as many partitions, or give the pipeline a new name",
          ),
        )
        return before
      }
      const other = reads.find((topic) => counts.get(topic.name) !== now)
      if (other === undefined) return now
      waiting.push(
        `topic ${name} has ${now} partitions and ${other.name} ${
          counts.get(other.name) ?? 0
        }, and they are read together: ` +
          `those above ${before} are not read until they have equally many`,
      )
      return before
    })
    return { partitions, stopped, waiting }
  })

const misfit = (message: string): PipelineError =>
  new PipelineError({ reason: "Definition", retriable: false, message })

/** By repartition topic that a flow reads: how many tasks write it. */
export const upstreamOf = (
  flows: ReadonlyArray<AnyFlow>,
  plan: Plan,
  flow: number,
  partitions: ReadonlyArray<number>,
): ReadonlyMap<string, number> =>
  new Map(Array.from(plan.flows[flow]!.feeds, ([topic, feed]) => [topic, partitions[flows.indexOf(feed)]!]))
