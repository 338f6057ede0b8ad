/** A topic's configuration: Kafka 4's names and defaults, checked as the broker checks them. */
import { Refusal } from "./Refusal.ts"

/** What the model acts on. Times in milliseconds, sizes in bytes, -1 or infinity for no limit. */
export interface TopicConfig {
  readonly deletes: boolean
  readonly compacts: boolean
  readonly retentionMs: number
  readonly retentionBytes: number
  readonly segmentMs: number
  readonly segmentBytes: number
  readonly minCompactionLag: number
  readonly maxCompactionLag: number
  readonly minDirtyRatio: number
  readonly deleteRetention: number
  readonly maxMessageBytes: number
  readonly timestampAfterMax: number
  readonly timestampBeforeMax: number
  readonly appendTime: boolean
}

export type Settings = Readonly<Record<string, string>>

interface Known {
  readonly value: string
  readonly valid: (value: string) => boolean
}

const forever = "9223372036854775807"

const whole = (least: number, most = Infinity) => (value: string): boolean =>
  /^-?\d+$/.test(value) && Number(value) >= least && Number(value) <= most
const ratio = (value: string): boolean => value.trim() !== "" && Number(value) >= 0 && Number(value) <= 1
const oneOf = (...choices: ReadonlyArray<string>) => (value: string): boolean => choices.includes(value)
const flag = oneOf("true", "false")
const listOf = (choices: ReadonlyArray<string>) => (value: string): boolean =>
  value.split(",").every((one) => choices.includes(one.trim()))

/** https://kafka.apache.org/documentation/#topicconfigs */
const known: ReadonlyMap<string, Known> = new Map(Object.entries({
  "cleanup.policy": { value: "delete", valid: listOf(["delete", "compact"]) },
  "compression.gzip.level": { value: "-1", valid: whole(-1, 9) },
  "compression.lz4.level": { value: "9", valid: whole(1, 17) },
  "compression.type": {
    value: "producer",
    valid: oneOf("producer", "uncompressed", "none", "gzip", "snappy", "lz4", "zstd"),
  },
  "compression.zstd.level": { value: "3", valid: whole(-131072, 22) },
  "delete.retention.ms": { value: "86400000", valid: whole(0) },
  "file.delete.delay.ms": { value: "60000", valid: whole(0) },
  "flush.messages": { value: forever, valid: whole(1) },
  "flush.ms": { value: forever, valid: whole(0) },
  "index.interval.bytes": { value: "4096", valid: whole(0) },
  "max.compaction.lag.ms": { value: forever, valid: whole(1) },
  "max.message.bytes": { value: "1048588", valid: whole(0) },
  "message.timestamp.after.max.ms": { value: "3600000", valid: whole(0) },
  "message.timestamp.before.max.ms": { value: forever, valid: whole(0) },
  "message.timestamp.type": { value: "CreateTime", valid: oneOf("CreateTime", "LogAppendTime") },
  "min.cleanable.dirty.ratio": { value: "0.5", valid: ratio },
  "min.compaction.lag.ms": { value: "0", valid: whole(0) },
  "min.insync.replicas": { value: "1", valid: whole(1) },
  "preallocate": { value: "false", valid: flag },
  "retention.bytes": { value: "-1", valid: whole(-1) },
  "retention.ms": { value: "604800000", valid: whole(-1) },
  "segment.bytes": { value: "1073741824", valid: whole(1_048_576) },
  "segment.index.bytes": { value: "10485760", valid: whole(4) },
  "segment.jitter.ms": { value: "0", valid: whole(0) },
  "segment.ms": { value: "604800000", valid: whole(1) },
  "unclean.leader.election.enable": { value: "false", valid: flag },
}))

/** The settings in force: those given, and the defaults. Refuses what a broker would refuse. */
export const resolve = (given: Settings): Settings => {
  for (const [name, value] of Object.entries(given)) {
    const setting = known.get(name)
    if (setting === undefined) throw new Refusal("INVALID_CONFIG", `${name} is not a setting of a topic`)
    if (!setting.valid(value)) throw new Refusal("INVALID_CONFIG", `"${value}" is not a value of ${name}`)
  }
  return Object.fromEntries(Array.from(known, ([name, { value }]) => [name, given[name] ?? value]))
}

export const parse = (settings: Settings): TopicConfig => {
  const number = (name: string): number => {
    const value = settings[name]!
    return value === forever ? Infinity : Number(value)
  }
  const policies = settings["cleanup.policy"]!.split(",").map((policy) => policy.trim())
  return {
    deletes: policies.includes("delete"),
    compacts: policies.includes("compact"),
    retentionMs: number("retention.ms"),
    retentionBytes: number("retention.bytes"),
    segmentMs: number("segment.ms"),
    segmentBytes: number("segment.bytes"),
    minCompactionLag: number("min.compaction.lag.ms"),
    maxCompactionLag: number("max.compaction.lag.ms"),
    minDirtyRatio: number("min.cleanable.dirty.ratio"),
    deleteRetention: number("delete.retention.ms"),
    maxMessageBytes: number("max.message.bytes"),
    timestampAfterMax: number("message.timestamp.after.max.ms"),
    timestampBeforeMax: number("message.timestamp.before.max.ms"),
    appendTime: settings["message.timestamp.type"] === "LogAppendTime",
  }
}
