/** Working on until the topics are empty, for topics that end with the process. */
import { Effect } from "effect"
import type { Plan } from "../Pipeline.ts"
import { PipelineError } from "../Task.ts"
import type { Cluster, KafkaError } from "./Cluster.ts"
import { patiently } from "./Retry.ts"
import type { TaskRunner } from "./TaskRunner.ts"

export interface Draining {
  readonly plan: Plan
  /** By flow, feeds first. */
  readonly partitions: ReadonlyArray<number>
  /** The tasks of this process; undefined while it is in no generation of the group. */
  runners(): ReadonlyArray<TaskRunner> | undefined
  readonly commit: Effect.Effect<unknown>
}

/** Works on until all is committed that was in the topics when each flow's turn came, feeds first. */
export const drained = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  { plan, partitions, runners, commit }: Draining,
): Effect.fn.Return<void, KafkaError> {
  for (const [flow, { reads }] of plan.flows.entries()) {
    const ends = yield* endsOf(cluster, reads.map((topic) => topic.name), partitions[flow]!)
    const isBehind = (runner: TaskRunner) =>
      runner.id.flow === flow && runner.failure() === undefined &&
      reads.some(({ name }) => runner.position(name) < (ends.get(`${name}/${runner.id.partition}`) ?? 0))
    while (runners()?.some(isBehind) ?? true) {
      yield* commit
      yield* Effect.sleep("50 millis")
    }
  }
})

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

/** What a stop that had too little time for it fails with. */
export const undrained = (name: string): PipelineError =>
  new PipelineError({
    reason: "Stopped",
    retriable: false,
    message: `${name} stopped before it had read and committed all that was in its topics: give a stop more time`,
  })
