/** How far each step of the flow is behind, in the order in which clicks pass through. */
import { Effect } from "effect"
import { topics } from "../../../schemas/index.ts"
import { Admin, Kafka } from "../../index.ts"
import { pipelines } from "../Names.ts"

/** One step and one topic that it reads. */
export interface Lag {
  readonly step: string
  readonly topic: string
  /** Records not yet processed; markers of transactions count as well. Null where the step has never read the topic. */
  readonly records: number | null
  /** `stopped` is a step without a running reader, `growing` one that has fallen behind for half a minute. */
  readonly state: "steady" | "growing" | "stopped"
}

/** Every step is there, whether it ever ran or not; a topic that only some settings use is there once it is read. */
export const read = Effect.fn("Lag.read")(function* (
  prefix: string,
): Effect.fn.Return<ReadonlyArray<Lag>, Kafka.KafkaError, Kafka.Cluster> {
  const cluster = yield* Kafka.Cluster
  const steps = flow(prefix)
  const groups = [...new Set(steps.map(({ group }) => group))]
  const lags = yield* Admin.lag(groups)
  // Without the right to describe groups nothing is said of their readers.
  const described = yield* Effect.orElseSucceed(cluster.describeGroups(groups), () => [])
  const stopped = new Set(
    described.filter(({ error, members }) => error === null && members.length === 0).map(({ group }) => group),
  )
  return steps.flatMap(({ step, group, topic, optional }) => {
    const partitions = lags.filter((lag) => lag.group === group && lag.topic === topic)
    const isRead = partitions.some(({ position }) => position >= 0)
    if (optional && !isRead) return []
    const records = isRead ? partitions.reduce((sum, { records }) => sum + records, 0) : null
    return [{ step, topic, records, state: stopped.has(group) ? "stopped" as const : "steady" as const }]
  })
})

const flow = (prefix: string) => {
  const names = pipelines({ prefix })
  const to = topics({ prefix })
  const step = (step: string, group: string, topic: { readonly name: string }, optional = false) => ({
    ...{ step, group, topic: topic.name, optional },
  })
  return [
    step("Enrich", names.enrich, to.raw),
    step("Enrich", names.enrich, to.byUser, true),
    step("Count", names.count, to.enriched),
    step("Store clicks", names.storeClicks, to.enriched),
    step("Store counts", names.storeCounts, to.counts),
    step("Store sessions", names.storeSessions, to.sessions),
    step("Store identities", names.storeIdentities, to.identities),
    step("Store dead letters", names.storeDeadLetters, to.dlt),
    step("Store late clicks", names.storeDeadLetters, to.late),
  ]
}

const span = 30_000

/** After a longer silence what was read before says nothing. */
const silence = span / 2

/**
 * Takes readings as they come and marks what grows: what was more at every reading for half a minute. A lag that goes up
 * and down with the commits does not grow.
 */
export const watch = (): (at: number, lags: ReadonlyArray<Lag>) => ReadonlyArray<Lag> => {
  let rising = new Map<string, { readonly since: number; readonly records: number }>()
  let last = 0
  return (at, lags) => {
    const before = at - last > silence ? new Map<string, never>() : rising
    last = at
    rising = new Map(lags.map((lag) => {
      const records = lag.records ?? 0
      const previous = before.get(keyOf(lag))
      const since = previous !== undefined && records > previous.records ? previous.since : at
      return [keyOf(lag), { since, records }]
    }))
    return lags.map((lag) =>
      lag.state === "steady" && rising.get(keyOf(lag))!.since <= at - span ? { ...lag, state: "growing" } : lag
    )
  }
}

const keyOf = ({ step, topic }: Lag): string => `${step} ${topic}`
