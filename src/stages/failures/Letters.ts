/** The headers of dead letters that say whether and how their records can come again. */
import { Buffer } from "node:buffer"
import type { Headers } from "../../Batch.ts"

/** Of a value that a fold made of many records: where the letter stood first there is no such record. */
export const madeHeader = "millrace-made"
export const madeHeaders: Headers = [[madeHeader, Buffer.from("true")]]

/** The first retry topic of the stage that has given the record up. */
export const topicHeader = "millrace-stage-topic"
/** The event times of what that stage was given, and its key where it is not the record's; empty for none. */
export const timesHeader = "millrace-stage-event-times"
export const keyHeader = "millrace-stage-key"
