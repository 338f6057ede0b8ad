/** A cluster in which some topics go by other names: a pipeline runs on them and does not know. */
import { Effect } from "effect"
import type { Cluster } from "./Cluster.ts"

/** The same cluster, where who asks for a topic of `names` gets the one that stands behind it, and sees its own name. */
export const renamed = (cluster: Cluster["Service"], names: ReadonlyMap<string, string>): Cluster["Service"] => {
  const back = new Map(Array.from(names, ([name, real]) => [real, name]))
  const real = <A extends { readonly topic: string }>(one: A): A => {
    const name = names.get(one.topic)
    return name === undefined ? one : { ...one, topic: name }
  }
  const seen = <A extends { readonly topic: string }>(one: A): A => {
    const name = back.get(one.topic)
    return name === undefined ? one : { ...one, topic: name }
  }
  const name = (topic: string): string => names.get(topic) ?? topic
  return {
    ...cluster,
    metadata: (topics) =>
      Effect.map(cluster.metadata(topics?.map(name)), (answer) => ({ ...answer, topics: answer.topics.map(seen) })),
    createTopics: (topics) => Effect.map(cluster.createTopics(topics.map(real)), (answers) => answers.map(seen)),
    deleteTopics: (topics) => Effect.map(cluster.deleteTopics(topics.map(name)), (answers) => answers.map(seen)),
    topicConfig: (topic) => cluster.topicConfig(name(topic)),
    listOffsets: (partitions, at, isolation) =>
      Effect.map(cluster.listOffsets(partitions.map(real), at, isolation), (answers) => answers.map(seen)),
    fetch: (request) =>
      Effect.map(
        cluster.fetch({ ...request, partitions: request.partitions.map(real) }),
        (answers) => answers.map(seen),
      ),
    produce: (request) =>
      Effect.map(cluster.produce({ ...request, batches: request.batches.map(real) }), (answers) => answers.map(seen)),
    addPartitionsToTxn: (txn, partitions) => cluster.addPartitionsToTxn(txn, partitions.map(real)),
    txnOffsetCommit: (txn, member, offsets) => cluster.txnOffsetCommit(txn, member, offsets.map(real)),
    offsetCommit: (member, offsets) => cluster.offsetCommit(member, offsets.map(real)),
    offsetFetch: (group, partitions, requireStable) =>
      Effect.map(cluster.offsetFetch(group, partitions?.map(real), requireStable), (answers) => answers.map(seen)),
  }
}
