import { assert, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
import { Cluster } from "../../../src/kafka/Cluster.ts"
import { eventually, leaders, newTopic, recordsOf, refusal, text, unique, write } from "./Harness.ts"

export const topics = (it: Vitest.MethodsNonLive<Cluster>): void => {
  it.effect("creates each topic of a request, or says why not", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const there = yield* newTopic()
      const fresh = unique("topic")
      const topic = (topic: string, more: object = {}) => ({
        topic,
        partitions: 1,
        replicationFactor: -1,
        config: {},
        ...more,
      })
      const created = yield* cluster.createTopics([
        topic(there),
        topic(unique("none"), { partitions: 0 }),
        topic(unique("copies"), { replicationFactor: 30 }),
        topic("not a name"),
        topic(unique("setting"), { config: { "no.such.setting": "1" } }),
        topic(unique("value"), { config: { "retention.ms": "soon" } }),
        topic(fresh),
      ])
      assert.deepStrictEqual(created.map(({ error }) => error), [
        "TOPIC_ALREADY_EXISTS",
        "INVALID_PARTITIONS",
        "INVALID_REPLICATION_FACTOR",
        "INVALID_TOPIC_EXCEPTION",
        "INVALID_CONFIG",
        "INVALID_CONFIG",
        null,
      ])
      assert.strictEqual(created[6]!.topic, fresh)
    }))

  it.effect("describes the brokers, and the topics that are asked for", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic(3)
      const missing = unique("missing")
      const { brokers, topics } = yield* cluster.metadata([topic, missing])
      const nodes = brokers.map(({ node }) => node)
      assert.isAtLeast(nodes.length, 1)
      const found = topics.find((one) => one.topic === topic)!
      assert.strictEqual(found.error, null)
      assert.notStrictEqual(found.id, "")
      assert.deepStrictEqual(found.partitions.map(({ partition }) => partition), [0, 1, 2])
      for (const { leader, replicas, inSync } of found.partitions) {
        assert.include(nodes, leader)
        assert.include(replicas, leader)
        assert.include(inSync, leader)
      }
      const notFound = topics.find((one) => one.topic === missing)!
      assert.strictEqual(notFound.error, "UNKNOWN_TOPIC_OR_PARTITION")
      assert.deepStrictEqual(notFound.partitions, [])
      assert.include((yield* cluster.metadata()).topics.map((one) => one.topic), topic)
    }))

  it.effect("tells a topic's configuration with its defaults", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic(1, { "cleanup.policy": "compact,delete", "retention.ms": "1234" })
      const config = yield* cluster.topicConfig(topic)
      assert.strictEqual(config["cleanup.policy"], "compact,delete")
      assert.strictEqual(config["retention.ms"], "1234")
      assert.strictEqual(config["max.message.bytes"], "1048588")
      assert.strictEqual(yield* refusal(cluster.topicConfig(unique("missing"))), "UNKNOWN_TOPIC_OR_PARTITION")
    }))

  it.effect("deletes a topic; one of the same name is another one", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      yield* write(topic, ["before"])
      const missing = unique("missing")
      const { topics: [before] } = yield* cluster.metadata([topic])
      const deleted = yield* cluster.deleteTopics([topic, missing])
      assert.deepStrictEqual(deleted.map(({ error }) => error), [null, "UNKNOWN_TOPIC_OR_PARTITION"])
      const one = { topic, partitions: 1, replicationFactor: -1, config: {} }
      yield* eventually("creating it again", cluster.createTopics([one]), ([created]) => created!.error === null)
      const { topics: [after] } = yield* eventually(
        "the new topic",
        cluster.metadata([topic]),
        ({ topics: [found] }) => found!.error === null && found!.partitions.every(({ leader }) => leader >= 0),
      )
      assert.notStrictEqual(after!.id, before!.id)
      yield* eventually(
        "an empty log",
        cluster.listOffsets([{ topic, partition: 0 }], "latest", "read_committed"),
        ([listed]) => listed!.offset === 0,
      )
    }))

  it.effect("answers positions of a topic that was deleted and created again with an error, and not with the new one's", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      yield* write(topic, ["before"])
      const { topics: [before] } = yield* cluster.metadata([topic])
      const read = (topicId: string) =>
        Effect.gen(function* () {
          const { topics: [found] } = yield* cluster.metadata([topic])
          const [answer] = yield* cluster.fetch({
            node: Math.max(1, found!.partitions[0]?.leader ?? 1),
            maxWait: 0,
            maxBytes: 1_000,
            partitions: [{ topic, partition: 0, offset: 0, maxBytes: 1_000, topicId }],
          })
          return answer!.error ?? answer!.batches.flatMap(({ values }) => values.map(text))
        })
      assert.deepStrictEqual(yield* read(before!.id), ["before"])
      yield* cluster.deleteTopics([topic])
      const one = { topic, partitions: 1, replicationFactor: -1, config: {} }
      yield* eventually("creating it again", cluster.createTopics([one]), ([created]) => created!.error === null)
      yield* leaders(topic, 1)
      yield* eventually(
        "a log",
        cluster.listOffsets([{ topic, partition: 0 }], "latest", "read_committed"),
        ([listed]) => listed!.offset === 0,
      )
      yield* write(topic, ["after"])
      yield* eventually("an error", read(before!.id), (answer) => answer === "INCONSISTENT_TOPIC_ID")
      const { topics: [after] } = yield* cluster.metadata([topic])
      assert.deepStrictEqual(yield* read(after!.id), ["after"])
    }))

  it.effect("refuses what is for a partition that does not exist", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const topic = yield* newTopic()
      const records = yield* recordsOf(["a"])
      const { brokers } = yield* cluster.metadata([])
      const { node } = brokers[0]!
      const results = yield* cluster.produce({
        node,
        transactionalId: null,
        timeout: 10_000,
        compression: "none",
        batches: [{ topic, partition: 7, records }, { topic: unique("missing"), partition: 0, records }],
      })
      assert.deepStrictEqual(results.map(({ error }) => error), [
        "UNKNOWN_TOPIC_OR_PARTITION",
        "UNKNOWN_TOPIC_OR_PARTITION",
      ])
      const listed = yield* cluster.listOffsets([{ topic, partition: 7 }], "latest", "read_committed")
      assert.deepStrictEqual(listed.map(({ error, offset }) => [error, offset]), [["UNKNOWN_TOPIC_OR_PARTITION", -1]])
      const [fetched] = yield* cluster.fetch({
        node,
        maxWait: 0,
        maxBytes: 1_000,
        partitions: [{ topic, partition: 7, offset: 0, maxBytes: 1_000 }],
      })
      assert.strictEqual(fetched!.error, "UNKNOWN_TOPIC_OR_PARTITION")
    }))
}
