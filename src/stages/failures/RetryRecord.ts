/** Records as they wait in retry topics: what is written, and what is read back. */
import { Buffer } from "node:buffer"
import { Result } from "effect"
import { type Batch, failing, type Headers, keyBytes, row, type Source, unitOf } from "../../Batch.ts"
import { text, type Topic } from "../../Topic.ts"
import { headersSize, room, truncated } from "./Fitting.ts"
import * as Letters from "./Letters.ts"
import * as Origin from "./Origin.ts"
import { Unretriable } from "../Retry.ts"
import * as Names from "./RetryTopic.ts"

/** What has become of a record so far. */
export interface Tried {
  /** How often the stage has tried it. */
  readonly attempts: number
  /** The tag that it failed with last, and when it first failed; `undefined` for one that was never tried. */
  readonly reason: string | undefined
  readonly firstFailedAt: number | undefined
}

/** Where and how a record waits. */
export interface Waiting extends Tried {
  readonly topic: Names.RetryTopic
  readonly stage: string
  readonly due: number
  readonly sequence: number | undefined
}

export interface Written {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: Headers
}

/** Values `from` to `to` of a batch, all of one row or unit. */
export interface Group {
  readonly from: number
  readonly to: number
}

/**
 * What a stage was given of a group, as it is written; `undefined` where its schema refuses a value, or what it writes of it
 * (null for a number that is none).
 */
export const inputOf = <A>(input: Topic<ReadonlyArray<A>>, batch: Batch<A, unknown>, { from, to }: Group) => {
  const encoded = input.encode(batch.values.slice(from, to))
  if (Result.isFailure(encoded)) return undefined
  return Result.isSuccess(input.decode(encoded.success)) ? encoded.success : undefined
}

/**
 * The record that waits for a group; `undefined` where it does not fit. A value that is too large, or longer than
 * `longest`, is cut: what the stage was given stands beside it.
 */
export const write = (
  batch: Batch<unknown, unknown>,
  group: Group,
  input: Uint8Array,
  { topic, stage, attempts, reason, firstFailedAt, due, sequence }: Waiting,
  at: number,
  longest = Infinity,
): Written | undefined => {
  const key = keyBytes(batch, group.from) ?? null
  const origin = originOf(batch, group, at)
  const added: Array<readonly [string, Uint8Array]> = [
    [Names.stageHeader, Buffer.from(stage)],
    [Names.attemptsHeader, Buffer.from(String(attempts))],
    [Names.dueHeader, Buffer.from(String(Math.ceil(due)))],
    [Names.inputHeader, input],
    ...origin.place,
  ]
  if (reason !== undefined) added.push([Names.reasonHeader, Buffer.from(reason)])
  if (firstFailedAt !== undefined) added.push([Names.firstFailedHeader, Buffer.from(String(Math.floor(firstFailedAt)))])
  if (sequence !== undefined) added.push([Names.sequenceHeader, Buffer.from(String(sequence))])
  const times = timesOfGroup(batch, group)
  if (times !== undefined) added.push([Names.timesHeader, times])
  if (!sameBytes(key, origin.key)) added.push([Names.keyHeader, origin.key ?? nothing])
  const most = Math.min(longest, room(topic, key, [...origin.headers, ...added]))
  const { value, headers } = truncated(origin.value, origin.headers, most)
  const written = { key, value, headers: [...headers, ...added] }
  return room(topic, key, written.headers) < (value?.length ?? 0) ? undefined : written
}

/** The event times of a group as they are written: one where all are the same. */
const timesOfGroup = ({ time }: Batch<unknown, unknown>, { from, to }: Group): Uint8Array | undefined => {
  if (time === undefined) return undefined
  const times = time.timestamps.subarray(from, to)
  return Buffer.from(times.every((at) => at === times[0]) ? String(times[0]) : times.join(","))
}

/** What a dead letter says of the way back to its stage, which leads through `topic`. */
export const wayBack = (
  batch: Batch<unknown, unknown>,
  group: Group,
  topic: Names.RetryTopic,
  at: number,
): Headers => {
  const key = keyBytes(batch, group.from) ?? null
  const times = timesOfGroup(batch, group)
  return [
    [Letters.topicHeader, Buffer.from(topic.name)],
    ...times === undefined ? [] : [[Letters.timesHeader, times] as const],
    ...sameBytes(key, originOf(batch, group, at).key) ? [] : [[Letters.keyHeader, key ?? nothing] as const],
  ]
}

const nothing = new Uint8Array(0)

const sameBytes = (a: Uint8Array | null, b: Uint8Array | null): boolean =>
  a === b || a !== null && b !== null && Buffer.compare(a, b) === 0

