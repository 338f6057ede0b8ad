import { Effect, Layer } from "effect"
import * as ClusterClient from "../../src/kafka/ClusterClient.ts"
import * as Broker from "../support/Broker.ts"
import { contract } from "./Cluster.contract.ts"

const shared = Layer.unwrap(Effect.map(Broker.shared, (brokers) => ClusterClient.layer({ brokers })))

Broker.describeWithBroker("ClusterClient", () => {
  contract("Cluster over the network", shared)
})
