/** What a record says that was a dead letter and came again: how often, and where it stood first. */
import { Buffer } from "node:buffer"
import type { Headers } from "./Batch.ts"
import { text } from "./Topic.ts"

/** How often a record was sent again after it had become a dead letter, as text. */
export const attemptsHeader = "millrace-redrive-attempts"

/** Where it stood before it failed for the first time: topic, partition and offset, with colons between them. */
export const originHeader = "millrace-redrive-origin"

export interface Place {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

/** A record's headers without what an earlier redrive has added. */
export const ownHeaders = (headers: Headers): Headers =>
  headers.filter(([name]) => name !== attemptsHeader && name !== originHeader)

export const redrivenHeaders = (attempts: number, { topic, partition, offset }: Place): Headers => [
  [attemptsHeader, Buffer.from(String(attempts))],
  [originHeader, Buffer.from(`${topic}:${partition}:${offset}`)],
]

/** How often a record was redriven: 0 for one that never was. */
export const attemptsOf = (headers: Headers): number => {
  const said = headers.findLast(([name]) => name === attemptsHeader)
  const attempts = said === undefined ? 0 : Number(text(said[1]))
  return Number.isSafeInteger(attempts) && attempts >= 0 ? attempts : 0
}

/** Where a redriven record stood first; `undefined` for any other. */
export const originOf = (headers: Headers): Place | undefined => {
  const said = headers.findLast(([name]) => name === originHeader)
  const match = said && /^([^:]+):(\d{1,9}):(\d{1,16})$/.exec(text(said[1]))
  return match ? { topic: match[1]!, partition: Number(match[2]), offset: Number(match[3]) } : undefined
}