/** The record of a group; of a value that a fold made of many, the value itself. */
export const originOf = (batch: Batch<unknown, unknown>, { from }: Group, at: number): Origin.Origin => {
  const origin = Origin.of(batch.source, row(batch, from), at)
  const made = unitOf(batch, from) === row(batch, from) ? undefined : failing(batch, from, undefined).record
  return made === undefined ? origin : { ...made, headers: Letters.madeHeaders, place: origin.place }
}

/** Bytes that a record takes while it waits. */
export const sizeOf = ({ key, value, headers }: Written): number =>
  (key?.length ?? 0) + (value?.length ?? 0) + headersSize(headers)

/** A record that came back. */
export interface Returned<A> extends Tried {
  readonly values: ReadonlyArray<A>
  /** Event time per value. */
  readonly times: ReadonlyArray<number> | undefined
  readonly sequence: number | undefined
}

/** Where a record came back from, and what it must say to be believed. */
export interface Expected<A> {
  readonly stage: string
  readonly input: Topic<ReadonlyArray<A>>
  /** How often it has failed at least: 0 for one that waited behind others and was never tried. */
  readonly level: number
  /** The tags that may have sent it here. */
  readonly reasons: ReadonlySet<string>
}

/** Reads what a record in a retry topic says; fails where that is damaged, or not of this stage. */
export const read = <A>(headers: Headers, expected: Expected<A>): Result.Result<Returned<A>, Unretriable> => {
  const first = headers.findLastIndex(([name]) => name === Names.stageHeader)
  if (first === -1) return damaged(Names.stageHeader, "says nothing of the stage that is to try it again")
  const said = new Map(headers.slice(first))
  const { stage, level } = expected
  if (text(said.get(Names.stageHeader)!) !== stage) return damaged(Names.stageHeader, `is not of stage ${stage}`)
  const attempts = wholeNumber(said.get(Names.attemptsHeader))
  if (attempts === undefined || (level === 0 ? attempts !== 0 : attempts < level)) {
    return damaged(Names.attemptsHeader, "does not say how often it was tried")
  }
  const tag = said.get(Names.reasonHeader)
  const reason = tag && text(tag)
  // Who sends a dead letter again has chosen it, whatever it failed with.
  if (level > 0 && (reason === undefined || !expected.reasons.has(reason) && !said.has(Names.redrivenHeader))) {
    return damaged(Names.reasonHeader, `does not say what ${stage} failed with`)
  }
  const firstFailedAt = wholeNumber(said.get(Names.firstFailedHeader))
  if (level > 0 && !(firstFailedAt! <= lastTime)) {
    return damaged(Names.firstFailedHeader, "does not say when it failed first")
  }
  const input = said.get(Names.inputHeader)
  if (input === undefined) return damaged(Names.inputHeader, `does not say what ${stage} was given`)
  const values = expected.input.decode(input)
  if (Result.isFailure(values)) {
    const { field, message } = values.failure
    return damaged(
      `${Names.inputHeader}${field === "" ? "" : `.${field}`}`,
      `does not hold what ${stage} takes: ${message}`,
    )
  }
  const times = timesOf(said.get(Names.timesHeader), values.success.length)
  if (times === null) return damaged(Names.timesHeader, "does not say its event time")
  const sequence = wholeNumber(said.get(Names.sequenceHeader))
  return Result.succeed({ values: values.success, attempts, reason, firstFailedAt, times, sequence })
}

const damaged = (field: string, problem: string): Result.Result<never, Unretriable> =>
  Result.fail(new Unretriable({ field, message: `the record ${problem}` }))

/** Up to 2^53; `undefined` for anything else. */
const wholeNumber = (bytes: Uint8Array | undefined): number | undefined => {
  if (bytes === undefined || bytes.length > 16) return undefined
  const digits = text(bytes)
  return /^\d+$/.test(digits) && Number.isSafeInteger(Number(digits)) ? Number(digits) : undefined
}

/** The last moment that a date can be (ECMA-262, "Time Values and Time Range"). */
const lastTime = 8.64e15

/** One time for all values, or one for each; `null` where that is damaged. */
const timesOf = (bytes: Uint8Array | undefined, values: number): ReadonlyArray<number> | undefined | null => {
  if (bytes === undefined) return undefined
  const times = text(bytes).split(",").map(Number)
  if (times.length !== values && times.length !== 1) return null
  if (!times.every((time) => time >= 0 && time < Infinity)) return null
  return times.length === values ? times : new Array<number>(values).fill(times[0]!)
}

/**
 * When a record is due: as it says, and never later than its topic's delay after it was written, or after now where its
 * time is in the future: nothing that a record says can keep others waiting for longer.
 */
export const dueAt = ({ topic, headers, timestamps }: Source, row: number, now: number): number => {
  const { delay } = topic as Names.RetryTopic
  const latest = Math.min(timestamps[row]!, now) + delay
  const said = wholeNumber(headers[row]!.findLast(([name]) => name === Names.dueHeader)?.[1])
  return said === undefined ? 0 : Math.min(said, latest)
}
