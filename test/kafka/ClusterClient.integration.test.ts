/**
 * The port over the network shows what the port in memory shows. With it, each trap of the client is under test:
 *
 * | trap | test |
 * | --- | --- |
 * | readers are handed aborted records | contract: names every aborted transaction of a fetch; ... in each of the fetches that it spans |
 * | markers and compacted records are gaps | contract: its marker is a gap in the offsets; test/kafka/ReadCommitted |
 * | a fetch that waits holds up what shares its connection | contract: neither a reader nor a member that waits |
 * | positions are read while a transaction is about to move them | contract: positions in a transaction are unstable while it is open |
 * | concurrent requests of a transaction collapse into one | contract: keeps all positions, adds all partitions of requests at the same time |
 * | a restarted transactional producer is fenced by itself | contract: a restart takes the id over |
 * | a dead owner's transaction blocks its successor | contract: what a dead owner left open blocks its positions |
 * | positions of nobody are accepted on an active group | contract: not those of nobody at all; refused above the port: test/kafka/Transaction |
 * | stale positions are sent again after a rejoin | contract: takes plain commits only from the current generation; test/kafka/crash |
 * | the default assignor splits co-partitioned topics | test/kafka/Assignment |
 * | keys are partitioned otherwise than by Java's producer | test/kafka/Partitioner |
 * | nothing is gathered, nothing is split | test/kafka/Producer |
 * | the idempotent producer retries for ever, or sends a second time | test/kafka/Producer |
 * | acknowledgement is by the leader only | contract: writes a batch once; every produce asks for all in-sync replicas |
 * | brokers delete by the records' timestamps and refuse the future | contract: stamped two hours ahead; test/programs/kill |
 */
import { Effect, Layer } from "effect"
import * as ClusterClient from "../../src/kafka/ClusterClient.ts"
import * as Broker from "../support/Broker.ts"
import { contract } from "./Cluster.contract.ts"

const shared = Layer.unwrap(Effect.map(Broker.shared, (brokers) => ClusterClient.layer({ brokers })))

Broker.describeWithBroker("ClusterClient", () => {
  contract("Cluster over the network", shared)
})
