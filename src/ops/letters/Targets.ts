/** The topics that dead letters go back to, asked for once each. */
import { Effect } from "effect"
import { Cluster, type KafkaError } from "../../kafka/Cluster.ts"
import { patiently } from "../../kafka/Retry.ts"
import { partitionsOf, patience } from "./Reading.ts"
import type { Target } from "./Returning.ts"

export interface Targets {
  /** `undefined` for one that does not exist. */
  of(topic: string): Effect.Effect<Target | undefined, KafkaError, Cluster>
}

export const make = (): Targets => {
  const known = new Map<string, Target | undefined>()
  return {
    of: Effect.fnUntraced(function* (topic) {
      if (known.has(topic)) return known.get(topic)
      const partitions = yield* partitionsOf(topic)
      const target = partitions === undefined
        ? undefined
        : targetOf(partitions, yield* patiently(Cluster.use((cluster) => cluster.topicConfig(topic)), patience))
      known.set(topic, target)
      return target
    }),
  }
}

const targetOf = (partitions: number, config: Readonly<Record<string, string>>): Target => {
  const policies = (config["cleanup.policy"] ?? "delete").split(",").map((policy) => policy.trim())
  const retention = Number(config["retention.ms"] ?? -1)
  return {
    partitions,
    compacts: policies.includes("compact"),
    retention: policies.includes("delete") && retention >= 0 ? retention : Infinity,
    beforeMax: Number(config["message.timestamp.before.max.ms"] ?? Infinity),
    afterMax: Number(config["message.timestamp.after.max.ms"] ?? Infinity),
  }
}
