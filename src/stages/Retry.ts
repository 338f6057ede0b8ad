/** Topics in which records that failed wait until they are tried again. */
import { Duration, Schema } from "effect"
import * as Topic from "../Topic.ts"
import type { RetryTopic } from "./failures/RetryTopic.ts"

/**
 * What becomes of records that come after one that waits. `kept`: those of its key wait behind it, and every key's records
 * succeed in the order they came. `free`: they go on, and the one that waits comes after them.
 */
export type Order = "kept" | "free"

/** One stage's retry topics. */
export interface RetryTopics<in out A, out O extends Order> {
  readonly order: O
  readonly value: Schema.Codec<A, unknown>
  /** A record's values, as the stage was given them. */
  readonly input: Topic.Topic<ReadonlyArray<A>>
  /** The delays, shortest path first: a record that fails again goes from each to the next. */
  readonly levels: ReadonlyArray<RetryTopic>
  /** Where order is kept: what waited behind another record, once it is its turn. */
  readonly turn: RetryTopic | undefined
  /** The most bytes of records of one task that wait behind others. */
  readonly parkedBytes: number
  /** All of them, to be created. */
  readonly topics: ReadonlyArray<RetryTopic>
}

export interface Options<in out A, out O extends Order> {
  /** The topics are `<name>.retry.1` and so on, one per delay; where order is kept `<name>.retry.turn` as well. */
  readonly name: string
  /** A topic that the flow reads: the retry topics have its owner and as many partitions. */
  readonly of: Topic.Any
  /** What the stage is given: values are written so, and read back. */
  readonly value: Schema.Codec<A, unknown>
  /** How long a record waits before its second attempt, its third, and so on. */
  readonly delays: readonly [Duration.Input, ...ReadonlyArray<Duration.Input>]
  readonly order: O
  /** How long the topics keep their records: 7 days unless given, or twice the longest delay. Longer than every delay. */
  readonly retention?: Duration.Input
  readonly maxMessageBytes?: number
  /** Further topic configuration, by Kafka's names. */
  readonly config?: Readonly<Record<string, string>>
  /**
   * Where order is kept: the most bytes of records in one task that wait behind others, 16 MiB unless given. They are kept
   * in memory and logged; with more of them the flow's input waits, and what waits already goes on.
   */
  readonly parkedBytes?: number
}

/**
 * Declares the retry topics of one stage, for `Failures.later`.
 *
 * A record that waits is written with its own key, value and headers; headers that begin with `millrace-retry-` say which
 * stage failed, how often, when it is due, and what the stage was given, and `kafka_dlt-original-` where it stood first. It
 * stays in its partition number, so that the same task reads it again.
 */
export const topics = <A, const O extends Order>(options: Options<A, O>): RetryTopics<A, O> => {
  const { name, of, order, parkedBytes = 16 * 1024 * 1024 } = options
  const delays = options.delays.map((delay) => Duration.toMillis(delay))
  for (const delay of delays) {
    if (!(delay > 0 && delay < Infinity)) {
      throw new RangeError(`retry topics ${name}: a delay is a finite time above zero`)
    }
  }
  if (delays.length === 0) throw new RangeError(`retry topics ${name}: give at least one delay`)
  const longest = Math.max(...delays)
  const retention = Duration.toMillis(options.retention ?? Math.max(week, 2 * longest))
  if (!(retention > longest)) {
    throw new RangeError(`retry topics ${name}: records must be kept for longer than the longest delay (${longest} ms)`)
  }
  if (!(parkedBytes > 0)) throw new RangeError(`retry topics ${name}: parkedBytes is above zero`)
  const topic = (suffix: string, delay: number, description: string): RetryTopic => ({
    ...Topic.bytes({
      name: `${name}.retry.${suffix}`,
      description,
      owner: of.owner,
      partitions: of.partitions,
      retention,
      ...options.maxMessageBytes === undefined ? {} : { maxMessageBytes: options.maxMessageBytes },
      config: options.config ?? {},
    }),
    delay,
  })
  const levels = delays.map((delay, i) =>
    topic(String(i + 1), delay, `Records of ${of.name} that ${name} tries again ${delay} ms after they failed`)
  )
  const turn = order === "kept"
    ? topic("turn", 0, `Records of ${of.name} that waited in ${name} for others of their key, and are next`)
    : undefined
  return {
    order,
    value: options.value,
    input: Topic.make({
      name: `${name} input`,
      description: "",
      owner: of.owner,
      partitions: of.partitions,
      schema: Schema.NonEmptyArray(options.value) as Schema.Codec<ReadonlyArray<A>, unknown>,
    }),
    levels,
    turn,
    parkedBytes,
    topics: turn === undefined ? levels : [...levels, turn],
  }
}

const week = Duration.toMillis("7 days")

/**
 * A record of a retry topic that cannot be tried again: it is damaged, belongs to another stage, or nothing is known of it.
 * Never tried, so that it cannot go round.
 */
export class Unretriable extends Schema.TaggedError<Unretriable>()("Unretriable", {
  field: Schema.String,
  message: Schema.String,
}) {}
