/** When an event happened: what its sender says, freed from the error of the sender's clock. */
import { millisOf } from "./Fields.ts"

/** How event time was found. */
export const rules = [
  "corrected", // receivedAt - (sentAt - timestamp): the sender's clock may be wrong, the distance is right
  "given", // the sender's timestamp as it is, for it did not say when it sent
  "clamped", // the result was in the future: receivedAt
  "received", // the sender gave no time: receivedAt
] as const

export type Rule = typeof rules[number]

export interface EventTime {
  /** Milliseconds since 1970. */
  readonly time: number
  readonly rule: Rule
}

/** Event time by the rule of the Segment specification: `receivedAt - (sentAt - timestamp)`, never after `receivedAt`. */
export const corrected = (message: {
  readonly timestamp?: string | null | undefined
  readonly sentAt?: string | null | undefined
  readonly receivedAt: string
}): EventTime => {
  const received = millisOf(message.receivedAt)
  if (message.timestamp == null) return { time: received, rule: "received" }
  const timestamp = millisOf(message.timestamp)
  const time = message.sentAt == null ? timestamp : timestamp + received - millisOf(message.sentAt)
  if (time > received) return { time: received, rule: "clamped" }
  return { time, rule: message.sentAt == null ? "given" : "corrected" }
}
