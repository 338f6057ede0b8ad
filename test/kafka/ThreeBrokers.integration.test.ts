/** The port over the network to three brokers that replicate everything: leaders and coordinators are not all in one place. */
import { Effect, Layer } from "effect"
import * as ClusterClient from "../../src/kafka/ClusterClient.ts"
import * as Broker from "../support/Broker.ts"
import { contract } from "./Cluster.contract.ts"

const three = Layer.unwrap(Effect.map(Broker.own("--nodes", "3"), ({ brokers }) => ClusterClient.layer({ brokers })))

Broker.describeWithOwnBroker("three brokers", () => {
  contract("Cluster over the network", three, 120_000)
})
