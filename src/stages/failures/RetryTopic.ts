/** A topic in which failed records wait, and the headers that their records have there beside their own. */
import type { Topic } from "../../Topic.ts"

export interface RetryTopic extends Topic<Uint8Array | null> {
  /** How long its records wait, in milliseconds. */
  readonly delay: number
}

export const isRetryTopic = (topic: Topic<unknown>): topic is RetryTopic => "delay" in topic

/** The first of the headers that are added: those before it are the record's own. */
export const stageHeader = "millrace-retry-stage"
export const attemptsHeader = "millrace-retry-attempts"
export const dueHeader = "millrace-retry-due"
export const reasonHeader = "millrace-retry-reason"
export const firstFailedHeader = "millrace-retry-first-failed-at"
export const timesHeader = "millrace-retry-event-times"
export const sequenceHeader = "millrace-retry-sequence"
export const inputHeader = "millrace-retry-input"
/** The record's first key, where the stage has another one; empty for none. */
export const keyHeader = "millrace-retry-key"
/** Of a record that had been given up, and was sent here again. */
export const redrivenHeader = "millrace-retry-redriven"
