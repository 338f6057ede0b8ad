/**
 * What any implementation of the port `Cluster` must show: run in memory and against Apache Kafka. Every test has
 * topics, groups and transactional ids of its own, so that they can run at the same time, and on a cluster that is used
 * by others; all run in real time.
 */
import { layer as withLayer } from "@effect/vitest"
import type { Layer } from "effect"
import type { Cluster } from "../../src/kafka/Cluster.ts"
import { groups } from "./contract/Groups.ts"
import { idempotence } from "./contract/Idempotence.ts"
import { logs } from "./contract/Logs.ts"
import { positionsOfGroups } from "./contract/Positions.ts"
import { staticMembers } from "./contract/StaticMembers.ts"
import { topics } from "./contract/Topics.ts"
import { transactionAdmin } from "./contract/TransactionAdmin.ts"
import { transactions } from "./contract/Transactions.ts"

/** Registers the suite. Connecting, with all of a broker's start, may take `startTimeout` milliseconds. */
export const contract = <E>(name: string, layer: Layer.Layer<Cluster, E>, startTimeout = 60_000): void => {
  withLayer(layer, { excludeTestServices: true, concurrent: true, timeout: startTimeout })(name, (it) => {
    topics(it)
    logs(it)
    idempotence(it)
    transactions(it)
    transactionAdmin(it)
    positionsOfGroups(it)
    groups(it)
    staticMembers(it)
  })
}
