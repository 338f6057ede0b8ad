/** The topics of the cluster, their partitions and who leads them. */
import type { NewTopic, TopicMetadata, TopicPartition } from "../Cluster.ts"
import { Log } from "./Log.ts"
import { Refusal } from "./Refusal.ts"
import { Retention } from "./Retention.ts"
import type { Timers } from "./Timers.ts"
import { parse, resolve, type Settings } from "./TopicConfig.ts"

export interface Partition extends TopicPartition {
  readonly log: Log
  readonly retention: Retention
  readonly replicas: ReadonlyArray<number>
  leader: number
}

interface Topic {
  readonly id: string
  readonly settings: Settings
  readonly partitions: Array<Partition>
  /** Adds one. */
  grow(): void
}

export class Topics {
  readonly #topics = new Map<string, Topic>()
  readonly #nodes: number
  readonly #timers: Timers
  readonly #retentionInterval: number
  readonly #clusterId: string
  #created = 0

  constructor(nodes: number, clusterId: string, timers: Timers, retentionInterval: number) {
    this.#nodes = nodes
    this.#clusterId = clusterId
    this.#timers = timers
    this.#retentionInterval = retentionInterval
  }

  get names(): ReadonlyArray<string> {
    return [...this.#topics.keys()]
  }

  create({ topic, partitions, replicationFactor, config }: NewTopic): void {
    checkName(topic)
    if (this.#topics.has(topic)) throw new Refusal("TOPIC_ALREADY_EXISTS", `topic ${topic} exists already`)
    const rival = this.names.find((name) => metricName(name) === metricName(topic))
    if (rival !== undefined) {
      throw new Refusal("INVALID_TOPIC_EXCEPTION", `topic ${topic} differs from ${rival} only in "." and "_"`)
    }
    if (partitions === 0 || partitions < -1) {
      throw new Refusal("INVALID_PARTITIONS", `topic ${topic} cannot have ${partitions} partitions`)
    }
    if (replicationFactor === 0 || replicationFactor < -1 || replicationFactor > this.#nodes) {
      throw new Refusal(
        "INVALID_REPLICATION_FACTOR",
        `topic ${topic} cannot have ${replicationFactor} replicas on ${this.#nodes} brokers`,
      )
    }
    const settings = resolve(config)
    const parsed = parse(settings)
    const first = this.#created++
    const all: Array<Partition> = []
    const grow = () => {
      const partition = all.length
      const log = new Log(topic, partition, parsed)
      const replicas = Array.from(
        { length: Math.max(1, replicationFactor) },
        (_, i) => (first + partition + i) % this.#nodes + firstNode,
      )
      const retention = new Retention(log, this.#timers, this.#retentionInterval)
      all.push({ topic, partition, log, retention, replicas, leader: replicas[0]! })
    }
    for (let partition = 0; partition < Math.max(1, partitions); partition++) grow()
    this.#topics.set(topic, { id: idOf(this.#clusterId, first), settings, partitions: all, grow })
  }

  /** Adds partitions, up to so many. */
  grow(topic: string, partitions: number): void {
    const found = this.#at(topic)
    if (partitions <= found.partitions.length) {
      throw new Refusal("INVALID_PARTITIONS", `topic ${topic} has ${found.partitions.length} partitions already`)
    }
    while (found.partitions.length < partitions) found.grow()
  }

  delete(topic: string): void {
    const partitions = this.partitions(topic)
    this.#topics.delete(topic)
    for (const { log, retention } of partitions) {
      retention.stop()
      log.wake()
    }
  }

  settings(topic: string): Settings {
    return this.#at(topic).settings
  }

  partitions(topic: string): ReadonlyArray<Partition> {
    return this.#at(topic).partitions
  }

  has({ topic, partition }: TopicPartition): boolean {
    return this.#topics.get(topic)?.partitions[partition] !== undefined
  }

  get({ topic, partition }: TopicPartition): Partition {
    const found = this.#topics.get(topic)?.partitions[partition]
    if (found === undefined) {
      throw new Refusal("UNKNOWN_TOPIC_OR_PARTITION", `there is no topic ${topic} with a partition ${partition}`)
    }
    return found
  }

  /** The partition, if this broker leads it, and if its topic is the one with `id`. */
  led(where: TopicPartition, node: number, id?: string): Partition {
    const found = this.get(where)
    const own = this.#at(where.topic).id
    if (id !== undefined && id !== own) {
      throw new Refusal("INCONSISTENT_TOPIC_ID", `topic ${where.topic} has the id ${own}, not ${id}`)
    }
    if (found.leader !== node) {
      throw new Refusal(
        "NOT_LEADER_OR_FOLLOWER",
        `broker ${found.leader} leads topic ${where.topic} partition ${where.partition}, not broker ${node}`,
      )
    }
    return found
  }

  /** Makes another broker the leader. Readers that wait at the old one are answered. */
  lead(where: TopicPartition, node: number): void {
    const partition = this.get(where)
    partition.leader = node
    partition.log.wake()
  }

  describe(topic: string): TopicMetadata {
    const found = this.#topics.get(topic)
    if (found === undefined) {
      const error = isName(topic) ? "UNKNOWN_TOPIC_OR_PARTITION" : "INVALID_TOPIC_EXCEPTION"
      return { topic, id: "", error, partitions: [] }
    }
    return {
      topic,
      id: found.id,
      error: null,
      partitions: found.partitions.map(({ partition, leader, replicas }) => ({
        partition,
        leader,
        replicas,
        inSync: replicas,
      })),
    }
  }

  #at(topic: string): Topic {
    const found = this.#topics.get(topic)
    if (found === undefined) throw new Refusal("UNKNOWN_TOPIC_OR_PARTITION", `there is no topic ${topic}`)
    return found
  }
}

/** Brokers are numbered from here. */
export const firstNode = 1

/** A UUID that tells only how many topics were created before. */
/** What remembers topics by id must not take those of one cluster for those of another. */
const idOf = (clusterId: string, created: number): string =>
  `${clusterId.slice(0, 8)}-${clusterId.slice(8, 12)}-4000-8000-${created.toString(16).padStart(12, "0")}`

const isName = (topic: string): boolean => /^[a-zA-Z0-9._-]{1,249}$/.test(topic) && topic !== "." && topic !== ".."

const checkName = (topic: string): void => {
  if (isName(topic)) return
  throw new Refusal(
    "INVALID_TOPIC_EXCEPTION",
    `"${topic}" is not a topic's name: 1 to 249 letters, digits, ".", "_" and "-", and neither "." nor ".."`,
  )
}

/** Names that differ only in this collide in a broker's metrics. */
const metricName = (topic: string): string => topic.replaceAll(".", "_")
