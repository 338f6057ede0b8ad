/** What was done with the dead letters of a topic: kept in a compacted topic beside it, written in the same transactions. */
import { Buffer } from "node:buffer"
import { Effect, Result, Schema } from "effect"
import * as Admin from "../../kafka/Admin.ts"
import { Cluster, type KafkaError } from "../../kafka/Cluster.ts"
import type { ProducerRecord } from "../../kafka/Delivery.ts"
import { PipelineError } from "../../Task.ts"
import { text } from "../../Topic.ts"
import * as Topic from "../../Topic.ts"
import { patiently } from "../../kafka/Retry.ts"
import { type Outcome, Outcomes, type Where } from "./Outcomes.ts"
import { ends, partitionsOf, patience, reading } from "./Reading.ts"

/** What was done with a dead letter. */
export const Mark = Schema.Struct({
  /** Of the topic of dead letters: one that is deleted and created again has other letters at the same offsets. */
  topicId: Schema.String,
  partition: Schema.Int,
  offset: Schema.Int,
  outcome: Schema.Literals(["sent", "quarantined"]),
  /** How often the record was redriven by then. */
  attempts: Schema.Int,
  /** Milliseconds since 1970. */
  at: Schema.Int,
})
export type Mark = typeof Mark.Type

export const suffix = ".redriven"

/** The topic of the marks of a topic's dead letters. */
export const topicOf = (letters: string): Topic.Topic<Mark> =>
  Topic.make({
    name: `${letters}${suffix}`,
    description: `Which dead letters of ${letters} were sent again, and which are not to be`,
    owner: "redrive",
    partitions: 1,
    cleanup: "compact",
    key: ["id of the topic, partition and offset of the dead letter", keyOf],
    schema: Mark,
  })

const keyOf = ({ topicId, partition, offset }: Where): string => `${topicId}/${partition}/${offset}`

const whereOf = (key: string): Where | undefined => {
  const match = /^(.+)\/(\d+)\/(\d+)$/.exec(key)
  return match === null ? undefined : { topicId: match[1]!, partition: Number(match[2]), offset: Number(match[3]) }
}

export class Ledger {
  readonly #topic: Topic.Topic<Mark>
  readonly #outcomes = new Outcomes()
  #next = 0

  constructor(letters: string) {
    this.#topic = topicOf(letters)
  }

  /** What was done with a letter; `undefined` where nothing was. */
  get(where: Where): Outcome | undefined {
    return this.#outcomes.get(where)
  }

  /** Creates the topic of marks where there is none; fails where one is there that would lose marks. */
  readonly create = Effect.fnUntraced(
    { self: this },
    function* (this: Ledger): Effect.fn.Return<void, KafkaError | PipelineError, Cluster> {
      yield* Admin.createTopics([this.#topic])
      const { name } = this.#topic
      const config = yield* patiently(Cluster.use((cluster) => cluster.topicConfig(name)), patience)
      const policy = config["cleanup.policy"] ?? "compact"
      if (policy === "compact") return
      return yield* new PipelineError({
        reason: "Definition",
        retriable: false,
        message:
          `topic ${name} has the cleanup.policy ${policy}, by which marks are deleted, and what they say was sent is ` +
          "sent again: it must be compact and nothing else",
      })
    },
  )()

  /**
   * Reads on to the end: of all marks, also those of transactions that are being completed, or of those that are decided.
   * What they say is kept in a few bits each (see `Outcomes`).
   */
  readonly update = Effect.fnUntraced(
    { self: this },
    function* (
      this: Ledger,
      upTo: "all" | "decided",
    ): Effect.fn.Return<void, KafkaError | PipelineError, Cluster> {
      const topic = this.#topic.name
      if ((yield* partitionsOf(topic)) === undefined) return
      const isolation = upTo === "all" ? "read_uncommitted" : "read_committed"
      const [end] = yield* ends(topic, 1, "latest", isolation)
      const [start] = yield* ends(topic, 1, "earliest", isolation)
      const from = Math.max(start!, this.#next)
      yield* reading({ topic, partition: 0 }, from, end!, ({ length, keys, bytes, offsets }) => {
        for (let i = 0; i < length && offsets[i]! < end!; i++) {
          if (!this.#take(keys[i]!, bytes[i]!)) return Effect.fail(damaged(topic, offsets[i]!))
        }
        return Effect.void
      })
      this.#next = Math.max(from, end!)
    },
  )

  /** The record that marks a letter. */
  mark(mark: Mark): ProducerRecord {
    const encoded = Result.getOrThrow(this.#topic.encode(mark))
    return { topic: this.#topic.name, partition: 0, key: Buffer.from(keyOf(mark)), value: encoded }
  }

  /** Letters that are gone and have a mark yet, at most so many; `starts` has the first offset of each partition. */
  stale(topicId: string, starts: ReadonlyArray<number>, most: number): ReadonlyArray<Where> {
    return this.#outcomes.stale(topicId, starts, most)
  }

  /** The record that deletes a mark. */
  unmark(where: Where): ProducerRecord {
    return { topic: this.#topic.name, partition: 0, key: Buffer.from(keyOf(where)), value: null }
  }

  /** What was committed is known without reading it. */
  note(where: Where, outcome: Outcome | undefined): void {
    this.#outcomes.set(where, outcome)
  }

  /** Whether it is a mark, or deletes one. */
  #take(key: Uint8Array | null, value: Uint8Array | null): boolean {
    if (key === null) return false
    if (value === null) {
      const where = whereOf(text(key))
      if (where !== undefined) this.#outcomes.set(where, undefined)
      return true
    }
    const mark = this.#topic.decode(value)
    if (Result.isFailure(mark)) return false
    this.#outcomes.set(mark.success, mark.success.outcome)
    return true
  }
}

/** Without a mark its letter would be sent a second time. */
const damaged = (topic: string, offset: number): PipelineError =>
  new PipelineError({
    reason: "State",
    retriable: false,
    message:
      `topic ${topic} partition 0 offset ${offset} holds what is no mark of a dead letter: nothing is sent while it stands`,
  })
