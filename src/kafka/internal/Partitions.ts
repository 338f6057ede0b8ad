/** Requests name partitions topic by topic, answers come in an order of their own. */
import type { TopicPartition } from "../Cluster.ts"

/** The protocol's form of partitions: grouped under their topics. */
export const byTopic = <P extends TopicPartition, A>(
  partitions: Iterable<P>,
  item: (partition: P) => A,
): Array<{ name: string; partitions: Array<A> }> =>
  Array.from(
    Map.groupBy(partitions, ({ topic }) => topic),
    ([name, partitions]) => ({ name, partitions: partitions.map(item) }),
  )

/** The answers in the order of the questions; `otherwise` for what was not answered. */
export const inOrder = <A extends TopicPartition>(
  asked: ReadonlyArray<TopicPartition>,
  answers: ReadonlyArray<A>,
  otherwise: (partition: TopicPartition) => A,
): ReadonlyArray<A> => {
  const found = new Map(answers.map((answer) => [`${answer.topic}/${answer.partition}`, answer]))
  return asked.map(({ topic, partition }) => found.get(`${topic}/${partition}`) ?? otherwise({ topic, partition }))
}
