/** The record that a dead letter becomes again, and where it goes; or why it cannot. */
import { Buffer } from "node:buffer"
import { Result, Schema } from "effect"
import type { Headers } from "../../Batch.ts"
import * as Redriven from "../../Redriven.ts"
import * as Back from "../../stages/failures/Letters.ts"
import * as Waiting from "../../stages/failures/RetryTopic.ts"
import type { Letter } from "./Letter.ts"
import { isCut, isMade, said } from "./Letter.ts"

/** Why a dead letter cannot be sent again. */
export const Refusal = Schema.Literals([
  /** It never was a record: a request, or a line of a file. */
  "NoOrigin",
  /** Something of the record was cut, because it was too large for the topic of dead letters. */
  "Truncated",
  /** It holds a result of many records, and the stage that failed it has no retry topics: there is nowhere to put it. */
  "Result",
  /** The topic that it came from is no more, or has fewer partitions. */
  "NoTopic",
  /** The topic keeps the last record of each key: a later one may stand there, which the older one would undo. */
  "Compacted",
  /** The brokers do not take it. */
  "Refused",
])
export type Refusal = typeof Refusal.Type

/** A target topic as it is now. */
export interface Target {
  readonly partitions: number
  readonly compacts: boolean
  /** How long records are kept, in milliseconds; `Infinity` for as long as there is room. */
  readonly retention: number
  /** How far from the broker's time a timestamp may be. */
  readonly beforeMax: number
  readonly afterMax: number
}

export interface Returning {
  readonly topic: string
  readonly partition: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: Headers
  /** The original's; that of now where the topic would delete the record soon, or not take it. */
  readonly timestamp: number
  readonly isRestamped: boolean
}

/** Of a topic's retention this share must be left of a record, or it gets the time of now. */
const leastLeft = 0.1

/** The topic that a letter's record goes to: a retry topic of its stage, else the one that it came from. */
export const topicOf = (letter: Letter): string | undefined => said(letter, Back.topicHeader) ?? letter.origin?.topic

export const make = (
  letter: Letter,
  target: Target | undefined,
  now: number,
): Result.Result<Returning, Refusal> => {
  const { origin, key, value } = letter
  if (origin === undefined) return Result.fail("NoOrigin")
  const stageTopic = said(letter, Back.topicHeader)
  if (isCut(letter, stageTopic === undefined ? "anything" : "key")) return Result.fail("Truncated")
  if (isMade(letter) && stageTopic === undefined) return Result.fail("Result")
  if (target === undefined || origin.partition >= target.partitions) return Result.fail("NoTopic")
  if (target.compacts) return Result.fail("Compacted")
  const redriven = [
    ...Redriven.ownHeaders(letter.own),
    ...Redriven.redrivenHeaders(letter.attempts + 1, Redriven.originOf(letter.own) ?? origin),
  ]
  const { partition } = origin
  if (stageTopic !== undefined) {
    const own = letter.about.get(Back.keyHeader)
    return Result.succeed({
      topic: stageTopic,
      partition,
      key: own === undefined ? key : own.length === 0 ? null : own,
      value,
      headers: [...redriven, ...waiting(letter, now)],
      timestamp: now,
      isRestamped: false,
    })
  }
  const { timestamp } = origin
  const age = now - timestamp
  const isKept = timestamp >= 0 && age <= target.retention * (1 - leastLeft) && age <= target.beforeMax &&
    -age <= target.afterMax
  return Result.succeed({
    topic: origin.topic,
    partition,
    key,
    value,
    headers: redriven,
    timestamp: isKept ? timestamp : now,
    isRestamped: !isKept,
  })
}

/** The headers with which a record waits in a retry topic: due at once. */
const waiting = (letter: Letter, now: number): Headers => {
  const { about, key } = letter
  const first = Date.parse(said(letter, "millrace-first-failed-at") ?? "")
  const times = about.get(Back.timesHeader)
  return [
    [Waiting.stageHeader, about.get("millrace-stage")!],
    [Waiting.attemptsHeader, about.get("millrace-attempts")!],
    [Waiting.dueHeader, Buffer.from(String(now))],
    [Waiting.inputHeader, about.get("millrace-stage-input")!],
    ...places.flatMap((name) => about.has(name) ? [[name, about.get(name)!] as const] : []),
    [Waiting.reasonHeader, Buffer.from(letter.reason)],
    [Waiting.firstFailedHeader, Buffer.from(String(Number.isNaN(first) ? now : first))],
    ...times === undefined ? [] : [[Waiting.timesHeader, times] as const],
    ...about.has(Back.keyHeader) ? [[Waiting.keyHeader, key ?? Buffer.alloc(0)] as const] : [],
    [Waiting.redrivenHeader, Buffer.from("true")],
  ]
}

const places = [
  "kafka_dlt-original-topic",
  "kafka_dlt-original-partition",
  "kafka_dlt-original-offset",
  "kafka_dlt-original-timestamp",
]
